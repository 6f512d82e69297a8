"""Arms × columns × seeds: encoders compared, with intervals.

`Comparison` holds scores of the same seeds with their chance levels, as the controlled worlds give them.
`compare_runs` compares scores folders with all that their predictions allow: every difference to the control is paired
by seed and by example.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sightread.errors import DataError
from sightread.metrics import METRICS, translation_signatures
from sightread.runs import TaskRuns
from sightread.statistics import (
    Difference,
    Summary,
    holm,
    paired_bootstrap,
    paired_difference,
    permutation_test,
    summarize,
)

LEVEL = 0.05  # adjusted p below which a difference may count


@dataclass(frozen=True)
class Column:
    """A score: its name and what guessing would give."""

    name: str
    chance: float


@dataclass(frozen=True)
class Comparison:
    """Scores of some encoders under equal terms.

    Attributes:
        columns: What was scored.
        seeds: The seeds, in the order of the scores.
        scores: One number a seed, by arm and column name; the first arm is the control.
        controls: Arms whose control is another than the first.
        diverged: What went wrong, by arm: runs that are counted all the same.
        seconds: What training took, one number a seed, by arm.
    """

    columns: Sequence[Column]
    seeds: Sequence[int]
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    controls: Mapping[str, str] = field(default_factory=dict)
    diverged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def control(self) -> str:
        """Name of the first arm."""
        return next(iter(self.scores))

    def control_of(self, arm: str) -> str:
        """Name of the arm that this one is compared with."""
        return self.controls.get(arm, self.control)

    def summary(self, arm: str, column: str) -> Summary:
        """Mean and interval of an arm."""
        return summarize(self.scores[arm][column])

    def difference(self, arm: str, column: str) -> Summary:
        """Mean and interval of the difference to the control, seed by seed."""
        return paired_difference(self.scores[arm][column], self.scores[self.control_of(arm)][column])

    def apart(self, arm: str, column: str) -> bool:
        """Whether the interval of an arm's difference to its control lies above zero; a single seed has none."""
        low = self.difference(arm, column).low
        return low is not None and low > 0

    def table(self) -> str:
        """The table as text: mean and 95 % interval."""
        width = max(map(len, self.scores)) + 2
        lines = [f"{'encoder':<{width}}" + "".join(f"{column.name:>20}" for column in self.columns)]
        for arm in self.scores:
            cells = [_mean_with_interval(self.summary(arm, column.name)) for column in self.columns]
            lines.append(f"{arm:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
        chances = "".join(f"{f'{column.chance:.2f}':>8}{'':12}" for column in self.columns)
        lines.append(f"{'chance':<{width}}{chances}".rstrip())
        return "\n".join(lines + ["– no interval: it needs two seeds or more"] * (len(self.seeds) < 2))

    def to_json(self) -> str:
        """Scores and summaries."""

        def cell(arm: str, column: str) -> dict[str, Any]:
            return {**vars(self.summary(arm, column)), "difference": vars(self.difference(arm, column))}

        arms = {arm: {column.name: cell(arm, column.name) for column in self.columns} for arm in self.scores}
        chance = {column.name: column.chance for column in self.columns}
        told = {
            "seeds": list(self.seeds),
            "chance": chance,
            "controls": self.controls,
            "diverged": self.diverged,
            "seconds": self.seconds,
        }
        return json.dumps({**told, "arms": arms}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """What `to_json` wrote; raises `DataError` if it is something else."""
        try:
            told = json.loads(text)
            columns = [Column(name, chance) for name, chance in told["chance"].items()]
            scores = {arm: {c.name: cells[c.name]["scores"] for c in columns} for arm, cells in told["arms"].items()}
            others = {name: told[name] for name in ("controls", "diverged", "seconds")}
            return cls(columns, told["seeds"], scores, **others)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"these are no results of a comparison ({type(error).__name__}: {error})") from error

    def markdown(self) -> str:
        """The tables in Markdown: scores; differences to the control, paired by seed; what diverged."""
        names = [column.name.replace("_", " ") for column in self.columns]
        scores = [["encoder", *names, "s"]]
        for arm in self.scores:
            cells = [_with_interval(self.summary(arm, column.name)) for column in self.columns]
            scores.append([arm, *cells, f"{np.mean(self.seconds[arm]):.0f}" if arm in self.seconds else "–"])
        scores.append(["chance", *(f"{column.chance:.2f}" for column in self.columns), ""])
        apart = [["difference", *names]]
        for arm in list(self.scores)[1:]:
            cells = [_with_interval(self.difference(arm, column.name), "+") for column in self.columns]
            apart.append([f"{arm} − {self.control_of(arm)}", *cells])
        medians = [["median", *names]]
        for arm in self.scores:
            medians.append([arm, *(f"{self.summary(arm, column.name).median:.2f}" for column in self.columns)])
        diverged = [f"{arm} ({', '.join(what)})" for arm, what in self.diverged.items() if what]
        notes = [f"Runs that diverged, and count: {'; '.join(diverged) or 'none'}."]
        return "\n\n".join([*map(_as_table, (scores, apart, medians)), *notes]) + "\n"


def _with_interval(summary: Summary, sign: str = "") -> str:
    if summary.low is None or summary.high is None:
        return f"{summary.mean:{sign}.2f}"
    return f"{summary.mean:{sign}.2f} [{summary.low:{sign}.2f}, {summary.high:{sign}.2f}]".replace("-", "−")


def _as_table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *rest])


def _mean_with_interval(summary: Summary) -> str:
    if summary.low is None:
        return f"{summary.mean:.2f} {'[–]':<11}"
    return f"{summary.mean:.2f} [{summary.low:.2f},{summary.high:.2f}]"


@dataclass(frozen=True)
class Cell:
    """An encoder on a task, and how far it lies from the control.

    Attributes:
        runs: Its runs.
        summary: Its main scores over seeds; runs that diverged are among them.
        seeds: The seeds that the control has too.
        difference: To the control, with an interval over seeds and examples; None for the control, and without such
            seeds.
        p: Two-sided, of a permutation test over examples.
        adjusted: Holm's, over all tasks of this encoder.
    """

    runs: TaskRuns
    summary: Summary
    seeds: tuple[int, ...] = ()
    difference: Difference | None = None
    p: float | None = None
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """Whether it is clearly "better" or "worse" than the control; "" where the p or the interval leaves it open."""
        if self.difference is None or self.adjusted is None or self.adjusted >= LEVEL:
            return ""
        if self.difference.low <= 0 <= self.difference.high:
            return ""
        return "better" if (self.difference.mean > 0) != self.runs.metric.lower_is_better else "worse"


@dataclass(frozen=True)
class RunComparison:
    """Encoders × tasks.

    Attributes:
        arms: The encoders; the first is the control.
        columns: The tasks.
        cells: By arm and column; none where an encoder was not run on a task.
        controls: Arms whose control is another than the first.
    """

    arms: Sequence[str]
    columns: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]
    controls: Mapping[str, str] = field(default_factory=dict)

    def control_of(self, arm: str) -> str:
        """Name of the encoder that this one is compared with."""
        return self.controls.get(arm, self.arms[0])

    @property
    def control(self) -> str:
        """What the encoders are compared with, in words."""
        own = "; ".join(f"of {arm} to {control}" for arm, control in self.controls.items())
        return f"{self.arms[0]} ({own})" if own else self.arms[0]

    def column(self, name: str) -> list[Cell]:
        """The cells of a task, in the order of the arms."""
        return [self.cells[arm, name] for arm in self.arms if (arm, name) in self.cells]

    def verdicts(self) -> list[str]:
        """What is clear, in a sentence for each encoder but the control."""
        return [self._verdict_on(arm) for arm in self.arms[1:]]

    def _verdict_on(self, arm: str) -> str:
        tested = [cell for (name, _), cell in self.cells.items() if name == arm and cell.difference]
        found = {word: [cell.runs.column for cell in tested if cell.verdict == word] for word in ("better", "worse")}
        said = {word: f"{len(names)} ({', '.join(names)})" if names else "none" for word, names in found.items()}
        return (
            f"{arm}: of {len(tested)} tasks clearly better than {self.control_of(arm)} on {said['better']}, "
            f"clearly worse on {said['worse']}."
        )

    def notes(self) -> list[str]:
        """What a reader must know beside the numbers: runs that diverged, and why a number is missing."""
        diverged = [_diverged_note(cell) for cell in self.cells.values() if cell.runs.diverged]
        return diverged + [note for column in self.columns for note in self._notes_on(column)]

    def _notes_on(self, column: str) -> list[str]:
        cells = self.column(column)
        pairs = ((cell, self.cells.get((self.control_of(cell.runs.arm), column))) for cell in cells)
        others = [(cell, control) for cell, control in pairs if control and cell is not control]
        notes = [note for pair in others for note in (_differing_settings(*pair), _differing_seeds(*pair))]
        if absent := [arm for arm in self.arms if (arm, column) not in self.cells]:
            notes.append(f"not run for {', '.join(absent)}.")
        if lone := [cell.runs.arm for cell in cells if len(cell.summary.scores) == 1]:
            notes.append(
                f"a single seed for {', '.join(lone)}, so no interval over seeds; that of a difference is over "
                "examples only."
            )
        if cells[0].runs.metric is METRICS["translation"]:
            notes.append(f"sacreBLEU {translation_signatures()['bleu']}.")
        return [f"{column}: {note}" for note in notes if note]


def compare_runs(
    runs: Sequence[TaskRuns], *, controls: Mapping[str, str] | None = None, num: int = 10_000, seed: int = 0
) -> RunComparison:
    """Compare encoders with the first of them, or with a control of their own.

    Args:
        runs: As `read_runs` gives them.
        controls: The control of each arm that has one of its own.
        num: Resamples of the bootstrap and the permutation test.
        seed: Of the resampling.
    """
    arms, columns = (list(dict.fromkeys(getattr(run, name) for run in runs)) for name in ("arm", "column"))
    controls, found = controls or {}, {(run.arm, run.column): run for run in runs}
    cells = {
        key: _cell(run, _control(run, found, controls.get(run.arm, arms[0])), num, seed) for key, run in found.items()
    }
    for arm in arms[1:]:
        tested = {key: cell for key, cell in cells.items() if key[0] == arm and cell.p is not None}
        adjusted = holm([cell.p for cell in tested.values() if cell.p is not None])
        cells |= {key: replace(cell, adjusted=p) for (key, cell), p in zip(tested.items(), adjusted, strict=True)}
    return RunComparison(arms, columns, cells, controls)


def _control(run: TaskRuns, runs: Mapping[tuple[str, str], TaskRuns], name: str) -> TaskRuns | None:
    return runs.get((name, run.column)) if name != run.arm else None


def _cell(run: TaskRuns, control: TaskRuns | None, num: int, seed: int) -> Cell:
    summary = summarize(run.main_scores())
    seeds = tuple(sorted(run.predictions.keys() & control.predictions.keys())) if control else ()
    if control is None or not seeds:
        return Cell(run, summary)
    mine, theirs = ([one.predictions[s] for s in seeds] for one in (run, control))
    difference = paired_bootstrap(run.metric, mine, theirs, run.gold, num=num, seed=seed)
    p = permutation_test(run.metric, mine, theirs, run.gold, num=num, seed=seed)
    return Cell(run, summary, seeds, difference, p)


def _differing_settings(cell: Cell, control: Cell) -> str:
    mine, theirs = cell.runs.settings, control.runs.settings
    differing = [key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key)]
    if not differing:
        return ""
    return f"{cell.runs.arm} and {control.runs.arm} were trained with unequal settings ({', '.join(differing)})."


def _differing_seeds(cell: Cell, control: Cell) -> str:
    arm, name = cell.runs.arm, control.runs.arm
    if not cell.seeds:
        return f"{arm} has no seed in common with {name}, so there is no paired difference."
    if set(cell.seeds) == cell.runs.predictions.keys() == control.runs.predictions.keys():
        return ""
    return f"{arm} and {name} have seeds {', '.join(map(str, cell.seeds))} in common; the difference is over these."


def _diverged_note(cell: Cell) -> str:
    runs = cell.runs
    named = " and ".join(f"seed {seed} ({reason})" for seed, reason in runs.diverged.items())
    rest = runs.main_scores(without_diverged=True)
    without = f"the mean without is {summarize(rest).mean:.3f}" if rest else "no run is left without"
    return f"† {runs.arm}, {runs.column}: diverged with {named}, which is counted; {without}."
