"""Where things stand in an SVG of learning curves; `curves.svg.j2` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sightread.templates.panels import NUM_COLORS, round_ticks, tick_label

WIDTH, HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26  # pixels around the axes


class Curve(NamedTuple):
    """A line: which colour it has, by a number, and what it goes through."""

    color: int
    points: Sequence[tuple[float, float]]


def curves(lines: Sequence[Curve]) -> dict[str, Any]:
    """Axes with lines for the template; there must be a point at least.

    A colour that is given again after all have been has dashes.
    """
    xs, ys = zip(*(point for line in lines for point in line.points), strict=True)
    x_ticks, y_ticks = round_ticks(0.0, max(xs)), round_ticks(min(ys), max(ys))

    def x(value: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 1)

    def y(value: float) -> float:
        return round(
            HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1
        )

    drawn = [
        {
            "color": line.color % NUM_COLORS, "dashed": line.color // NUM_COLORS % 2 == 1,
            "points": " ".join(f"{x(a)},{y(b)}" for a, b in line.points),
            "dot": (x(line.points[0][0]), y(line.points[0][1])) if len(line.points) == 1 else None,
        }
        for line in lines
        if line.points
    ]  # fmt: skip
    return {
        "lines": drawn, "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - _RIGHT, "top": _TOP,
        "bottom": HEIGHT - _BOTTOM,
        "x_ticks": [{"at": x(value), "label": tick_label(value, x_ticks)} for value in x_ticks],
        "y_ticks": [{"at": y(value), "label": tick_label(value, y_ticks)} for value in y_ticks],
    }  # fmt: skip
