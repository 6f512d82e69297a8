"""Tokens, and pairs of neighbours within a sentence: how often each occurs in some text, and such counts added up."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sightread.analysis.tally import Tally, tally
from sightread.data.words import WORD, lowered

END = "\n"  # stands before, between and after sentences
Tokens = Callable[[Sequence[str]], tuple[list[str], np.ndarray]]
"""The tokens of sentences: their types, `END` the first, and the row of each token and `END`, end to end, int64."""

_ENDS = re.compile(
    r"""[.!?](?<!\b[A-Z]\.)(?<!\b(?:Mr|Ms|Dr|St|Jr|Sr|Mt|Lt|vs|No)\.)(?<!\b(?:Mrs|Gen|Rev|Col|Sgt|Gov|Sen)\.)"""
    r"""["'”’)\]]*\s+(?=["'“‘(\[<]*[^\W\d_a-z])"""
)
_TOKEN = re.compile(rf"{WORD.pattern}|{END}|<unk>|[^\w\s]|_")


def sentences_of(text: str) -> list[str]:
    """Lines cut after each full stop, question or exclamation mark before a capital, but for initials and titles."""
    return _ENDS.sub(lambda end: end[0].rstrip() + END, text).split(END)


def words_and_marks(sentences: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Words in lower case and single punctuation marks: `Tokens` that need no tokenizer."""
    text = pa.array([f" {END} ".join(["", *sentences, ""])])
    encoded = pc.split_pattern(text, " ").values.dictionary_encode()  # in Python this alone would take half of the time
    which = np.asarray(encoded.indices)
    within = [_tokens_in(piece) for piece in encoded.dictionary.to_pylist()]  # each different piece is looked into once
    types, rows = _numbered(list(itertools.chain.from_iterable(within)))
    lengths = np.fromiter(map(len, within), np.int64, len(within))
    begins, sizes = np.cumsum(lengths) - lengths, lengths[which]
    return types, rows[np.repeat(begins[which] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())]


@lru_cache(1 << 18)
def _tokens_in(piece: str) -> list[str]:
    return _TOKEN.findall(lowered(piece))


def _numbered(items: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different items in order of first occurrence, and the row of each, int64."""
    row_of = defaultdict[str, int](itertools.count().__next__)
    rows = np.fromiter(map(row_of.__getitem__, items), np.int64, len(items))
    return list(row_of), rows


def subwords(tokenizer: Any) -> Tokens:
    """The tokens of a fast Hugging Face tokenizer, without special ones."""
    return partial(_subwords, tokenizer.backend_tokenizer)


def _subwords(backend: Any, sentences: Sequence[str]) -> tuple[list[str], np.ndarray]:
    flat = [END]
    for encoded in backend.encode_batch(list(sentences), add_special_tokens=False):
        flat += [*encoded.tokens, END]
    return _numbered(flat)


@dataclass
class Counts:
    """Counts of text.

    Attributes:
        tokens: The types, in order of first occurrence.
        unigrams: How often each occurs, int64 (types,).
        pairs: Neighbours within a sentence, first << 32 | second by their rows in `tokens`, int64, sorted.
        bigrams: How often each pair occurs, int64.
        sentences: How many sentences have a token.
    """

    tokens: Sequence[str]
    unigrams: np.ndarray
    pairs: np.ndarray
    bigrams: np.ndarray
    sentences: int


def count(lines: Sequence[str], tokens: Tokens = words_and_marks) -> Counts:
    """Counts of some lines of text."""
    types, rows = tokens(sentences_of(END.join(lines)))
    first, second = rows[:-1], rows[1:]
    pairs, bigrams = tally((first << 32 | second)[(first > 0) & (second > 0)])
    unigrams = np.bincount(rows, minlength=len(types))
    unigrams[0] = 0  # END is no token
    return Counts(types, unigrams, pairs, bigrams, int(((first == 0) & (second > 0)).sum()))


@dataclass
class Sums:
    """Counts added up. Several corpora share the rows of their types.

    Attributes:
        row_of: Row of each type.
        sentences: Sentences so far.
    """

    row_of: dict[str, int]
    sentences: int = 0
    _unigrams: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    _pairs: Tally = field(default_factory=Tally)

    def add(self, counts: Counts) -> None:
        """Take in the counts of the next chunk."""
        rows = np.array([self.row_of.setdefault(token, len(self.row_of)) for token in counts.tokens], dtype=np.int64)
        self._unigrams = np.pad(self._unigrams, (0, len(self.row_of) - len(self._unigrams)))
        self._unigrams[rows] += counts.unigrams
        self._pairs.add((rows[counts.pairs >> 32] << 32 | rows[counts.pairs & 0xFFFFFFFF], counts.bigrams))
        self.sentences += counts.sentences

    def total(self) -> Counts:
        """What was added."""
        unigrams = np.pad(self._unigrams, (0, len(self.row_of) - len(self._unigrams)))
        return Counts(list(self.row_of), unigrams, *self._pairs.total(), self.sentences)
