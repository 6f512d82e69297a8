"""Files of labelled examples: TSV, CSV, JSONL and JSON, plain or gzip, or a data set of the Hub. One record a row.

A `Layout` says where a data set keeps what; reading it gives `Record`s, each with the place it came from, so that a
fault downstream can name file and line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from sightread.config import check_choice
from sightread.contracts import Row
from sightread.data.skipped import Skipped
from sightread.data.sources import decoded_lines, is_dataset, load_dataset
from sightread.errors import ConfigError, DataError

LayoutT = TypeVar("LayoutT", bound="Layout")
Rows = list[tuple[str, Mapping[str, Any]]]
"""Where each record stands ("file:line") and what it holds, by column."""

CARVED = {"train": 0.8, "dev": 0.1, "test": 0.1}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a data set is laid out.

    Attributes:
        columns: Columns that every record has.
        label: Column of the label, which a test split may lack.
        files: File names to look for, by split; patterns such as `dev*.json` are allowed and `.gz` is tried too.
        header: Names of the columns of files without a header line; none to take the first line.
        part: In a JSON file of several data sets, the key of this one.
        reader: Reads a file of a format of its own.
        many: Whether a split is all the files that match, and not the first of them.
        split_column: Column that names the split of each record, where one file holds all.
        carve: Split that is cut into train, dev and test, for data sets that come in one piece.
        hub_splits: Names of the splits on the Hub; none for what is read from its official files only.
        hub_columns: Names of columns on the Hub, where they differ from those of the files.
    """

    columns: tuple[str, ...]
    label: str = "label"
    files: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
    )
    header: tuple[str, ...] = ()
    part: str = ""
    reader: Callable[[Path], Rows] | None = None
    many: bool = False
    split_column: str = ""
    carve: str = ""
    hub_splits: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"}
    )
    hub_columns: Mapping[str, str] = field(default_factory=dict)


class Table:
    """The splits of one data set.

    Args:
        layout: How it is laid out.
        source: A folder of official files, a data set saved by `datasets`, or `hf:` and a name.
        name: What to call it in errors.
    """

    def __init__(self, layout: Layout, source: Path | str, name: str) -> None:
        if not layout.hub_splits and is_dataset(source):
            raise ConfigError(f"{name} is read from its official files only; {source} is no folder of them")
        self.layout, self.source, self.name = layout, source, name

    def splits(self) -> list[str]:
        """The splits that are there, "train" first."""
        if self.layout.carve:
            return list(CARVED)
        if is_dataset(self.source):
            return [split for split in self.layout.hub_splits if self._on_hub(split)]
        return [split for split in self.layout.files if self._paths(split)]

    def load(self, split: str) -> Rows:
        """Records of a split; raises `DataError` naming file and line."""
        if self.layout.carve:
            return [row for row in self._load(self.layout.carve) if _carved(row[1], self.layout.columns) == split]
        return self._load(split)

    def _load(self, split: str) -> Rows:
        if is_dataset(self.source):
            return self._from_hub(split)
        layout = self.layout
        paths = self._paths(split)
        if not paths:
            raise DataError(f"{self.name}: no {' or '.join(layout.files.get(split, (split,)))} in {self.source}")
        read = layout.reader or partial(read_records, header=layout.header, part=layout.part)
        rows = [row for path in paths for row in read(path)]
        if layout.split_column:
            rows = [row for row in rows if row[1].get(layout.split_column, split) == split]
        if not rows:
            raise DataError(f"{paths[0]} is empty, or holds nothing of {split}")
        found = rows[0][1]
        missing = [column for column in (*layout.columns, layout.label) if column not in found]
        if missing and (missing != [layout.label] or split != "test"):
            raise DataError(f"{paths[0]} has columns {', '.join(found)}; no {', '.join(missing)}")
        return rows

    def _paths(self, split: str) -> list[Path]:
        patterns = [name + suffix for name in self.layout.files.get(split, ()) for suffix in ("", ".gz")]
        found = [path for pattern in patterns for path in sorted(Path(self.source).glob(pattern)) if path.is_file()]
        return found if self.layout.many else found[:1]

    def _from_hub(self, split: str) -> Rows:
        names = {
            column: self.layout.hub_columns.get(column, column) for column in (*self.layout.columns, self.layout.label)
        }
        dataset = load_dataset(self.source, self.layout.hub_splits.get(split, split), list(names.values()))
        return [
            (f"{self.source} {split} row {number}", {column: row[name] for column, name in names.items()})
            for number, row in enumerate(dataset)
        ]

    def hub_class_names(self) -> Sequence[str] | None:
        """Names of the classes, of a data set whose labels are numbers or lists of them; None of any other."""
        if not is_dataset(self.source):
            return None
        label = self.layout.hub_columns.get(self.layout.label, self.layout.label)
        split = self.layout.carve or next(iter(self.splits()), "train")
        feature = load_dataset(self.source, self.layout.hub_splits[split], [label]).features[label]
        return getattr(getattr(feature, "feature", feature), "names", None)

    def _on_hub(self, split: str) -> bool:
        try:
            return bool(load_dataset(self.source, self.layout.hub_splits[split], []))
        except DataError:
            return False


class TableTask(Generic[LayoutT]):
    """What the tasks whose rows stand in tables share: where they are read from.

    Args:
        dataset: A key of `layouts`.
        source: A folder of official files, a saved data set, or `hf:` and a name.
        name: What to call it in tables of results, by default the key.
        carve: Cut this split into train, dev and test, where a data set has no training split here.

    Attributes:
        layouts: The data sets of this kind.
    """

    layouts: ClassVar[Mapping[str, Any]]

    def __init__(self, dataset: str, source: Path | str, *, name: str | None = None, carve: str = "") -> None:
        check_choice("data set", dataset, self.layouts)
        layout: LayoutT = self.layouts[dataset]
        self.layout = replace(layout, carve=carve or layout.carve)
        self.source, self.name = source, name or dataset
        self.table = Table(self.layout, source, self.name)

    def splits(self) -> list[str]:
        """The splits that are there."""
        return self.table.splits()

    def load(self, split: str) -> list[Row]:
        """Rows of a split; raises `DataError` naming file and line."""
        found = [(self.row(record, where), where) for where, record in self.table.load(split)]
        for row, where in found:
            if split == "train" and row and row.gold is None:
                raise DataError(f"{where} is for training and has no {self.layout.label}")
        return [row for row, _ in found if row]

    def row(self, record: Mapping[str, Any], where: str) -> Row | None:
        """A record as a row, or None to leave it out; raises `DataError` naming its place."""
        raise NotImplementedError


def read_records(path: Path, *, header: Sequence[str] = (), part: str = "", kind: str = "") -> Rows:
    """Records of one file, by its suffix: `.csv` (quoted), `.jsonl`, `.json`, anything else as unquoted TSV.

    Args:
        path: The file, perhaps `.gz`.
        header: Column names, if the file has no line of them.
        part: Key of the list in a JSON object.
        kind: What to read it as, whatever its suffix says.

    Raises:
        DataError: Naming the line that cannot be read.
    """
    kind = kind or path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "json":
        return _from_json(path, part)
    lines = text_lines(path)
    if kind == "jsonl":
        return [(where, _json(line, where)) for where, line in lines if line.strip()]
    cells = _csv_cells(path, lines) if kind == "csv" else [(where, line.split("\t")) for where, line in lines if line]
    names = list(header) or (cells.pop(0)[1] if cells else [])
    for where, row in cells:
        if len(row) != len(names):
            raise DataError(f"{where} has {len(row)} columns, {'expected' if header else 'its header'} {len(names)}")
    return [(where, dict(zip(names, row, strict=True))) for where, row in cells]


def text_lines(path: Path) -> list[tuple[str, str]]:
    """Every line with its place, "file:line"; raises `DataError` if one is not UTF-8."""
    skipped = Skipped()
    lines = [(f"{path}:{number}", line) for number, line in decoded_lines(path, skipped)]
    if skipped.count:
        raise DataError(f"{skipped.count} lines of {path} cannot be read: {skipped.summary()}; save it as UTF-8")
    return lines


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `DataError` naming the line of a fault."""
    text = "\n".join(line for _, line in text_lines(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is no JSON: {error.msg}") from error


def _from_json(path: Path, part: str) -> Rows:
    content = read_json(path)
    if part and (not isinstance(content, dict) or part not in content):
        known = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path} has no part {part!r}; it has {known}")
    rows = content[part] if part else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected a list of objects")
    return [(f"{path} item {number} of {part or 'the list'}", row) for number, row in enumerate(rows)]


def _json(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is no JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object")
    return row


def _csv_cells(path: Path, lines: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO("\n".join(line for _, line in lines), newline=""), strict=True)
    return list(_numbered(path, reader))


def _numbered(path: Path, reader: Any) -> Iterator[tuple[str, list[str]]]:
    begin = 1  # a quoted cell may hold line ends, so a record is named by the line it begins in
    try:
        for cells in reader:
            if cells:
                yield f"{path}:{begin}", cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begin} is no CSV: {error}") from error


def _carved(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The split of a record, by a hash of its first column, so that what shares it (a context) stays together."""
    place = int.from_bytes(hashlib.sha256(str(row[columns[0]]).encode()).digest()[:8]) / 2**64
    bounds = [(split, sum(list(CARVED.values())[: i + 1])) for i, split in enumerate(CARVED)]
    return next((split for split, bound in bounds if place < bound), "test")
