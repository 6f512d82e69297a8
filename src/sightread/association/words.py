"""The vectors of words, and which captions are of the bank's pictures."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightread.association import State
from sightread.bank import ImageBank, unit_rows
from sightread.data.captions import Captions
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines
from sightread.data.words import content_words, words_of
from sightread.errors import DataError, ShapeError

_FIRST = 100  # lines, of which most tell the width where no header does


class WordVectors:
    """Vectors of words, looked up in lower case.

    Args:
        words: Of those that differ in case only, the one in lower case counts, else the first.
        vectors: float32 (W, D).
        skipped: What was left out on reading.

    Attributes:
        row_of: Row of each word, in lower case, in `vectors`.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, skipped: Skipped | None = None) -> None:
        if vectors.ndim != 2 or len(words) != len(vectors):
            raise ShapeError(f"{len(words)} words have vectors of shape {vectors.shape}; expected one row a word")
        chosen = dict[str, int]()
        for row in sorted(range(len(words)), key=lambda row: words[row] != words[row].lower()):
            chosen.setdefault(words[row].lower(), row)
        self.row_of = {word: row for row, word in enumerate(chosen)}
        self.vectors = np.ascontiguousarray(vectors[list(chosen.values())], dtype=np.float32)
        self.skipped = skipped or Skipped()

    @classmethod
    def read(cls, path: Path | str, *, max_skipped: float = 0.1) -> WordVectors:
        """Read text files of word2vec, fastText (a first line "count dim") or GloVe (none), plain or gzip.

        Args:
            path: The file.
            max_skipped: Share of lines that may be bad: not UTF-8, not as many finite numbers as the first line says
                or most of the first have, a word that was there before.

        Raises:
            DataError: If the file cannot be read, holds no vectors, or too much of it is bad.
        """
        skipped, found, total = Skipped(), dict[str, np.ndarray](), 0
        lines = decoded_lines(Path(path), skipped)
        first = list(itertools.islice(lines, _FIRST))
        header = re.fullmatch(r"\d+ (\d+)", first[0][1].rstrip()) if first else None
        counts = Counter(len(line.rstrip().split(" ")) - 1 for _, line in first if line.strip())
        width = int(header[1]) if header else max(counts, key=counts.__getitem__, default=0)
        for total, line in itertools.chain(first[bool(header) :], lines):
            word, *numbers = line.rstrip().split(" ")
            if line.strip():
                fault, vector = _vector(word, numbers, width)
                if fault or word in found:
                    skipped.add(fault or "a word again", f"{path}:{total}")
                else:
                    found[word] = vector
        skipped.check(total, max_skipped, f"lines of {path}")
        if not found:
            raise DataError(f"{path} holds no word vectors; expected lines of a word and its numbers")
        return cls(list(found), np.stack(list(found.values())), skipped)

    @classmethod
    def of_tokens(cls, model: Any, tokenizer: Any) -> WordVectors:
        """The input embeddings of an encoder for the words that are one token; for closed worlds.

        Args:
            model: A Hugging Face model.
            tokenizer: Its tokenizer.
        """
        table = model.get_input_embeddings().weight.detach().float().cpu().numpy()
        written = [tokenizer.decode([token]).strip() for token in range(min(len(table), len(tokenizer)))]
        alone = tokenizer([f" {text}" for text in written], add_special_tokens=False)["input_ids"]
        # A piece within words is another token, or several, when it stands by itself
        rows = [
            row for row, ids in enumerate(alone) if ids == [row] and words_of(written[row]) == [written[row].lower()]
        ]
        if not rows:
            raise DataError(f"no token of this {type(tokenizer).__name__} is a word; give word vectors of a file")
        return cls([written[row] for row in rows], table[rows])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The mean vector of each text's words but stop words, unit rows float32 (N, D); zeros where none is known."""
        sums = np.zeros((len(texts), self.vectors.shape[1]))
        for total, text in zip(sums, texts, strict=True):
            rows = [self.row_of[word] for word in content_words(text) if word in self.row_of]
            total += self.vectors[rows].sum(axis=0, dtype=np.float64)  # noqa: PLW2901 (a view)
        return unit_rows(sums)

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The vectors of each text's words that are known, stop words among them, in order, float32 (L, D)."""
        known = ([self.row_of[word] for word in words_of(text) if word in self.row_of] for text in texts)
        return [self.vectors[rows] for rows in known]

    @property
    def width(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def state(self) -> State:
        """What it is made of."""
        return State({"word_vectors": self.vectors}, {"words": list(self.row_of)})

    @classmethod
    def from_state(cls, state: State) -> WordVectors:
        """The vectors that had this state."""
        return cls(state.values["words"], state.arrays["word_vectors"])


def rows_in(bank: ImageBank, captions: Captions) -> np.ndarray:
    """The bank's row of each caption's picture, int64 (captions,), -1 where it is not in the bank.

    Raises:
        DataError: If no picture of the bank has a caption.
    """
    row_of = {id_: row for row, id_ in enumerate(bank.ids)}
    rows = np.array([row_of.get(id_, -1) for id_ in captions.pictures.ids], dtype=np.int64)[captions.picture_of]
    if rows.max(initial=-1) < 0:
        raise DataError(
            f"none of the bank's {len(bank)} pictures is among the {len(captions.pictures)} captioned ones "
            "(they are known by their ids); give the captions of the bank's pictures"
        )
    return rows


def _vector(word: str, numbers: Sequence[str], width: int) -> tuple[str, np.ndarray]:
    """What is wrong with a line, and its vector."""
    nothing = np.zeros(0, np.float32)
    if not word or not width or len(numbers) != width:
        return f"not a word and {width} numbers", nothing
    try:
        with np.errstate(over="ignore"):
            vector = np.array(numbers, dtype=np.float32)
    except ValueError:
        return "not a number", nothing
    return ("" if np.isfinite(vector).all() else "not finite"), vector
