"""Classification of a sentence or a pair of sentences. A data set is a row of `DATASETS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import Row
from sightread.data.encoded import Encoded, encode_texts
from sightread.data.pdtb import FILES as PDTB_FILES
from sightread.data.pdtb import SENSES, read_pdtb
from sightread.data.tables import Layout, TableTask
from sightread.errors import DataError

NLI = ("contradiction", "entailment", "neutral")


@dataclass(frozen=True, kw_only=True)
class Classes(Layout):
    """The layout of a classification data set; `columns` are its one or two sentences.

    Attributes:
        labels: All labels, in the order of their class numbers; empty to take those of the training split, sorted.
        spelled: Other spellings of labels in the files.
        unlabelled: What stands for a label on which the annotators did not agree; such rows are left out, as is usual.
        metric: Its scores, a key of `METRICS`.
    """

    labels: tuple[str, ...] = ()
    spelled: Mapping[str, str] = field(default_factory=dict)
    unlabelled: str | None = None
    metric: str = "classification"


def _advglue(part: str, columns: tuple[str, ...], labels: tuple[str, ...], by_number: Sequence[str]) -> Classes:
    spelled = {str(number): label for number, label in enumerate(by_number)}
    files = {"dev": ("dev_ann.json", "dev.json")}
    return Classes(part=part, columns=columns, labels=labels, spelled=spelled, files=files)


_PAIR, _BINARY, _ENTAILED = ("sentence1", "sentence2"), ("0", "1"), ("entailment", "not_entailment")
_BY_NUMBER = ("entailment", "neutral", "contradiction")  # the classes of NLI as AdvGLUE numbers them
_QUESTIONS = ("question1", "question2")
DATASETS = {
    "world": Classes(columns=("sentence",)),
    "sst2": Classes(columns=("sentence",), labels=_BINARY),
    "rte": Classes(columns=_PAIR, labels=_ENTAILED),
    "wnli": Classes(columns=_PAIR, labels=_BINARY),
    "qnli": Classes(columns=("question", "sentence"), labels=_ENTAILED),
    "qqp": Classes(columns=_QUESTIONS, label="is_duplicate", labels=_BINARY, metric="paraphrase",
                   hub_columns={"is_duplicate": "label"}),
    "mrpc": Classes(
        columns=("#1 String", "#2 String"), label="Quality", labels=_BINARY, metric="paraphrase",
        files={"train": ("train.tsv", "msr_paraphrase_train.txt"), "dev": ("dev.tsv",),
               "test": ("test_labelled.tsv", "msr_paraphrase_test.txt", "test.tsv")},
        hub_columns={"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
    ),
    "cola": Classes(columns=("sentence",), header=("source", "label", "mark", "sentence"), labels=_BINARY,
                    metric="cola", files={"train": ("train.tsv",), "dev": ("dev.tsv",)}),
    "mnli": Classes(
        columns=_PAIR, label="gold_label", labels=NLI,
        files={"train": ("train.tsv",), "dev": ("dev_matched.tsv",), "dev_mismatched": ("dev_mismatched.tsv",)},
        hub_splits={"train": "train", "dev": "validation_matched", "dev_mismatched": "validation_mismatched"},
        hub_columns={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    ),
    "snli": Classes(
        columns=_PAIR, label="gold_label", labels=NLI, unlabelled="-",
        files={"train": ("snli_1.0_train.jsonl", "train*.jsonl"), "dev": ("snli_1.0_dev.jsonl", "dev*.jsonl"),
               "test": ("snli_1.0_test.jsonl", "test*.jsonl")},
        hub_columns={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    ),
    "sick": Classes(
        columns=("sentence_A", "sentence_B"), label="entailment_judgment",
        labels=("CONTRADICTION", "ENTAILMENT", "NEUTRAL"),
        files={"train": ("SICK_train.txt",), "dev": ("SICK_trial.txt",),
               "test": ("SICK_test_annotated.txt", "SICK_test.txt")},
        hub_columns={"entailment_judgment": "label"},
    ),
    "pdtb": Classes(columns=("arg1", "arg2"), label="sense", labels=SENSES, files=PDTB_FILES,
                    reader=read_pdtb, many=True, hub_splits={}),
    "advglue-sst2": _advglue("sst2", ("sentence",), _BINARY, _BINARY),
    "advglue-qqp": _advglue("qqp", _QUESTIONS, _BINARY, _BINARY),
    "advglue-qnli": _advglue("qnli", ("question", "sentence"), _ENTAILED, _ENTAILED),
    "advglue-mnli": _advglue("mnli", ("premise", "hypothesis"), NLI, _BY_NUMBER),
    "advglue-mnli-mm": _advglue("mnli-mm", ("premise", "hypothesis"), NLI, _BY_NUMBER),
}  # fmt: skip


class Classification(TableTask[Classes]):
    """A classification task; see `contracts.Task` and `TableTask`."""

    layouts, reads = DATASETS, "sequence"

    def __init__(self, dataset: str, source: Path | str, **options: Any) -> None:
        super().__init__(dataset, source, **options)
        self.metric, self.labels = self.layout.metric, self.layout.labels
        self.names = self.table.hub_class_names()
        if not self.labels:
            found = {self._label(record[self.layout.label]) for _, record in self.table.load("train")}
            self.labels = tuple(sorted(label for label in found if label is not None))

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on one vector a sequence (B, D) -> logits (B, C)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(self.labels)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Encoded:
        """Rows as examples."""
        number = {label: i for i, label in enumerate(self.labels)}
        labels = [number.get(row.gold, 0) for row in rows]
        return encode_texts(tokenizer, [row.inputs for row in rows], labels, max_length)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C) and class numbers int64 (B,)."""
        return functional.cross_entropy(outputs.float(), labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Encoded) -> list[str]:
        """The label of highest logit for each row, of logits (C,)."""
        return [self.labels[int(logits.argmax())] for logits in outputs]

    def row(self, record: Mapping[str, Any], where: str) -> Row | None:
        """The sentences and their label; None where the annotators did not agree on one."""
        label = self._label(record.get(self.layout.label))
        if label is not None and label == self.layout.unlabelled:
            return None
        if label not in (*self.labels, None):
            raise DataError(f"{where} has label {label!r}, expected one of {', '.join(self.labels)}")
        sentences = tuple(str(record[column]) for column in self.layout.columns)
        if not all(sentence.strip() for sentence in sentences):
            raise DataError(f"{where} has an empty sentence")
        return Row(sentences, label)

    def _label(self, label: Any) -> str | None:
        """A label as the official files write it; the Hub numbers classes, and sometimes names them otherwise."""
        if label is None or (label == -1 and not isinstance(label, str)):
            return self.layout.unlabelled
        if self.names is None:
            return self.layout.spelled.get(str(label), str(label))
        name = self.names[int(label)]
        same = [ours for ours in self.labels if ours.lower() == name.lower()]
        return same[0] if same else self.labels[int(label)] if self.labels else name
