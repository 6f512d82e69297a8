"""How far training carried an encoder from where it started, tensor by tensor and layer by layer.

Of the weights w of an encoder and w_0 of its start, ‖w - w_0‖, and the same as a share of ‖w_0‖. The control of "any
change helps" is the start with noise of the same length (`sightread noise`): its distances are the encoder's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from sightread.analysis.figures import COLORS, bare, new_figure, save
from sightread.errors import ConfigError
from sightread.modules.language_model import LanguageModel

_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block)\.(\d+)\.")
EMBEDDINGS, HEAD, REST = "embeddings", "head", "rest"


class Distance(NamedTuple):
    """How far some weights lie from others, and from zero."""

    moved: float
    length: float

    @property
    def share(self) -> float:
        """‖w - w_0‖ / ‖w_0‖; 0 where both are zero."""
        return self.moved / self.length if self.length else 0.0


@torch.no_grad()
def distances(start: LanguageModel, other: LanguageModel) -> dict[str, Distance]:
    """Distance of each tensor, in the order of the model; tied weights are one, and a head that is fresh is left out.

    Raises:
        ConfigError: If the encoders are of different shapes.
    """
    headless = start.fresh_head or other.fresh_head
    mine, theirs = (
        {name: w for name, w in model.named_parameters() if not (headless and name.startswith("head."))}
        for model in (start, other)
    )
    common = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
    if missing := sorted(mine.keys() - set(common)):
        raise ConfigError(
            f"these encoders differ in shape: {len(missing)} tensors of the start are missing or of another shape "
            f"({', '.join(missing[:3])}, …); give the checkpoint that the training started from"
        )
    weights = {name: (mine[name].double(), theirs[name].double()) for name in common}
    return {name: Distance(float((b - a).norm()), float(a.norm())) for name, (a, b) in weights.items()}


def by_layer(found: Mapping[str, Distance]) -> dict[str, Distance]:
    """The distances of embeddings, of each layer from 1, of the head, and of what is none of these."""
    squares = dict[str, tuple[float, float]]()
    for name, distance in found.items():
        part = _part_of(name)
        moved, length = squares.get(part, (0.0, 0.0))
        squares[part] = moved + distance.moved**2, length + distance.length**2
    numbers = sorted((part for part in squares if part.isdigit()), key=int)
    order = [part for part in (EMBEDDINGS, *numbers, REST, HEAD) if part in squares]
    return {part: Distance(squares[part][0] ** 0.5, squares[part][1] ** 0.5) for part in order}


def _part_of(name: str) -> str:
    if name.startswith("head."):
        return HEAD
    if layer := _LAYER.search(name):
        return str(int(layer[1]) + 1)
    return EMBEDDINGS if re.search(r"embed|\bwte\b|\bwpe\b", name) else REST


def draw(found: Mapping[str, Mapping[str, Distance]], out: Path) -> list[Path]:
    """Each encoder's relative distance by layer.

    Args:
        found: By encoder and layer, as `by_layer` gives them.
        out: Where, without a suffix.

    Returns:
        The files `out`.svg and `out`.pdf.
    """
    figure = new_figure(6.5, 3.8)
    axes = figure.add_subplot(xlabel="layer", ylabel="distance from the start, share of its length")
    bare(axes)
    markers = "os^Dv<>P"
    for i, (name, parts) in enumerate(found.items()):
        style = {"color": COLORS[i % len(COLORS)], "marker": markers[i % len(markers)]}
        axes.plot(list(parts), [distance.share for distance in parts.values()], label=name, **style)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return save(figure, out)


def as_markdown(found: Mapping[str, Mapping[str, Distance]]) -> str:
    """A row an encoder: the whole distance, its share, and the share of each layer."""
    parts = list(next(iter(found.values())))
    lines = [["encoder", "distance", "share", *parts], ["---", *["---:"] * (len(parts) + 2)]]
    for name, layers in found.items():
        squares = [sum(getattr(layer, side) ** 2 for layer in layers.values()) for side in ("moved", "length")]
        whole = Distance(squares[0] ** 0.5, squares[1] ** 0.5)
        lines.append([name, f"{whole.moved:.4g}", f"{whole.share:.4f}", *(f"{layers[p].share:.4f}" for p in parts)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
