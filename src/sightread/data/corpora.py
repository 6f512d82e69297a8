"""Plain text, read as a stream of lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from sightread.artifacts import digest, digest_file
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines, is_dataset, load_dataset
from sightread.errors import DataError

SUFFIXES = (".txt", ".txt.gz", ".text", ".raw")


class Corpus:
    """The non-blank lines of text files, a folder of them, or a Hugging Face data set.

    Iterating reads from the start; `skipped` then tells what the last pass left out.

    Args:
        source: A text file (`.gz` too), a folder of such files (sorted, recursive), a folder saved by `datasets`,
            or `hf:` and the name of a data set.
        text_column: Column of the text (data sets).
        split: Split of the data set.
        max_lines: Read no more than this many lines.
        max_skipped: Share of lines that may be undecodable.

    Raises:
        DataError: If there is nothing to read; while iterating, if too much is bad.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        text_column: str = "text",
        split: str = "train",
        max_lines: int | None = None,
        max_skipped: float = 0.1,
    ) -> None:
        self.source, self.max_lines, self.max_skipped = str(source), max_lines, max_skipped
        self.text_column, self.split = text_column, split
        self.skipped = Skipped()
        path = Path(source)
        self.files: list[Path] = []
        if is_dataset(source):
            return
        if path.is_dir():
            self.files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
        elif path.is_file():
            self.files = [path]
        if not self.files:
            raise DataError(f"no text at {path}: expected a file, or a folder of {', '.join(SUFFIXES)} files")

    def __iter__(self) -> Iterator[str]:
        self.skipped = Skipped()
        return itertools.islice(self._lines() if self.files else self._rows(), self.max_lines)

    @property
    def digest(self) -> str:
        """Digest of the text and of what is read of it."""
        if self.files:
            content = [digest_file(path) for path in self.files]
        else:
            content = [
                load_dataset(self.source, self.split, [self.text_column])._fingerprint,
                self.text_column,
                self.split,
            ]
        return digest(*content, str(self.max_lines))

    def _lines(self) -> Iterator[str]:
        total = 0
        for path in self.files:
            for _, line in decoded_lines(path, self.skipped):
                total += 1
                if line.strip():
                    yield line.strip()
        self.skipped.check(total + self.skipped.count, self.max_skipped, f"lines of {self.source}")

    def _rows(self) -> Iterator[str]:
        for row in load_dataset(self.source, self.split, [self.text_column]):
            yield from filter(None, map(str.strip, (row[self.text_column] or "").splitlines()))
