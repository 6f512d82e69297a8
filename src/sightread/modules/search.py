"""Exact nearest neighbours by inner product, in blocks, without ever holding the whole score matrix.

Scores of single precision depend on how a matrix product was cut up, by about E × 6e-8. Where that could change the
order, the few candidates are scored again in double precision, each row summed in the same order, so that equal rows
get equal scores and ties go to the lowest row, whatever the block sizes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightread.checks import check_shape
from sightread.errors import ConfigError, ShapeError


def exact_top_k(
    queries: Tensor, keys: Tensor, k: int = 1, *, query_block: int = 2048, key_block: int = 16384
) -> tuple[Tensor, Tensor]:
    """The k keys with the highest inner product for each query.

    Args:
        queries: float32 (N, E).
        keys: float32 (V, E).
        k: How many, at most V.
        query_block: Queries scored at a time.
        key_block: Keys scored at a time; memory is query_block × key_block floats.

    Returns:
        Scores float32 (N, K), highest first, and rows int64 (N, K); equal scores in order of row.

    Raises:
        ConfigError: If k is not between 1 and V.
        ShapeError: If widths differ or a value is not finite.
    """
    check_shape("keys", keys, "V E")
    check_shape("queries", queries, "N E", E=keys.shape[1])
    if not 1 <= k <= len(keys):
        raise ConfigError(f"k={k}: expected between 1 and the {len(keys)} pictures of the bank")
    if not (bool(torch.isfinite(queries).all()) and bool(torch.isfinite(keys).all())):
        raise ShapeError("queries and keys must be finite; found NaN or infinity")
    longest_key = keys.norm(dim=1).max()
    found = [_search_block(block, keys, k, key_block, longest_key) for block in queries.split(query_block)]
    if not found:
        return queries.new_zeros(0, k), torch.zeros(0, k, dtype=torch.int64)
    scores, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
    return scores, rows


def _search_block(queries: Tensor, keys: Tensor, k: int, key_block: int, longest_key: Tensor) -> tuple[Tensor, Tensor]:
    keep = min(k + 1, len(keys))  # one more, to see whether the k-th is clear of the next
    best = queries.new_full((len(queries), 0), 0.0)
    rows = torch.zeros(len(queries), 0, dtype=torch.int64, device=queries.device)
    for begin in range(0, len(keys), key_block):
        scores, columns = _top(queries @ keys[begin : begin + key_block].T, keep)
        best, order = _top(torch.cat([best, scores], dim=1), keep)
        rows = torch.cat([rows, columns + begin], dim=1).gather(1, order)
    error = keys.shape[1] * torch.finfo(torch.float32).eps * queries.norm(dim=1) * longest_key
    unclear = ((best[:, :-1] - best[:, 1:]) <= 2 * error[:, None]).any(dim=1)
    best, rows = best[:, :k].clone(), rows[:, :k].clone()
    for i in unclear.nonzero()[:, 0].tolist():
        best[i], rows[i] = _exact_row(queries[i], keys, k, float(best[i, -1] - 2 * error[i]))
    return best, rows


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k == 1 or scores.shape[1] == 1:
        values, columns = scores.max(dim=1, keepdim=True)
        return values, columns
    return scores.topk(min(k, scores.shape[1]), dim=1)


def _exact_row(query: Tensor, keys: Tensor, k: int, at_least: float) -> tuple[Tensor, Tensor]:
    candidates = (keys @ query >= at_least).nonzero()[:, 0]
    products = keys[candidates].double().cpu().numpy() * query.double().cpu().numpy()
    scores = products.sum(axis=1)  # row by row in one order, unlike a matrix product
    order = np.argsort(-scores, kind="stable")[:k]
    exact = torch.from_numpy(scores[order]).to(keys)
    return exact, candidates[torch.from_numpy(order).to(candidates.device)]
