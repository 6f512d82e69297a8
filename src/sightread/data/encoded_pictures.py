"""Tasks about pictures: rows whose pictures have regions in a store, and their examples, texts beside regions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sightread.contracts import Batch, Row
from sightread.data.encoded import Encoded, encode_texts
from sightread.data.images import SUFFIXES
from sightread.data.regions import RegionStore
from sightread.data.seen_regions import SeenRegions
from sightread.data.skipped import Skipped
from sightread.data.tables import LayoutT, TableTask
from sightread.errors import DataError


class Pictured(NamedTuple):
    """What is read of a row: a text, and the names of the pictures that it is read beside, one after the other."""

    pictures: tuple[str, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """What is read of pictures.

    Attributes:
        most: Regions of a picture, at most.
        tags: Whether their tags are read.
    """

    most: int = 36
    tags: bool = True


class EncodedPictures:
    """Texts beside pictures, as `fit` takes them.

    A batch holds what `Encoded` makes of the texts, each repeated for its W pictures, what `SeenRegions` makes of
    these, and `labels`, one an example. Regions are read when a batch is made, and not before.

    Args:
        texts: The texts, one an example.
        seen: The regions of pictures.
        pictures: Rows of the store, W an example.
    """

    def __init__(self, texts: Encoded, seen: SeenRegions, pictures: Sequence[Sequence[int]]) -> None:
        self.texts, self.seen, self.pictures, self.ways = texts, seen, pictures, len(pictures[0])
        self.row_of, self.lengths, self.cut = texts.row_of, texts.lengths, texts.cut

    def __len__(self) -> int:
        return len(self.texts)

    def example(self, index: int, rng: np.random.Generator) -> tuple[int, Sequence[int]]:
        """Its number and its pictures; nothing is drawn."""
        return index, self.pictures[index]

    def collate(self, examples: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Pad to the longest text, the most regions and the most tags."""
        numbers, pictures = zip(*examples, strict=True)
        batch = self.texts.collate(numbers)
        beside = self.seen.collate([self.seen.of(row) for rows in pictures for row in rows])
        words = {name: value.repeat_interleave(len(pictures[0]), dim=0) for name, value in batch.items()}
        return {**words, **beside, "labels": batch["labels"]}


class PictureTask(TableTask[LayoutT]):
    """What the tasks about pictures share. A row whose picture is not in the store is left out.

    Args:
        dataset: A key of `layouts`.
        source: A folder of official files.
        regions: The regions of the pictures, or their folder.
        settings: What is read of them.
        **options: As of `TableTask`.

    Attributes:
        defaults: Settings of this kind of task.
        skipped: What was left out of each split that was loaded.
    """

    defaults: ClassVar[Any] = PictureSettings()

    def __init__(
        self, dataset: str, source: Path | str, *, regions: RegionStore | Path | str, settings: Any = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(dataset, source, **options)
        self.regions = regions if isinstance(regions, RegionStore) else RegionStore(regions)
        self.settings, self.skipped = settings or self.defaults, dict[str, Skipped]()
        self._row_of = rows_by_key(self.regions)

    def load(self, split: str) -> list[Row]:
        """Rows of a split.

        Raises:
            DataError: Naming file and line; or if not one of its pictures is in the store.
        """
        skipped, rows = Skipped(), list[Row]()
        for row in super().load(split):
            unknown = [name for name in row.inputs.pictures if picture_key(name) not in self._row_of]
            if unknown:
                skipped.add(f"rows of {split} whose picture has no regions", unknown[0])
            else:
                rows.append(row)
        self.skipped[split] = skipped
        if not rows:
            raise DataError(
                f"{self.name}: not one picture of {split} is in {self.regions.path} ({skipped.summary()}), where they "
                f"are called {self.regions.ids[0]} and the like; give the regions of its own pictures"
            )
        return rows

    def rows_of(self, row: Row) -> list[int]:
        """Rows of the store that the pictures of a row are."""
        return [self._row_of[picture_key(name)] for name in row.inputs.pictures]

    def see(self, tokenizer: Any) -> SeenRegions:
        """The regions as a model with this tokenizer reads them."""
        return SeenRegions(self.regions, tokenizer, most=self.settings.most, tags=self.settings.tags)

    def encode_beside(
        self, rows: Sequence[Row], tokenizer: Any, max_length: int, labels: Sequence[Any]
    ) -> EncodedPictures:
        """Rows as examples, each text beside its row's pictures."""
        texts = encode_texts(tokenizer, [(row.inputs.text,) for row in rows], labels, max_length)
        return EncodedPictures(texts, self.see(tokenizer), [self.rows_of(row) for row in rows])


def rows_by_key(store: RegionStore) -> dict[str, int]:
    """Rows of a store by `picture_key`; raises `DataError` where two pictures have one."""
    row_of = dict[str, int]()
    for row, id_ in enumerate(store.ids):
        if (other := row_of.setdefault(picture_key(id_), row)) != row:
            raise DataError(f"{store.path}: {store.ids[other]} and {id_} are one name, folders and zeros aside")
    return row_of


def picture_key(name: str) -> str:
    """What is left of a picture's name without folder, suffix, COCO's prefix and zeros: data sets differ in these."""
    path = PurePath(name)
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    number = re.fullmatch(r"(?:COCO_\w+_)?0*(\d+)", stem)
    return number[1] if number else stem
