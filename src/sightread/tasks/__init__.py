"""Downstream tasks: one file for each kind, data sets as rows of a table in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sightread.errors import ConfigError

KINDS = {
    "classification": "Classification",
    "regression": "Regression",
    "spans": "Spans",
    "choice": "Choice",
    "token_labels": "TokenLabels",
    "vqa": "VQA",
    "visual_reasoning": "VisualReasoning",
    "image_retrieval": "ImageRetrieval",
    "referring": "Referring",
}


def load_task(
    dataset: str, source: Path | str, *, regions: Any = None, settings: Sequence[str] = (), **options: Any
) -> Any:
    """The task of a data set, whatever its kind.

    Args:
        dataset: Name of the data set, such as "sst2"; see the tables of the files here.
        source: A folder of official files, a saved data set, or `hf:` and a name.
        regions: The regions of its pictures, a `RegionStore` or its folder, for a task about pictures and no other.
        settings: What such a task reads of them, as `key=value`.
        **options: Other arguments of the task.

    Raises:
        ConfigError: If no kind of task knows the data set, or it lacks regions or has no use for them.
    """
    from sightread.config import override

    task = task_class(dataset)
    if not hasattr(task, "defaults"):
        if regions is not None or settings:
            raise ConfigError(f"{dataset} is a task of text alone, with neither regions nor settings of its own")
    elif regions is None:
        raise ConfigError(f"{dataset} is about pictures: give their regions, a folder that `sightread regions` made")
    else:
        options |= {"regions": regions, "settings": override(task.defaults, settings)}
    return task(dataset, source, **options)


def task_class(dataset: str) -> Any:
    """The class of a data set's task; raises `ConfigError` if no kind of task knows it."""
    from sightread.config import check_choice

    classes: dict[str, Any] = {}
    for kind, name in KINDS.items():
        module = import_module(f"sightread.tasks.{kind}")
        classes |= dict.fromkeys(module.DATASETS, getattr(module, name))
    check_choice("task", dataset, classes)
    return classes[dataset]
