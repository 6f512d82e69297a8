"""Pictures: where they are, and decoding them safely."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from sightread.data.sources import is_dataset, load_dataset
from sightread.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"}
MAX_PIXELS = 64_000_000  # beyond any photograph, far below what fills a laptop's memory


def open_picture(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a whole picture to RGB, upright.

    Args:
        source: A file or its bytes.
        max_pixels: Width times height above which a picture is refused before it is decoded.

    Raises:
        DataError: "missing picture", "picture too large" or "broken picture", with what was found.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > max_pixels:
                raise DataError(f"picture too large ({image.width} x {image.height} > {max_pixels} pixels)")
            upright = ImageOps.exif_transpose(image)  # decoding, not verify(), finds truncated files
            if upright.mode == "F":
                raise DataError("picture of floating-point numbers, of unknown range; save it with 8 bits a colour")
            if upright.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
                upright = Image.fromarray((np.asarray(upright) // 256).clip(0, 255).astype(np.uint8))
            return upright.convert("RGB")
    except (DataError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DataError("missing picture") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"picture too large ({error})") from error
    except Exception as error:  # decoders of hostile bytes raise anything: SyntaxError, struct.error, ValueError, …
        raise DataError(f"broken picture ({type(error).__name__})") from error


class PictureFiles:
    """Pictures in files.

    Attributes:
        ids: Stable ids; by default paths relative to the folder.
        paths: The files, in the same order.
    """

    def __init__(self, ids: Sequence[str], paths: Sequence[Path]) -> None:
        self.ids, self.paths = list(ids), list(paths)

    @classmethod
    def from_folder(cls, folder: Path | str) -> PictureFiles:
        """All pictures below a folder, sorted by relative path.

        Raises:
            DataError: If the folder is missing or holds none.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"no folder of pictures at {folder}")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise DataError(f"no pictures below {folder} (looked for {', '.join(sorted(SUFFIXES))})")
        return cls([path.relative_to(folder).as_posix() for path in paths], paths)

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int) -> Image.Image:
        """The picture in RGB; raises `DataError` if it cannot be decoded."""
        return open_picture(self.paths[index])

    def path(self, index: int) -> Path | None:
        """Its file."""
        return self.paths[index]

    def select(self, rows: Sequence[int]) -> PictureFiles:
        """The given rows, in the given order."""
        return PictureFiles([self.ids[i] for i in rows], [self.paths[i] for i in rows])


class DatasetPictures:
    """The image column of a Hugging Face data set, decoded by us and not by it, so that the same limits hold."""

    def __init__(self, dataset: Any, column: str, rows: Sequence[int] | None = None) -> None:
        import datasets

        self.dataset = dataset.cast_column(column, datasets.Image(decode=False))
        self.column = column
        self.rows = list(range(len(dataset)) if rows is None else rows)
        self.ids = [f"{column}-{row:08d}" for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int) -> Image.Image:
        """The picture in RGB; raises `DataError` if it cannot be decoded."""
        cell = self.dataset[self.rows[index]][self.column]
        if not cell or not (cell["bytes"] or cell["path"]):
            raise DataError("missing picture")
        return open_picture(cell["bytes"] or Path(cell["path"]))

    def path(self, index: int) -> Path | None:
        """None: the pictures live inside the data set."""
        return None

    def select(self, rows: Sequence[int]) -> DatasetPictures:
        """The given rows, in the given order."""
        return DatasetPictures(self.dataset, self.column, [self.rows[i] for i in rows])


def read_pictures(
    source: Path | str, *, column: str = "image", split: str = "train", only: Collection[str] | None = None
) -> PictureFiles | DatasetPictures:
    """The pictures of a folder, a saved data set, or a data set of the Hub (`hf:name`).

    Args:
        source: Where they are.
        column: Image column of a data set.
        split: Split of a data set.
        only: Ids to keep; `DataError` if none of them is there.
    """
    if is_dataset(source):
        pictures: PictureFiles | DatasetPictures = DatasetPictures(load_dataset(source, split, [column]), column)
    else:
        pictures = PictureFiles.from_folder(source)
    if only is None:
        return pictures
    wanted = set(only)
    rows = [row for row, id_ in enumerate(pictures.ids) if id_ in wanted]
    if not rows:
        raise DataError(f"none of the {len(wanted)} listed pictures is among the {len(pictures)} of {source}")
    return pictures.select(rows)
