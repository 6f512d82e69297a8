"""The pictures of a bank as small JPEGs. A picture is asked for by its row; no path comes from outside."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from sightread.analysis.strips import missing, square
from sightread.artifacts import digest
from sightread.bank import ImageBank
from sightread.data.images import open_picture
from sightread.errors import DataError

SIDES = {"small": 224, "large": 800}  # pixels: of the square middle, and of the longer side of the whole
_QUALITY = 85


class Gallery:
    """The pictures of a bank.

    Attributes:
        key: Name of these pictures, which changes when they do.
    """

    def __init__(self, bank: ImageBank) -> None:
        self._paths = bank.paths
        self.key = digest(*bank.ids, *bank.paths)[:16]

    def __len__(self) -> int:
        return len(self._paths)

    def jpeg(self, row: int, size: str) -> tuple[bytes, bool]:
        """A picture in one of `SIDES`, and whether it could be opened; else the bytes are of a grey square.

        Raises:
            IndexError: If there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(row)
        try:
            return _shrunk(self._paths[row], size), True
        except DataError:
            return _jpeg(missing(SIDES["small"])), False

    def whole(self, row: int) -> Image.Image:
        """A picture of at most the large size; raises `DataError` if it cannot be opened."""
        return _opened(self._paths[row])


def _opened(path: str) -> Image.Image:
    if not path:
        raise DataError("this picture lies in no file")
    image = open_picture(Path(path))
    image.thumbnail((SIDES["large"], SIDES["large"]))
    return image


@lru_cache(maxsize=4096)  # some 10 kB each, the large ones 100
def _shrunk(path: str, size: str) -> bytes:
    image = _opened(path)
    return _jpeg(square(image, SIDES["small"]) if size == "small" else image)


def _jpeg(image: Image.Image) -> bytes:
    image.save(file := io.BytesIO(), "JPEG", quality=_QUALITY)
    return file.getvalue()
