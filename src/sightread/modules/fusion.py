"""Pictures at the reader's elbow: one layer of attention from text to pictures (Zhang et al. 2020).

    H′ = attention(H, M, M),   Ĥ = LayerNorm(W (H + λ ∘ H′)),   λ = 1, or σ(U [H; H′]) with a gate,

H being the states of a text, M the vectors of its pictures. Each vector of a picture is scaled to unit length by
itself, over its features.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightread.checks import check_shape
from sightread.config import check_positive
from sightread.errors import ConfigError


class PictureAttention(nn.Module):
    """States of a text that look at pictures. W begins as the identity, so that states go through nearly as they were.

    Args:
        width: D, of the states.
        image_width: F, of the pictures' vectors.
        heads: Attention heads.
        gated: Whether λ is a gate.
        dropout: Dropout on the attention.
    """

    def __init__(
        self, width: int, image_width: int, *, heads: int = 8, gated: bool = False, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_positive(heads=heads)
        if width % heads:
            raise ConfigError(f"heads={heads}: {width}, the width of the text's states, is no multiple of it")
        self.image_width = image_width
        self.project = nn.Sequential(nn.Linear(image_width, width), nn.LayerNorm(width))
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.gate = nn.Linear(2 * width, width) if gated else None
        self.output, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        nn.init.eye_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, states: Tensor, images: Tensor | None = None, image_mask: Tensor | None = None) -> Tensor:
        """States that have seen pictures, float (B, L, D); H′ is zero where there is none.

        Args:
            states: H, float (B, L, D).
            images: Vectors of pictures, float (B, R, F); None: there is none.
            image_mask: 1 where there is a picture, int64 (B, R); all, if not given.
        """
        seen = torch.zeros_like(states) if images is None else self._look(states, images, image_mask)
        if self.gate is not None:
            seen = self.gate(torch.cat([states, seen], dim=-1)).sigmoid() * seen
        return self.norm(self.output(states + seen))

    def _look(self, states: Tensor, images: Tensor, image_mask: Tensor | None) -> Tensor:
        check_shape("images", images, "B R F", B=len(states), F=self.image_width)
        hidden = torch.zeros(images.shape[:2], device=images.device).bool() if image_mask is None else image_mask == 0
        blind = hidden.all(dim=1, keepdim=True)
        vectors = self.project(functional.normalize(images.to(states.dtype), dim=-1))
        # where all is hidden, a softmax over nothing would be no number
        seen, _ = self.attention(states, vectors, vectors, key_padding_mask=hidden & ~blind, need_weights=False)
        return seen.masked_fill(blind[..., None], 0)


class AwareText(nn.Module):
    """A text encoder whose states look at pictures; it is called as `CrossModal` is.

    Args:
        text: The text encoder.
        attention: How they look.
    """

    def __init__(self, text: Any, attention: PictureAttention) -> None:
        super().__init__()
        self.text, self.attention = text, attention
        self.knows_types = "token_type_ids" in inspect.signature(text.forward).parameters

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        images: Tensor | None = None,
        image_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """States of tokens, float (B, L, D); the pictures have none.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            images: As for `PictureAttention`.
            image_mask: Likewise.
            token_type_ids: Of the text encoder, int64 (B, L); left out where it knows none.
        """
        types = {"token_type_ids": token_type_ids} if self.knows_types and token_type_ids is not None else {}
        states = self.text(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        return self.attention(states, images, image_mask), None
