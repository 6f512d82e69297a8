"""What a voken corpus holds, counted shard by shard, the same whether a shard was just made or found on resume."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

SAMPLED_SHARDS = 16
"""Different pictures of a token type grow with the text; they are counted in the first shards, some 230 K tokens, so
that corpora of every size can be compared."""
EVERY = 60  # seconds between two lines


@dataclass(frozen=True)
class Counts:
    """Counts of one shard.

    Attributes:
        lines: Lines.
        tokens: Tokens.
        no_voken: Tokens without a voken.
        used: The pictures that a token chose, int64, sorted.
        pairs: Token type × (V + 1) + voken of every pair there is, int64, sorted; of the first shards only.
    """

    lines: int
    tokens: int
    no_voken: int
    used: np.ndarray
    pairs: np.ndarray


def count(columns: tuple[int, np.ndarray, np.ndarray], index: int, num_vokens: int) -> Counts:
    """Counts of the shard of this number, from its lines, token ids and voken ids; see `read_ids`."""
    lines, tokens, vokens = columns
    has = vokens < num_vokens
    used = np.flatnonzero(np.bincount(vokens, minlength=num_vokens + 1)[:num_vokens])
    chosen = has if index < SAMPLED_SHARDS else slice(0)
    pairs = np.sort(tokens[chosen].astype(np.int64) * (num_vokens + 1) + vokens[chosen])
    different = pairs[np.diff(pairs, prepend=-1) > 0]  # eight times as fast as np.unique
    return Counts(lines, len(tokens), int((~has).sum()), used, different)


@dataclass
class Summary:
    """The counts of all shards so far; memory does not grow with the corpus.

    Attributes:
        num_vokens: V.
    """

    num_vokens: int
    lines: int = 0
    tokens: int = 0
    no_voken: int = 0
    _digests: dict[int, str] = field(default_factory=dict)
    _pairs: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._used = np.zeros(self.num_vokens, dtype=bool)

    def add(self, index: int, digest: str, counts: Counts) -> None:
        """Take in a shard, in whatever order."""
        self.lines += counts.lines
        self.tokens += counts.tokens
        self.no_voken += counts.no_voken
        self._digests[index] = digest
        self._used[counts.used] = True
        self._pairs.append(counts.pairs)

    def report(self) -> dict[str, Any]:
        """For the manifest: counts, digests of the shards in order, and how many pictures were chosen.

        "pictures_per_type" is the mean number of different pictures that one token type has in the first
        `SAMPLED_SHARDS` shards.
        """
        pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *self._pairs]))
        types = len(np.unique(pairs // (self.num_vokens + 1)))
        return {
            "shards": len(self._digests), "lines": self.lines, "tokens": self.tokens, "no_voken": self.no_voken,
            "pictures_used": int(self._used.sum()), "pictures_per_type": len(pairs) / types if types else 0.0,
            "digests": [self._digests[index] for index in sorted(self._digests)],
        }  # fmt: skip


class Progress:
    """Tells how a job goes: a bar on a terminal, elsewhere a line a minute.

    Args:
        say: Where lines go.

    Attributes:
        share: Share of the corpus that has been handed out, 0 to 1.
        found: Share of it that was there before.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.share, self.found, self.tokens, self.seconds = say, 0.0, 0.0, 0, Counter[str]()
        self.began = self.said = time.monotonic()

    def __enter__(self) -> Progress:
        self.bar = tqdm(unit=" tokens", unit_scale=True, disable=not sys.stderr.isatty())
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def add(self, tokens: int, seconds: Mapping[str, float]) -> None:
        """A shard is done."""
        self.tokens += tokens
        self.seconds.update(seconds)
        now_made = self.share - self.found
        if now_made > 0:
            self.bar.total = int(self.tokens * (1 - self.found) / now_made)
        self.bar.update(tokens)
        if self.bar.disable and now_made > 0 and time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            left = (self.said - self.began) * (1 - self.share) / now_made / 60
            self.say(f"{self.tokens:,} tokens, {self._rate()}, about {self.share:.0%} done, {left:.0f} minutes left")

    def tell(self, report: Mapping[str, Any], num_vokens: int) -> None:
        """The end: what was made now, and what the voken corpus holds."""
        total = sum(self.seconds.values())
        stages = ", ".join(f"{stage} {spent:.1f} s ({spent / total:.0%})" for stage, spent in self.seconds.items())
        self.say(f"{self.tokens:,} tokens in {time.monotonic() - self.began:.1f} s, {self._rate()}: {stages or 'none'}")
        if num_vokens:
            self.say(
                f"{report['pictures_used']:,} of {num_vokens:,} pictures chosen "
                f"({report['pictures_used'] / num_vokens:.0%}); a token type has {report['pictures_per_type']:.1f} "
                f"different ones up to shard {min(SAMPLED_SHARDS, report['shards'])}"
            )

    def _rate(self) -> str:
        return f"{self.tokens / max(time.monotonic() - self.began, 1e-9):,.0f} tokens/s"
