"""Is a voken corpus what it should be? Some lines computed again, one by one, in full precision, by brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sightread.bank import recall
from sightread.data.voken_corpus import Line, VokenCorpus, num_lines, read_shard
from sightread.encoders.text import tokenizer_digest
from sightread.runtime import keyed_rng
from sightread.vokenizer import Vokenizer

ROUNDING = 1e-5
"""Scores closer than this may be swapped by single-precision rounding in the encoder; bf16 differs by some 1e-2."""

_SCORES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Agreement:
    """How the vokens of some lines agree with brute force.

    Attributes:
        lines: Lines computed again.
        tokens: Their tokens.
        same: Tokens with the very same voken.
        tied: Tokens with another voken whose score is the best but for `ROUNDING`.
    """

    lines: int
    tokens: int
    same: int
    tied: int

    def __str__(self) -> str:
        tied = f", {self.tied} of them as ties to within rounding" if self.tied else ""
        lines = f"{self.tokens:,} vokens in {self.lines:,} lines"
        return f"{self.same + self.tied:,} of {lines} agree with brute force ({self.share:.3%}){tied}"

    @property
    def share(self) -> float:
        """Share of tokens that agree or are tied."""
        return (self.same + self.tied) / self.tokens if self.tokens else 1.0


def verify(corpus: VokenCorpus, vokenizer: Vokenizer, num_lines_checked: int, *, seed: int = 0) -> Agreement:
    """Compute the vokens of some random lines again.

    Args:
        corpus: What the vokenizer made.
        vokenizer: It, in single precision.
        num_lines_checked: How many lines; all if there are no more.
        seed: Of the choice.
    """
    corpus.check_has_vokens()
    corpus.check_tokenizer(tokenizer_digest(vokenizer.tokenizer))
    keys = torch.from_numpy(vokenizer.bank.vectors).double()
    lines = tokens = same = tied = 0
    for line in _some_lines(corpus, num_lines_checked, seed):
        (vectors,), at_once = vokenizer.token_vectors([line.token_ids]), max(_SCORES_AT_ONCE // len(keys), 1)
        lines, tokens = lines + 1, tokens + len(vectors)
        vokens = torch.from_numpy(line.voken_ids)[:, None]
        for some, stored in zip(vectors.double().split(at_once), vokens.split(at_once), strict=True):
            scores = some @ keys.T
            agrees = scores.argmax(dim=1, keepdim=True) == stored
            close = scores.gather(1, stored) >= scores.max(dim=1, keepdim=True).values - ROUNDING
            same, tied = same + int(agrees.sum()), tied + int((close & ~agrees).sum())
    return Agreement(lines, tokens, same, tied)


def index_recall(corpus: VokenCorpus, vokenizer: Vokenizer, lines: int = 200, *, seed: int = 0) -> float:
    """Share of the tokens of some lines for which the bank's index finds the best picture; 1 if it is exact."""
    chosen = [line.token_ids for line in _some_lines(corpus, lines, seed)]
    return recall(vokenizer.bank, torch.cat(vokenizer.token_vectors(chosen)))


def _some_lines(corpus: VokenCorpus, count: int, seed: int) -> list[Line]:
    begins = np.cumsum([0, *map(num_lines, corpus.shards)])
    rng = keyed_rng(seed, count)
    chosen = np.sort(rng.choice(len(corpus), min(count, len(corpus)), replace=False, shuffle=False))
    lines = list[Line]()
    for path, begin, end in zip(corpus.shards, begins[:-1], begins[1:], strict=True):
        within = set((chosen[(begin <= chosen) & (chosen < end)] - begin).tolist())
        if within:
            lines += [line for number, line in enumerate(read_shard(path)) if number in within]
    return lines
