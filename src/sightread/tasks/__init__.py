"""Downstream tasks: one file for each kind, data sets as rows of a table in it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

KINDS = {
    "classification": "Classification",
    "regression": "Regression",
    "spans": "Spans",
    "choice": "Choice",
    "token_labels": "TokenLabels",
}


def load_task(dataset: str, source: Path | str, **options: Any) -> Any:
    """The task of a data set, whatever its kind.

    Args:
        dataset: Name of the data set, such as "sst2"; see the tables of the files here.
        source: A folder of official files, a saved data set, or `hf:` and a name.
        **options: Other arguments of the task.

    Raises:
        ConfigError: If no kind of task knows the data set.
    """
    from sightread.config import check_choice

    classes: dict[str, Any] = {}
    for kind, name in KINDS.items():
        module = import_module(f"sightread.tasks.{kind}")
        classes |= dict.fromkeys(module.DATASETS, getattr(module, name))
    check_choice("task", dataset, classes)
    return classes[dataset](dataset, source, **options)
