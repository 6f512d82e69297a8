"""From pictures to a store of regions: a detector says where, an image encoder what it looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from PIL.Image import new as new_image
from torch import Tensor

from sightread.artifacts import digest
from sightread.config import check_choice, check_positive
from sightread.contracts import Pictures
from sightread.data.regions import SHARD_SIZE, Detections, Part, Regions, RegionStore, best_boxes, write_regions
from sightread.data.skipped import Skipped
from sightread.encoders.detectors import Detector
from sightread.encoders.features import progress
from sightread.encoders.image import ImageEncoder
from sightread.errors import ConfigError, DataError
from sightread.runtime import Clock, default_device

POOLINGS = ("roi", "crop")
_BATCH = 16  # pictures at a time
_CROPS = 64  # crops at a time


def build_regions(
    pictures: Pictures, detector: Detector, encoder: ImageEncoder | None, out: Path | str, *, pooling: str = "roi",
    most: int = 36, shard_size: int = SHARD_SIZE, max_skipped: float = 0.1, overwrite: bool = False,
    resume: bool = False, say: Callable[[str], None] = lambda _: None,
) -> RegionStore:  # fmt: skip
    """Find the regions of pictures and write them.

    Args:
        pictures: The pictures. Those that cannot be decoded, or of which the detector knows nothing, are left out.
        detector: What finds them.
        encoder: What gives each its vector; None for regions without (F = 0).
        out: Folder of the store.
        pooling: "roi", the mean of the encoder's last feature map over the box, of one pass a picture; or "crop", the
            encoder's feature of what is cut out, of one pass a box.
        most: Regions of a picture to keep, those of highest score.
        shard_size: Pictures in a shard.
        max_skipped: Share of pictures that may be left out.
        overwrite: Replace what is in the folder.
        resume: Go on with an unfinished job in the folder; on the same machine the bytes are those of an uninterrupted
            one.
        say: Told how fast it went.

    Raises:
        ConfigError: If the pooling is not known, or `roi` cannot be had of this encoder.
        DataError: If too many pictures are left out.
    """
    check_positive(most=most, shard_size=shard_size)
    vectors, clock, seen = RegionEncoder(encoder, pooling) if encoder else None, Clock(), list[int]()

    def made(*of: Any) -> Part:
        part = _part(*of)
        seen.append(len(part.ids))
        return part

    parts = (
        partial(made, pictures, range(begin, min(begin + shard_size, len(pictures))), detector, vectors, most, clock)
        for begin in progress(range(0, len(pictures), shard_size), "regions")
    )
    inputs = {"pictures": digest(*pictures.ids), "detector": detector.digest}
    if encoder:
        inputs["image_encoder"] = encoder.digest
    store = write_regions(
        parts, out, width=vectors.width if vectors else 0, inputs=inputs, max_skipped=max_skipped, overwrite=overwrite,
        config={"pooling": pooling if encoder else None, "most": most, "shard_size": shard_size}, resume=resume,
    )  # fmt: skip
    if seconds := clock.seconds:
        stages = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in seconds.items())
        say(f"{sum(seen) / sum(seconds.values()):.1f} pictures/s ({stages})")
    return store


def _part(
    pictures: Pictures, rows: range, detector: Detector, vectors: RegionEncoder | None, most: int, clock: Clock
) -> Part:
    part = Part()
    for begin in range(0, len(rows), _BATCH):
        with clock("reading"):
            images = _decoded(pictures, rows[begin : begin + _BATCH], part.skipped)
        with clock("detecting"):
            found = detector(list(images.values()), list(images)) if images else []
        known = dict[str, Detections]()
        for id_, detections in zip(images, found, strict=True):
            if detections is None:
                part.skipped.add("picture of unknown boxes", id_)
            else:
                known[id_] = best_boxes(detections, most, id_, part.skipped_boxes)[0]
        with clock("encoding"):
            boxes = [best.boxes for best in known.values()]
            features = vectors([images[id_] for id_ in known], boxes) if vectors else [b[:, :0] for b in boxes]
        part.ids.extend(known)
        part.regions.extend(
            Regions(best.boxes, of, best.tags, best.scores) for best, of in zip(known.values(), features, strict=True)
        )
    return part


def _decoded(pictures: Pictures, rows: range, skipped: Skipped) -> dict[str, Image]:
    images = dict[str, Image]()
    for row in rows:
        try:
            images[pictures.ids[row]] = pictures.load(row)
        except DataError as error:
            skipped.add(str(error), pictures.ids[row])
    return images


class RegionEncoder:
    """Vectors of boxes in pictures.

    Args:
        encoder: What sees.
        pooling: As for `build_regions`.

    Attributes:
        width: F.

    Raises:
        ConfigError: If the pooling is not known, or cannot be had of this encoder.
    """

    def __init__(self, encoder: ImageEncoder, pooling: str = "roi") -> None:
        check_choice("pooling", pooling, POOLINGS)
        if pooling == "roi" and encoder.view != "whole":
            raise ConfigError(
                f"pooling=roi with view={encoder.view}: boxes are shares of the whole picture, so that the feature map "
                "has to be of all of it, too; load the encoder with view=whole"
            )
        if pooling == "crop" and not getattr(encoder.processor, "do_resize", True):
            raise ConfigError("pooling=crop: this image processor does not resize what is cut out; take pooling=roi")
        self.device = default_device()
        layout = torch.channels_last if self.device == "cpu" else torch.contiguous_format  # as in `image_features`
        self.encoder = encoder.to(self.device).eval().to(memory_format=layout)  # type: ignore[call-overload]
        self._vectors = self._roi if pooling == "roi" else self._crops
        self.width = self([new_image("RGB", (64, 64))], [np.array([[0, 0, 1, 1]], np.float32)])[0].shape[1]

    @torch.no_grad()
    def __call__(self, images: Sequence[Image], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Vectors float32 (R, F) of the boxes, float32 (R, 4), of each picture."""
        return self._vectors(images, boxes) if images else []

    def _roi(self, images: Sequence[Image], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        maps = self.encoder.feature_map(self._pixels(images)).float().cpu()
        return [roi_means(map_, torch.tensor(of)).numpy() for map_, of in zip(maps, boxes, strict=True)]

    def _crops(self, images: Sequence[Image], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        crops = [cut_out(image, box) for image, of in zip(images, boxes, strict=True) for box in of]
        if not crops:
            return [np.zeros((0, self.width), np.float32) for _ in images]
        batches = (crops[begin : begin + _CROPS] for begin in range(0, len(crops), _CROPS))
        features = torch.cat([self.encoder(self._pixels(batch)).float().cpu() for batch in batches])
        return [of.numpy() for of in features.split([len(of) for of in boxes])]

    def _pixels(self, images: Sequence[Image]) -> Tensor:
        return self.encoder.preprocess(images).to(self.device)


def cut_out(image: Image, box: np.ndarray) -> Image:
    """The part of a picture within a box of shares, one pixel at least."""
    left, right = _pixel_span(box[0], box[2], image.width)
    top, bottom = _pixel_span(box[1], box[3], image.height)
    return image.crop((left, top, right, bottom))


def _pixel_span(begin: float, end: float, pixels: int) -> tuple[int, int]:
    first = min(round(begin * pixels), pixels - 1)
    return first, max(round(end * pixels), first + 1)


def roi_means(feature_map: Tensor, boxes: Tensor) -> Tensor:
    """The mean of a feature map over each box, every cell weighted by the area that it shares with the box.

    Args:
        feature_map: float (F, H, W), whose cells tile the picture.
        boxes: x1, y1, x2, y2 as shares of the picture, float (R, 4), each of some area.

    Returns:
        float (R, F).
    """
    height, width = feature_map.shape[1:]
    across, down = _shares(boxes[:, 0::2], width), _shares(boxes[:, 1::2], height)
    return torch.einsum("rh,fhw,rw->rf", down, feature_map, across)


def _shares(spans: Tensor, cells: int) -> Tensor:
    """How much of each span (begin, end), (R, 2), lies in each of so many cells, (R, cells); a row adds up to 1."""
    edges = torch.arange(cells + 1, dtype=torch.float64) / cells
    begins, ends = spans[:, :1].double(), spans[:, 1:].double()
    common = (torch.minimum(ends, edges[1:]) - torch.maximum(begins, edges[:-1])).clamp(min=0)
    return (common / common.sum(dim=1, keepdim=True)).float()
