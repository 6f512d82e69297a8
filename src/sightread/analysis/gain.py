"""Does grounding help where there is something to ground? Gain against grounding ratio (Hsu et al. 2022, figure 4).

The grounding ratio of a text is the share of its words that are grounded types. An encoder's gain on an item is how
much better it answers than its control, a mean over the seeds that both have: right answers count 1, numbers their
distance from the right one, negative, and what is neither the task's own score of that answer alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightread.analysis.figures import COLORS, FAINT, bare, new_figure, save
from sightread.data.words import words_of
from sightread.errors import DataError
from sightread.runs import TaskRuns
from sightread.statistics import bootstrap_interval, rank_correlation

FEWEST = 3  # items, for a correlation
_BINS = 5


@dataclass(frozen=True)
class Gain:
    """Gains of an encoder over its control on the items of one task.

    Attributes:
        task: Its name.
        ratios: Grounding ratio of each item, float64 (N,).
        gains: Gain on each, float64 (N,).
        texts: What each reads.
        score: Difference of the task's own score, a mean over seeds.
        spearman: Rank correlation of ratios and gains; None where one of them is constant.
        interval: 95 % bootstrap interval of it, over items; None likewise.
    """

    task: str
    ratios: np.ndarray
    gains: np.ndarray
    texts: Sequence[str]
    score: float
    spearman: float | None
    interval: tuple[float, float] | None

    def changed(self, sign: int) -> np.ndarray:
        """The items that are answered better (1), or worse (-1), most of all first, int64."""
        order = np.argsort(-sign * self.gains, kind="stable")
        return order[sign * self.gains[order] > 0]


def text_ratio(inputs: Any, types: Collection[str]) -> float:
    """Share of the words of what a row of a task reads that are grounded types; 0 where there are no words."""
    words = [word for text in _texts(inputs) for word in words_of(text)]
    return sum(word in types for word in words) / max(len(words), 1)


def _texts(inputs: Any) -> Iterator[str]:
    """Every text in it, however deep."""
    if isinstance(inputs, str):
        yield inputs
    elif isinstance(inputs, Iterable):
        for part in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _texts(part)


def gain_of(
    encoder: TaskRuns, control: TaskRuns, items: Sequence[Any], types: Collection[str], *, seed: int = 0
) -> Gain:
    """Gains on one task.

    Args:
        encoder: The runs of the encoder.
        control: Those of its control, on the same rows.
        items: The texts of the rows that have gold, in order.
        types: Grounded types.
        seed: Of the bootstrap.

    Raises:
        DataError: If the texts are not those of the rows, or the two have no seed in common.
    """
    if len(items) != len(encoder.gold):
        raise DataError(
            f"{encoder.column} has {len(encoder.gold)} answers in {encoder.folder}, and {len(items)} rows with gold in "
            "its data; give the data that it was run on"
        )
    seeds = sorted(encoder.predictions.keys() & control.predictions.keys())
    if not seeds:
        raise DataError(f"{encoder.column}: {encoder.arm} and {control.arm} have no seed in common")
    per_seed = [_credit(encoder, seed) - _credit(control, seed) for seed in seeds]
    main = encoder.metric.main
    score = float(np.mean([encoder.scores[s][main] - control.scores[s][main] for s in seeds]))
    pairs = np.stack([[text_ratio(item, types) for item in items], np.mean(per_seed, axis=0)], axis=1)
    spearman, interval = _correlation(pairs, seed)
    texts = [" | ".join(_texts(item)) for item in items]
    return Gain(encoder.column, pairs[:, 0], pairs[:, 1], texts, score, spearman, interval)


def _credit(runs: TaskRuns, seed: int) -> np.ndarray:
    """What each answer is worth, float64 (N,)."""
    if all(isinstance(gold, str) for gold in runs.gold):  # labels, in a moment
        return np.array([float(a == b) for a, b in zip(runs.predictions[seed], runs.gold, strict=True)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no single answer has a correlation
        alone = [
            runs.metric.scores([guess], [gold]) for guess, gold in zip(runs.predictions[seed], runs.gold, strict=True)
        ]
    if "rmse" in alone[0]:
        return np.array([-scores["rmse"] for scores in alone])
    return np.array([scores.get("accuracy", scores.get(runs.metric.main, 0.0)) for scores in alone])


def _correlation(pairs: np.ndarray, seed: int) -> tuple[float | None, tuple[float, float] | None]:
    if len(pairs) < FEWEST or np.ptp(pairs, axis=0).min() == 0:
        return None, None
    return rank_correlation(pairs), bootstrap_interval(pairs, statistic=rank_correlation, num=1000, seed=seed)


def draw(found: Sequence[Gain], out: Path) -> list[Path]:
    """Two panels: the gain of each task against its mean ratio, and that of the fifths of its items by ratio.

    Args:
        found: One a task.
        out: Where, without a suffix.

    Returns:
        The files `out`.svg and `out`.pdf.
    """
    figure = new_figure(9, 3.8)
    tasks, items = figure.subplots(1, 2)
    for i, gain in enumerate(found):
        color, at = COLORS[i % len(COLORS)], (float(gain.ratios.mean()), gain.score)
        tasks.scatter(*at, 30, color)
        tasks.annotate(gain.task, at, (5, 3), textcoords="offset points", fontsize=9)
        fifths = [rows for rows in np.array_split(np.argsort(gain.ratios, kind="stable"), _BINS) if len(rows)]
        middles, means = ([float(v[rows].mean()) for rows in fifths] for v in (gain.ratios, gain.gains))
        items.plot(middles, means, "o-", color=color, label=gain.task, markersize=4)
    tasks.set(xlabel="grounding ratio of the task", ylabel="gain of its score")
    items.set(xlabel="grounding ratio of items, in fifths", ylabel="gain of an item")
    for axes in (tasks, items):
        bare(axes)
        axes.axhline(0, color=FAINT, linewidth=0.8, linestyle="--")
    tasks.margins(x=0.2)  # room for names
    items.legend(frameon=False, fontsize=8)
    return save(figure, out)


def as_markdown(found: Sequence[Gain]) -> str:
    """A row a task, and how its gains and ratios go together over tasks."""
    lines = [["task", "items", "grounding ratio", "of improved items", "of worsened ones", "gain of its score"]]
    lines[0] += ["Spearman over items", "95 %"]
    lines.append(["---", *["---:"] * 7])
    for gain in found:
        rank = "–" if gain.spearman is None else f"{gain.spearman:.3f}"
        ends = "–" if gain.interval is None else f"[{gain.interval[0]:.3f}, {gain.interval[1]:.3f}]"
        ratios = [gain.ratios, *(gain.ratios[gain.changed(sign)] for sign in (1, -1))]
        of = [f"{part.mean():.3f} ({len(part)})" if len(part) else "– (0)" for part in ratios]
        lines.append([gain.task, str(len(gain.gains)), of[0].split()[0], *of[1:], f"{gain.score:+.4f}", rank, ends])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("-0", "−0")


def as_dicts(found: Sequence[Gain]) -> dict[str, Mapping[str, Any]]:
    """The numbers, by task, and the texts that were answered better, and worse."""
    return {
        gain.task: {
            "score": gain.score, "spearman": gain.spearman, "interval": gain.interval,
            "ratios": gain.ratios.tolist(), "gains": gain.gains.tolist(),
            **{
                name: [{"text": gain.texts[i], "gain": gain.gains[i], "ratio": gain.ratios[i]} for i in rows.tolist()]
                for name, rows in (("improved", gain.changed(1)), ("worsened", gain.changed(-1)))
            },
        }
        for gain in found
    }  # fmt: skip
