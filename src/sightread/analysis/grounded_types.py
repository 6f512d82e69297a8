"""Token types that captions use again and again, and how much of a text they are (Tan & Bansal 2020, section 2.2)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from sightread.analysis.ngrams import Counts
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines
from sightread.data.words import WORD, lowered, stop_words
from sightread.errors import DataError

LEAST, COCO = 100, 616_767  # a grounded type occurs more often than that in so many captions, COCO's of 2014


def grounded_types(captions: Counts, *, stop: Collection[str] | None = None, marks: bool = False) -> dict[str, int]:
    """Types that occur more than a hundred times at COCO's size, proportionally less often in fewer captions.

    Args:
        captions: Counts of captions.
        stop: Types that are none, in lower case; by default `stop_words`.
        marks: Whether punctuation marks may be grounded types, as the paper's numbers suggest that they were.

    Returns:
        How often each occurs, the most frequent first.
    """
    stop, found = stop_words() if stop is None else stop, dict[str, int]()
    least = LEAST * min(1.0, captions.sentences / COCO)
    for row in np.argsort(-captions.unigrams, kind="stable"):
        token, times = captions.tokens[row], int(captions.unigrams[row])
        said = lowered(token.lstrip("Ġ▁"))  # which begin words in byte-level and SentencePiece vocabularies
        if times > least and said not in stop and (marks or WORD.search(said)):
            found[token] = times
    return found


def grounding_ratio(counts: Counts, types: Collection[str]) -> float:
    """Share of tokens whose type is grounded."""
    is_grounded = np.array([token in types for token in counts.tokens], dtype=bool)
    return float(counts.unigrams[is_grounded].sum() / counts.unigrams.sum())


def types_text(types: dict[str, int]) -> str:
    """Types and how often they occur, a line each."""
    return "".join(f"{token}\t{times}\n" for token, times in types.items())


def read_types(path: Path) -> dict[str, int]:
    """Read what `types_text` gives, perhaps below a header.

    Raises:
        DataError: If the file cannot be read, or holds something else.
    """
    found = dict[str, int]()
    for number, line in decoded_lines(path, Skipped()):
        token, _, times = line.partition("\t")
        if times.isdecimal():
            found[token] = int(times)
        elif line.strip() and number > 1:
            raise DataError(f"{path}:{number} is no type, tab and count, as `sightread analyze corpora` writes them")
    return found
