"""A number for one or two sentences: similarity, likelihood, readability. A data set is a row of `DATASETS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import Row
from sightread.data.encoded import Encoded, encode_texts
from sightread.data.tables import Layout, TableTask
from sightread.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Scale(Layout):
    """The layout of a regression data set; `columns` are its one or two sentences.

    Attributes:
        low: Lowest number there can be.
        high: Highest.
        outside: Numbers that mean something else; such rows are left out.
        metric: Its scores, a key of `METRICS`.
    """

    low: float
    high: float
    outside: tuple[float, ...] = ()
    metric: str = "correlation"


def _joci(subset: str, **settings: Any) -> Scale:
    files = {split: (f"{subset}.{split}.csv",) for split in ("train", "dev", "test")}
    return Scale(columns=("CONTEXT", "HYPOTHESIS"), label="LABEL", low=1, high=5, outside=(0,),  # 0: no sense
                 metric="rank_correlation", hub_splits={}, **{"files": files, **settings})  # fmt: skip


DATASETS = {
    "stsb": Scale(
        columns=("sentence1", "sentence2"), label="score", low=0, high=5, hub_columns={"score": "label"},
        files={"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test_labelled.tsv", "test.tsv")},
    ),
    "sick-r": Scale(
        columns=("sentence_A", "sentence_B"), label="relatedness_score", low=1, high=5,
        files={"train": ("SICK_train.txt",), "dev": ("SICK_trial.txt",),
               "test": ("SICK_test_annotated.txt", "SICK_test.txt")},
    ),
    "joci": _joci("", files={"all": ("joci.csv",)}, carve="all"),
    "joci-a": _joci("A"),
    "joci-b": _joci("B"),
    "clear": Scale(columns=("excerpt",), label="target", low=-5, high=5, metric="error", carve="all",
                   files={"all": ("clear.csv", "CLEAR*.csv")}, hub_splits={}),
    "read": Scale(columns=("excerpt",), label="target", low=-5, high=5, metric="error", carve="all",
                  files={"all": ("train.csv",)}, hub_splits={}),  # Kaggle's, whose own test is secret
}  # fmt: skip


class Regression(TableTask[Scale]):
    """A regression task; see `contracts.Task` and `TableTask`. Numbers are learnt on a scale from 0 to 1."""

    layouts, reads = DATASETS, "sequence"

    @property
    def metric(self) -> str:
        """Its scores, a key of `METRICS`."""
        return self.layout.metric

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on one vector a sequence (B, D) -> a number (B,)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 1), nn.Flatten(0))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Encoded:
        """Rows as examples; labels are scaled to 0-1."""
        low, width = self.layout.low, self.layout.high - self.layout.low
        labels = [0.0 if row.gold is None else (row.gold - low) / width for row in rows]
        return encode_texts(tokenizer, [row.inputs for row in rows], labels, max_length)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of numbers (B,), on the scale from 0 to 1."""
        return functional.mse_loss(outputs.float(), labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Encoded) -> list[float]:
        """The number for each row, on the scale of the data set."""
        low, width = self.layout.low, self.layout.high - self.layout.low
        return [low + width * float(output) for output in outputs]

    def row(self, record: Mapping[str, Any], where: str) -> Row | None:
        """The texts and their number; None if that means something else."""
        texts = tuple(str(record[column]) for column in self.layout.columns)
        if not all(text.strip() for text in texts):
            raise DataError(f"{where} has an empty text")
        gold = record.get(self.layout.label)
        kept_back = gold is None or (gold == -1 and self.layout.low >= 0)  # the Hub writes -1 where GLUE tells nothing
        number = None if kept_back else self._number(gold, where)
        return None if number in self.layout.outside else Row(texts, number)

    def _number(self, gold: Any, where: str) -> float:
        low, high = self.layout.low, self.layout.high
        try:
            number = float(gold)
        except ValueError:
            number = float("nan")
        if not (low <= number <= high or number in self.layout.outside):
            raise DataError(f"{where} has {self.layout.label} {gold!r}, expected a number from {low:g} to {high:g}")
        return number
