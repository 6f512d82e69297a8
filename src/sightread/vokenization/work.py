"""How one shard is made: lines of text, or a shard that is there, become tokens with their vokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sightread.data.voken_corpus import Shard, read_shard
from sightread.runtime import Clock, keyed_rng
from sightread.vokenizer import Vokenizer

LINES_AT_ONCE = 256  # for the tokenizer, whose output is large


class Work:
    """How a shard is made of a task; goes to the workers as it is.

    Attributes:
        num_vokens: V.
    """

    num_vokens: int

    def __call__(self, index: int, task: Any, clock: Clock) -> Shard:
        """The shard of this number, a function of its task alone; tells the clock how long each stage took."""
        raise NotImplementedError

    def to(self, device: str) -> None:
        """Compute there, if it computes on a device."""


class Vokenize(Work):
    """Lines of text -> tokens, each with its best picture."""

    def __init__(self, vokenizer: Vokenizer) -> None:
        self.vokenizer, self.num_vokens = vokenizer, len(vokenizer.bank)

    def __call__(self, index: int, task: Sequence[str], clock: Clock) -> Shard:
        """A shard of these lines."""
        with clock("tokenizing"):
            shard = tokenize_lines(self.vokenizer.tokenizer, task)
        return replace(shard, voken_ids=self.vokenizer.vokens(shard.token_ids, shard.begins, clock))

    def to(self, device: str) -> None:
        """Encode and search there."""
        self.vokenizer.to(device)


class Tokenize(Work):
    """Lines of text -> tokens without vokens (V = 0)."""

    num_vokens = 0

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, index: int, task: Sequence[str], clock: Clock) -> Shard:
        """A shard of these lines."""
        with clock("tokenizing"):
            return tokenize_lines(self.tokenizer, task)


class DrawVokens(Work):
    """A shard and the number of its first line -> the same with random pictures."""

    def __init__(self, num_vokens: int, seed: int) -> None:
        self.num_vokens, self.seed = num_vokens, seed

    def __call__(self, index: int, task: tuple[Path, int], clock: Clock) -> Shard:
        """The shard at that path with other vokens."""
        path, first = task
        shard = read_shard(path)
        lengths = enumerate(np.diff(shard.begins).tolist(), start=first)
        drawn = [keyed_rng(self.seed, line).integers(self.num_vokens, size=length) for line, length in lengths]
        return replace(shard, voken_ids=np.concatenate(drawn))


def tokenize_lines(tokenizer: Any, texts: Sequence[str]) -> Shard:
    """Tokens and spans of raw lines, special tokens left out; every voken 0."""
    backend = tokenizer.backend_tokenizer  # the wrapper around it takes as long again, for what is not needed here
    backend.no_truncation()
    backend.no_padding()
    lengths, ids, borders = list[int](), list[np.ndarray](), list[np.ndarray]()
    for begin in range(0, len(texts), LINES_AT_ONCE):
        encoded = backend.encode_batch(list(texts[begin : begin + LINES_AT_ONCE]), add_special_tokens=False)
        lengths += map(len, encoded)
        ids.append(np.fromiter(chain.from_iterable(line.ids for line in encoded), np.int32))
        spans = chain.from_iterable(line.offsets for line in encoded)
        borders.append(np.fromiter(chain.from_iterable(spans), np.int32))  # three times as fast as of pairs
    begins = np.cumsum([0, *lengths], dtype=np.int64)
    token_ids, pairs = (np.concatenate([np.zeros(0, np.int32), *parts]) for parts in (ids, borders))
    starts, ends = np.ascontiguousarray(pairs.reshape(-1, 2).T)
    return Shard(list(texts), begins, token_ids, starts, ends, np.zeros(len(token_ids), np.int64))
