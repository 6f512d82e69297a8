"""The regions of pictures: a box, a tag and a vector of each; a folder of them, written once.

Shards of 256 pictures, each two files: `shard-*.parquet`, one row a picture, with the columns

    id      string          the picture
    boxes   list<float32>   x1, y1, x2, y2 of each region, end to end, as shares of width and height
    tags    list<string>    what each region is called; "" where it has no name
    scores  list<float32>   the detector's confidence in that

and `shard-*.safetensors`, the `vectors` of all its regions end to end, float32 (regions, F), of which only what is
asked for is read. What was left out stands in the Parquet file's metadata, so that a job that goes on knows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from sightread.artifacts import Artifact, digest, digest_file, write_atomic, writing
from sightread.data.skipped import Skipped
from sightread.errors import ArtifactError, DataError, ShapeError

KIND = "regions"
SHARD_SIZE = 256
_SKIPPED = b"skipped"  # key of the Parquet file's metadata


class Regions(NamedTuple):
    """The regions of one picture.

    Attributes:
        boxes: x1, y1, x2, y2 as shares of width and height, float32 (R, 4).
        vectors: float32 (R, F).
        tags: R names; "" where a region has none.
        scores: The detector's confidence in them, float32 (R,); 1 where they were given.
    """

    boxes: np.ndarray
    vectors: np.ndarray
    tags: Sequence[str]
    scores: np.ndarray


class Detections(NamedTuple):
    """What a detector found in one picture, in the terms of `Regions`."""

    boxes: np.ndarray
    tags: Sequence[str]
    scores: np.ndarray


@dataclass(frozen=True)
class Part:
    """The pictures of one shard.

    Attributes:
        ids: Of those that could be read.
        regions: Theirs.
        skipped: Pictures that were left out.
        skipped_boxes: Boxes that were left out, by picture.
    """

    ids: list[str] = field(default_factory=list)
    regions: list[Regions] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    skipped_boxes: Skipped = field(default_factory=Skipped)


class RegionStore:
    """Regions of pictures on disk.

    Attributes:
        path: The folder.
        artifact: Its manifest.
        digest: Digest of all that is in it.
        ids: Ids of the pictures, in order.
        row_of: Row of each id.
        names: All tags, sorted.
        counts: How many regions bear each.
        width: F; 0 if the regions have no vectors.
    """

    def __init__(self, path: Path | str) -> None:
        self.artifact = Artifact.open(path, KIND)
        self.path, report = self.artifact.path, self.artifact.report
        self.width: int = self.artifact.config["width"]
        self.digest = digest(str(self.width), *report["digests"])
        tables = [_read_table(shard_path(self.path, shard)) for shard in range(report["shards"])]
        self._first_rows = np.cumsum([0, *map(len, tables)])
        table = pa.concat_tables(tables).combine_chunks()
        self.ids: list[str] = table["id"].to_pylist()
        self.row_of = {id_: row for row, id_ in enumerate(self.ids)}
        self._begins = np.cumsum([0, *table["scores"].combine_chunks().value_lengths().to_pylist()])
        self._boxes, self._scores = (np.asarray(table[name].combine_chunks().flatten()) for name in ("boxes", "scores"))
        coded = table["tags"].combine_chunks().flatten().dictionary_encode()  # millions of tags, of few kinds
        self._names, number = np.unique(np.asarray(coded.dictionary.to_pylist(), np.str_), return_inverse=True)
        self._tags = number[np.asarray(coded.indices)]
        counts = np.bincount(self._tags, minlength=len(self._names))
        self.counts = {name: count for name, count in zip(self._names.tolist(), counts.tolist(), strict=True) if name}
        self.names = list(self.counts)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Regions]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, row: int) -> Regions:
        row = range(len(self))[row]  # from the end, too
        begin, end = self._begins[row], self._begins[row + 1]
        shard = int(np.searchsorted(self._first_rows, row, "right")) - 1
        before = self._begins[self._first_rows[shard]]
        vectors = _read_vectors(shard_path(self.path, shard), begin - before, end - before, self.width)
        tags = self._names[self._tags[begin:end]].tolist()
        return Regions(self._boxes.reshape(-1, 4)[begin:end], vectors, tags, self._scores[begin:end])

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Rows of pictures, int64 (N,); raises `DataError` naming the first that is not there, and how many."""
        ids = list(ids)
        if missing := [id_ for id_ in ids if id_ not in self.row_of]:
            raise DataError(
                f"{len(missing)} of {len(ids)} pictures have no regions in {self.path} (first: {missing[0]!r}); "
                "make the regions of all pictures, or leave these out"
            )
        return np.array([self.row_of[id_] for id_ in ids], dtype=np.int64)


def write_regions(
    parts: Iterable[Callable[[], Part]], out: Path | str, *, width: int, config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None, max_skipped: float = 0.1, overwrite: bool = False, resume: bool = False,
) -> RegionStore:  # fmt: skip
    """Write a store, shard by shard.

    Args:
        parts: What makes each shard; it is called only for those that are missing.
        out: Folder of the store. Its report: `pictures`, `regions`, `regions_per_picture`, how many pictures are
            `without_regions`, and what was `skipped`.
        width: F.
        config: Settings that the regions follow from.
        inputs: Digests of what they are made of.
        max_skipped: Share of pictures that may be left out.
        overwrite: Replace what is in the folder.
        resume: Go on with an unfinished job in the folder.

    Raises:
        ArtifactError: If the folder cannot be begun or written.
        DataError: If too many pictures are left out, or all, or one is there twice.
        ShapeError: If vectors, boxes, tags and scores of a picture do not fit each other, or `width`.
    """
    config = {"width": width, **(config or {})}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return RegionStore(artifact.path)
    digests, lengths, seen = list[str](), list[int](), set[str]()
    skipped, skipped_boxes = Skipped(), Skipped()
    for index, make in enumerate(parts):
        path = shard_path(artifact.path, index)
        if not path.exists():
            part = _checked(make(), width)
            with writing(path):
                _write_part(part, path, width)
        digests += [digest_file(path.with_suffix(".safetensors")), digest_file(path)]
        table = _read_table(path)
        if double := next((id_ for id_ in table["id"].to_pylist() if id_ in seen or seen.add(id_)), None):  # type: ignore[func-returns-value]
            raise DataError(f"{double!r} is there twice; give each picture once")
        lengths += table["scores"].combine_chunks().value_lengths().to_pylist()
        for total, part in zip((skipped, skipped_boxes), json.loads(table.schema.metadata[_SKIPPED]), strict=True):
            total.merge(Skipped.from_report(part))
    skipped.check(len(lengths) + skipped.count, max_skipped, "pictures")
    if not lengths:
        raise DataError(f"there is no picture to take regions of{'; ' * bool(skipped.count)}{skipped.summary()}")
    artifact.finish({
        "pictures": len(lengths), "regions": sum(lengths), "regions_per_picture": sum(lengths) / len(lengths),
        "without_regions": lengths.count(0), "skipped": skipped.report(), "skipped_boxes": skipped_boxes.report(),
        "shards": len(digests) // 2, "digests": digests,
    })  # fmt: skip
    return RegionStore(artifact.path)


def best_boxes(found: Detections, most: int, where: str, skipped: Skipped) -> tuple[Detections, np.ndarray]:
    """The boxes of highest score, cut off at the edges of the picture; of equal ones those that come first.

    Args:
        found: Boxes of any kind of float, perhaps beyond the picture.
        most: How many to keep.
        where: The picture.
        skipped: Told of boxes of which nothing is within it.

    Returns:
        At most `most` boxes, and which of those given they are, int64 (R,).
    """
    boxes = np.asarray(found.boxes, np.float32).reshape(-1, 4)
    clipped = boxes.clip(0, 1)
    within = np.all(clipped[:, 2:] > clipped[:, :2], axis=1) & np.isfinite(boxes).all(axis=1)
    for _ in range(int((~within).sum())):
        skipped.add("box with no area within the picture", where)
    scores = np.asarray(found.scores, np.float32)
    rows = np.argsort(-scores, kind="stable")
    rows = rows[within[rows]][:most]
    return Detections(clipped[rows], [found.tags[row] for row in rows], scores[rows]), rows


def shard_path(folder: Path, index: int) -> Path:
    """Where the boxes and tags of a shard lie; its vectors lie beside them."""
    return folder / f"shard-{index:05d}.parquet"


def _checked(part: Part, width: int) -> Part:
    for id_, (boxes, vectors, tags, scores) in zip(part.ids, part.regions, strict=True):
        found, expected = (boxes.shape, vectors.shape, scores.shape), ((len(tags), 4), (len(tags), width), (len(tags),))
        if found != expected:
            raise ShapeError(f"regions of {id_}: boxes, vectors and scores are {found}, expected {expected}")
    return part


def _write_part(part: Part, path: Path, width: int) -> None:
    """The vectors first: where the Parquet file is, the shard is whole."""
    vectors = np.concatenate([np.zeros((0, width), np.float32), *(r.vectors for r in part.regions)], dtype=np.float32)
    write_atomic(path.with_suffix(".safetensors"), safetensors.numpy.save({"vectors": vectors}))
    columns = {
        "id": pa.array(part.ids, pa.string()),
        "boxes": pa.array([r.boxes.ravel() for r in part.regions], pa.list_(pa.float32())),
        "tags": pa.array([list(r.tags) for r in part.regions], pa.list_(pa.string())),
        "scores": pa.array([r.scores for r in part.regions], pa.list_(pa.float32())),
    }
    left_out = json.dumps([part.skipped.report(), part.skipped_boxes.report()])
    file = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({_SKIPPED: left_out}), file, compression="zstd")
    write_atomic(path, file.getvalue().to_pybytes())


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its folder again") from error


def _read_vectors(shard: Path, begin: int, end: int, width: int) -> np.ndarray:
    """Opened anew each time, 0.2 ms, so that a store can be handed to other processes."""
    if begin == end or not width:
        return np.zeros((end - begin, width), np.float32)  # safetensors takes no slice of nothing
    path = shard.with_suffix(".safetensors")
    try:
        with safetensors.safe_open(path, "np") as file:
            return file.get_slice("vectors")[begin:end]
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its folder again") from error
