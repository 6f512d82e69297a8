"""Exact nearest neighbours by inner product, without ever holding the whole score matrix.

Keys are cut into blocks so small that their scores stay in the processor's cache. The first pass keeps of every block
only its highest score, which costs next to nothing beside the matrix product; where a score lies is looked up in a
second pass, in the one block or the few that can hold a neighbour.

Scores of single precision depend on how a matrix product was cut up, and where the processor multiplies fast in
bfloat16 the first pass has even less. They only choose candidates, with a margin that covers their rounding; candidates
are scored again in double precision, row by row in one order. Equal rows therefore get equal scores, and ties go to the
lowest row, whatever the block sizes and the first pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sightread.checks import check_shape
from sightread.errors import ConfigError, ShapeError
from sightread.runtime import has_fast_bf16

BLOCKS = {"cpu": (1024, 512), "cuda": (8192, 16384)}  # queries, keys
QUERIES_AT_ONCE = 8192
LOOKUPS_AT_ONCE = 16384  # of a query in a block; bounds the memory of searches in which everything ties
_MULTIPLE = 64  # of queries, filled up: oneDNN makes its code for bfloat16 anew for every number, and keeps it
_LONGEST_COARSE = 1e9  # of a vector; no product in bfloat16 may overflow


class ExactIndex:
    """Keys that are searched many times, checked once.

    Args:
        keys: float32 (V, E); not copied, but in bfloat16 where the first pass is.
        query_block: Queries scored at a time.
        key_block: Keys scored at a time. By default query_block × key_block scores fit a processor's cache, or keep a
            GPU busy.

    Raises:
        ShapeError: If a key is not finite.
    """

    def __init__(self, keys: Tensor, *, query_block: int | None = None, key_block: int | None = None) -> None:
        check_shape("keys", keys, "V E")
        at_once = BLOCKS["cpu" if keys.device.type == "cpu" else "cuda"]
        self.keys, self.query_block = _check_finite("keys", keys), query_block or at_once[0]
        self.blocks = keys.split(key_block or at_once[1])
        self.longest = _lengths(keys).max() if len(keys) else 0.0
        self.coarse: Sequence[Tensor] = ()
        if len(keys) and keys.is_cpu and has_fast_bf16("cpu") and self.longest < _LONGEST_COARSE:
            self.center = keys.mean(dim=0)  # without it keys that all point one way could hardly be told apart
            centred = keys - self.center
            rounded = centred.bfloat16()
            self.widest, self.lost = _lengths(centred).max(), _lengths(centred - rounded).max()
            self.coarse = rounded.split(len(self.blocks[0]))

    @torch.no_grad()
    def top_k(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """The k keys with the highest inner product for each query.

        Args:
            queries: float32 (N, E), on the device of the keys.
            k: How many, at most V.

        Returns:
            Scores float32 (N, K), highest first, and rows int64 (N, K); equal scores in order of row.

        Raises:
            ConfigError: If k is not between 1 and V.
            ShapeError: If widths differ or a query is not finite.
        """
        check_queries(queries, self.keys, k)
        return _cat([self._search(some, k) for some in queries.split(QUERIES_AT_ONCE)])

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        full = max(len(self.keys) // len(self.blocks[0]), 1)  # blocks of full width
        depth = -(-k // full)  # so that the tops are k scores at least, of different keys
        lengths, width, float32 = _lengths(queries), self.keys.shape[1], torch.finfo(torch.float32)
        error = width * float32.eps * lengths * self.longest  # of one score, at most
        error += width * float32.tiny * (1 + lengths + self.longest)  # what is so small may count as nothing
        error[lengths * self.longest >= float32.max / 2] = torch.inf  # a score may be no number; all are looked up
        blocks, rounded, margin, relative, shift = self.blocks, queries, error, 0.0, torch.zeros_like(error)
        if self.coarse and bool((lengths < _LONGEST_COARSE).all()):
            blocks, shift, relative = self.coarse, queries @ self.center, 0.51 * torch.finfo(torch.bfloat16).eps
            rounded = queries.bfloat16()
            # What each factor has lost, by Cauchy and Schwarz; the center was taken off, and is put on again
            margin = 5 * error + 1.01 * (_lengths(queries - rounded) * self.widest + lengths * self.lost)
            rounded = pad(rounded, (0, 0, 0, -len(queries) % _MULTIPLE))
        tops = [
            torch.cat([_highest(some @ block.T, depth) for some in rounded.split(self.query_block)]) for block in blocks
        ]
        tops = [top[: len(queries)] for top in tops]
        floor = _floor(torch.cat(tops, dim=1), margin, k, relative)
        wanted = ~(torch.stack([top[:, 0] for top in tops], dim=1) < floor)  # so put, overflow to NaN is looked up
        return self._look_up(queries, floor + shift.to(floor)[:, None], error, wanted, k)

    def _look_up(self, queries: Tensor, floor: Tensor, error: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The best among all scores that reach the floor, in the blocks that are wanted, bool (N, blocks)."""
        if len(queries) > 1 and int(wanted.sum()) > LOOKUPS_AT_ONCE:
            halves = zip(queries.chunk(2), floor.chunk(2), error.chunk(2), wanted.chunk(2), strict=True)
            return _cat([self._look_up(*half, k) for half in halves])
        askings = [column.nonzero()[:, 0] for column in wanted.T]
        scores = [queries[asking] @ block.T for asking, block in zip(askings, self.blocks, strict=True)]
        if k == 1:  # a first pass that was coarse has left many
            tops = queries.new_full(wanted.shape, -torch.inf)
            for top, asking, some in zip(tops.T, askings, scores, strict=True):
                top[asking] = some.amax(dim=1)
            floor = torch.maximum(floor, _floor(tops, error, 1))
        found, begin = [], 0
        for asking, some, block in zip(askings, scores, self.blocks, strict=True):
            of, at = (~(some < floor[asking])).nonzero().T
            found.append((asking[of], at + begin))
            begin += len(block)
        return best_of(queries, self.keys, *_cat(found), k)


def exact_top_k(queries: Tensor, keys: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """`ExactIndex(keys).top_k(queries, k)`, for keys that are searched once."""
    return ExactIndex(keys).top_k(queries, k)


def best_of(queries: Tensor, keys: Tensor, of: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of candidates, in double precision.

    Args:
        queries: float32 (N, E).
        keys: float32 (V, E).
        of: The query of each candidate, int64 (C,); every query has k at least.
        rows: The key of each candidate, int64 (C,).
        k: How many.

    Returns:
        Scores float32 (N, K), highest first, and rows int64 (N, K); equal scores in order of row.
    """
    pairs = zip(of.split(4096), rows.split(4096), strict=True)
    products = ((queries[i].double() * keys[j].double()).cpu().numpy() for i, j in pairs)
    scores = np.concatenate([product.sum(axis=1) for product in products])  # in one order, unlike a matrix product
    owners = of.cpu().numpy()
    order = np.lexsort((rows.cpu().numpy(), -scores, owners))
    firsts = np.searchsorted(owners[order], np.arange(len(queries)))
    best = order[firsts[:, None] + np.arange(k)]
    return torch.from_numpy(scores[best]).to(queries), rows[torch.from_numpy(best).to(rows.device)]


def check_queries(queries: Tensor, keys: Tensor, k: int) -> None:
    """Raise `ShapeError` unless queries fit keys and are finite, `ConfigError` unless there are k keys."""
    check_shape("queries", queries, "N E", E=keys.shape[1])
    if not 1 <= k <= len(keys):
        raise ConfigError(f"k={k}: expected between 1 and the {len(keys)} pictures of the bank")
    _check_finite("queries", queries)


def _check_finite(name: str, x: Tensor) -> Tensor:
    if not bool(torch.isfinite(x).all()):
        raise ShapeError(f"{name} must be finite; found NaN or infinity")
    return x


def _lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)  # no square may overflow or vanish


def _floor(tops: Tensor, error: Tensor, k: int, relative: float = 0.0) -> Tensor:
    """What a score must reach to be perhaps among the k best, float32 (N, 1), if each may be off by the error (N,) and
    is then rounded by so much of itself."""
    best = _highest(tops, k)[:, -1]
    return (best - 2 * (error + relative * (best.abs() + error))).float()[:, None]


def _highest(scores: Tensor, k: int) -> Tensor:
    if k > 1:
        return scores.float().topk(min(k, scores.shape[1]), dim=1).values
    if scores.dtype != torch.bfloat16:
        return scores.amax(dim=1, keepdim=True)  # several times as fast without the places
    # Read as whole numbers, which is ten times as fast, they are in the same order where the highest is not negative
    highest = scores.view(torch.int16).amax(dim=1, keepdim=True).view(torch.bfloat16)
    negative = highest.signbit()[:, 0]
    if negative.any():
        highest[negative] = scores[negative].amax(dim=1, keepdim=True)
    return highest.float()


def _cat(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    first, second = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return first, second
