"""Carry vokens over to another tokenizer (Tan & Bansal 2020, section 3.3 and appendix).

Each target token takes the voken of the source token whose characters in the raw text overlap its own most, by
intersection over union; ties go to the earlier token; a token that overlaps nothing gets "no voken", never a
neighbour's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightread.data.voken_corpus import Line, TextOf, VokenCorpus, read_shard
from sightread.vokenization.job import write_corpus

NO_MATCH = -1


def revokenize(
    source: VokenCorpus, tokenizer: Any, out: Path | str, *, overwrite: bool = False, resume: bool = False
) -> VokenCorpus:
    """A voken corpus of the same text and pictures for any fast tokenizer.

    Args:
        source: The voken corpus.
        tokenizer: The target tokenizer; `DataError` if it is a slow one.
        out: Folder of the new voken corpus.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished job in `out`.
    """

    def assign(first: int, lines: Sequence[Line]) -> list[np.ndarray]:
        olds = read_shard(source.shards[first // source.lines_per_shard])
        return [carry_over(old, new, source.num_vokens) for old, new in zip(olds, lines, strict=True)]

    source.check_has_vokens()
    inputs = {"bank": source.artifact.inputs["bank"], "vokens": source.artifact.digest}
    return write_corpus(
        TextOf(source), tokenizer, out, num_vokens=source.num_vokens, assign=assign, inputs=inputs,
        lines_per_shard=source.lines_per_shard, overwrite=overwrite, resume=resume,
    )  # fmt: skip


def carry_over(old: Line, new: Line, num_vokens: int) -> np.ndarray:
    """Vokens int64 (L,) of the new tokens of a line; `num_vokens` where there is none."""
    best = align(old.starts, old.ends, new.starts, new.ends)
    return np.where(best == NO_MATCH, num_vokens, old.voken_ids[best] if len(old.voken_ids) else num_vokens)


def align(
    source_starts: np.ndarray, source_ends: np.ndarray, target_starts: np.ndarray, target_ends: np.ndarray
) -> np.ndarray:
    """For each target span, the source span of highest intersection over union.

    Args:
        source_starts: First character of each source token, int (S,).
        source_ends: One past its last, int (S,).
        target_starts: Likewise for the target, int (L,).
        target_ends: Likewise for the target, int (L,).

    Returns:
        Source token of each target token, int64 (L,): the earliest of the best, `NO_MATCH` where nothing overlaps.
    """
    source_starts, source_ends, target_starts, target_ends = (
        np.asarray(x, dtype=np.int64) for x in (source_starts, source_ends, target_starts, target_ends)
    )
    best, best_iou = np.full(len(target_starts), NO_MATCH, dtype=np.int64), np.zeros(len(target_starts))
    if not len(source_starts) or not len(target_starts):
        return best
    ordered = bool((np.diff(source_starts) >= 0).all() and (np.diff(source_ends) >= 0).all())
    # Only sources that end after the target's start and start before its end can overlap it: a short range if ordered.
    first = np.searchsorted(source_ends, target_starts, side="right") if ordered else np.zeros_like(target_starts)
    last = (
        np.searchsorted(source_starts, target_ends, side="left")
        if ordered
        else np.full_like(target_starts, len(source_starts))
    )
    for step in range(int((last - first).max(initial=0))):
        candidate = np.minimum(first + step, len(source_starts) - 1)
        starts, ends = source_starts[candidate], source_ends[candidate]
        shared = np.maximum(np.minimum(ends, target_ends) - np.maximum(starts, target_starts), 0)
        union = (ends - starts) + (target_ends - target_starts) - shared
        iou = np.where(first + step < last, shared / np.maximum(union, 1), 0.0)
        better = iou > best_iou  # equal ratios of integers are equal as floats, so a tie stays with the earlier
        best[better], best_iou[better] = candidate[better], iou[better]
    return best
