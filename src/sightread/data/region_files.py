"""Features of regions that others computed, made into a store.

Their fields are those of the TSV files of Anderson et al. (2018) and LXMERT (Tan and Bansal 2019): `img_id`, `img_w`,
`img_h`, `num_boxes`, `boxes` (x1, y1, x2, y2 in pixels), `features`, and where they are known `objects_id` and
`objects_conf`.

| given | read as |
| --- | --- |
| `.tsv` (`.gz` too) | a picture a line, with LXMERT's ten columns or the six of Anderson et al.; arrays in base64 |
| `.npz`, `.h5` | all pictures: the first four with one entry each, the others end to end or padded, (N, most, …) |
| a folder of `.npz` | a picture a file, named by its id; `image_w`, `image_h`, `bbox` and `x` are taken, too |
"""

from __future__ import annotations

import base64
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sightread.artifacts import digest_file, digest_folder
from sightread.data.regions import SHARD_SIZE, Detections, Part, Regions, RegionStore, best_boxes, write_regions
from sightread.data.sources import BROKEN_GZIP, open_bytes
from sightread.data.tables import text_lines
from sightread.errors import DataError, MissingExtra

_COLUMNS = {
    10: ("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
         "features"),
    6: ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features"),
}  # fmt: skip
_ARRAYS = {"objects_id": "<i8", "objects_conf": "<f4", "boxes": "<f4", "features": "<f4"}
_PADDED_DIMS = 3  # of features, (N, most, F)
_ALSO = {"image_w": "img_w", "image_h": "img_h", "bbox": "boxes", "x": "features"}

_Fields = Mapping[str, Any]
_Record = tuple[str, Callable[[], _Fields]]  # a picture's id, and what reads its fields


def import_regions(
    source: Path | str, out: Path | str, *, names: Path | str | None = None, most: int = 36, max_skipped: float = 0.1,
    overwrite: bool = False, resume: bool = False,
) -> RegionStore:  # fmt: skip
    """Make a store of features that a detector computed.

    F is that of the first picture that can be read; a picture of another width, or whose arrays do not fit its number
    of boxes, is left out.

    Args:
        source: One of the files above.
        out: Folder of the store.
        names: File of the names of classes, one a line, read up to a comma; without it regions have no tags.
        most: Regions of a picture to keep, those of highest score.
        max_skipped: Share of pictures that may be left out.
        overwrite: Replace what is in the folder.
        resume: Go on with an unfinished job in the folder.

    Raises:
        DataError: If there is no such file, no picture in it can be read, or too many cannot.
        MissingExtra: If h5py is needed and not installed.
    """
    source = Path(source)
    classes = [line.split(",")[0].strip() for _, line in text_lines(Path(names))] if names else None
    width = _first_width(source)
    inputs = {"features": digest_folder(source) if source.is_dir() else digest_file(source)}
    if names:
        inputs["names"] = digest_file(Path(names))
    records = _records(source)
    batches = iter(lambda: list(itertools.islice(records, SHARD_SIZE)), [])
    return write_regions(
        (partial(_part, batch, width, classes, most) for batch in batches), out, width=width, config={"most": most},
        inputs=inputs, max_skipped=max_skipped, overwrite=overwrite, resume=resume,
    )  # fmt: skip


def _part(records: Sequence[_Record], width: int, classes: Sequence[str] | None, most: int) -> Part:
    part = Part()
    for id_, read in records:
        try:
            found, features = _regions(read(), width, classes)
        except DataError as error:
            part.skipped.add(str(error), id_)
            continue
        best, rows = best_boxes(found, most, id_, part.skipped_boxes)
        part.ids.append(id_)
        part.regions.append(Regions(best.boxes, features[rows], best.tags, best.scores))
    return part


def _regions(fields: _Fields, width: int, classes: Sequence[str] | None) -> tuple[Detections, np.ndarray]:
    """What was found in a picture, and its features float32 (R, F); raises `DataError` with the reason."""
    try:
        image_size, count = (int(fields["img_w"]), int(fields["img_h"])), _count(fields)
        boxes, features = _array(fields["boxes"], count, 4), _array(fields["features"], count, width)
        scores = _array(fields["objects_conf"], count, 1)[:, 0] if "objects_conf" in fields else np.ones(count)
        ids = _array(fields["objects_id"], count, 1)[:, 0] if classes is not None else np.zeros(count, int)
    except KeyError as error:
        raise DataError(f"no {error.args[0]}") from error
    except ValueError as error:
        raise DataError(f"not as expected: {error}") from error
    if min(image_size) < 1 or not (np.isfinite(features).all() and np.isfinite(scores).all()):
        raise DataError("a size below 1, or features or scores that are not finite")
    if classes is not None and count and not 0 <= ids.min() <= ids.max() < len(classes):
        raise DataError(f"a class that is none of the {len(classes)} named ones")
    tags = [classes[int(i)] for i in ids] if classes is not None else [""] * count
    return Detections(boxes / np.array([*image_size, *image_size]), tags, scores), features


def _count(fields: _Fields) -> int:
    return int(fields["num_boxes"] if "num_boxes" in fields else len(fields["boxes"]))


def _array(values: np.ndarray, rows: int, width: int) -> np.ndarray:
    if values.size != rows * width:
        raise ValueError(f"{values.size} numbers for {rows} boxes x {width}")
    return values.reshape(rows, width)


def _first_width(source: Path) -> int:
    """F of the first picture that has regions and can be read."""
    for _, read in _records(source):
        try:
            fields = read()
            count, size = _count(fields), np.asarray(fields["features"]).size
        except (DataError, KeyError, ValueError):
            continue  # skipped and listed later
        if count and size and size % count == 0:
            return int(size // count)
    raise DataError(
        f"no picture in {source} has features that can be read; see the table in sightread.data.region_files"
    )


def _records(source: Path) -> Iterator[_Record]:
    kind = source.name.removesuffix(".gz").rpartition(".")[2]
    if source.is_dir():
        for path in sorted(source.rglob("*.npz")):
            yield path.relative_to(source).as_posix().removesuffix(".npz"), partial(_npz, path)
    elif not source.is_file():
        raise DataError(f"no file or folder {source}")
    elif kind == "npz":
        yield from _together(_npz(source), source)
    elif kind in ("h5", "hdf5"):
        yield from _together(_open_h5(source), source)  # open for as long as a picture is still to be read
    else:
        yield from _lines(source)


def _lines(path: Path) -> Iterator[_Record]:
    try:
        with open_bytes(path) as file:
            for line in file:
                yield line.partition(b"\t")[0].decode(errors="replace"), partial(_line, line)
    except BROKEN_GZIP as error:
        raise DataError(f"{path} is a broken gzip file: {error}") from error


def _line(line: bytes) -> _Fields:
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) not in _COLUMNS:
        raise DataError(f"{len(cells)} columns, expected 6 or 10")
    try:
        return {
            name: np.frombuffer(base64.b64decode(cell, validate=True), _ARRAYS[name]) if name in _ARRAYS else cell
            for name, cell in zip(_COLUMNS[len(cells)], cells, strict=True)
        }
    except ValueError as error:
        raise DataError("an array that is not base64, or torn") from error


def _npz(path: Path) -> _Fields:
    known = {*_COLUMNS[10], *_ALSO}
    try:
        with np.load(path) as file:
            return {_ALSO.get(name, name): file[name] for name in file.files if name in known}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("broken file, or one with Python objects in it") from error


def _open_h5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(f"{path} needs h5py: pip install 'sightread[h5]'") from error
    try:
        return h5py.File(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _together(arrays: _Fields, path: Path) -> Iterator[_Record]:
    """The pictures of arrays that hold all of them."""
    if missing := set(_COLUMNS[6]) - set(arrays):
        raise DataError(f"{path} has {', '.join(sorted(arrays))}; no {', '.join(sorted(missing))}")
    counts = np.asarray(arrays["num_boxes"], np.int64)
    ends, padded = np.cumsum(counts), arrays["features"].ndim == _PADDED_DIMS
    expected = len(counts) if padded else counts.sum()
    for name in _ARRAYS:
        if name in arrays and len(arrays[name]) != expected:
            raise DataError(f"{path}: {name} has {len(arrays[name])} rows, expected {expected}")

    def read(row: int) -> _Fields:
        at: Any = (row, slice(counts[row])) if padded else slice(ends[row] - counts[row], ends[row])
        of_regions = {name: np.asarray(arrays[name][at]) for name in _ARRAYS if name in arrays}
        return {name: arrays[name][row] for name in ("img_w", "img_h", "num_boxes")} | of_regions

    for row, id_ in enumerate(arrays["img_id"]):
        yield id_.decode() if isinstance(id_, bytes) else str(id_), partial(read, row)
