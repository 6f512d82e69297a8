"""Which region does an expression mean? RefCOCO+ (Yu et al. 2016) and its sisters, as a choice among regions.

Every region of the picture gets a score, and cross-entropy trains on the one that overlaps most with the true box, as
UNITER does (Chen et al. 2020). A region is right if its intersection with the true box is more than half of their
union. Training rows none of whose regions is right are left out; in the other splits they count as wrong.

The official records are a file of Python objects, `refs(unc).p`, which is never loaded, as loading it runs what it
holds. Where you trust it, write it as JSON once, elsewhere:

    python -c "import json, pickle; json.dump(pickle.load(open('refs(unc).p', 'rb')), open('refs(unc).json', 'w'))"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sightread.contracts import IGNORED, Row
from sightread.data.encoded_pictures import EncodedPictures, Pictured, PictureTask
from sightread.data.seen_regions import SeenRegions
from sightread.data.tables import Layout, Rows, read_json, read_records
from sightread.errors import DataError
from sightread.metrics import MIN_IOU, iou

BOXES = "instances.json"
_SPLITS = {"val": "dev"}


def read_references(path: Path) -> Rows:
    """Every expression of every reference, with the share of the picture that it means.

    Raises:
        DataError: If the boxes are not beside the references, or something is missing.
    """
    if not (path.parent / BOXES).is_file():
        raise DataError(f"{path} needs COCO's boxes beside it, in {BOXES}")
    instances = read_json(path.parent / BOXES)
    try:
        sizes = {picture["id"]: (picture["width"], picture["height"]) for picture in instances["images"]}
        boxes = {thing["id"]: thing["bbox"] for thing in instances["annotations"]}
        return [
            (f"{where}, {said['sent']!r}", {
                "split": _SPLITS.get(ref["split"], ref["split"]), "image_id": ref["image_id"], "text": said["sent"],
                "box": _shares(boxes[ref["ann_id"]], sizes[ref["image_id"]]),
            })
            for where, ref in read_records(path) for said in ref["sentences"]
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} or {BOXES} is not of RefCOCO's format: {error!r}") from error


def _shares(box: Sequence[float], size: Sequence[float]) -> list[float]:
    """x, y, width, height in pixels as x1, y1, x2, y2 in shares of a picture of some size."""
    (x, y, width, height), (across, down) = box, size
    return [x / across, y / down, (x + width) / across, (y + height) / down]


_layout = partial(Layout, columns=("text", "image_id"), label="box", split_column="split", reader=read_references,
                  hub_splits={})  # fmt: skip
DATASETS = {
    "refcoco": _layout(files=dict.fromkeys(("train", "dev", "testA", "testB"), ("refs(unc).json",))),
    "refcoco+": _layout(files=dict.fromkeys(("train", "dev", "testA", "testB"), ("refs(unc).json",))),
    "refcocog": _layout(files=dict.fromkeys(("train", "dev", "test"), ("refs(umd).json",))),
}


class Referring(PictureTask[Layout]):
    """Expressions that mean a region; see `contracts.Task` and `PictureTask`."""

    layouts, reads, metric = DATASETS, "regions", "referring"

    def __init__(self, dataset: str, source: Path | str, **options: Any) -> None:
        super().__init__(dataset, source, **options)
        self._seen = SeenRegions(self.regions, None, most=self.settings.most, tags=False)
        self._boxes_of = dict[int, np.ndarray]()

    def splits(self) -> list[str]:
        """The splits that are there; the references must have been written as JSON."""
        if not (found := super().splits()):
            name = self.layout.files["train"][0]
            raise DataError(
                f"no {name} in {self.source}; the official {name.removesuffix('json')}p is never loaded, since that "
                "runs what it holds: write it as JSON elsewhere, by the line atop sightread.tasks.referring"
            )
        return found

    def load(self, split: str) -> list[Row]:
        """Rows of a split; of training only those with a region that is right."""
        rows, found = super().load(split), list[Row]()
        if split != "train":
            return rows
        for row in rows:
            if (self._overlaps(row) > MIN_IOU).any():
                found.append(row)
            else:
                self.skipped[split].add("rows of train none of whose regions is meant", row.inputs.pictures[0])
        if not found:
            raise DataError(f"{self.name}: not one training row has a region in {self.regions.path} that is meant")
        return found

    def _overlaps(self, row: Row) -> np.ndarray:
        """Overlap of each region that is read with the true box, float64 (R,)."""
        return iou(self._boxes(row), [row.gold])[:, 0]

    def _boxes(self, row: Row) -> np.ndarray:
        """The boxes of the regions that are read, float32 (R, 4), each picture's read from disk once."""
        (picture,) = self.rows_of(row)
        if picture not in self._boxes_of:
            self._boxes_of[picture] = self._seen.of(picture)["region_boxes"]
        return self._boxes_of[picture]

    def head(self, width: int) -> nn.Module:
        """Dropout and a score for every region, (B, R, D) -> (B, R)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 1), nn.Flatten(1))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> EncodedPictures:
        """Rows as examples; their labels, int64 (R,), are 1 at the region that is meant, and 0 at others."""
        overlaps = [self._overlaps(row) for row in rows]
        labels = [(np.arange(len(of)) == (of.argmax() if len(of) else -1)).astype(np.int64) for of in overlaps]
        return self.encode_beside(rows, tokenizer, max_length, labels)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of scores (B, R) over the regions that are there; labels int64 (B, R), `IGNORED` at none."""
        scores = outputs.float().masked_fill(labels == IGNORED, -np.inf)
        return -scores.log_softmax(dim=1)[labels == 1].mean()

    def predict(
        self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: EncodedPictures
    ) -> list[list[float] | None]:
        """The box of the best region of each row, of scores (R,); None where there is no region."""
        boxes = map(self._boxes, rows)
        return [
            of[scores[: len(of)].argmax()].tolist() if len(of) else None
            for scores, of in zip(outputs, boxes, strict=True)
        ]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The expression, its picture, and the true box in shares of width and height."""
        return Row(Pictured((str(record["image_id"]),), record["text"]), record["box"])
