"""The boxes of a file, in the place of a detector.

| given | read as |
| --- | --- |
| `.json` (`.gz` too) | COCO's instances: `images`, `annotations`, `categories` |
| `.jsonl` (`.gz` too) with `objects` | a picture a line: `image` or `file`, `width`, `height`, and `objects`, each a `tag` or `category` and a `box` or `bbox` (x, y, width, height in pixels); null where they are not known |
| `.jsonl` (`.gz` too) with `structured_rep` | NLVR (Suhr et al. 2017): three fields of objects, each a colour, type, place and size |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL.Image import Image

from sightread.artifacts import digest_file
from sightread.data.regions import Detections
from sightread.data.tables import read_json, read_records
from sightread.errors import DataError

_NLVR_SIZE, _NLVR_LEFTS = (400, 100), (0, 150, 300)  # of the picture; where its three fields begin
_NLVR_COLORS = {"#0099ff": "blue"}

_Objects = list[tuple[str, Sequence[float]]]  # tag; x, y, width, height in pixels
_Boxed = tuple[str, tuple[int, int], _Objects | None]  # file, its size, its objects


class GivenBoxes:
    """Boxes that were drawn by people, or by those who made the pictures; all scores are 1.

    A picture is known by the name of its file, folders aside.

    Args:
        source: One of the files above.

    Attributes:
        digest: Digest of the file.

    Raises:
        DataError: If it cannot be read, or has a picture twice.
    """

    def __init__(self, source: Path | str) -> None:
        self._known = dict[str, Detections | None]()
        for file, size, objects in _boxes_of(Path(source)):
            name = PurePosixPath(file).name
            if name in self._known:
                raise DataError(f"{source} has {name} twice; give each picture once")
            try:
                self._known[name] = None if objects is None else _detections(objects, size)
            except (DataError, ValueError, TypeError) as error:
                raise DataError(f"{source}, {name}: {error}") from error
        self.digest = digest_file(Path(source))

    def __call__(self, images: Sequence[Image], ids: Sequence[str]) -> list[Detections | None]:
        """The boxes of each picture, None where they are not known; nobody looks at the pictures."""
        return [self._known.get(PurePosixPath(id_).name) for id_ in ids]


def _boxes_of(path: Path) -> Iterator[_Boxed]:
    if path.name.removesuffix(".gz").endswith(".json"):
        yield from _coco(path)
        return
    for where, record in read_records(path):
        try:
            yield _nlvr(record) if "structured_rep" in record else _listed(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{where} is no picture with its boxes ({type(error).__name__}: {error})") from error


def _coco(path: Path) -> Iterator[_Boxed]:
    content = read_json(path)
    try:
        names = {category["id"]: category["name"] for category in content["categories"]}
        objects: dict[Any, _Objects] = {image["id"]: [] for image in content["images"]}
        for found in content["annotations"]:
            objects[found["image_id"]].append((names[found["category_id"]], found["bbox"]))
        for image in content["images"]:
            yield image["file_name"], (image["width"], image["height"]), objects[image["id"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} has not the form of COCO's instances ({type(error).__name__}: {error})") from error


def _listed(record: Mapping[str, Any]) -> _Boxed:
    objects = record["objects"]
    if objects is not None:
        objects = [(_either(found, "tag", "category"), _either(found, "box", "bbox")) for found in objects]
    return _either(record, "image", "file"), (record["width"], record["height"]), objects


def _nlvr(record: Mapping[str, Any]) -> _Boxed:
    def tag(thing: Mapping[str, Any]) -> str:
        return f"{_NLVR_COLORS.get(thing['color'], thing['color'].lower())} {thing['type']}"

    objects: _Objects = [
        (tag(thing), (left + thing["x_loc"], thing["y_loc"], thing["size"], thing["size"]))
        for left, field in zip(_NLVR_LEFTS, record["structured_rep"], strict=True)
        for thing in field
    ]
    return record["image"], _NLVR_SIZE, objects


def _either(record: Mapping[str, Any], name: str, other: str) -> Any:
    return record[name] if name in record else record[other]


def _detections(objects: _Objects, size: tuple[int, int]) -> Detections:
    if any(np.shape(box) != (4,) for _, box in objects):
        raise DataError("a box is not x, y, width and height")
    boxes = np.array([box for _, box in objects], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes / (*size, *size), [tag for tag, _ in objects], np.ones(len(objects), np.float32))
