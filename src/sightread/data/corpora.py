"""Plain text, read as a stream of lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from sightread.artifacts import digest, digest_file, digest_folder
from sightread.data.skipped import Skipped
from sightread.data.sources import bytes_read, decoded_lines, is_dataset, load_dataset
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
        self.skipped, self._lines_read = Skipped(), 0
        self._file: IO[bytes] | None = None  # how far the present pass has got: bytes of files, or rows
        self._done, self._total = 0, 1
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
        self.skipped, self._lines_read = Skipped(), 0
        for line in itertools.islice(self._lines() if self.files else self._rows(), self.max_lines):
            self._lines_read += 1
            yield line
        if self.max_lines:  # which may have stopped before the end, where all is checked
            self.skipped.check(self._lines_read + self.skipped.count, self.max_skipped, f"lines of {self.source}")

    @property
    def share_read(self) -> float:
        """About what share of the corpus the present pass has read, 0 to 1."""
        within = bytes_read(self._file) if self._file and not self._file.closed else 0
        return max((self._done + within) / self._total, self._lines_read / self.max_lines if self.max_lines else 0.0)

    @property
    def digest(self) -> str:
        """Digest of the text and of what is read of it."""
        if self.files:
            content = [digest_file(path) for path in self.files]
        elif self.source.startswith("hf:"):
            content = [self._dataset()._fingerprint, self.text_column, self.split]
        else:  # the fingerprint of a saved one says how it was made, not what it holds
            content = [digest_folder(Path(self.source)), self.text_column, self.split]
        return digest(*content, str(self.max_lines))

    def _lines(self) -> Iterator[str]:
        total, self._done, self._total = 0, 0, max(sum(path.stat().st_size for path in self.files), 1)
        for path in self.files:
            for _, line in decoded_lines(path, self.skipped, partial(setattr, self, "_file")):
                total += 1
                if line.strip():
                    yield line.strip()
            self._done += path.stat().st_size
        self.skipped.check(total + self.skipped.count, self.max_skipped, f"lines of {self.source}")

    def _rows(self) -> Iterator[str]:
        rows = self._dataset().select_columns([self.text_column])
        self._total = len(rows)
        for self._done, row in enumerate(rows, start=1):
            text = row[self.text_column] or ""
            if not isinstance(text, str):
                raise DataError(f"column {self.text_column!r} of {self.source} holds {type(text).__name__}, not text")
            yield from filter(None, map(str.strip, text.split("\n")))

    def _dataset(self) -> Any:
        return load_dataset(self.source, self.split, [self.text_column])
