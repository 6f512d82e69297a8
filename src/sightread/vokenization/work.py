"""How one shard is made: lines of text, or a shard that is there, become tokens with their vokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from sightread.data.voken_corpus import Shard
from sightread.runtime import Clock
from sightread.vokenizer import Vokenizer

LINES_AT_ONCE = 256  # for the tokenizer, whose output is large


class Work:
    """How a shard is made of a task; goes to the workers as it is.

    Attributes:
        num_vokens: V.
        top: How many best pictures of each token are kept; 0 if only its voken is.
    """

    num_vokens: int
    top = 0

    def __call__(self, index: int, task: Any, clock: Clock) -> Shard:
        """The shard of this number, a function of its task alone; tells the clock how long each stage took."""
        raise NotImplementedError

    def to(self, device: str) -> None:
        """Compute there, if it computes on a device."""


class Vokenize(Work):
    """Lines of text -> tokens, each with its best picture, or its `top` best."""

    def __init__(self, vokenizer: Vokenizer, top: int = 0) -> None:
        self.vokenizer, self.num_vokens, self.top = vokenizer, len(vokenizer.bank), top

    def __call__(self, index: int, task: Sequence[str], clock: Clock) -> Shard:
        """A shard of these lines."""
        with clock("tokenizing"):
            shard = tokenize_lines(self.vokenizer.tokenizer, task)
        rows, scores = self.vokenizer.vokens(shard.token_ids, shard.begins, clock, k=self.top or 1)
        made = replace(shard, voken_ids=rows[:, 0])
        return replace(made, top_ids=rows, top_scores=scores) if self.top else made

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
