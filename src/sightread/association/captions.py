"""Pictures by the words of their captions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from sightread.association import Association, State
from sightread.association.encoders import DenseAssociation, best_distinct
from sightread.association.words import rows_in
from sightread.bank import ImageBank
from sightread.config import check_positive
from sightread.data.captions import Captions
from sightread.data.words import content_words
from sightread.errors import DataError

_ONE_WORD, _IDF = 1 << 40, 1 << 20


class SceneAssociation(DenseAssociation):
    """The pictures with a caption most like a text by the cosine of their mean word vectors (Sileo 2021).

    association = SceneAssociation.of_captions(bank, captions, WordVectors.read("glove.txt"))
    """

    kind = "scene"


class KeywordAssociation(Association):
    """The pictures whose captions hold most of a text's keywords (Zhang et al. 2020).

    Keywords are the words of a text that are no stop words and that captions know; the `k_words` of highest TF-IDF are
    kept, of equal ones those that come first. Each picture is one document: idf(w) = ln(V / pictures that w names),
    kept to a millionth.
    Of pictures that hold equally many distinct keywords, the one with the higher sum of their idf is better. A picture
    without a keyword is not found.

    Args:
        bank: The pictures.
        words: The W words of captions.
        named: Which picture's captions hold which words, (V, W).
        k_words: How many keywords of a text count.
    """

    kind = "keyword"

    def __init__(self, bank: ImageBank, words: Sequence[str], named: csr_array, k_words: int = 10) -> None:
        check_positive(k_words=k_words)
        self.bank, self.words, self.named, self.k_words = bank, list(words), named, k_words
        self.column_of = {word: column for column, word in enumerate(words)}
        idf = np.log(len(bank) / np.bincount(named.indices, minlength=len(words)))
        self.idf = np.rint(idf * _IDF).astype(np.int64)  # whole numbers, whose sums are exact
        weights = _ONE_WORD + self.idf  # their sums order by count, then by idf
        self.weights = csr_array((weights[named.indices], named.indices, named.indptr), named.shape).T.tocsr()

    @classmethod
    def of_captions(cls, bank: ImageBank, captions: Captions, k_words: int = 10) -> KeywordAssociation:
        """All captions of a picture are its words; raises `DataError` if no picture of the bank has a caption."""
        said = defaultdict[int, set[str]](set)
        for row, text in zip(rows_in(bank, captions).tolist(), captions.texts, strict=True):
            said[row].update(content_words(text))
        said.pop(-1, None)
        words = sorted(set().union(*said.values()))
        if not words:
            raise DataError("the captions of the bank's pictures hold stop words alone; give others")
        column_of = {word: column for column, word in enumerate(words)}
        named = [[column_of[word] for word in said[row]] for row in range(len(bank))]
        return cls(bank, words, _incidence(named, len(words)), k_words)

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """One product of sparse matrices."""
        asked = _incidence([self._keywords(text) for text in texts], len(self.words))
        scores = (asked @ self.weights).tocoo()
        owners, rows = scores.coords
        order = np.lexsort((rows, -scores.data, owners))
        return best_distinct(owners[order].astype(np.int64), rows[order].astype(np.int64), len(texts), k)

    def _keywords(self, text: str) -> list[int]:
        counts = Counter(self.column_of[word] for word in content_words(text) if word in self.column_of)
        return sorted(counts, key=lambda column: -counts[column] * self.idf[column])[: self.k_words]

    def state(self) -> State:
        """Words and where they are."""
        arrays = {"indices": self.named.indices, "indptr": self.named.indptr}
        return State(arrays, {"words": self.words, "k_words": self.k_words})

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> KeywordAssociation:
        """The association that had this state."""
        words, indices, indptr = state.values["words"], state.arrays["indices"], state.arrays["indptr"]
        named = csr_array((np.ones(len(indices), np.int64), indices, indptr), (len(bank), len(words)))
        return cls(bank, words, named, state.values["k_words"])


def _incidence(columns: Sequence[Sequence[int]], width: int) -> csr_array:
    """Ones at the given columns of each row, int64."""
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in sorted(row)], dtype=np.int64)
    return csr_array((np.ones(len(flat), np.int64), flat, ends), (len(columns), width))
