"""How fast this machine finds nearest pictures, and how much of its matrix rate that is; prints one table.

    python benchmarks/search.py

Made-up unit keys, random and clustered; minimum of three runs. The matrix rate is the best of several shapes in the
same run. FAISS is timed where it is installed, with its recall.
"""

from __future__ import annotations

import torch
from measuring import Row, fastest, matrix_rate, table
from torch import Tensor
from torch.nn.functional import normalize

from sightread.errors import MissingExtra
from sightread.modules.approximate import KINDS, FaissIndex, import_faiss
from sightread.modules.search import ExactIndex

PICTURES, WIDTH, QUERIES = 50_000, 64, 8192


def random_rows(count: int, rng: torch.Generator) -> Tensor:
    return normalize(torch.randn(count, WIDTH, generator=rng), dim=1)


def clustered_rows(count: int, rng: torch.Generator, centres: Tensor) -> Tensor:
    """Rows of length 1 about 40 degrees from the centre of their cluster."""
    chosen = centres[torch.randint(len(centres), (count,), generator=rng)]
    return normalize(chosen + 0.1 * torch.randn(count, WIDTH, generator=rng), dim=1)


def rows() -> list[Row]:
    """What was measured, and the number with its unit."""
    rng = torch.Generator().manual_seed(0)
    centres = random_rows(500, rng)
    made = {
        "random": (random_rows(PICTURES, rng), random_rows(QUERIES, rng)),
        "clustered": (clustered_rows(PICTURES, rng, centres), clustered_rows(QUERIES, rng, centres)),
    }
    found = []
    for name, (keys, queries) in made.items():
        peak, index = matrix_rate(), ExactIndex(keys)
        for k in (1, 10):
            seconds = fastest(lambda index=index, queries=queries, k=k: index.top_k(queries, k))
            share = 2 * keys.numel() * QUERIES / seconds / peak
            rate = f"{QUERIES / seconds:,.0f} queries/s, {share:.0%} of {peak / 1e9:.0f} GFLOP/s"
            found.append((f"exact, {PICTURES} x {WIDTH} {name} keys, k={k}", rate))
        found += faiss_rows(
            name, keys, queries[: QUERIES // 4], index
        )  # 2048, FAISS needs that many for its fast product
    return found


def faiss_rows(name: str, keys: Tensor, queries: Tensor, exact: ExactIndex) -> list[Row]:
    """The kinds of `FaissIndex`; nothing without FAISS."""
    try:
        import_faiss().omp_set_num_threads(torch.get_num_threads())
    except MissingExtra:
        return []
    found, expected = [], exact.top_k(queries)[1]
    for kind in KINDS:
        index = FaissIndex(keys, kind)
        seconds = fastest(lambda index=index: index.top_k(queries))
        recall = (index.top_k(queries)[1] == expected).float().mean()
        found.append(
            (f"FAISS {kind}, {name} keys, k=1", f"{len(queries) / seconds:,.0f} queries/s, recall {recall:.3f}")
        )
    return found


if __name__ == "__main__":
    table(rows())
