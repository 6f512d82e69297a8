"""A label for every word: named entities, metaphors. A data set is a row of `DATASETS`.

A word's label is read from its first token (Devlin et al. 2019, section 5.3). Long sentences are read in pieces, so
that no word goes without. In metaphor data only some words of a sentence are in question.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import IGNORED, Row
from sightread.data.encoded import Encoded, padding_id
from sightread.data.tables import Layout, Rows, TableTask, read_records, text_lines
from sightread.errors import DataError


def read_conll(path: Path, column: int = 3) -> Rows:
    """Sentences of a CoNLL-2003 file: `words` and `labels`, its IOB1 tags turned to BIO; document marks left out.

    Args:
        path: The file: one word a line with its tags, blank-separated; an empty line after each sentence.
        column: Column of the tag.
    """
    rows: Rows = []
    words, tags, begin = list[str](), list[str](), ""
    for where, line in [*text_lines(path), (f"{path}: its end", "")]:
        cells = line.split()
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) <= column:
                raise DataError(f"{where} has {len(cells)} columns, expected {column + 1}: word, tags, entity")
            begin = begin or where
            words.append(cells[0])
            tags.append(cells[column])
        elif words:
            rows.append((begin, {"words": words, "labels": to_bio(tags, begin)}))
            words, tags, begin = [], [], ""
    return rows


def to_bio(tags: Sequence[str], where: str = "") -> list[str]:
    """IOB1 tags ("B-" only between neighbours of one type), or BIO ones, as BIO.

    Raises:
        DataError: If a tag is neither "O" nor "B-" or "I-" with a type.
    """
    bio = list[str]()
    previous = "O"
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not kind):
            raise DataError(f"{where}: {tag!r} is no tag; expected O, or B- or I- and a type")
        begins = tag != "O" and (prefix == "B" or previous.partition("-")[2] != kind)
        bio.append(f"B-{kind}" if begins else tag)
        previous = tag
    return bio


def _read_all_words(path: Path, part_of_speech: str = "") -> Rows:
    """VUA with a label for every word, or for those of one part of speech; sentences without any are left out."""
    rows: Rows = []
    for where, record in read_records(path):
        words, labels, tags = (record[name] for name in ("sentence", "label_seq", "pos_seq"))
        words, labels, tags = words.split(), _list(labels, where), _list(tags, where)
        if not len(words) == len(labels) == len(tags):
            raise DataError(f"{where} has {len(words)} words, {len(labels)} labels and {len(tags)} parts of speech")
        asked = [part_of_speech in ("", tag) for tag in tags]
        if any(asked):
            chosen = [str(label) if ask else None for label, ask in zip(labels, asked, strict=True)]
            rows.append((where, {"words": words, "labels": chosen}))
    return rows


def _read_verbs(path: Path) -> Rows:
    """VUA verbs or MOH-X: one word in question a record."""
    rows: Rows = []
    for where, record in read_records(path):
        words, place = record["sentence"].split(), record["verb_idx"]
        if not place.isdigit() or int(place) >= len(words):
            raise DataError(f"{where} has verb_idx {place!r}, expected 0 to {len(words) - 1}")
        labels = [record["label"] if i == int(place) else None for i in range(len(words))]
        rows.append((where, {"words": words, "labels": labels}))
    return rows


def _list(text: str, where: str) -> list[Any]:
    try:
        return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"{where}: {text[:40]!r} is no list") from error


@dataclass(frozen=True, kw_only=True)
class Labels(Layout):
    """The layout of a token-labelling data set.

    Attributes:
        labels: All labels.
        metric: Its scores, a key of `METRICS`.
    """

    columns: tuple[str, ...] = ("words",)
    label: str = "labels"
    labels: tuple[str, ...] = ("0", "1")
    metric: str = "target"


def _vua(kind: str, **settings: Any) -> Labels:
    names = {"train": "train", "dev": "val", "test": "test"}
    files = {split: (f"vua_{kind}_{name}*.csv",) for split, name in names.items()}
    return Labels(files=files, hub_splits={}, **settings)


DATASETS = {
    "conll2003": Labels(
        labels=("O", *(f"{prefix}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for prefix in "BI")),
        metric="entities", reader=read_conll,
        files={"train": ("eng.train", "train.txt"), "dev": ("eng.testa", "valid.txt"),
               "test": ("eng.testb", "test.txt")},
        hub_columns={"words": "tokens", "labels": "ner_tags"},
    ),
    "vua-all": _vua("seq", reader=_read_all_words),
    "vua-nouns": _vua("seq", reader=partial(_read_all_words, part_of_speech="NOUN")),
    "vua-verbs": _vua("verb", reader=_read_verbs),
    "moh-x": Labels(files={"all": ("moh_x.csv", "MOH-X*.csv")}, reader=_read_verbs, carve="all", hub_splits={}),
}  # fmt: skip


class Sentence(NamedTuple):
    """Words, and the numbers of those in question."""

    words: tuple[str, ...]
    asked: tuple[int, ...]


class Pieces(Encoded):
    """Sentences in pieces.

    Attributes:
        words: For each piece and token the word that it begins, int64 (L,), -1 elsewhere.
    """

    def __init__(self, rows: Sequence[Row], tokenizer: Any, max_length: int, number: Mapping[str, int]) -> None:
        encoding = tokenizer(
            [" ".join(row.inputs.words) for row in rows], truncation=True, max_length=max_length,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
        )  # fmt: skip
        row_of = encoding["overflow_to_sample_mapping"]
        self.words = [
            first_tokens(rows[row].inputs.words, np.array(offsets), encoding.sequence_ids(piece))
            for piece, (row, offsets) in enumerate(zip(row_of, encoding["offset_mapping"], strict=True))
        ]
        labels = [self._labels_of(rows[row], words, number) for row, words in zip(row_of, self.words, strict=True)]
        super().__init__(encoding, labels, padding_id(tokenizer), row_of=row_of)

    @staticmethod
    def _labels_of(row: Row, words: np.ndarray, number: Mapping[str, int]) -> np.ndarray:
        gold = dict(zip(row.inputs.asked, row.gold, strict=True))
        return np.array([number[gold[word]] if word in gold else IGNORED for word in words.tolist()], np.int64)


def first_tokens(words: Sequence[str], offsets: np.ndarray, parts: Sequence[int | None]) -> np.ndarray:
    """The word whose first character each token covers, int64 (L,), -1 where it covers none.

    Args:
        words: The words, which were tokenized with a blank between them.
        offsets: Characters of each token, (L, 2).
        parts: None at special tokens, (L,).
    """
    begins = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    found = np.full(len(offsets), -1)
    for token, ((low, high), part) in enumerate(zip(offsets, parts, strict=True)):
        word = int(np.searchsorted(begins, low))  # the first word that does not begin before the token
        if part is not None and word < len(words) and begins[word] < high and word not in found[:token]:
            found[token] = word
    return found


class TokenLabels(TableTask[Labels]):
    """A token-labelling task; see `contracts.Task` and `TableTask`."""

    layouts, reads = DATASETS, "tokens"

    def __init__(self, dataset: str, source: Path | str, **options: Any) -> None:
        super().__init__(dataset, source, **options)
        self.labels, self.metric = self.layout.labels, self.layout.metric
        self.names = self.table.hub_class_names()

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on every token (B, L, D) -> logits (B, L, C)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(self.labels)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Pieces:
        """Rows as pieces."""
        return Pieces(rows, tokenizer, max_length, {label: i for i, label in enumerate(self.labels)})

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of logits (B, L, C) over the labelled tokens int64 (B, L); zero if there are none."""
        total = functional.cross_entropy(
            outputs.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total / (labels != IGNORED).sum().clamp(min=1)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Pieces) -> list[list[str]]:
        """Labels of the words in question of each row, of logits (L, C); the first label for a word without token."""
        said = [dict.fromkeys(row.inputs.asked, self.labels[0]) for row in rows]
        for logits, words, row in zip(outputs, examples.words, examples.row_of, strict=True):
            guesses = logits.argmax(axis=-1)
            said[row] |= {word: self.labels[guess] for word, guess in zip(words.tolist(), guesses, strict=True)}
        return [[guesses[word] for word in row.inputs.asked] for guesses, row in zip(said, rows, strict=True)]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The sentence, and the labels of the words in question."""
        labels = [self.names[number] for number in record["labels"]] if self.names else record["labels"]
        asked = tuple(i for i, label in enumerate(labels) if label is not None)
        gold = [labels[i] for i in asked]
        wrong = [label for label in gold if label not in self.labels]
        if wrong:
            raise DataError(f"{where} has label {wrong[0]!r}, expected one of {', '.join(self.labels)}")
        return Row(Sentence(tuple(record["words"]), asked), gold)
