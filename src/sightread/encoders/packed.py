"""Sequences of different lengths end to end through an encoder: no padding, and no mask.

All but attention takes a token at a time, so that a batch can be one long row; attention then goes from sequence to
sequence, those of one length at once. Whether a model can be read so, it is asked: what it makes of a few sequences is
compared with what it makes of each alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.encoders.features import encode_ids
from sightread.encoders.text import PACKED, TextEncoder, first_position

MULTIPLE = 256  # of tokens in a large batch, filled up: oneDNN makes its code anew for every number, and keeps it
_LONGEST = 2048  # of the rows that are tried; models that take longer ones are rare, and take any
_TOLERANCE = 1e-4  # of the largest value; sums are taken in another order


@torch.inference_mode()
def can_pack(encoder: TextEncoder, ids: Sequence[np.ndarray]) -> bool:
    """Whether the encoder makes the same of packed sequences; if so it is left prepared for `encode_packed`.

    Args:
        encoder: Whatever else reads by it is not affected.
        ids: Sequences to find out by, of different lengths, special tokens included, int (L,).
    """
    config = encoder.model.config
    if config._attn_implementation != "sdpa" or encoder.fixed_length:
        return config._attn_implementation == PACKED
    times = 1 + min(encoder.max_length, _LONGEST) // sum(map(len, ids))  # more than a row that the model takes
    alone = torch.cat([encode_ids(encoder, [row])[0] for row in ids] * times)
    try:
        if (encode_packed(encoder, [*ids] * times) - alone).abs().max() <= _TOLERANCE * alone.abs().max():
            return True
    except (TypeError, ValueError):  # it takes no positions, or no row longer than its last one
        pass
    config._attn_implementation = "sdpa"
    return False


def prepare(encoder: TextEncoder) -> None:
    """Have a model call our attention, which is torch's own unless sequences are packed."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
    encoder.model.config._attn_implementation = PACKED


def encode_packed(encoder: TextEncoder, ids: Sequence[np.ndarray]) -> Tensor:
    """Token vectors of sequences, special tokens included.

    Args:
        encoder: One that `can_pack`.
        ids: Sequences, those of one length best one after the other, int (L,).

    Returns:
        float32 (T, D), end to end.
    """
    if encoder.model.config._attn_implementation != PACKED:  # it never packed, or was sent to this process
        prepare(encoder)
    device, total = next(encoder.parameters()).device, sum(map(len, ids))
    multiple = MULTIPLE if total > 4 * MULTIPLE else MULTIPLE // 4
    if total > multiple:
        ids = [*ids, *[ids[-1][:1]] * (-total % multiple)]
    lengths = [len(row) for row in ids]
    tokens = torch.from_numpy(np.concatenate(ids).astype(np.int64)).to(device)
    places = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])).to(device)
    packed = [(len(list(same)), length) for length, same in groupby(lengths)]
    positions = places + first_position(encoder.model.config)
    return encoder(tokens[None], None, position_ids=positions[None], packed=packed)[0, :total].float()


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    packed: Sequence[tuple[int, int]] | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention from (B, H, L, d) to (B, L, H, d), or of packed sequences, (1, H, T, d): so many of such a length."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    attended, begin = [], 0
    for count, length in packed:
        here = slice(begin, begin := begin + count * length)
        q, k, v = (x[0, :, here].unflatten(1, (count, length)).transpose(0, 1) for x in (query, key, value))
        attended.append(sdpa_attention_forward(module, q, k, v, None, **options)[0].flatten(0, 1))
    return torch.cat(attended)[None], None
