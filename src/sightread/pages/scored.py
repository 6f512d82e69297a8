"""The scores that a page tells of, and the way back from them: a comparison names scores, and these their encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightread.artifacts import MANIFEST
from sightread.pages.found import COMPARISON, FoundRun, find_runs, labelled
from sightread.pretraining import KIND as ENCODER
from sightread.runs import TaskRuns, read_runs
from sightread.scores import KIND as SCORES


@dataclass
class Scored:
    """What is told of.

    Attributes:
        runs: All runs: those that were given, and those that they name.
        scores: The scores among them, in the order of the comparisons that name them.
        controls: Arms whose control is another than the first.
        notes: What was compared, and is not there now.
    """

    runs: list[FoundRun]
    scores: list[TaskRuns] = field(default_factory=list)
    controls: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def follow(places: Sequence[str]) -> Scored:
    """Find all runs in some folders, each perhaps as `label=folder`, and what they name.

    Raises:
        ArtifactError: If a folder holds nothing of ours.
        DataError: If scores cannot be read, or not be told apart.
    """
    found = Scored(find_runs(places))
    named = list[str]()
    for run in found.runs:
        if run.kind == COMPARISON:
            found.controls |= run.artifact.report.get("controls", {})
            for place in _compared(run):
                if labelled(place)[1].is_dir():
                    named.append(place)
                else:
                    found.notes.append(f"{run.place} compared {place}, which is not there now.")
    _add(found.runs, find_runs(named))
    labels = {path.resolve(): label for label, path in map(labelled, [*places, *named]) if label}
    scores = [run.artifact.path for run in _named_first(found.runs, named) if _is_scored(run)]
    if scores:
        found.scores = read_runs([f"{label}={path}" if (label := _label(path, labels)) else path for path in scores])
    _add(found.runs, find_runs(_encoders(found.scores)))
    return found


def _compared(run: FoundRun) -> list[str]:
    """What `compare` was given; or what a recipe has scored, below its own folder."""
    own = [place.partition("=") for place in run.artifact.report.get("scores", ())]
    return [*run.artifact.config.get("runs", ()), *(f"{arm}={run.artifact.path / path}" for arm, _, path in own)]


def _add(runs: list[FoundRun], others: Iterable[FoundRun]) -> None:
    there = {run.artifact.path.resolve() for run in runs}
    runs += [run for run in others if run.artifact.path.resolve() not in there]


def _named_first(runs: Sequence[FoundRun], places: Sequence[str]) -> list[FoundRun]:
    order = [labelled(place)[1].resolve() for place in places]

    def rank(run: FoundRun) -> int:
        above = {run.artifact.path.resolve(), *run.artifact.path.resolve().parents}
        return next((i for i, path in enumerate(order) if path in above), len(order))

    return sorted(runs, key=rank)


def _is_scored(run: FoundRun) -> bool:
    return run.kind == SCORES and run.artifact.finished


def _label(path: Path, labels: dict[Path, str]) -> str:
    return next((labels[above] for above in [path.resolve(), *path.resolve().parents] if above in labels), "")


def _encoders(scores: Iterable[TaskRuns]) -> list[str]:
    """The runs that trained what was scored, each named as its arm."""
    folders = {Path(run.encoder).parent: run.arm for run in scores if Path(run.encoder).name == ENCODER}
    return [f"{arm}={folder}" for folder, arm in folders.items() if (folder / MANIFEST).is_file()]
