"""The files of the probes, below one data folder; each probe says itself which it misses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightread.data.tables import Rows, read_records
from sightread.errors import DataError

NORMS = "lexicons/brysbaert_concreteness.tsv"


class MissingData(DataError):
    """A probe's file that is not there: the probe is skipped and named."""


def find(data: Path, name: str) -> Path:
    """The file `name` below `data`, plain or gzip; raises `MissingData` if there is neither."""
    for path in (data / name, data / f"{name}.gz"):
        if path.is_file():
            return path
    raise MissingData(f"no {name} in {data}")


def records(data: Path, name: str) -> Rows:
    """Records of the file `name` below `data`, each with its place; raises `DataError` if there are none."""
    path = find(data, name)
    if not (rows := read_records(path)):
        raise DataError(f"{path} is empty")
    return rows


def texts_of(where: str, row: Mapping[str, Any], *columns: str) -> list[str]:
    """Columns of a record that must hold text; raises `DataError` naming the line."""
    bad = [column for column in columns if not isinstance(row.get(column), str) or not row[column].strip()]
    if bad:
        raise DataError(f"{where} has no text in {', '.join(bad)}; its fields are {', '.join(row)}")
    return [row[column] for column in columns]


def number_of(where: str, text: Any) -> float:
    """A finite number; raises `DataError` naming the line."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{where} has {text!r} where a number is expected")
    return value


class Norm(NamedTuple):
    """What is known of a word: mean concreteness rating, 1 to 5, and its count in SUBTLEX, film subtitles."""

    concreteness: float
    occurrences: float


def read_norms(data: Path) -> dict[str, Norm]:
    """The single words of Brysbaert et al. (2014), lower-cased."""
    columns = ("Word", "Bigram", "Conc.M", "SUBTLEX")
    cells = [(where, texts_of(where, row, *columns)) for where, row in records(data, NORMS)]
    return {
        word.lower(): Norm(number_of(where, rating), number_of(where, count))
        for where, (word, bigram, rating, count) in cells
        if bigram == "0"
    }


def log_frequency(norms: Mapping[str, Norm], text: str) -> float:
    """Log of 1 + the count of a text's rarest word; NaN if a word is not in the list."""
    counts = [norms[word].occurrences if word in norms else np.nan for word in text.lower().split()]
    return float(np.log1p(np.min(counts)))
