"""Image-caption pairs from the usual places.

| given | read as |
| --- | --- |
| `captions.tsv` with lines `name#k TAB caption` | Flickr8k / Flickr30k; pictures in `images` |
| `captions_val2017.json` (`.gz` too) | COCO captions; pictures in `images` |
| `.csv` / `.tsv` with a header, Kaggle's `captions.txt` | a table with an image and a caption column |
| NLVR2's `train.json`, lines of JSON | statements, each with both of its pictures |
| a folder saved by `datasets`, or `hf:name` | a data set with an image and a text column |
| another folder | its `captions.tsv`, `.json` or `.csv`, or `metadata.csv`; pictures in it or in `images/` |
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightread.data.images import DatasetPictures, PictureFiles
from sightread.data.skipped import Skipped
from sightread.data.sources import BROKEN_GZIP, decoded_lines, is_dataset, load_dataset, open_bytes
from sightread.data.tables import read_records
from sightread.errors import DataError

_IN_FOLDER = ("captions.tsv", "captions.txt", "captions.json", "captions.json.gz", "captions.csv", "metadata.csv")
_FIRST_LINE = 1 << 16  # bytes of it that tell what a JSON file holds


@dataclass(frozen=True)
class Captions:
    """Captioned pictures.

    Attributes:
        pictures: Each picture once, in order of first mention.
        texts: The captions.
        picture_of: Row of each caption's picture, int64 (N,).
        skipped: What was left out on reading.
    """

    pictures: PictureFiles | DatasetPictures
    texts: list[str]
    picture_of: np.ndarray
    skipped: Skipped

    def keep_pictures(self, rows: np.ndarray) -> Captions:
        """Only the given picture rows (int64, sorted) and their captions."""
        new_row = np.full(len(self.pictures), -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        kept = np.flatnonzero(new_row[self.picture_of] >= 0)
        texts = [self.texts[i] for i in kept]
        return Captions(self.pictures.select(rows.tolist()), texts, new_row[self.picture_of[kept]], self.skipped)

    def only(self, ids: Collection[str]) -> Captions:
        """Only the pictures with the given ids, e.g. a split; raises `DataError` if none is there."""
        wanted = set(ids)
        rows = np.array([row for row, id_ in enumerate(self.pictures.ids) if id_ in wanted], dtype=np.int64)
        if not len(rows):
            raise DataError(
                f"none of the {len(wanted)} listed pictures is among the {len(self.pictures)} captioned ones"
            )
        return self.keep_pictures(rows)


def read_captions(
    source: Path | str,
    images: Path | str | None = None,
    *,
    image_column: str = "image",
    text_column: str = "caption",
    split: str = "train",
    max_skipped: float = 0.1,
) -> Captions:
    """Read image-caption pairs; see the table at the top of this file.

    Args:
        source: A captions file, a folder, or `hf:` and the name of a data set.
        images: Folder of the pictures; by default where the captions file lies, or `images/` beside it.
        image_column: Column of the picture (tables, data sets).
        text_column: Column of the caption (tables, data sets).
        split: Split of a data set.
        max_skipped: Share of captions that may be bad (empty, undecodable, without a picture).

    Raises:
        DataError: If there is nothing to read, the format is unknown, or too much is bad.
    """
    path = Path(source)
    if is_dataset(source):
        dataset = load_dataset(source, split, (image_column, text_column))
        return _from_dataset(dataset, image_column, text_column, max_skipped)
    if path.is_dir():
        found = [path / name for name in _IN_FOLDER if (path / name).is_file()]
        if not found:
            raise DataError(f"no captions in {path}: expected one of {', '.join(_IN_FOLDER)}, or a saved data set")
        path = found[0]
    if not path.is_file():
        raise DataError(f"no captions file at {path}")
    folder = Path(images) if images else _beside(path)
    if not folder.is_dir():
        raise DataError(f"no folder of pictures at {folder}; give --images")
    skipped = Skipped()
    return _pair(read_pairs(path, skipped, image_column, text_column), folder, skipped, max_skipped, path)


def read_ids(path: Path | str) -> list[str]:
    """Picture ids from a file, one a line: a split."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list of pictures {path}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _beside(path: Path) -> Path:
    return path.parent / "images" if (path.parent / "images").is_dir() else path.parent


def read_pairs(
    path: Path, skipped: Skipped, image_column: str = "image", text_column: str = "caption"
) -> Iterator[tuple[str, str, str]]:
    """Yield (picture name, caption, place) of a captions file, whether or not its pictures are there."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".json", ".jsonl")):
        yield from _statement_pairs(path) if _is_statements(path) else _coco_pairs(path)
        return
    lines = list(decoded_lines(path, skipped))
    first = next((line for _, line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path} holds no captions")
    comma = name.endswith(".csv") or {image_column, text_column} <= set(first.split(","))  # Kaggle's are named .txt
    header = next(csv.reader([first], delimiter="," if comma else "\t"))
    if image_column in header and text_column in header:
        yield from _table_pairs(path, lines, skipped, comma, (image_column, text_column))
    elif comma:
        raise DataError(f"{path} has columns {', '.join(header)}; expected {image_column!r} and {text_column!r}")
    else:
        yield from _flickr_pairs(path, lines, skipped)


def _flickr_pairs(path: Path, lines: list[tuple[int, str]], skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    for number, line in lines:
        name, tab, caption = line.partition("\t")
        if tab:
            yield re.sub(r"#\d+$", "", name), caption, f"{path}:{number}"
        elif line.strip():
            skipped.add("line without a caption", f"{path}:{number}")


def _table_pairs(
    path: Path, lines: list[tuple[int, str]], skipped: Skipped, comma: bool, columns: tuple[str, str]
) -> Iterator[tuple[str, str, str]]:
    texts = (f"{line}\n" for _, line in lines)
    plain = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader: Any = csv.reader(texts, strict=True, **({} if comma else plain))  # type: ignore[arg-type]
    try:
        rows = ((row, lines[reader.line_num - 1][0]) for row in reader if row)
        header, _ = next(rows)
        at = [header.index(column) for column in columns]
        for row, number in rows:
            if len(row) > max(at):
                yield row[at[0]], row[at[1]], f"{path}:{number}"
            else:
                skipped.add("line without a caption", f"{path}:{number}")
    except csv.Error as error:
        raise DataError(f"{path}:{lines[reader.line_num - 1][0]} is broken: {error}") from error


def pictures_of_statement(identifier: str) -> tuple[str, str]:
    """NLVR2's `dev-850-0-1` is a statement about the pictures `dev-850-0-img0` and `dev-850-0-img1`."""
    name = identifier.rpartition("-")[0]
    return f"{name}-img0", f"{name}-img1"


def _is_statements(path: Path) -> bool:
    try:
        with open_bytes(path) as file:
            first = file.readline(_FIRST_LINE)
    except BROKEN_GZIP:
        return False  # who reads it all says what is wrong
    return b'"sentence"' in first and b'"identifier"' in first


def _statement_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, record in read_records(path, kind="jsonl"):
        for picture in pictures_of_statement(str(record.get("identifier"))):
            yield picture, record.get("sentence") or "", where


def _coco_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        with open_bytes(path) as file:
            data = json.load(file)
        names = {image["id"]: image["file_name"] for image in data["images"]}
        for entry in data["annotations"]:
            yield (
                names.get(entry["image_id"], str(entry["image_id"])),
                entry["caption"],
                f"{path} annotation {entry['id']}",
            )
    except (ValueError, KeyError, TypeError, *BROKEN_GZIP) as error:
        raise DataError(f"{path} is no COCO captions file ({type(error).__name__}: {error})") from error


def _pair(
    pairs: Iterator[tuple[str, str, str]], folder: Path, skipped: Skipped, max_skipped: float, path: Path
) -> Captions:
    rows: dict[str, int] = {}
    exists: dict[str, bool] = {}
    texts, picture_of = list[str](), list[int]()
    for name, caption, place in pairs:
        if name not in exists:
            exists[name] = _is_file(folder / name)
        if not exists[name]:
            skipped.add("caption of an unknown picture", f"{place} ({name})")
        elif not (caption and caption.strip()):
            skipped.add("empty caption", place)
        else:
            texts.append(caption.strip())
            picture_of.append(rows.setdefault(name, len(rows)))
    skipped.check(len(texts) + skipped.count, max_skipped, f"captions of {path}")
    if not texts:
        raise DataError(f"{path} holds no captions")
    pictures = PictureFiles(list(rows), [folder / name for name in rows])
    return Captions(pictures, texts, np.array(picture_of, dtype=np.int64), skipped)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _from_dataset(dataset: Any, image_column: str, text_column: str, max_skipped: float) -> Captions:
    skipped, texts, picture_of = Skipped(), list[str](), list[int]()
    for row, cell in enumerate(dataset[text_column]):
        for caption in cell if isinstance(cell, list) else [cell]:
            if caption and caption.strip():
                texts.append(caption.strip())
                picture_of.append(row)
            else:
                skipped.add("empty caption", f"row {row}")
    skipped.check(len(texts) + skipped.count, max_skipped, "captions of the data set")
    if not texts:
        raise DataError(f"the data set's column {text_column!r} holds no captions")
    return Captions(DatasetPictures(dataset, image_column), texts, np.array(picture_of, dtype=np.int64), skipped)
