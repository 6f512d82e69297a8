"""Pictures of the things that a text names: one for each concept among its nouns (Sileo 2021)."""

from __future__ import annotations

import itertools
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sightread.association import Association, State
from sightread.association.words import WordVectors, rows_in
from sightread.bank import ImageBank, unit_rows
from sightread.config import check_choice
from sightread.data.captions import Captions
from sightread.data.tables import read_records, text_lines
from sightread.data.words import content_words, stop_words, words_of
from sightread.errors import ArtifactError, DataError, MissingExtra

_WNID = re.compile(r"(?<![^\W_])n\d{8}(?!\d)")


class Entry(NamedTuple):
    """Something that can be seen.

    Attributes:
        lemmas: What it is called, in lower case.
        definition: What it is, or "".
        rows: Its pictures, best first.
    """

    lemmas: tuple[str, ...]
    definition: str
    rows: tuple[int, ...]


class NounIndex:
    """Which pictures of a bank show what.

    Args:
        bank: The pictures.
        entries: What they show; `DataError` if nothing.
    """

    def __init__(self, bank: ImageBank, entries: Iterable[Entry]) -> None:
        self.bank, self.entries = bank, list(entries)
        if not self.entries:
            raise DataError("no picture of the bank shows anything that has a name; give its synsets or captions")
        self.entries_of = defaultdict[str, list[int]](list)
        for number, entry in enumerate(self.entries):
            for lemma in dict.fromkeys(entry.lemmas):
                self.entries_of[lemma].append(number)
        self._lemma_of = {_plural(lemma): lemma for lemma in self.entries_of} | {
            lemma: lemma for lemma in self.entries_of
        }
        self._longest = max(lemma.count(" ") + 1 for lemma in self.entries_of)

    @classmethod
    def of_synsets(cls, bank: ImageBank, synsets: Path | str, definitions: Path | str | None = None) -> NounIndex:
        """Of ImageNet and its like, where a picture's id, a path, holds the number of its synset.

        Args:
            bank: Pictures such as `n01440764.jpg` or `n01443537/n01443537_163.JPEG`; those without a number are shown
                by no entry.
            synsets: Lines of a number, TAB, and lemmas parted by commas; further columns do not matter.
            definitions: A table with the columns `synset`, `lemmas` (parted by `|`) and `definition`. Numbers differ
                between versions of WordNet: an entry takes the definition of the synset with the same number if they
                share a lemma, else of that with the greatest share of lemmas in common, the first of equals.
        """
        rows_of = defaultdict[str, list[int]](list)
        for row, id_ in enumerate(bank.ids):
            if match := _WNID.search(id_):
                rows_of[match[0]].append(row)
        define, entries = _definer(definitions), []
        for where, line in text_lines(Path(synsets)):
            wnid, tab, rest = line.partition("\t")
            if line.strip() and not tab:
                raise DataError(f"{where}: expected a synset's number, TAB, and its lemmas; found {line!r}")
            if wnid in rows_of:
                lemmas = _lemmas(rest.partition("\t")[0].split(","))
                entries.append(Entry(lemmas, define(wnid, lemmas), tuple(rows_of[wnid])))
        return cls(bank, entries)

    @classmethod
    def of_captions(cls, bank: ImageBank, captions: Captions, nouns: Collection[str] | None = None) -> NounIndex:
        """Of words in captions: the more captions of a picture name it, the better the picture.

        Args:
            bank: The pictures.
            captions: Of pictures of the bank; `DataError` if of none.
            nouns: Words that count, in lower case; by default all but stop words.
        """
        named = defaultdict[str, Counter[int]](Counter)
        for row, text in zip(rows_in(bank, captions).tolist(), captions.texts, strict=True):
            for word in set(content_words(text)) if row >= 0 else ():
                if nouns is None or word in nouns:
                    named[word][row] += 1
        best_first = {word: sorted(rows, key=lambda row: (-rows[row], row)) for word, rows in sorted(named.items())}
        return cls(bank, (Entry((word,), "", tuple(rows)) for word, rows in best_first.items()))

    def named(self, text: str) -> list[str]:
        """The lemmas in a text, in order, in the singular or the regular plural; of those that begin with a word the
        longest, and no stop word alone."""
        words, found, at = words_of(text), list[str](), 0
        while at < len(words):
            forms = (" ".join(words[at : at + length]) for length in range(self._longest, 0, -1))
            lemma = next((self._lemma_of[form] for form in forms if form in self._lemma_of), "")
            if lemma and lemma not in stop_words():
                found.append(lemma)
            at += lemma.count(" ") + 1
        return found

    def keys(self, words: WordVectors) -> np.ndarray:
        """Vectors of the entries, unit rows float32 (entries, D).

        The mean of two directions, of the lemmas' vectors and of the definition's, or of the one that is known; zeros
        where none is.
        """
        lemmas = np.stack([words(entry.lemmas).sum(axis=0) for entry in self.entries])
        return unit_rows(unit_rows(lemmas) + words([entry.definition for entry in self.entries]))


class ObjectAssociation(Association):
    """One picture for each of at most K concepts among the nouns of a text.

    At most K nouns are each a concept. Of more, a Gaussian mixture of K components is fitted to their unit vectors, and
    the noun nearest to the centre of each is a concept; of at most K it would have a component a noun. Nouns
    without a vector take no part in it: they are concepts as far as there is room. Concepts come in the order in
    which the text names them first.

    A concept's entry is, of those with this lemma, the one most like it, else, of all, the most like it. Its picture
    is the entry's first that the text has not got yet. A text with fewer concepts than K has fewer pictures.

    Args:
        index: What the bank's pictures show.
        words: Vectors of words.
        seed: Of the mixture.
        tagger: A text to its nouns, in lower case; by default the lemmas of the index that it names.
    """

    kind = "object"
    nested = False  # which nouns are a concept depends on K

    def __init__(
        self, index: NounIndex, words: WordVectors, *, seed: int = 0, tagger: Callable[[str], list[str]] | None = None
    ) -> None:
        self.bank, self.index, self.words, self.seed, self.tagger = index.bank, index, words, seed, tagger
        self.keys, self.report = index.keys(words), {"skipped": words.skipped.report()}
        self._known = np.flatnonzero(self.keys.any(axis=1)).tolist()  # the entries that a stranger may be like

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """Text by text."""
        found = np.full((len(texts), k), -1, dtype=np.int64)
        for row, text in zip(found, texts, strict=True):
            pictures = list[int]()
            for noun, vector in self.concepts(text, k).items():
                fresh = (picture for picture in self._entry(noun, vector).rows if picture not in pictures)
                pictures.extend(itertools.islice(fresh, 1))
            row[: len(pictures)] = pictures
        return found

    def concepts(self, text: str, k: int) -> dict[str, np.ndarray]:
        """At most k nouns of a text, in order, each with its unit vector, float32 (D,), zeros if it has none."""
        nouns = list(dict.fromkeys((self.tagger or self.index.named)(text)))
        vectors = self.words(nouns)
        known = vectors.any(axis=1) & np.array([bool(self._known) or n in self.index.entries_of for n in nouns], bool)
        clustered = np.flatnonzero(known)
        if len(clustered) > k:
            clustered = clustered[nearest_to_centres(vectors[clustered], k, self.seed)]
        others = [i for i in np.flatnonzero(~known) if nouns[i] in self.index.entries_of]
        chosen = sorted([*clustered, *others[: k - len(clustered)]])
        return {nouns[i]: vectors[i] for i in chosen}

    def _entry(self, noun: str, vector: np.ndarray) -> Entry:
        numbers = self.index.entries_of.get(noun) or self._known
        return self.index.entries[numbers[int((self.keys[numbers] @ vector).argmax())]]

    def state(self) -> State:
        """Index, vectors and settings."""
        if self.tagger and not isinstance(self.tagger, Tagger):
            raise ArtifactError("its tagger is a function, which cannot be written; use spacy_tagger or nltk_tagger")
        tagger = self.tagger.name if self.tagger else ""
        own = {"entries": self.index.entries, "seed": self.seed, "tagger": tagger}
        return State(values=own) | self.words.state()

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> ObjectAssociation:
        """The association that had this state; raises `MissingExtra` if its tagger is not installed."""
        entries = [Entry(tuple(lemmas), text, tuple(rows)) for lemmas, text, rows in state.values["entries"]]
        tagger = named_tagger(state.values["tagger"]) if state.values["tagger"] else None
        index, words = NounIndex(bank, entries), WordVectors.from_state(state)
        return cls(index, words, seed=state.values["seed"], tagger=tagger)


def nearest_to_centres(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Of more than k vectors, those nearest to the centres of a Gaussian mixture.

    Args:
        vectors: Unit rows, float (N, D).
        k: Components, with diagonal covariances.
        seed: Of their first places.

    Returns:
        At most k sorted rows, int64: one may be nearest to several centres.
    """
    from scipy.spatial.distance import cdist
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    vectors = vectors.astype(np.float64)
    mixture = GaussianMixture(k, covariance_type="diag", reg_covar=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as when nouns share a vector
        mixture.fit(vectors)
    return np.unique(cdist(mixture.means_, vectors).argmin(axis=1))


@dataclass(frozen=True)
class Tagger:
    """What finds the common nouns of a text.

    Attributes:
        name: The library it comes from and, if it has one, its model there.
        nouns: A text to its nouns, in lower case.
    """

    name: str
    nouns: Callable[[str], list[str]]

    def __call__(self, text: str) -> list[str]:
        """The nouns of a text."""
        return self.nouns(text)


def spacy_tagger(model: str = "en_core_web_sm") -> Tagger:
    """Common nouns by spaCy, as lemmas; raises `MissingExtra` if it or the model is not installed."""
    try:
        import spacy

        read = spacy.load(model)
    except (ImportError, OSError) as error:
        remedy = f"pip install spacy, then python -m spacy download {model}, or leave the tagger out"
        raise MissingExtra(f"spaCy's {model} is not installed; {remedy}") from error
    return Tagger(f"spacy {model}", lambda text: [t.lemma_.lower() for t in read(text) if t.pos_ == "NOUN"])


def nltk_tagger() -> Tagger:
    """Common nouns by NLTK, as they are written; raises `MissingExtra` if it or its data is not installed."""
    try:
        import nltk

        def nouns(text: str) -> list[str]:
            tagged = nltk.pos_tag(nltk.word_tokenize(text))
            return [word.lower() for word, tag in tagged if tag in ("NN", "NNS")]

        nouns("a dog")
    except (ImportError, LookupError) as error:
        data = "nltk.download() of punkt_tab and averaged_perceptron_tagger_eng"
        remedy = f"pip install nltk, then {data}, or leave the tagger out"
        raise MissingExtra(f"NLTK or its data is not installed; {remedy}") from error
    return Tagger("nltk", nouns)


def named_tagger(name: str) -> Tagger:
    """The tagger of this name, "nltk", "spacy", or that and a model; raises `MissingExtra` if it is not installed."""
    library, *model = name.split() or [""]
    check_choice("tagger", library, ("spacy", "nltk"))
    return spacy_tagger(*model) if library == "spacy" else nltk_tagger()


def _plural(lemma: str) -> str:
    if re.search("[^aeiou]y$", lemma):
        return f"{lemma[:-1]}ies"
    return f"{lemma}es" if re.search("(s|x|z|ch|sh)$", lemma) else f"{lemma}s"


def _lemmas(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lemma for name in names if (lemma := " ".join(words_of(name)))))


def _definer(path: Path | str | None) -> Callable[[str, Collection[str]], str]:
    """What defines a synset by its number and lemmas, "" where the table does not."""
    with_lemma = defaultdict[str, list[Mapping[str, str]]](list)
    for where, record in read_records(Path(path)) if path else ():
        if missing := {"synset", "lemmas", "definition"} - set(record):
            raise DataError(f"{where} has columns {', '.join(record)}; no {', '.join(sorted(missing))}")
        for lemma in _lemmas(record["lemmas"].split("|")):
            with_lemma[lemma].append(record)

    def fit(record: Mapping[str, str], wnid: str, lemmas: Collection[str]) -> tuple[bool, float]:
        theirs = set(_lemmas(record["lemmas"].split("|")))
        return wnid[1:] in record["synset"], len(theirs & set(lemmas)) / len(theirs | set(lemmas))

    def define(wnid: str, lemmas: Collection[str]) -> str:
        found = [record for lemma in lemmas for record in with_lemma[lemma]]
        return max(found, key=lambda record: fit(record, wnid, lemmas))["definition"] if found else ""

    return define
