"""Feature maps of many pictures, on disk: they are too large to be held."""

from __future__ import annotations

import math
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightread.data.skipped import Skipped
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.errors import ConfigError, DataError

AT_ONCE = 256  # pictures whose maps are held while they are made: 64 MB of 7 × 7 × 1280


class FeatureMaps:
    """The last feature maps of pictures, P places of F features each, in files that are mapped into memory.

    On disk they take 4·P·F bytes a picture, 250 kB of a MobileNet; in memory no more than `AT_ONCE` of them.

    Args:
        encoder: An image encoder whose regions are the places: see `seeing_maps`.
        pictures: The pictures, `PictureFiles` or `DatasetPictures`.
        folder: Where the maps are kept; found there, they are not made again unless encoder or pictures changed.
        max_skipped: Share of pictures that may be broken.

    Attributes:
        rows: The pictures that could be decoded, int64 (N,).
        skipped: The others.

    Raises:
        DataError: If too many pictures are broken, or all.
    """

    def __init__(self, encoder: ImageEncoder, pictures: Any, folder: Path, *, max_skipped: float = 0.1) -> None:
        self.num_parts, self.skipped = encoder.num_parts, Skipped()
        parts, rows = np.array_split(np.arange(len(pictures)), max(-(-len(pictures) // AT_ONCE), 1)), list[np.ndarray]()
        self._files = list[np.ndarray]()
        for number, part in enumerate(parts):
            cache = folder / f"part-{number:05d}"
            some = pictures.select(part.tolist())
            _, kept, skipped = image_features(encoder, some, cache=cache, max_skipped=1, or_none=True)
            self._files.append(np.load(cache / "features.npy", mmap_mode="r"))
            self.skipped.merge(skipped)
            rows.append(part[kept])
        self.skipped.check(len(pictures), max_skipped, "pictures")
        self.rows = np.concatenate(rows)
        if not len(self):
            raise DataError("not one of the pictures can be decoded")
        self._begins = np.cumsum([0, *map(len, rows)]).tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """The map of the picture `rows[index]`, float32 (P, F)."""
        index = range(len(self))[index]
        file = bisect_right(self._begins, index) - 1
        return np.array(self._files[file][index - self._begins[file]]).reshape(self.num_parts, -1)


@torch.no_grad()
def seeing_maps(encoder: ImageEncoder, pictures: Any) -> ImageEncoder:
    """The same encoder on whole pictures, the places of its last feature map being its regions.

    Raises:
        ConfigError: If the map of the first picture is not square.
        DataError: If no picture can be decoded.
    """
    for index in range(len(pictures)):
        try:
            first = pictures.load(index)
            break
        except DataError:
            continue
    else:
        raise DataError(f"not one of the {len(pictures)} pictures can be decoded")
    device = next(encoder.parameters()).device
    whole = ImageEncoder(encoder.model, encoder.processor, view="whole").eval()
    height, width = whole.feature_map(whole.preprocess([first]).to(device)).shape[2:]
    if height != width:
        raise ConfigError(f"a feature map of {height} × {width} places is not square; use a processor that resizes")
    return ImageEncoder(encoder.model, encoder.processor, f"regions-{math.prod((height, width))}", "whole")
