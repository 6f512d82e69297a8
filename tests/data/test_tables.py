"""Files of labelled examples: every format gives the same records, and a fault is named by its line."""

import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.data.tables import Layout, Table, read_records
from sightread.errors import DataError

RECORDS = [
    {"sentence": 'He said "no", twice.', "label": "1"},
    {"sentence": "Ünï — çödé, with commas", "label": "0"},
]


def as_tsv(records):
    return "\n".join("\t".join(row) for row in [records[0].keys(), *(r.values() for r in records)]) + "\n"


def as_csv(records):
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_jsonl(records):
    return "".join(json.dumps(record) + "\n" for record in records)


FORMATS = {"tsv": as_tsv, "csv": as_csv, "jsonl": as_jsonl, "json": json.dumps}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_records(suffix, packed, tmp_path):
    data = FORMATS[suffix](RECORDS).encode()
    path = tmp_path / (f"x.{suffix}" + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert [dict(record) for _, record in read_records(path)] == RECORDS


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1), min_size=1, max_size=5))
def test_quoted_cells_may_hold_anything(texts):
    import tempfile
    from pathlib import Path

    texts = [text.replace("\r", " ").replace("\0", " ").replace("\ufeff", " ") for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_text(as_csv([{"sentence": text, "label": "0"} for text in texts]), newline="")
        assert [record["sentence"] for _, record in read_records(path)] == texts


def test_a_record_of_several_lines_is_named_by_its_first(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('sentence,label\n"one\ntwo\nthree",0\nfour,1\n')
    assert [where.rpartition(":")[2] for where, _ in read_records(path)] == ["2", "5"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "a\tb\n1\t2\n3\n", r"x\.tsv:3 has 1 columns, its header 2"),
        ("x.csv", "a,b\n1,2\n3,4,5\n", r"x\.csv:3 has 3 columns, its header 2"),
        ("x.csv", 'a,b\n1,2\n"open,4\n', r"x\.csv:3 is no CSV"),
        ("x.jsonl", '{"a": 1}\n{"a": \n', r"x\.jsonl:2 is no JSON"),
        ("x.jsonl", "[1]\n", r"x\.jsonl:1: expected a JSON object"),
        ("x.json", '[\n{"a" 1}]', r"x\.json:2 is no JSON"),
        ("x.json", '{"a": 1}', "expected a list of objects"),
        ("x.tsv", b"a\tb\n\xff\t1\n", r"1 lines of .* not UTF-8.*x\.tsv:2.*; save it as UTF-8$"),
    ],
)
def test_faults_are_named_by_line(name, text, message, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_records(tmp_path / name)


def test_a_file_without_header_has_as_many_columns_as_it_should(tmp_path):
    (tmp_path / "x.tsv").write_text("gj04\t1\t\tFine.\ngj04\t0\n")
    with pytest.raises(DataError, match=r"x\.tsv:2 has 2 columns, expected 4"):
        read_records(tmp_path / "x.tsv", header=("source", "label", "mark", "sentence"))


def test_one_part_of_a_json_file(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"one": [{"a": 1}], "two": [{"a": 2}, {"a": 3}]}))
    assert [record["a"] for _, record in read_records(tmp_path / "x.json", part="two")] == [2, 3]
    with pytest.raises(DataError, match="no part 'three'; it has one, two"):
        read_records(tmp_path / "x.json", part="three")


@pytest.fixture
def table(tmp_path):
    """A data set of one piece: 200 contexts with two records each."""
    rows = [{"context": f"context {i // 2}", "label": str(i % 2)} for i in range(400)]
    (tmp_path / "all.csv").write_text(as_csv(rows))
    layout = Layout(columns=("context",), files={"all": ("all.csv",)}, carve="all")
    return Table(layout, tmp_path, "whole")


def test_carving_is_a_partition_that_keeps_contexts_together(table):
    assert table.splits() == ["train", "dev", "test"]
    parts = {split: table.load(split) for split in table.splits()}
    contexts = {split: {record["context"] for _, record in rows} for split, rows in parts.items()}
    assert sum(map(len, parts.values())) == 400
    assert sum(map(len, contexts.values())) == 200  # no context in two parts
    assert 0.7 < len(parts["train"]) / 400 < 0.9
    assert min(len(parts["dev"]), len(parts["test"])) > 20
    assert table.load("dev") == parts["dev"]


def test_patterns_find_files_and_the_exact_name_comes_first(tmp_path):
    layout = Layout(columns=("a",), files={"dev": ("dev.tsv", "dev*.tsv"), "train": ("train.tsv",)})
    (tmp_path / "dev-sub.tsv").write_text("a\tlabel\n2\t0\n")
    table = Table(layout, tmp_path, "t")
    assert table.splits() == ["dev"]
    assert table.load("dev")[0][1]["a"] == "2"
    (tmp_path / "dev.tsv").write_text("a\tlabel\n1\t0\n")
    assert table.load("dev")[0][1]["a"] == "1"
    with pytest.raises(DataError, match=r"t: no train\.tsv in"):
        table.load("train")


def test_missing_columns_are_named(tmp_path):
    (tmp_path / "train.tsv").write_text("a\tb\n1\t0\n")
    with pytest.raises(DataError, match="has columns a, b; no text, label"):
        Table(Layout(columns=("text",)), tmp_path, "t").load("train")
