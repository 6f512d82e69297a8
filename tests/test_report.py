"""A comparison for every reader: the same numbers everywhere, each format sound, no number that does not exist."""

import csv
import io
import json
import re
from dataclasses import astuple

import pytest

from scores_folders import METRIC, write_all, write_meagre
from sightread.compare import compare_runs
from sightread.report import (
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    as_summary_csv,
    as_text,
    line,
    write_comparison,
)
from sightread.runs import read_runs

WRITERS = (as_text, as_markdown, as_latex, as_csv, as_summary_csv, as_json)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    return compare_runs(read_runs(write_all(tmp_path_factory.mktemp("scores"), num_rows=120)), num=200)


@pytest.fixture(scope="module")
def meagre(tmp_path_factory):
    return compare_runs(read_runs(write_meagre(tmp_path_factory.mktemp("scores"))), num=50)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("which", ["compared", "meagre"])
def test_nothing_is_shown_that_is_no_number(write, which, request):
    assert not re.search(r"\b(nan|NaN|None|inf)\b", write(request.getfixturevalue(which)))


def test_a_line_says_what_the_cell_holds(compared):
    cell = compared.cells["grounded", "nli"]
    found = line(cell)
    assert float(found.mean) == pytest.approx(cell.summary.mean, abs=5e-4)
    assert float(found.median) == pytest.approx(cell.summary.median, abs=5e-4)
    assert found.interval == f"[{cell.summary.low:.3f}, {cell.summary.high:.3f}]"
    assert found.difference == f"+{cell.difference.mean:.3f}"
    assert (found.seeds, found.verdict) == ("5", "better")
    worse = line(compared.cells["random", "similarity"])
    assert worse.difference.startswith("−")
    assert line(compared.cells["random", "nli"]).mean.endswith("†")
    assert set(astuple(line(compared.cells["text-only", "nli"]))[5:]) == {"–", ""}


@pytest.mark.parametrize("write", [as_text, as_markdown])
def test_every_table_holds_every_line_and_note(compared, write):
    seen = write(compared).replace("\\", "")
    for cell in compared.cells.values():
        for entry in astuple(line(cell)):
            assert entry in seen
    for note in compared.notes():
        assert note in seen


def test_text_is_aligned(compared):
    blocks = as_text(compared).split("\n\n")
    assert [block.split(":")[0] for block in blocks[:-1]] == sorted(METRIC)
    assert blocks[0].splitlines()[0] == "nli: accuracy, 120 rows"
    for block in blocks[:-1]:
        header, *lines = block.splitlines()[1:]
        ends = [match.end() for match in re.finditer(r"\S+( \S+)*", header)][1:]
        assert len(lines) == 3
        for one in lines:
            assert all(end == len(one) or one[end : end + 1] in ("", " ") for end in ends), one


def test_markdown_is_one_table(compared, meagre):
    for which in (compared, meagre):
        rows = [re.split(r"(?<!\\)\|", row) for row in as_markdown(which).splitlines() if row.startswith("|")]
        assert len(rows) == 2 + len(which.cells)
        assert {len(row) for row in rows} == {14}
    assert r"\<b>R&D\_100%\</b> \| #1 \\~^{x}" in as_markdown(meagre)


def test_latex_is_balanced_and_escaped(compared, meagre):
    for which in (compared, meagre):
        body = as_latex(which)
        bare = re.sub(r"\\[&%$#_{}\\]", "", body)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        rows = [row for row in bare.splitlines() if "&" in row]
        assert len(rows) == 1 + len(which.cells)
        assert {row.count("&") for row in rows} == {10}
        assert body.isascii()
        assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    name = r"$<$b$>$R\&D\_100\%$<$/b$>$ \textbar{} \#1 \textbackslash{}\textasciitilde{}\textasciicircum{}\{x\}"
    assert name in as_latex(meagre)


def test_csv_is_tidy(compared):
    rows = list(csv.DictReader(io.StringIO(as_csv(compared))))
    main = [row for row in rows if row["is_main"] == "1"]
    assert len(main) == 3 * 3 * 5
    for row in rows:
        cell = compared.cells[row["encoder"], row["task"]]
        assert float(row["value"]) == cell.runs.scores[int(row["seed"])][row["score"]]
    assert [(row["encoder"], row["task"], row["seed"]) for row in main if row["diverged"]] == [("random", "nli", "3")]


def test_summaries_agree_in_csv_and_json(compared, meagre):
    for which in (compared, meagre):
        rows = list(csv.DictReader(io.StringIO(as_summary_csv(which))))
        read = json.loads(as_json(which), parse_constant=pytest.fail)
        assert len(rows) == len(read["results"]) == len(which.cells)
        for row, result, cell in zip(rows, read["results"], which.cells.values(), strict=True):
            assert {name: "" if result[name] is None else str(result[name]) for name in row} == row
            assert result["mean"] == cell.summary.mean
            assert result["p_holm"] == cell.adjusted
            assert list(result["scores"].values()) == list(cell.runs.scores.values())
        assert (read["control"], read["notes"]) == (which.arms[0], which.notes())


def test_everything_is_written(compared, tmp_path):
    paths = write_comparison(tmp_path / "new" / "folder", compared)
    assert sorted(path.name for path in paths) == [
        "comparison-summary.csv", "comparison.csv", "comparison.json", "comparison.md", "comparison.tex"
    ]  # fmt: skip
    assert all(path.read_text().endswith(("\n", "}")) for path in paths)
