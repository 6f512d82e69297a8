"""The regions of pictures, and the subwords of their tags, as `modules.single_stream` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightread.config import check_positive
from sightread.contracts import IGNORED, Batch
from sightread.data.blocks import pad
from sightread.data.regions import RegionStore

_PADDING = {"tag_ids": 0, "tag_regions": -1, "region_vectors": 0, "region_boxes": 0}


class SeenRegions:
    """What is read of the pictures of a store.

    Args:
        store: The store.
        tokenizer: Tokenizer of the text encoder.
        most: Regions of a picture, at most; those of the highest score.
        tags: Whether tags are read.
        most_pieces: Subwords of a tag, at most; the region of a longer one stands without.

    Attributes:
        skipped_tags: How many of the store's names are longer.
    """

    def __init__(
        self, store: RegionStore, tokenizer: Any, *, most: int = 36, tags: bool = True, most_pieces: int = 8
    ) -> None:
        check_positive(most=most, most_pieces=most_pieces)
        self.store, self.most = store, most
        # a word within a line, as captions have it: byte-level tokenizers tell it from the first one
        texts = [f" {name}" for name in store.names] if tags else []
        pieces = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        self._pieces = {name: ids for name, ids in zip(store.names, pieces, strict=False) if len(ids) <= most_pieces}
        self._name_ids = {name: row for row, name in enumerate(store.names)}
        self.skipped_tags = len(pieces) - len(self._pieces)

    def of(self, row: int) -> dict[str, np.ndarray]:
        """One picture, a row of the store.

        Returns:
            `tag_ids` and `tag_regions`, int64 (G,); `region_vectors`, float32 (R, F); `region_boxes`, float32 (R, 4);
            and beside what is read, `region_names`, int64 (R,): which of the store's names its tag is, `IGNORED` where
            it has none, and `region_scores`, float32 (R,).
        """
        regions = self.store[row]
        best = np.argsort(-regions.scores, kind="stable")[: self.most]
        pieces = [self._pieces.get(regions.tags[i], ()) for i in best]
        return {
            "tag_ids": np.array([id_ for ids in pieces for id_ in ids], dtype=np.int64),
            "tag_regions": np.array([place for place, ids in enumerate(pieces) for _ in ids], dtype=np.int64),
            "region_vectors": regions.vectors[best],
            "region_boxes": regions.boxes[best],
            "region_names": np.array([self._name_ids.get(regions.tags[i], IGNORED) for i in best], dtype=np.int64),
            "region_scores": regions.scores[best],
        }

    @staticmethod
    def collate(pictures: Sequence[Mapping[str, np.ndarray]]) -> Batch:
        """Pictures side by side, filled up to the one of most regions and the one of most subwords.

        Returns:
            `tag_ids`, int64 (B, G), and `tag_regions`, likewise, -1 where there is none; `region_vectors`, float32
            (B, R, F); `region_boxes`, float32 (B, R, 4); `region_mask`, int64 (B, R), 1 where there is a region.
        """
        mask = pad([np.ones(len(picture["region_boxes"]), np.int64) for picture in pictures], 0)
        padded = {name: pad([picture[name] for picture in pictures], fill) for name, fill in _PADDING.items()}
        return padded | {"region_mask": mask}
