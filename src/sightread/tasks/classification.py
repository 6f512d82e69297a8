"""Classification of a sentence or a pair of sentences. A data set is a row of `DATASETS`.

Read from a folder of official files (plain or gzip), from a data set saved by `datasets`, or from the Hub (`hf:name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import Batch
from sightread.data.blocks import pad
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines, is_dataset, load_dataset
from sightread.errors import DataError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How a data set is laid out.

    Attributes:
        texts: Columns of the one or two sentences.
        label: Column of the label.
        labels: All labels, in the order of their class numbers; empty to take those of the training split, sorted.
        files: File names to look for, by split; `.gz` is tried too.
        hub_splits: Names of the splits on the Hub.
    """

    texts: tuple[str, ...]
    label: str = "label"
    labels: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {split: (f"{split}.tsv",) for split in SPLITS})
    hub_splits: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"}
    )


DATASETS = {
    "world": DataSet(texts=("sentence",)),
    "sst2": DataSet(texts=("sentence",), labels=("0", "1")),
    "rte": DataSet(texts=("sentence1", "sentence2"), labels=("entailment", "not_entailment")),
    "sick": DataSet(
        texts=("sentence_A", "sentence_B"),
        label="entailment_judgment",
        labels=("CONTRADICTION", "ENTAILMENT", "NEUTRAL"),
        files={
            "train": ("SICK_train.txt",),
            "dev": ("SICK_trial.txt",),
            "test": ("SICK_test_annotated.txt", "SICK_test.txt"),
        },
    ),
}


@dataclass(frozen=True)
class Row:
    """One example: one or two sentences and the label, None where the data set keeps it back."""

    texts: tuple[str, ...]
    label: str | None


class Classification:
    """A classification task; see `contracts.Task`.

    Args:
        dataset: A key of `DATASETS`.
        source: A folder of official files, a saved data set, or `hf:` and a name.
        name: What to call it in tables, by default the key.
        max_train: Train on the first so many rows only.
    """

    main_score = "accuracy"

    def __init__(
        self, dataset: str, source: Path | str, *, name: str | None = None, max_train: int | None = None
    ) -> None:
        if dataset not in DATASETS:
            raise DataError(f"unknown data set {dataset!r}; known are {', '.join(DATASETS)}")
        self.layout, self.source, self.name, self.max_train = DATASETS[dataset], source, name or dataset, max_train
        self.labels: tuple[str, ...] = self.layout.labels or self._labels_of_train()

    def splits(self) -> list[str]:
        """The splits that are there."""
        if is_dataset(self.source):
            return [split for split in SPLITS if self._has_hub_split(split)]
        return [split for split in SPLITS if self._file(split)]

    def load(self, split: str) -> list[Row]:
        """Rows of a split; raises `DataError` naming file and line."""
        rows = self._rows(split)
        if split == "train" and any(row.label is None for row in rows):
            raise DataError(f"{self.name}: a training row of {self.source} has no label")
        return rows[: self.max_train] if split == "train" else rows

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on one vector a sequence (B, D) -> logits (B, C)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(self.labels)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> EncodedRows:
        """Rows as examples."""
        return EncodedRows(rows, self.labels, tokenizer, max_length)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C) and class numbers int64 (B,)."""
        return functional.cross_entropy(outputs.float(), labels)

    def predict(self, outputs: Tensor) -> list[str]:
        """The label of highest logit for each row."""
        return [self.labels[i] for i in outputs.argmax(dim=-1).tolist()]

    def metrics(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Accuracy and macro F1 over the labelled rows."""
        from sklearn.metrics import accuracy_score, f1_score

        labelled = [(guess, row.label) for guess, row in zip(predictions, rows, strict=True) if row.label is not None]
        if not labelled:
            return {}
        guesses, gold = zip(*labelled, strict=True)
        return {
            "accuracy": float(accuracy_score(gold, guesses)),
            "macro_f1": float(f1_score(gold, guesses, average="macro", zero_division=0)),
        }

    def _labels_of_train(self) -> tuple[str, ...]:
        self.labels = ()  # none is known yet, so that none is wrong
        return tuple(sorted({row.label for row in self._rows("train") if row.label is not None}))

    def _rows(self, split: str) -> list[Row]:
        return self._from_dataset(split) if is_dataset(self.source) else self._from_file(split)

    def _file(self, split: str) -> Path | None:
        names = [name + suffix for name in self.layout.files[split] for suffix in ("", ".gz")]
        return next((Path(self.source) / name for name in names if (Path(self.source) / name).is_file()), None)

    def _from_file(self, split: str) -> list[Row]:
        path = self._file(split)
        if path is None:
            raise DataError(f"{self.name}: no {' or '.join(self.layout.files[split])} in {self.source}")
        skipped = Skipped()
        numbered = [(number, line) for number, line in decoded_lines(path, skipped) if line]
        skipped.check(len(numbered), 0, f"lines of {path}")
        if not numbered:
            raise DataError(f"{path} is empty")
        table = [line.split("\t") for _, line in numbered]
        header, wanted = table[0], [*self.layout.texts, self.layout.label]
        missing = [column for column in wanted if column not in header]
        if missing and (missing != [self.layout.label] or split != "test"):
            raise DataError(f"{path} has columns {', '.join(header)}; no {', '.join(missing)}")
        rows = []
        for (number, _), cells in zip(numbered[1:], table[1:], strict=True):
            if len(cells) != len(header):
                raise DataError(f"{path}:{number} has {len(cells)} columns, its header {len(header)}")
            row = dict(zip(header, cells, strict=True))
            rows.append(self._row(row, row.get(self.layout.label), f"{path}:{number}"))
        return rows

    def _from_dataset(self, split: str) -> list[Row]:
        dataset = load_dataset(self.source, self.layout.hub_splits[split], [*self.layout.texts, self.layout.label])
        names = getattr(dataset.features[self.layout.label], "names", None)
        rows = []
        for number, row in enumerate(dataset):
            label = row[self.layout.label]
            label = None if label in (-1, None) else self._label_name(label, names)
            rows.append(self._row(row, label, f"{self.source} {split} row {number}"))
        return rows

    def _label_name(self, label: int | str, names: Sequence[str] | None) -> str:
        """A label as the official files write it; the Hub numbers classes, and sometimes names them otherwise."""
        if names is None:
            return str(label)
        same = [ours for ours in self.labels if ours.lower() == names[int(label)].lower()]
        return same[0] if same else self.labels[int(label)] if self.labels else names[int(label)]

    def _has_hub_split(self, split: str) -> bool:
        try:
            return bool(load_dataset(self.source, self.layout.hub_splits[split], []))
        except DataError:
            return False

    def _row(self, row: Mapping[str, Any], label: str | None, where: str) -> Row:
        if label is not None and self.labels and label not in self.labels:
            raise DataError(f"{where} has label {label!r}, expected one of {', '.join(self.labels)}")
        sentences = tuple(str(row[column]) for column in self.layout.texts)
        if not all(sentence.strip() for sentence in sentences):
            raise DataError(f"{where} has an empty sentence")
        return Row(sentences, label)


class EncodedRows:
    """Tokenized rows, as `fit` takes them; a batch holds, int64: `input_ids`, `attention_mask`, `token_type_ids`
    (B, L) and `labels` (B,)."""

    def __init__(self, rows: Sequence[Row], labels: Sequence[str], tokenizer: Any, max_length: int) -> None:
        number = {label: i for i, label in enumerate(labels)}
        self.labels = [0 if row.label is None else number[row.label] for row in rows]
        columns = list(zip(*(row.texts for row in rows), strict=True))
        encoded = tokenizer(*map(list, columns), truncation=True, max_length=max_length, return_token_type_ids=True)
        self.input_ids, self.types = encoded["input_ids"], encoded["token_type_ids"]
        self.pad_id = tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its row; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """Pad to the longest."""
        ids = [np.array(self.input_ids[i]) for i in examples]
        return {
            "input_ids": pad(ids, self.pad_id),
            "attention_mask": pad([np.ones(len(row), np.int64) for row in ids], 0),
            "token_type_ids": pad([np.array(self.types[i]) for i in examples], 0),
            "labels": torch.tensor([self.labels[i] for i in examples]),
        }
