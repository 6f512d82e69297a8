"""A cross-modal encoder over a language encoder and CLIP's text tower (Hsu et al. 2022, section 3.1).

Both read text. The states of each stream, x (B, L, D) and y (B, M, W), go through layers as LXMERT's (Tan & Bansal
2019, section 3.1.2), post-normalised as BERT's; A(q, k) is multi-head attention from q to k:

    x' = LN(x + A(x, y))    y' = LN(y + A'(y, x))         cross-attention, both from what came in
    x" = LN(x' + A(x', x'))                                self-attention, likewise for y'
    x* = LN(x" + W₂ GELU(W₁ x"))                           feed-forward, likewise for y"

Keys and values are projected from one width to the other, so that D and W may differ. A stream of which nothing can be
read adds nothing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightread.checks import check_shape
from sightread.config import check_positive

Streams = tuple[Tensor, Tensor]
"""Something of the language side, and the same of CLIP's."""


class Attention(nn.Module):
    """LN(x + A(x, y)).

    Args:
        width: Of x, in heads of 64 where that divides it.
        read_width: Of y.
        dropout: Of weights and outcome.
    """

    def __init__(self, width: int, read_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = math.gcd(width, max(width // 64, 1)), nn.Dropout(dropout)
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(read_width, width), nn.Linear(read_width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """New states of x, float (B, L, D), that read y, (B, M, W), where the mask, bool (B, M), is True."""
        query, key, value = (self._in_heads(part) for part in (self.query(x), self.key(y), self.value(y)))
        some = mask.any(dim=1)[:, None, None]
        allowed = (mask[:, None, None] | ~some[:, None]).expand(-1, 1, x.shape[1], -1)  # of nothing, softmax is none
        p = self.dropout.p if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=p)
        found = self.dropout(self.output(found.transpose(1, 2).flatten(2)))
        return self.norm(x + torch.where(some, found, 0))

    def weights(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """How much each position reads of each, float (B, heads, L, M); rows sum to one, or to zero."""
        query, key = self._in_heads(self.query(x)), self._in_heads(self.key(y))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(dim=-1).nan_to_num()

    def _in_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """LN(x + W₂ GELU(W₁ x)), four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """New states, float (B, L, D)."""
        return self.norm(x + self.layers(x))


class TwoStreamLayer(nn.Module):
    """One layer; widths are D and W."""

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        pairs = zip(widths, widths[::-1], strict=True)
        self.cross = nn.ModuleList(Attention(width, other, dropout) for width, other in pairs)
        self.own = nn.ModuleList(Attention(width, width, dropout) for width in widths)
        self.feed = nn.ModuleList(FeedForward(width, dropout) for width in widths)

    def forward(self, states: Streams, masks: Streams) -> Streams:
        """New states of both streams, float (B, L, D) and (B, M, W), read where masks, bool, are True."""
        sides = zip(self.cross, states, states[::-1], masks[::-1], strict=True)
        crossed = [cross(x, y, mask) for cross, x, y, mask in sides]
        read = [own(x, x, mask) for own, x, mask in zip(self.own, crossed, masks, strict=True)]
        first, second = (feed(x) for feed, x in zip(self.feed, read, strict=True))
        return first, second


class TwoStream(nn.Module):
    """A language encoder and CLIP's text tower, read together.

    Args:
        text: The language encoder.
        clip: CLIP's text tower, a `CLIPTextModel`.
        projection: CLIP's map to the joint space, through which its states are read; None: they are read as they are.
        num_layers: Layers of the cross-modal encoder, with the language encoder's dropout.

    Attributes:
        widths: D and W.
    """

    def __init__(self, text: Any, clip: Any, projection: nn.Linear | None, *, num_layers: int = 2) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.text, self.clip, self.projection = text, clip, projection
        self.widths = text.config.hidden_size, projection.out_features if projection else clip.config.hidden_size
        self.knows_types = "token_type_ids" in inspect.signature(text.forward).parameters
        dropout = getattr(text.config, "hidden_dropout_prob", 0.1)
        self.layers = nn.ModuleList(TwoStreamLayer(self.widths, dropout) for _ in range(num_layers))
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        clip_ids: Tensor,
        clip_attention_mask: Tensor,
        clip_words: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> Streams:
        """States of both sides, float (B, L, D) and (B, R, M, W).

        Args:
            input_ids: What the language encoder reads, int64 (B, L).
            attention_mask: int64 (B, L).
            clip_ids: What CLIP reads, in rows, int64 (B, R, M); see `data.clip_rows`.
            clip_attention_mask: 1 but for padding, int64 (B, R, M); each row is a text of its own to CLIP.
            clip_words: 1 at words, which the cross-modal encoder reads; 0 at special tokens, too; int64 (B, R, M).
            token_type_ids: Of the language encoder, int64 (B, L); left out where it knows none.
        """
        check_shape("clip_ids", clip_ids, "B R M", B=len(input_ids))
        types = {"token_type_ids": token_type_ids} if self.knows_types and token_type_ids is not None else {}
        text = self.text(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        there = clip_attention_mask.bool().any(dim=-1)  # rows that are not padding
        rows = self.clip(input_ids=clip_ids[there], attention_mask=clip_attention_mask[there]).last_hidden_state
        rows = self.projection(rows) if self.projection else rows
        seen = rows.new_zeros(*clip_ids.shape, self.widths[1])
        seen[there] = rows
        states, masks = (text, seen.flatten(1, 2)), (attention_mask.bool(), clip_words.bool().flatten(1))
        for layer in self.layers:
            states = layer(states, masks)
        return states[0], states[1].unflatten(1, clip_ids.shape[1:])


@torch.no_grad()
def attention_maps(model: TwoStream, **inputs: Tensor) -> list[Streams]:
    """What each layer's cross-attention looks at, for the inputs of `TwoStream` (Hsu et al. 2022, table 9).

    Returns:
        For every layer, from text to CLIP's tokens, float (B, heads, L, R·M), and from these to text,
        (B, heads, R·M, L).
    """
    found = list[Tensor]()
    hooks = [
        attention.register_forward_pre_hook(lambda module, given: found.append(module.weights(*given)))
        for layer in model.layers
        for attention in layer.cross  # type: ignore[union-attr]
    ]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(zip(found[::2], found[1::2], strict=True))
