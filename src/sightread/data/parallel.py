"""Parallel text: sentences and their translations. A data set is a row of `PARALLEL_SETS`.

Read from a folder of line-aligned files, `<name>.<language>` or `<name>.<language>.gz`, as Multi30k and WMT come; from
a data set saved by `datasets`; or from the Hub (`hf:name`), with WMT's column `translation` or one column a language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sightread.config import check_choice
from sightread.contracts import Row
from sightread.data.skipped import Skipped
from sightread.data.sources import is_dataset, load_dataset
from sightread.data.tables import text_lines
from sightread.errors import DataError

_HUB_SPLITS = {"dev": "validation"}
_Side = list[tuple[str, str]]  # where each line of one language stands, and the line


@dataclass(frozen=True, kw_only=True)
class ParallelSet:
    """How a data set is laid out.

    Attributes:
        languages: Source and target language, the suffixes of its files.
        files: Name of each split's files, without the language; "test" is the split that papers report first.
    """

    languages: tuple[str, str]
    files: Mapping[str, str]


PARALLEL_SETS = {
    "multi30k": ParallelSet(
        languages=("en", "de"),
        files={
            "train": "train", "dev": "val", "test": "test_2016_flickr", "test_2017_flickr": "test_2017_flickr",
            "test_2017_mscoco": "test_2017_mscoco", "test_2018_flickr": "test_2018_flickr",
        },
    ),
    "wmt14": ParallelSet(
        languages=("en", "de"), files={"train": "train", "dev": "newstest2013", "test": "newstest2014"}
    ),
    "wmt16": ParallelSet(
        languages=("en", "ro"), files={"train": "train", "dev": "newsdev2016", "test": "newstest2016"}
    ),
}  # fmt: skip


class ParallelText:
    """Sentences with their translations.

    Training pairs with an empty side are left out and counted. In a split that is scored they are an error, for scores
    must be over the same rows for everybody.

    Args:
        dataset: A key of `PARALLEL_SETS`.
        source: A folder of line-aligned files, a saved data set, or `hf:` and a name.
        languages: Source and target language, where they are not those of the table.
        max_train: Train on the first so many pairs only.
        max_skipped: Share of training pairs that may have an empty side.

    Attributes:
        name: The key and the languages, as in tables.
        skipped: What the last reading of the training pairs left out.
    """

    def __init__(
        self,
        dataset: str,
        source: Path | str,
        *,
        languages: tuple[str, str] | None = None,
        max_train: int | None = None,
        max_skipped: float = 0.1,
    ) -> None:
        check_choice("data set", dataset, PARALLEL_SETS)
        self.source, self.files = source, PARALLEL_SETS[dataset].files
        self.languages = languages or PARALLEL_SETS[dataset].languages
        self.name = "-".join((dataset, *self.languages))
        self.max_train, self.max_skipped = max_train, max_skipped
        self.skipped = Skipped()

    def splits(self) -> list[str]:
        """The splits that are there, "train" first."""
        if is_dataset(self.source):
            return [split for split in self.files if self._on_hub(split)]
        return [split for split in self.files if any(self._file(split, language) for language in self.languages)]

    def load(self, split: str) -> list[Row]:
        """The pairs of a split, a sentence as `inputs` and its translation as `gold`, without blanks at the ends.

        Raises:
            DataError: Naming file and line: a line that is not UTF-8, sides of different numbers of lines, an empty
                line in a split that is scored, too many of them in training.
        """
        sides = self._from_dataset(split) if is_dataset(self.source) else self._from_files(split)
        skipped, pairs = Skipped(), list[Row]()
        for lines in zip(*sides, strict=True):
            empty = [where for where, text in lines if not text.strip()]
            if empty and split != "train":
                raise DataError(f"{empty[0]} is empty; every line of {split} is scored, so give its text")
            if empty:
                skipped.add("empty line", empty[0])
            else:
                pairs.append(Row(*(text.strip() for _, text in lines)))
        if not pairs:
            raise DataError(f"{self.name}: {self.source} holds no pairs for {split}")
        if split != "train":
            return pairs
        skipped.check(len(sides[0]), self.max_skipped, f"training pairs of {self.source}", "mend them")
        self.skipped = skipped
        return pairs[: self.max_train]

    def _file(self, split: str, language: str) -> Path | None:
        names = [f"{self.files[split]}.{language}{suffix}" for suffix in ("", ".gz")]
        return next((path for name in names if (path := Path(self.source) / name).is_file()), None)

    def _from_files(self, split: str) -> tuple[_Side, _Side]:
        paths = [self._file(split, language) for language in self.languages]
        for path, language in zip(paths, self.languages, strict=True):
            if path is None:
                raise DataError(f"{self.name}: no {self.files[split]}.{language} (or .gz) in {self.source}")
        source, target = (text_lines(path) for path in paths if path)
        if len(source) != len(target):
            raise DataError(
                f"{paths[0]} has {len(source)} lines, {paths[1]} {len(target)}; line n of one must be the translation "
                "of line n of the other"
            )
        return source, target

    def _from_dataset(self, split: str) -> tuple[_Side, _Side]:
        rows = load_dataset(self.source, _HUB_SPLITS.get(split, split), []).flatten()
        nested = any(name.startswith("translation.") for name in rows.column_names)
        columns = [f"translation.{language}" if nested else language for language in self.languages]
        missing = [column for column in columns if column not in rows.column_names]
        if missing:
            raise DataError(f"{self.source} has columns {', '.join(rows.column_names)}; no {', '.join(missing)}")
        places = [f"{self.source} {split} row {number}" for number in range(len(rows))]
        source, target = ([*zip(places, (text or "" for text in rows[c]), strict=True)] for c in columns)
        return source, target

    def _on_hub(self, split: str) -> bool:
        try:
            return bool(load_dataset(self.source, _HUB_SPLITS.get(split, split), []))
        except DataError:
            return False
