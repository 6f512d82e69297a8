"""What lies in some folders: every run there, finished or not, with its settings, its inputs and its log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightread.artifacts import MANIFEST, RUN, Artifact
from sightread.errors import ArtifactError
from sightread.pretraining import KIND as ENCODER
from sightread.train import LOG

COMPARISON = "comparison"
_AFTER_ALL = {"step", "epoch", "learning_rate", "grad_norm"}  # of a log, what is no loss


@dataclass(frozen=True)
class FoundRun:
    """A run.

    Attributes:
        name: What it is called: its folder, or the name that the user gave.
        place: Where it lies, below the folder that the user gave.
        artifact: Its manifest, or what it was begun with.
        log: Numbers by step, as they were logged.
    """

    name: str
    place: str
    artifact: Artifact
    log: list[dict[str, float]]

    @property
    def kind(self) -> str:
        """What it made."""
        return self.artifact.kind

    @property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """The finite losses by step. The only loss of a control is that of its language model."""
        names = dict.fromkeys(name for entry in self.log for name in entry if name not in _AFTER_ALL)
        found = {
            name: [(entry["step"], entry[name]) for entry in self.log if math.isfinite(entry.get(name, math.nan))]
            for name in names
            if name.endswith("loss")
        }
        return found | {"lm_loss": found["loss"]} if self.kind == ENCODER and list(found) == ["loss"] else found

    @property
    def settings(self) -> dict[str, str]:
        """Its settings, those within others with dots."""
        return dict(_flat(self.artifact.config))

    @property
    def faults(self) -> list[str]:
        """What went wrong: seeds that diverged, losses that are no number."""
        told = self.artifact.report.get("diverged", {})
        found = [f"seed {seed}: {reason}" for seed, reason in told.items()] if isinstance(told, dict) else []
        bad = [int(entry["step"]) for entry in self.log if not all(map(math.isfinite, entry.values()))]
        return found + ([f"a loss was not finite, first at step {bad[0]}"] if bad else [])

    @property
    def skipped(self) -> list[tuple[str, int, str]]:
        """Reason, count, and the first place of what was left out."""
        parts = [part for name, part in self.artifact.report.items() if name.startswith("skipped")]
        items = [item for part in parts if isinstance(part, dict) for item in part.items()]
        return [(reason, found["count"], *found["first"][:1]) for reason, found in items if isinstance(found, dict)]


def find_runs(places: Sequence[str]) -> list[FoundRun]:
    """Every run in some folders, at any depth, but none that is part of another.

    Args:
        places: Folders, each perhaps as `label=folder`.

    Raises:
        ArtifactError: If a folder holds none.
    """
    found = list[FoundRun]()
    for place in places:
        label, root = labelled(place)
        runs = [_read(path, root, label) for path in _folders(root)]
        if not runs:
            raise ArtifactError(f"{root} holds nothing of ours; give folders of runs, scores or comparisons")
        found += runs
    return found


def labelled(place: str) -> tuple[str, Path]:
    """The label, "" if there is none, and the folder of `label=folder`."""
    label, equals, path = place.partition("=")
    return (label, Path(path)) if equals and not Path(place).is_dir() else ("", Path(place))


def _folders(root: Path) -> Iterator[Path]:
    """Folders with a manifest or what is to become one; below one, only if it is a comparison, which holds runs."""
    if any((root / name).is_file() for name in (MANIFEST, RUN)):
        yield root
        if Artifact.at(root).kind != COMPARISON:
            return
    if root.is_dir():
        for child in sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _folders(child)


def _read(path: Path, root: Path, label: str) -> FoundRun:
    below = path.relative_to(root).as_posix()
    name = label if label and path == root else path.resolve().name
    place = "/".join(part for part in (label or root.name, below if below != "." else "") if part)
    return FoundRun(name, place, Artifact.at(path), _log(path / LOG))


def _log(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    numbers = ({name: value for name, value in entry.items() if isinstance(value, int | float)} for entry in entries)
    return [entry for entry in numbers if "step" in entry]


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{before}{name}", ", ".join(str(item.get("name", item)) for item in value)
        else:
            yield f"{before}{name}", str(value)
