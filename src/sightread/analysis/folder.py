"""An analysis as files: a table for people, the numbers, and a figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sightread.artifacts import Artifact, write_atomic

Found = TypeVar("Found")


def write_analysis(
    out: Path | str, kind: str, config: Mapping[str, Any], find: Callable[[], Found], *,
    table: Callable[[Found], str], numbers: Callable[[Found], Any], draw: Callable[[Found, Path], Any],
    overwrite: bool = False,
) -> str:  # fmt: skip
    """Write `<kind>.md`, `<kind>.json` and the figure `<kind>.{svg,pdf}` into a folder.

    Args:
        out: The folder.
        kind: What was analysed.
        config: What of, and how.
        find: Does the work, once the folder is known to be free.
        table: What was found, for people.
        numbers: The same as JSON values.
        draw: Draws it, given where to without a suffix.
        overwrite: Replace what is there.

    Returns:
        The table.
    """
    artifact = Artifact.begin(out, kind, config=config, overwrite=overwrite)
    found = find()
    said = table(found)
    write_atomic(artifact.path / f"{kind}.md", said)
    write_atomic(artifact.path / f"{kind}.json", json.dumps(numbers(found), indent=1))
    draw(found, artifact.path / kind)
    artifact.finish()
    return said
