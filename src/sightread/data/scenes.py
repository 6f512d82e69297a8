"""The renderer of the controlled world: coloured, patterned shapes on a plain ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image, ImageDraw

COLORS = {
    "red": (205, 40, 45),
    "green": (45, 150, 65),
    "blue": (45, 85, 200),
    "yellow": (240, 205, 50),
    "purple": (140, 65, 170),
    "black": (35, 35, 40),
}
SHAPES = ("round", "square", "triangular", "starry")
SIZES = ("small", "large")
PATTERNS = ("plain", "striped", "dotted")
ATTRIBUTES = {"color": tuple(COLORS), "shape": SHAPES, "size": SIZES, "pattern": PATTERNS}

_SCALE = 4  # drawn four times as large and averaged down, for smooth edges


@dataclass(frozen=True)
class Look:
    """How a thing looks: one value of each of `ATTRIBUTES`."""

    color: str
    shape: str
    size: str
    pattern: str


Box = tuple[int, int, int, int]  # x, y, width, height in pixels


def render(looks: list[Look], rng: np.random.Generator, size: int) -> tuple[Image.Image, list[Box]]:
    """Draw one or two things side by side.

    Args:
        looks: What to draw, from left to right.
        rng: Places, shades and the ground are drawn from it.
        size: Width and height of the picture in pixels.

    Returns:
        The picture (RGB) and the box around each thing.
    """
    ground = tuple(int(c) for c in rng.integers(205, 245) + rng.integers(-8, 9, size=3))
    canvas = Image.new("RGB", (size * _SCALE, size * _SCALE), ground)
    boxes = list[Box]()
    for place, look in enumerate(looks):
        radius = (0.13 if look.size == "small" else 0.22) * rng.uniform(0.95, 1.05)
        column = (place + 0.5) / len(looks)
        slack = max(0.5 / len(looks) - radius - 0.02, 0.0)
        x = column + rng.uniform(-slack, slack)
        y = rng.uniform(radius + 0.02, 0.98 - radius)
        shade = tuple(int(np.clip(c + rng.integers(-14, 15), 0, 255)) for c in COLORS[look.color])
        left, top, right, bottom = (edge / _SCALE for edge in _draw(canvas, look, (x, y, radius), shade, ground))
        boxes.append((int(left), int(top), ceil(right) - int(left), ceil(bottom) - int(top)))
    return canvas.resize((size, size), Image.Resampling.BOX), boxes


def _draw(
    canvas: Image.Image, look: Look, where: tuple[float, float, float], shade: tuple[int, ...], ground: tuple[int, ...]
) -> Box:
    """Draw one thing; returns left, top, right and bottom of what is coloured, in pixels of the canvas."""
    x, y, radius = (value * canvas.width for value in where)
    outline = Image.new("L", canvas.size, 0)
    pen = ImageDraw.Draw(outline)
    if look.shape == "round":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        pen.polygon([(x + radius * px, y + radius * py) for px, py in _OUTLINES[look.shape]], fill=255)
    fill = Image.new("RGB", canvas.size, shade)
    marks = ImageDraw.Draw(fill)
    step = radius / 1.9
    if look.pattern == "striped":
        for offset in np.arange(-radius, radius, step):
            marks.rectangle((x - radius, y + offset, x + radius, y + offset + step * 0.45), fill=ground)
    elif look.pattern == "dotted":
        dot = step * 0.3
        for dx in np.arange(-radius + step / 2, radius, step):
            for dy in np.arange(-radius + step / 2, radius, step):
                marks.ellipse((x + dx - dot, y + dy - dot, x + dx + dot, y + dy + dot), fill=ground)
    canvas.paste(fill, mask=outline)
    return outline.getbbox() or (0, 0, 0, 0)


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


_OUTLINES = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangular": [(0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)],
    "starry": _star(5, 0.45),
}
