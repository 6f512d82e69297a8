"""Approximate nearest neighbours by FAISS (Douze et al. 2024), for banks of millions; the extra `faiss`.

FAISS proposes k keys; their scores and order are then those of `modules.search`. What it may miss is only measured,
by `bank.recall`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightread.config import check_choice
from sightread.errors import ConfigError, MissingExtra
from sightread.modules.search import best_of, check_queries

KINDS = ("flat", "ivf", "hnsw")


class FaissIndex:
    """Keys in an index of FAISS, in the memory of the processor; built by one thread, so that it is always the same.

    Args:
        keys: float32 (V, E).
        kind: "flat": every key, exact but for rounding; "ivf": c = 4√V cells, of which a query visits √c;
            "hnsw": a graph of 32 neighbours a key, searched 128 wide (Malkov and Yashunin 2018).

    Raises:
        ConfigError: If there is no such kind.
        MissingExtra: If FAISS is not installed.
    """

    def __init__(self, keys: Tensor, kind: str) -> None:
        check_choice("index", kind, KINDS)
        faiss = import_faiss()
        self.kind, self.keys = kind, keys.cpu().contiguous()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self.index = _empty(faiss, kind, *keys.shape)
            self.index.train(self.keys.numpy())
            self.index.add(self.keys.numpy())
        finally:
            faiss.omp_set_num_threads(threads)

    def top_k(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """As `ExactIndex.top_k`, among the k keys that FAISS proposes.

        Raises:
            ConfigError: If it proposes fewer than k.
        """
        check_queries(queries, self.keys, k)
        given, queries = queries.device, queries.detach().cpu()
        import_faiss().omp_set_num_threads(torch.get_num_threads())  # it has threads of its own
        rows = torch.from_numpy(self.index.search(queries.contiguous().numpy(), k)[1])
        if bool((rows < 0).any()):
            raise ConfigError(
                f"the {self.kind} index found fewer than k={k} pictures; ask for fewer, or search exactly"
            )
        of = torch.arange(len(queries)).repeat_interleave(k)
        scores, rows = best_of(queries, self.keys, of, rows.flatten(), k)
        return scores.to(given), rows.to(given)


def import_faiss() -> Any:
    """The module `faiss`; raises `MissingExtra` if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("FAISS is not installed; pip install 'sightread[faiss]', or search exactly") from error
    return faiss


def _empty(faiss: Any, kind: str, count: int, width: int) -> Any:
    flat = faiss.IndexFlatIP(width)
    if kind == "flat":
        return flat
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 80, 128
        return graph
    cells = max(min(int(4 * math.sqrt(count)), count // 39), 1)  # FAISS asks for 39 keys a cell
    inverted = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
    inverted.nprobe, inverted.cp.seed = math.isqrt(cells), 0
    return inverted
