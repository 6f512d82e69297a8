"""Heads on frozen or trained encoders."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sightread.config import check_choice

HEADS = ("linear", "dense", "shared")


class ProjectionHead(nn.Module):
    """An MLP into the joint space: LayerNorm, linear, ReLU, dropout, linear, unit length.

    As in Tan & Bansal (2020, section 3.2), but for the LayerNorm: backbones differ in the scale and offset of their
    features, and without it the same learning rate does not serve them all.

    Args:
        width: Input width D or F.
        hidden: Width of the hidden layer, 256 in the paper; 0: a linear map to unit length, and nothing else.
        out: Width of the joint space E, 64 in the paper.
        dropout: Dropout on the hidden layer.
        input_dropout: Dropout on the input.
    """

    def __init__(self, width: int, hidden: int, out: int, dropout: float = 0.0, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.in_width = width
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(input_dropout), nn.Linear(width, hidden),
            nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out),
        ) if hidden else nn.Sequential(nn.Linear(width, out))  # fmt: skip

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> ProjectionHead:
        """A head of this linear map, which has a bias."""
        head = cls(linear.in_features, 0, linear.out_features)
        head.layers = nn.Sequential(linear)
        return head

    def forward(self, x: Tensor) -> Tensor:
        """Unit vectors (..., E) of states (..., D)."""
        return functional.normalize(self.layers(x), dim=-1)


def build_voken_head(kind: str, width: int, out: int) -> nn.Module:
    """What predicts a voken from a token's state (..., D) -> (..., out).

    "linear" is equation 1 of Tan & Bansal (2020); "dense" is linear, GELU, LayerNorm, linear, as BERT's own
    language-model head, and what their code has;
    "shared" is linear, too, and meant to read what that head's last layer reads.
    """
    check_choice("head", kind, HEADS)
    if kind != "dense":
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, out))


def split_voken_head(head: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """A voken head as what comes before its output layer, and that layer."""
    *before, output = head if isinstance(head, nn.Sequential) else (head,)
    return nn.Sequential(*before), cast(nn.Linear, output)
