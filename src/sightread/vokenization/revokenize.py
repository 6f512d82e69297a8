"""Carry vokens over to another tokenizer (Tan & Bansal 2020, section 3.3 and appendix).

Each target token takes the voken of the source token whose characters in the raw text overlap its own most, by
intersection over union; ties go to the earlier token; a token that overlaps nothing gets "no voken", never a
neighbour's. The best pictures of a token, where the corpus keeps them, go with its voken.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightread.data.voken_corpus import Shard, VokenCorpus, read_shard
from sightread.runtime import Clock
from sightread.vokenization.job import write_corpus
from sightread.vokenization.work import Work, tokenize_lines

NO_MATCH = -1


class Revokenize(Work):
    """A shard -> the same text and pictures for another tokenizer."""

    def __init__(self, tokenizer: Any, num_vokens: int, top: int = 0) -> None:
        self.tokenizer, self.num_vokens, self.top = tokenizer, num_vokens, top

    def __call__(self, index: int, task: tuple[Path, int], clock: Clock) -> Shard:
        """The shard at that path, tokenized anew."""
        with clock("reading"):
            old = read_shard(task[0], self.top)
        with clock("tokenizing"):
            new = tokenize_lines(self.tokenizer, old.texts)
        with clock("aligning"):
            return carry_over(old, new, self.num_vokens)


def revokenize(source: VokenCorpus, tokenizer: Any, out: Path | str, **options: Any) -> VokenCorpus:
    """A voken corpus of the same text and pictures for any fast tokenizer.

    Args:
        source: The voken corpus.
        tokenizer: The target tokenizer; `DataError` if it is a slow one.
        out: Folder of the new voken corpus.
        **options: See `job.Options`.
    """
    source.check_has_vokens()
    inputs, work = {"bank": source.artifact.inputs["bank"]}, Revokenize(tokenizer, source.num_vokens, source.top)
    return write_corpus(work, source, tokenizer, out, inputs=inputs, **options)


def carry_over(old: Shard, new: Shard, num_vokens: int) -> Shard:
    """The new tokens with the vokens and best pictures of the old ones of the same lines; `num_vokens` for none."""
    # Every line has a range of characters of its own, so that the whole shard is aligned at once
    base = np.cumsum([0, *(len(text) + 1 for text in old.texts)])[:-1]
    spans = [
        column.astype(np.int64) + np.repeat(base, np.diff(shard.begins))
        for shard in (old, new)
        for column in (shard.starts, shard.ends)
    ]
    best = align(*spans)

    def taken(column: np.ndarray, none: int) -> np.ndarray:
        # What stands for none is put last, where NO_MATCH points to
        return np.concatenate([column, np.full_like(column, none, shape=(1, *column.shape[1:]))])[best]

    made = replace(new, voken_ids=taken(old.voken_ids, num_vokens))
    if old.top_ids is None or old.top_scores is None:
        return made
    return replace(made, top_ids=taken(old.top_ids, num_vokens), top_scores=taken(old.top_scores, 0))


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
    sources = np.flatnonzero(source_ends > source_starts)  # an empty one overlaps nothing, and may lie anywhere
    if not len(sources) or not len(target_starts):
        return best
    source_starts, source_ends = source_starts[sources], source_ends[sources]
    # Only sources that end after the target's start and begin before its end can overlap it. Tokens come in order but
    # for oddities, so running extremes, which are the ends and starts themselves if ordered, bound a short range.
    highest_end = np.maximum.accumulate(source_ends)
    lowest_start = np.minimum.accumulate(source_starts[::-1])[::-1]
    first = np.searchsorted(highest_end, target_starts, side="right")
    last = np.searchsorted(lowest_start, target_ends, side="left")
    open_, step = np.arange(len(target_starts)), 0  # targets with sources left to look at
    while len(open_ := open_[first[open_] + step < last[open_]]):
        candidate = first[open_] + step
        starts, ends = source_starts[candidate], source_ends[candidate]
        wanted_starts, wanted_ends = target_starts[open_], target_ends[open_]
        shared = np.maximum(np.minimum(ends, wanted_ends) - np.maximum(starts, wanted_starts), 0)
        union = (ends - starts) + (wanted_ends - wanted_starts) - shared
        iou = shared / np.maximum(union, 1)
        better = iou > best_iou[open_]  # equal ratios of integers are equal as floats, so a tie stays with the earlier
        best[open_[better]], best_iou[open_[better]] = sources[candidate[better]], iou[better]
        step += 1
    return best
