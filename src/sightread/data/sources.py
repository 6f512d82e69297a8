"""Opening what users point at: text files (plain or gzip) and Hugging Face data sets (saved, or `hf:name`)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

from sightread.data.skipped import Skipped
from sightread.errors import DataError

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked if it ends in `.gz`."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def bytes_read(file: IO[bytes]) -> int:
    """How many of its bytes on disk have been read of a file that `open_bytes` opened."""
    return (file.fileobj if isinstance(file, gzip.GzipFile) else file).tell()


def decoded_lines(
    path: Path, skipped: Skipped, opened: Callable[[IO[bytes]], object] = id
) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line, without its line end; lines that are not UTF-8 are skipped.

    Args:
        path: The file.
        skipped: Told of lines that are left out.
        opened: Given the open file, for `bytes_read`.

    Raises:
        DataError: If a gzip file is broken.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            opened(file)
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    skipped.add("not UTF-8", f"{path}:{number}")
    except BROKEN_GZIP as error:
        raise DataError(f"{path} is a broken gzip file after line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read after line {number}: {error.strerror or error}") from error


def is_dataset(source: Path | str) -> bool:
    """Whether this is `hf:name` or a folder saved by `datasets`."""
    names = ("state.json", "dataset_dict.json")
    return str(source).startswith("hf:") or any((Path(source) / name).is_file() for name in names)


def load_dataset(source: Path | str, split: str, columns: Collection[str]) -> Any:
    """One split of a data set, saved by `datasets` or named `hf:name` or `hf:name:config`.

    Raises:
        DataError: If it cannot be loaded, or lacks the split or a column. A single saved data set is split "train".
    """
    import datasets

    try:
        if str(source).startswith("hf:"):
            loaded = datasets.load_dataset(*str(source)[3:].split(":"), split=split)
        else:
            loaded = datasets.load_from_disk(str(source))
    except Exception as error:  # of the network, of the file system, of arrow: whatever it is, the user must know where
        raise DataError(f"{source} cannot be loaded: {error}") from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    if not str(source).startswith("hf:"):
        if split not in splits:
            raise DataError(f"{source} has no split {split!r}; it has {', '.join(splits)}")
        loaded = splits[split]
    missing = [column for column in columns if column not in loaded.column_names]
    if missing:
        raise DataError(f"{source} has columns {', '.join(loaded.column_names)}; no {', '.join(map(repr, missing))}")
    return loaded
