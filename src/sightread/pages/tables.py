"""Comparisons for the page's templates: the same numbers as in every other table, and where they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sightread.compare import Column, Comparison, RunComparison
from sightread.report import HEADER, NONE, explanation, heading, line
from sightread.statistics import Summary
from sightread.templates.panels import Bar, panel

_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def of_worlds(comparison: Comparison, arms: Sequence[str]) -> dict[str, Any]:
    """Scores, differences and plots of encoders on controlled worlds.

    Args:
        comparison: What is shown.
        arms: Encoders in the order of their colours.
    """
    columns, (_, *others) = comparison.columns, comparison.scores
    return {
        "columns": [replace(c, name=_words(c.name)) for c in columns], "seeds": comparison.seeds,
        "rows": [{"arm": arm, "cells": [comparison.summary(arm, c.name) for c in columns]}
                 for arm in comparison.scores],
        "differences": [
            {"arm": f"{arm} − {comparison.control_of(arm)}",
             "cells": [comparison.difference(arm, c.name) for c in columns]}
            for arm in others
        ],
        "plots": [{"name": _words(c.name), "panel": _accuracies(comparison, c, arms)} for c in columns],
    }  # fmt: skip


def of_tasks(comparison: RunComparison, arms: Sequence[str]) -> dict[str, Any]:
    """An overview, and for each task its numbers and a plot of scores and differences; as `of_worlds`."""
    checkpoints: dict[str, dict[str, None]] = {arm: {} for arm in comparison.arms}
    for cell in comparison.cells.values():
        checkpoints[cell.runs.arm][cell.runs.encoder] = None
    return {
        "arms": comparison.arms, "control": comparison.control, "header": HEADER, "missing": NONE,
        "tasks": [_task(column, comparison, arms) for column in comparison.columns],
        "checkpoints": checkpoints, "explanation": explanation(comparison.control), "notes": comparison.notes(),
    }  # fmt: skip


def _accuracies(comparison: Comparison, column: Column, arms: Sequence[str]) -> Mapping[str, Any]:
    bars = [_bar(arm, arms.index(arm), comparison.summary(arm, column.name)) for arm in comparison.scores]
    return panel(bars, left=190, width=540, reference=("chance", column.chance), ticks=_TICKS)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _task(column: str, comparison: RunComparison, arms: Sequence[str]) -> dict[str, Any]:
    cells = comparison.column(column)
    colors = [arms.index(cell.runs.arm) for cell in cells]
    scores = [_bar(cell.runs.arm, color, cell.summary) for color, cell in zip(colors, cells, strict=True)]
    panels = [panel(scores, left=190, width=250, reference=None)]
    apart = [
        Bar("", color, (), one.mean, one.low, one.high) if (one := cell.difference) else None
        for color, cell in zip(colors, cells, strict=True)
    ]
    if any(apart):
        panels.append(panel(apart, left=510, width=230, reference=("", 0.0)))
    lines = {cell.runs.arm: line(cell) for cell in cells}
    return {"name": column, "heading": heading(cells[0]), "lines": lines, "panels": panels}


def _bar(label: str, color: int, summary: Summary) -> Bar:
    return Bar(label, color, summary.scores, summary.mean, summary.low, summary.high)
