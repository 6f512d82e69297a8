"""Lines of tokens through a text encoder: long ones in windows, those of like length together."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from sightread.data.blocks import special_tokens_around
from sightread.encoders.features import encode_ids, sentence_states
from sightread.encoders.packed import MULTIPLE, encode_packed
from sightread.encoders.prepacked import prepacked
from sightread.encoders.text import TextEncoder

Encoded = tuple[np.ndarray, np.ndarray, Tensor]
"""Places of some tokens, int64 (n,); how many of them, one after the other, share each vector, int64 (m,); the vectors,
float32 (m, D or E)."""


def end_to_end(lines: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of all lines, int64 (T,), and their `begins` as for `encode_lines`."""
    begins = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.int64), *lines]).astype(np.int64), begins


@torch.inference_mode()
def encode_lines(
    encoder: TextEncoder,
    token_ids: np.ndarray,
    begins: np.ndarray,
    *,
    room: int,
    budget: int,
    level: str = "token",
    chosen: Sequence[int] | None = None,
    bf16: bool = False,
    packed: bool = False,
) -> Iterator[Encoded]:
    """States of all tokens, batch by batch.

    What is longer than `room` is read in windows that overlap by a quarter, and each token is taken from the window in
    which it has the most context.

    Args:
        encoder: The encoder.
        token_ids: Tokens of all lines, end to end, without special ones, int (T,).
        begins: First token of each line, and after the last the number of all, int64 (lines + 1,).
        room: Tokens in a window, special ones left out.
        budget: Tokens in a batch, padding included.
        level: "token", each its own state; "sentence", each that of its whole window (see `sentence_states`).
        chosen: Numbers of the lines to encode, by default all.
        bf16: Take the matrix products in bfloat16.
        packed: Without padding; the encoder must be one that `can_pack`. Whole windows are padded nevertheless.

    Yields:
        Places in `token_ids`, counts, and states on the encoder's device.
    """
    prefix, suffix = special_tokens_around(encoder.tokenizer)
    around, lengths, device = len(prefix) + len(suffix), np.diff(begins), next(encoder.parameters()).device
    dtype = torch.bfloat16 if bf16 else torch.float32
    laid_out = prepacked(encoder, dtype) if packed else nullcontext()
    read = sentence_states if level == "sentence" else encode_packed if packed else encode_ids
    windows = np.array([
        begins[line] + np.array(window)
        for line in (range(len(lengths)) if chosen is None else chosen)
        for window in overlapping_windows(int(lengths[line]), room)
    ], dtype=np.int64).reshape(-1, 4)  # fmt: skip
    windows = windows[np.argsort(windows[:, 1] - windows[:, 0], kind="stable")]
    padded = np.maximum(windows[:, 1] - windows[:, 0] + around, encoder.fixed_length)
    borders = _borders(padded.tolist(), budget, packed and level == "token")
    for batch in np.split(windows, borders) if len(windows) else ():
        ids = [np.concatenate([prefix, token_ids[begin:end], suffix]) for begin, end, _, _ in batch]
        sizes = batch[:, 3] - batch[:, 2]
        places = np.repeat(batch[:, 2] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), laid_out:
            states = read(encoder, ids)
        if level == "sentence":
            yield places, sizes, states
            continue
        states = states if packed else states.flatten(0, 1)
        rows = np.array([len(row) for row in ids]) if packed else np.full(len(ids), len(states) // len(ids))
        shift = np.cumsum(rows) - rows + len(prefix) - batch[:, 0]
        kept = torch.from_numpy(places + np.repeat(shift, sizes)).to(device)
        yield places, np.ones_like(places), states[kept]


def gathered(batches: Iterator[Encoded], size: int) -> Iterator[Encoded]:
    """The same, joined until they hold so many vectors."""
    waiting, held = list[Encoded](), 0
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            waiting.append(batch)
            held += len(batch[2])
        if waiting and (batch is None or held >= size):
            places, counts, vectors = zip(*waiting, strict=True)
            yield np.concatenate(places), np.concatenate(counts), torch.cat(vectors)
            waiting, held = [], 0


def overlapping_windows(length: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut `length` tokens into windows of at most `room` that overlap by about a quarter.

    Yields:
        (begin, end, keep_from, keep_to): the tokens to read, and those to keep; the kept ranges tile the sequence.
    """
    if length <= room:
        if length:
            yield 0, length, 0, length
        return
    step = max(room - room // 4, 1)
    begins = [*range(0, length - room, step), length - room]  # the last window is as full as the others
    borders = [0, *((begins[i] + room + begins[i + 1]) // 2 for i in range(len(begins) - 1)), length]
    for i, begin in enumerate(begins):
        yield begin, begin + room, borders[i], borders[i + 1]


def _borders(lengths: Sequence[int], budget: int, packed: bool) -> list[int]:
    """Where to cut windows of ascending lengths into batches that stay under the budget, or are one window.

    There are as few as can be, and as even as sizes by which packed ones are filled up allow: small ones are slow.
    """
    few = len(_greedy(lengths, budget, packed))
    even = bisect_left(range(budget), -few, key=lambda smaller: -len(_greedy(lengths, smaller, packed)))
    return _greedy(lengths, min(-(-even // MULTIPLE) * MULTIPLE, budget), packed)


def _greedy(lengths: Sequence[int], budget: int, packed: bool) -> list[int]:
    borders, begin, held = list[int](), 0, 0
    for end, length in enumerate(lengths):
        held = held + length if packed else (end + 1 - begin) * length
        if end > begin and held > budget:
            borders.append(begin := end)
            held = length
    return borders
