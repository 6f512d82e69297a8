"""Arms × columns × seeds: one table with intervals, one HTML report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightread.analysis.strips import StripToken, as_html
from sightread.artifacts import write_atomic
from sightread.statistics import Summary, paired_difference, summarize
from sightread.templates import render

_COLORS = ("#56606f", "#0072b2", "#009e73", "#d55e00", "#b28900")  # told apart by colour-blind eyes
_LEFT, _WIDTH = 190, 540


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
    """

    columns: Sequence[Column]
    seeds: Sequence[int]
    scores: Mapping[str, Mapping[str, Sequence[float]]]

    @property
    def control(self) -> str:
        """Name of the first arm."""
        return next(iter(self.scores))

    def summary(self, arm: str, column: str) -> Summary:
        """Mean and interval of an arm."""
        return summarize(self.scores[arm][column])

    def difference(self, arm: str, column: str) -> Summary:
        """Mean and interval of the difference to the control, seed by seed."""
        return paired_difference(self.scores[arm][column], self.scores[self.control][column])

    def apart(self, arm: str, column: str) -> bool:
        """Whether an arm's interval lies above the control's."""
        return self.summary(arm, column).low > self.summary(self.control, column).high

    def table(self) -> str:
        """The table as text: mean and 95 % interval."""
        width = max(map(len, self.scores)) + 2
        names = "".join(f"{column.name:>20}" for column in self.columns)
        lines = [f"{'encoder':<{width}}{names}"]
        for arm in self.scores:
            cells = [self.summary(arm, column.name) for column in self.columns]
            lines.append(
                f"{arm:<{width}}" + "".join(f"{f'{s.mean:.2f} [{s.low:.2f},{s.high:.2f}]':>20}" for s in cells)
            )
        chances = "".join(f"{f'{column.chance:.2f}':>8}{'':12}" for column in self.columns)
        return "\n".join([*lines, f"{'chance':<{width}}{chances}".rstrip()])

    def to_json(self) -> str:
        """Scores and summaries."""

        def cell(arm: str, column: str) -> dict[str, Any]:
            return {**vars(self.summary(arm, column)), "difference": vars(self.difference(arm, column))}

        arms = {arm: {column.name: cell(arm, column.name) for column in self.columns} for arm in self.scores}
        chance = {column.name: column.chance for column in self.columns}
        return json.dumps({"seeds": list(self.seeds), "chance": chance, "arms": arms}, indent=1)


def write_report(
    path: Path,
    comparison: Comparison,
    *,
    title: str,
    verdict: str,
    explanation: str,
    strips: Sequence[Sequence[StripToken]],
    strips_explanation: str,
    facts: Mapping[str, Any],
) -> Path:
    """Write one self-contained HTML file.

    Args:
        path: Where to.
        comparison: The scores.
        title: Heading.
        verdict: What came out, in a sentence or two.
        explanation: How the scores were taken.
        strips: Sentences with the picture of each token.
        strips_explanation: What they show.
        facts: What was run: settings, machine, times.
    """
    columns = comparison.columns
    arms = list(comparison.scores)
    page = render(
        "report.html", title=title, verdict=verdict, explanation=explanation, columns=columns, seeds=comparison.seeds,
        rows=[{"arm": arm, "cells": [comparison.summary(arm, c.name) for c in columns]} for arm in arms],
        differences=[{"arm": arm, "cells": [comparison.difference(arm, c.name) for c in columns]} for arm in arms[1:]],
        control=comparison.control, plots=[_plot(comparison, column) for column in columns],
        strips=[[as_html(token) for token in strip] for strip in strips], strips_explanation=strips_explanation,
        facts=facts,
    )  # fmt: skip
    write_atomic(path, page)
    return path


def _plot(comparison: Comparison, column: Column) -> dict[str, Any]:
    bars = []
    for i, arm in enumerate(comparison.scores):
        summary = comparison.summary(arm, column.name)
        ends = {name: _x(getattr(summary, name)) for name in ("low", "mean", "high")}
        color = _COLORS[i % len(_COLORS)]
        bars.append({"arm": arm, "y": 44 + 26 * i, "color": color, "dots": [_x(s) for s in summary.scores], **ends})
    ticks = [{"x": _x(value), "label": f"{value:.1f}"} for value in (0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    height = 44 + 26 * len(bars) + 18
    return {"name": column.name, "bars": bars, "ticks": ticks, "chance_x": _x(column.chance), "height": height}


def _x(score: float) -> float:
    return round(_LEFT + _WIDTH * min(max(score, 0.0), 1.0), 1)
