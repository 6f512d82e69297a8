"""Two paths into one space, of texts and of pictures, and the loss between them (Engilberge et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from sightread.checks import check_shape
from sightread.config import check_choice
from sightread.errors import ConfigError

READERS = ("gru", "mean")


def weldon(scores: Tensor, count: int) -> Tensor:
    """The mean of the highest scores plus the mean of the lowest, each feature for itself (Durand et al. 2016).

    Args:
        scores: Of P places of each picture, float (B, P, E).
        count: k, how many of the highest, and of the lowest.

    Returns:
        float (B, E).

    Raises:
        ConfigError: If there are fewer than k places.
    """
    if not 1 <= count <= scores.shape[1]:
        raise ConfigError(f"extremes={count}: expected between 1 and the {scores.shape[1]} places of a feature map")
    highest, lowest = (scores.topk(count, dim=1, largest=largest).values for largest in (True, False))
    return highest.mean(dim=1) + lowest.mean(dim=1)


def triplet(scores: Tensor, excluded: Tensor, margin: float = 0.2, *, hardest: bool = True) -> Tensor:
    """Mean over pairs of the hinge of a text against its hardest picture, plus that of a picture against its hardest
    text (Faghri et al. 2018, equation 6); or of the means over all negatives.

    Args:
        scores: Of each text with each picture, those that belong together on the diagonal, float (B, B).
        excluded: True where a text is of the column's picture, and is no negative, bool (B, B).
        margin: The margin.
        hardest: Whether the hardest negative counts alone.
    """
    own, total = scores.diagonal(), scores.new_zeros(())
    for dim, mine in ((1, own[:, None]), (0, own)):
        hinges = (margin - mine + scores).clamp(min=0).masked_fill(excluded, 0)
        counts = (~excluded).sum(dim).clamp(min=1)
        total = total + (hinges.amax(dim) if hardest else hinges.sum(dim) / counts).mean()
    return total


class TextPath(nn.Module):
    """Vectors of words, normalised (word vectors and states differ in scale), to the vector of a text: a linear map of
    their mean, or the last state of a GRU.

    Args:
        width: D.
        out: Width of the joint space E.
        reader: "gru" or "mean".
    """

    def __init__(self, width: int, out: int, reader: str) -> None:
        check_choice("reader", reader, READERS)
        super().__init__()
        self.width, self.reader, self.norm = width, reader, nn.LayerNorm(width)
        self.layer = nn.GRU(width, out, batch_first=True) if reader == "gru" else nn.Linear(width, out)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors, float (B, E), of words, float (B, L, D), `lengths` of each, int64 (B,), at least 1."""
        check_shape("words", words, "B L D", D=self.width)
        words = self.norm(words)
        if self.reader == "gru":
            packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return functional.normalize(self.layer(packed)[1][0], dim=-1)
        real = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        mean = (words * real[..., None]).sum(dim=1) / lengths[:, None]
        return functional.normalize(self.layer(mean), dim=-1)


class ImagePath(nn.Module):
    """A feature map to the vector of a picture: each place normalised and mapped, `weldon` over places, unit length.

    Args:
        width: F.
        out: Width of the joint space E.
        extremes: k of `weldon`.
    """

    def __init__(self, width: int, out: int, extremes: int) -> None:
        super().__init__()
        self.width, self.out, self.extremes = width, out, extremes
        self.places = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, maps: Tensor) -> Tensor:
        """Unit vectors, float (B, E), of the P places of feature maps, float (B, P, F)."""
        check_shape("maps", maps, "B P F", F=self.width)
        return functional.normalize(weldon(self.places(maps), self.extremes), dim=-1)
