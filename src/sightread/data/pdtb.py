"""The Penn Discourse Treebank 2.0 as the LDC ships it: implicit relations and their second-level sense.

The release has one `.pipe` file a Wall Street Journal article in folders `00` to `24`, each line a relation of 48
columns. As in Ji & Eisenstein (2015) sections 2-20 are for training, 0-1 dev, 21-22 test, and the eleven senses with
more than a handful of examples are kept; a relation annotated with another sense, or with the first level alone, is
left out.
"""

from __future__ import annotations

from pathlib import Path

from sightread.data.tables import Rows, text_lines
from sightread.errors import DataError

SENSES = (
    "Comparison.Concession", "Comparison.Contrast", "Contingency.Cause", "Contingency.Pragmatic cause",
    "Expansion.Alternative", "Expansion.Conjunction", "Expansion.Instantiation", "Expansion.List",
    "Expansion.Restatement", "Temporal.Asynchronous", "Temporal.Synchrony",
)  # fmt: skip
_SECTIONS = {"train": range(2, 21), "dev": range(2), "test": range(21, 23)}
FILES = {split: tuple(f"{section:02}/*.pipe" for section in sections) for split, sections in _SECTIONS.items()}
_NUM_COLUMNS, _TYPE, _SENSE, _ARG1, _ARG2 = 48, 0, 11, 24, 34


def read_pdtb(path: Path) -> Rows:
    """Implicit relations of a file: `arg1`, `arg2`, `sense`; raises `DataError` naming a line not of the format."""
    rows: Rows = []
    for where, line in text_lines(path):
        cells = line.split("|")
        if line and len(cells) != _NUM_COLUMNS:
            raise DataError(f"{where} has {len(cells)} columns, expected {_NUM_COLUMNS} separated by |")
        sense = ".".join(cells[_SENSE].split(".")[:2]) if line else ""
        if sense in SENSES and cells[_TYPE] == "Implicit":
            rows.append((where, {"arg1": cells[_ARG1], "arg2": cells[_ARG2], "sense": sense}))
    return rows
