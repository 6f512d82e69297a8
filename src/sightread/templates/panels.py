"""Where things stand in an SVG panel of intervals; `panel.svg.j2` draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TOP, STEP, BOTTOM = 44, 26, 18  # pixels: first row, from row to row, below the last
NUM_COLORS = 5  # that style.css.j2 has


@dataclass(frozen=True)
class Bar:
    """A row of a panel: scores as small dots, their mean as a large one, an interval as a line if there is one.

    Colours are numbers, so that an encoder keeps its own from panel to panel.
    """

    label: str
    color: int
    scores: Sequence[float]
    mean: float
    low: float | None
    high: float | None


def panel(
    bars: Sequence[Bar | None],
    *,
    left: int,
    width: int,
    reference: tuple[str, float] | None,
    ticks: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A panel for the template.

    Args:
        bars: One a row, None for an empty row.
        left: Where the axis begins, in pixels.
        width: How long it is.
        reference: A dashed line: its name, which may be empty, and where it stands.
        ticks: Ends of the axis and what lies between; by default round numbers around all bars.
    """
    held = [reference[1]] if reference else []
    for bar in filter(None, bars):
        held += [value for value in (bar.mean, bar.low, bar.high, *bar.scores) if value is not None]
    ticks = ticks or round_ticks(min(held), max(held))

    def x(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(left + width * min(max(share, 0.0), 1.0), 1)

    drawn = [
        {
            "label": bar.label, "color": bar.color % NUM_COLORS, "y": TOP + STEP * i,
            "dots": [x(score) for score in bar.scores], "mean": x(bar.mean),
            "ends": None if bar.low is None or bar.high is None else (x(bar.low), x(bar.high)),
        }
        for i, bar in enumerate(bars)
        if bar
    ]  # fmt: skip
    return {
        "bars": drawn,
        "ticks": [{"x": x(value), "label": tick_label(value, ticks)} for value in ticks],
        "reference": {"label": reference[0], "x": x(reference[1])} if reference else None,
        "height": TOP + STEP * len(bars) + BOTTOM,
    }


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick, with as many decimals as tell it from the next."""
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{value:,.{decimals}f}".replace("-", "−")


def round_ticks(low: float, high: float) -> list[float]:
    """Some three to seven round numbers, evenly spaced, the first not above `low`, the last not below `high`."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]
