"""Passages of text, split at random into train, dev and test: a corpus of Wikipedia and books (Sileo 2021, section 4).

A passage is a line: consecutive lines of a corpus, joined as long as they hold no more words than they may. Each goes
to a split by lot, by the number of its corpus and its own, so that memory does not grow and nothing depends on order.
Corpora take turns, so that the first lines of a split are of all of them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sightread.artifacts import Artifact
from sightread.config import check_positive
from sightread.data.corpora import Corpus
from sightread.data.skipped import Skipped
from sightread.errors import DataError
from sightread.runtime import keyed_rng

KIND = "passages"
SHARES = {"train": 0.9, "dev": 0.05, "test": 0.05}


def write_passages(
    corpora: Sequence[Corpus], out: Path | str, *, max_words: int = 128, seed: int = 0, overwrite: bool = False
) -> dict[str, int]:
    """Write `train.txt`, `dev.txt` and `test.txt`, 90, 5 and 5 of a hundred passages.

    Args:
        corpora: Where they come from.
        out: The folder.
        max_words: Words of a passage, at most; longer lines are cut.
        seed: Of the lots.
        overwrite: Replace what is there.

    Returns:
        How many passages each split has.

    Raises:
        DataError: If a split would be empty.
    """
    check_positive(max_words=max_words)
    config = {"max_words": max_words, "seed": seed}
    inputs = {f"corpus {i}": corpus.digest for i, corpus in enumerate(corpora)}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite)
    counts, skipped = Counter[str](), Skipped()
    with contextlib.ExitStack() as stack:
        files = {s: stack.enter_context((artifact.path / f"{s}.txt").open("w", encoding="utf-8")) for s in SHARES}
        for i, turn in enumerate(itertools.zip_longest(*(passages(corpus, max_words) for corpus in corpora))):
            for number, passage in enumerate(turn):
                if passage is not None:
                    split = _split(keyed_rng(seed, number, i).random())
                    files[split].write(f"{passage}\n")
                    counts[split] += 1
        for corpus in corpora:
            skipped.merge(corpus.skipped)
    if empty := [split for split in SHARES if not counts[split]]:
        raise DataError(f"{sum(counts.values())} passages are too few: no {' and no '.join(empty)}; give more text")
    artifact.finish({"passages": dict(counts), "skipped": skipped.report()})
    return {split: counts[split] for split in SHARES}


def passages(lines: Iterable[str], max_words: int) -> Iterator[str]:
    """Consecutive lines joined by spaces, as many as hold no more than `max_words` words; a longer line is cut."""
    held = list[str]()
    for line in lines:
        words = line.split()
        if held and len(held) + len(words) > max_words:
            yield " ".join(held)
            held = []
        held += words
        while len(held) > max_words:
            yield " ".join(held[:max_words])
            held = held[max_words:]
    if held:
        yield " ".join(held)


def _split(lot: float) -> str:
    for split, share in SHARES.items():
        if (lot := lot - share) < 0:
            return split
    return split  # of what is left by rounding
