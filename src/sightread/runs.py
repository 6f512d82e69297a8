"""Scores folders read back: what each encoder answered to every row of a task, seed by seed.

Nothing is trusted but the answers. `scores.json` is not read: scores are computed anew from predictions and gold, so
that a table needs neither data nor training, and encoders are compared on the same rows or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sightread.artifacts import MANIFEST, RUN, Artifact
from sightread.errors import ArtifactError, DataError
from sightread.metrics import METRICS, Metric, labelled
from sightread.scores import KIND


@dataclass(frozen=True)
class TaskRuns:
    """The runs of one encoder on one split of a task.

    Attributes:
        arm: What the encoder is called in tables.
        named: Whether the user called it so; else its checkpoint's name is taken.
        column: What the task is called there: its name, with the split if that is not "test".
        folder: The scores folder.
        encoder: The checkpoint, as it was given.
        metric_name: A key of `METRICS`.
        gold: Gold of the N labelled rows.
        predictions: Predictions for them, by seed.
        diverged: What went wrong, by the seed it went wrong with.
        settings: How it was trained, but for the seeds.
    """

    arm: str
    named: bool
    column: str
    folder: Path
    encoder: str
    metric_name: str
    gold: list[Any]
    predictions: dict[int, list[Any]]
    diverged: dict[int, str]
    settings: dict[str, Any]

    @property
    def metric(self) -> Metric:
        """How the task is scored."""
        return METRICS[self.metric_name]

    @cached_property
    def scores(self) -> dict[int, dict[str, float]]:
        """All scores of every seed, computed from the predictions."""
        return {seed: self.metric.scores(guesses, self.gold) for seed, guesses in self.predictions.items()}

    def main_scores(self, *, without_diverged: bool = False) -> list[float]:
        """The main score of every seed."""
        left_out = self.diverged if without_diverged else ()
        return [scores[self.metric.main] for seed, scores in self.scores.items() if seed not in left_out]


def read_runs(places: Sequence[str | Path]) -> list[TaskRuns]:
    """Read scores folders.

    Every split with gold is a column, but "dev" only where there is no "test" with gold.

    Args:
        places: Folders of scores, or folders that hold some, at any depth; each perhaps as `label=folder`. Without a
            label the checkpoint names the arm.

    Raises:
        ArtifactError: If a folder holds no scores, or unfinished ones.
        DataError: Naming the file: if an answer is missing or cannot be read, if two arms were not asked the same rows,
            or if it is not clear which is which.
    """
    runs = [run for place in places for run in _read_place(place)]
    _check_names(runs)
    _check_rows(runs)
    return runs


def _read_place(place: str | Path) -> Iterable[TaskRuns]:
    label, equals, path = str(place).partition("=")
    if not equals or Path(place).is_dir():
        label, path = "", str(place)
    for folder in _scores_folders(Path(path)):
        yield from _read_folder(folder, label)


def _scores_folders(path: Path) -> list[Path]:
    if not path.is_dir() or any((path / name).is_file() for name in (MANIFEST, RUN)):
        return [path]  # which is opened, or refused with the reason
    found = {file.parent for name in (MANIFEST, RUN) for file in path.rglob(name) if _kind(file) == KIND}
    if not found:
        raise ArtifactError(f"{path} holds no scores; expected folders written by `sightread finetune`")
    return sorted(found)


def _kind(file: Path) -> str | None:
    try:
        header = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return header.get("kind") if isinstance(header, dict) else None


def _read_folder(folder: Path, label: str) -> Iterable[TaskRuns]:
    artifact = Artifact.open(folder, KIND)
    report, config = artifact.report, artifact.config
    try:
        task, metric, encoder, seeds = (report[key] for key in ("task", "metric", "encoder", "seeds"))
        diverged = {int(seed): reason for seed, reason in report["diverged"].items()}
    except KeyError as error:
        raise ArtifactError(
            f"{folder / MANIFEST} says no {error}: it is of an older version; run the task again"
        ) from None
    if metric not in METRICS:
        raise ArtifactError(f"{folder / MANIFEST} names the metric {metric!r}; known are {', '.join(METRICS)}")
    settings = {**config, **config.get("training", {})}
    settings = {key: value for key, value in settings.items() if key not in ("training", "seed")}
    for split, (gold, predictions) in _splits(folder, seeds).items():
        column = task if split == "test" else f"{task} ({split})"
        yield TaskRuns(
            arm=label or _name(encoder), named=bool(label), column=column, folder=folder, encoder=encoder,
            metric_name=metric, gold=gold, predictions=predictions, diverged=diverged, settings=settings,
        )  # fmt: skip


def _name(encoder: str) -> str:
    """A Hub name as it is; of a folder its own name, or its parent's if that is the "encoder" of a training."""
    path = Path(encoder)
    if path.name == "encoder" and path.parent.name:
        return path.parent.name
    is_folder = path.exists() or encoder.count("/") > 1 or encoder.startswith((".", "/"))
    return path.name if is_folder else encoder


def _splits(folder: Path, seeds: Sequence[int]) -> dict[str, tuple[list[Any], dict[int, list[Any]]]]:
    """Gold, and predictions by seed, of the labelled rows of each split that is to be compared."""
    names = sorted(path.stem.partition("-")[2] for path in (folder / f"seed-{seeds[0]}").glob("predictions-*.jsonl"))
    found = {name: _read_split(folder, seeds, f"predictions-{name}.jsonl") for name in names}
    found = {name: read for name, read in found.items() if read[0]}
    if not found:
        raise DataError(f"{folder} holds no predictions for labelled rows; run the task again")
    tested = any(name.startswith("test") for name in found)
    return {name: read for name, read in found.items() if not (tested and name == "dev")}


def _read_split(folder: Path, seeds: Sequence[int], name: str) -> tuple[list[Any], dict[int, list[Any]]]:
    predictions, first = dict[int, list[Any]](), folder / f"seed-{seeds[0]}" / name
    gold = _read_predictions(first)[1]
    for seed in seeds:
        path = folder / f"seed-{seed}" / name
        guesses, own = _read_predictions(path)
        _check_same(gold, own, first, path)
        predictions[seed] = labelled(guesses, own)[0]
    return [answer for answer in gold if answer is not None], predictions


def _read_predictions(path: Path) -> tuple[list[Any], list[Any]]:
    """Predictions and gold of all rows."""
    guesses, gold = [], []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run the task again") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            guesses.append(row["prediction"])
            gold.append(row["gold"])
            in_order = row["row"] == number - 1
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number} holds no prediction and gold ({error}); run the task again") from error
        if not in_order:
            raise DataError(f"{path}:{number} is row {row['row']}, expected {number - 1}; run the task again")
    return guesses, gold


def _check_names(runs: Sequence[TaskRuns]) -> None:
    encoders, folders = dict[str, TaskRuns](), dict[tuple[str, str], Path]()
    for run in runs:
        other = folders.setdefault((run.arm, run.column), run.folder)
        if other != run.folder:
            raise DataError(
                f"{other} and {run.folder} both hold {run.column} of {run.arm}; name one label={run.folder}"
            )
        namesake = encoders.setdefault(run.arm, run)
        if not run.named and run.encoder != namesake.encoder:
            raise DataError(
                f"{namesake.encoder} and {run.encoder} would both be called {run.arm}; name one label={run.folder}"
            )


def _check_rows(runs: Sequence[TaskRuns]) -> None:
    first = dict[str, TaskRuns]()
    for run in runs:
        other = first.setdefault(run.column, run)
        if run.metric_name != other.metric_name:
            raise DataError(
                f"{run.column} is scored by {other.metric_name} in {other.folder}, by {run.metric_name} in {run.folder}"
            )
        _check_same(other.gold, run.gold, other.folder, run.folder)


def _check_same(gold: Sequence[Any], other: Sequence[Any], path: Path, other_path: Path) -> None:
    if gold == other:
        return
    what = f"{len(gold)} rows and {len(other)}"
    if len(gold) == len(other):
        row = next(i for i, (one, two) in enumerate(zip(gold, other, strict=True)) if one != two)
        what = f"first at row {row}: {gold[row]!r:.60} and {other[row]!r:.60}"
    raise DataError(f"{path} and {other_path} do not hold the same rows ({what}); run both on the same data")
