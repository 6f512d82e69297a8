"""Is a sentence true of its pictures? NLVR2 (Suhr et al. 2019) asks of two, NLVR (Suhr et al. 2017) of one.

The sentence is read beside each picture by itself, and the vectors of the two readings are classified side by side. A
data set is a row of `DATASETS`; its official files are JSON lines, whatever they are called. Pre-training for the task
(Li et al. 2019, section 3.3) goes on with its statements before it is fine-tuned, half of which are false, so that
nothing is matched:

    sightread unpaired --start encoder --regions regions --captions train.json --pairs --set match=false --out further
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import Row
from sightread.data.captions import pictures_of_statement
from sightread.data.encoded_pictures import EncodedPictures, Pictured, PictureTask
from sightread.data.tables import Layout, Rows, read_records
from sightread.errors import DataError

LABELS = ("false", "true")


def _read_pairs(path: Path) -> Rows:
    """NLVR2: of two pictures each."""
    return [
        (where, {**record, "pictures": pictures_of_statement(str(record.get("identifier")))})
        for where, record in read_records(path, kind="jsonl")
    ]


def _read_scenes(path: Path) -> Rows:
    """NLVR: a sentence of the picture `dev-1572-0-0`, the first of six in which the same things lie elsewhere."""
    split, rows = path.name.partition(".")[0], read_records(path, kind="jsonl")
    return [
        (where, {**record, "pictures": (record.get("image") or f"{split}-{record.get('identifier')}-0",)})
        for where, record in rows
    ]


@dataclass(frozen=True, kw_only=True)
class Statements(Layout):
    """The layout of a data set of true and false sentences.

    Attributes:
        num_pictures: Pictures that a sentence is about.
    """

    columns: tuple[str, ...] = ("sentence", "identifier")
    num_pictures: int


def _files(**names: str) -> dict[str, tuple[str, ...]]:
    return {split: (f"{name}.json", f"{name}.jsonl") for split, name in names.items()}


DATASETS = {
    "nlvr2": Statements(files=_files(train="train", dev="dev", test="test1", test2="test2"), num_pictures=2,
                        reader=_read_pairs, hub_splits={}),
    "nlvr": Statements(files=_files(train="train", dev="dev", test="test"), num_pictures=1, reader=_read_scenes,
                       hub_splits={}),
}  # fmt: skip


class VisualReasoning(PictureTask[Statements]):
    """True or false of pictures; see `contracts.Task` and `PictureTask`."""

    layouts, reads, metric, labels = DATASETS, "sequence", "classification", LABELS

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on the vectors of all pictures side by side, (B·W, D) -> (B, 2)."""
        ways = self.layout.num_pictures
        side_by_side = nn.Sequential(nn.Unflatten(0, (-1, ways)), nn.Flatten(1))
        return nn.Sequential(side_by_side, nn.Dropout(0.1), nn.Linear(ways * width, len(LABELS)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> EncodedPictures:
        """Rows as examples of a sequence a picture."""
        labels = [LABELS.index(row.gold or "false") for row in rows]
        return self.encode_beside(rows, tokenizer, max_length, labels)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, 2) and labels int64 (B,)."""
        return functional.cross_entropy(outputs.float(), labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Any) -> list[str]:
        """ "true" or "false" for each row, of logits (2,)."""
        return [LABELS[int(logits.argmax())] for logits in outputs]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The sentence, its pictures, and whether it is true."""
        label = record.get(self.layout.label)
        gold = None if label is None else str(label).lower()
        if gold not in (*LABELS, None):
            raise DataError(f"{where} has label {label!r}, expected true or false")
        return Row(Pictured(record["pictures"], str(record["sentence"])), gold)
