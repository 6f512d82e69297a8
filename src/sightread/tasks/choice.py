"""Multiple choice: which ending goes on? A data set is a row of `DATASETS`."""

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
class Endings(Layout):
    """The layout of a multiple-choice data set.

    Attributes:
        context: Column of what is read first.
        begins: Column of the words that every ending begins with.
        endings: Columns of the endings.
    """

    context: str
    begins: str
    endings: tuple[str, ...]


_ENDINGS = tuple(f"ending{i}" for i in range(4))
DATASETS = {
    "swag": Endings(
        columns=("sent1", "sent2", *_ENDINGS), context="sent1", begins="sent2", endings=_ENDINGS,
        files={"train": ("train.csv",), "dev": ("val.csv", "val*.csv"), "test": ("test.csv",)},
    )
}  # fmt: skip


class Choice(TableTask[Endings]):
    """A multiple-choice task; see `contracts.Task` and `TableTask`."""

    layouts, reads, metric = DATASETS, "sequence", "choice"

    def head(self, width: int) -> nn.Module:
        """Dropout and a score for every ending, (B·W, D) -> (B, W)."""
        ways = len(self.layout.endings)
        score = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 1), nn.Flatten(0))
        return nn.Sequential(score, nn.Unflatten(0, (-1, ways)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Encoded:
        """Rows as examples of W sequences each."""
        pairs = [(row.inputs[0], ending) for row in rows for ending in row.inputs[1]]
        labels = [row.gold or 0 for row in rows]
        return encode_texts(tokenizer, pairs, labels, max_length, ways=len(self.layout.endings))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of scores (B, W) and the number of the right ending int64 (B,)."""
        return functional.cross_entropy(outputs.float(), labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Encoded) -> list[int]:
        """The number of the best ending of each row, of scores (W,)."""
        return [int(scores.argmax()) for scores in outputs]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The context, its endings, and the number of the right one."""
        context, begins = str(record[self.layout.context]), str(record[self.layout.begins])
        endings = tuple(f"{begins} {record[column]}".strip() for column in self.layout.endings)
        if not context.strip() or not all(str(record[column]).strip() for column in self.layout.endings):
            raise DataError(f"{where} has an empty text")
        label = record.get(self.layout.label)
        if label in (None, -1):
            return Row((context, endings), None)
        if str(label) not in map(str, range(len(endings))):
            raise DataError(f"{where} has label {label!r}, expected 0 to {len(endings) - 1}")
        return Row((context, endings), int(label))
