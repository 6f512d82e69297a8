"""Comparisons on the page: the numbers of every other table, drawn where they are, and names that do no harm."""

import re
from dataclasses import astuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages import Page
from scores_folders import HOSTILE, write_all, write_meagre
from sightread.artifacts import Artifact
from sightread.compare import Column, Comparison, compare_runs
from sightread.pages.page import write_page
from sightread.report import line
from sightread.runs import read_runs
from sightread.templates.panels import Bar, panel, round_ticks

COLUMNS = (Column("color", 1 / 6), Column("shape", 1 / 4))


def page_of(places, folder):
    """The comparison of some scores folders, and its page."""
    compared = compare_runs(read_runs(places), num=200)
    return compared, write_page(list(map(str, places)), folder / "page.html", tasks=compared).read_text()


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return page_of(write_all(tmp_path_factory.mktemp("scores"), num_rows=120), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def meagre(tmp_path_factory):
    return page_of(write_meagre(tmp_path_factory.mktemp("scores")), tmp_path_factory.mktemp("page"))


def plots(page):
    return [ElementTree.fromstring(svg) for svg in re.findall(r'<svg viewBox="0 0 760.*?</svg>', page, re.DOTALL)]


@pytest.mark.parametrize("which", ["full", "meagre"])
def test_the_page_holds_every_line_and_note(which, request):
    compared, page = request.getfixturevalue(which)
    read = Page(page)
    seen = " ".join(read.texts)
    for cell in compared.cells.values():
        assert all(entry in seen for entry in astuple(line(cell)))
        assert cell.runs.encoder in seen
    assert all(note in seen for note in [*compared.notes(), *compared.verdicts()])
    assert len(plots(page)) == len(compared.columns)
    assert not re.search(r"\b(nan|NaN|None|inf)\b", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
    assert "http" not in page
    assert not {"script", "link", "img"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name in {"src", "href"}]


def test_hostile_names_are_text(meagre):
    _, page = meagre
    assert HOSTILE in Page(page).texts
    assert "<b>R" not in page


def test_scores_and_differences_are_drawn_where_they_are(full):
    compared, page = full
    svg = plots(page)[compared.columns.index("nli")]
    ticks = [
        (float(t.get("x")), float(t.text.replace("−", "-"))) for t in svg.iter("text") if re.match(r"[−\d]", t.text)
    ]
    cells = compared.column("nli")
    scores, differences = [], []
    for left, found in ((0, scores), (500, differences)):
        (x0, first), *_, (x1, last) = [tick for tick in ticks if left <= tick[0] < left + 490]
        for circle in svg.iter("circle"):
            x = float(circle.get("cx"))
            if x0 - 1 <= x <= x1 + 1:
                found.append((circle.get("r"), first + (x - x0) * (last - first) / (x1 - x0)))
    small = [value for radius, value in scores if radius == "3"]
    assert small == pytest.approx([score for cell in cells for score in cell.summary.scores], abs=2e-3)
    assert [v for r, v in scores if r == "6"] == pytest.approx([cell.summary.mean for cell in cells], abs=2e-3)
    assert [v for _, v in differences] == pytest.approx([cell.difference.mean for cell in cells[1:]], abs=2e-3)


def world_page(comparison, folder):
    """The page of a finished comparison on worlds."""
    told = {"verdict": "grounded < oracle", "title": "A & B", "explanation": "How.", "table": "not shown"}
    Artifact.begin(folder / "demo", "comparison").finish(told)
    (folder / "demo" / "results.json").write_text(comparison.to_json())
    return write_page([str(folder / "demo")], folder / "page.html").read_text()


def test_worlds_are_shown_with_every_seed(tmp_path):
    scores = {
        "text-only": {"color": [0.10, 0.20, 0.30], "shape": [0.5, 0.5, 0.5]},
        "grounded": {"color": [0.80, 0.85, 0.90], "shape": [0.4, 0.5, 0.6]},
        HOSTILE: {"color": [0.20, 0.90, 0.40], "shape": [0.2, 0.2, 0.2]},
    }
    page = world_page(Comparison(COLUMNS, (0, 1, 2), scores, {HOSTILE: "grounded"}), tmp_path)
    texts = Page(page).texts
    for said in ("A & B", "grounded < oracle", "How.", "0.85", "[0.73, 0.97]", "+0.65", f"{HOSTILE} − grounded"):
        assert said in texts, said
    assert not {f"{HOSTILE} − text-only", "not shown"} & set(texts)
    colour, _ = plots(page)
    dots = [float(dot.get("cx")) for dot in colour.iter("circle") if dot.get("r") == "3"]
    ticks = {text.text: float(text.get("x")) for text in colour.iter("text")}
    left, width = ticks["0.0"], ticks["1.0"] - ticks["0.0"]
    expected = [score for found in scores.values() for score in found["color"]]
    assert dots == pytest.approx([left + width * score for score in expected], abs=0.06)
    assert ticks["chance"] == pytest.approx(left + width / 6, abs=0.06)


def test_a_single_seed_has_no_interval_and_says_so(tmp_path):
    scores = {"text-only": {"color": [0.1], "shape": [0.5]}, "x": {"color": [0.9], "shape": [0.5]}}
    assert "a single seed has none" in world_page(Comparison(COLUMNS, (0,), scores), tmp_path)


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_ticks_are_few_round_and_hold_all(low, span):
    ticks = round_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= low + span - 1e-6
    assert float(f"{step:.0e}"[0]) in (1, 2, 5)


def test_a_panel_of_one_value_has_an_axis():
    drawn = panel([Bar("x", 0, [0.5], 0.5, None, None), None], left=100, width=200, reference=None)
    assert drawn["bars"][0]["mean"] == 200
    assert drawn["bars"][0]["ends"] is None
    assert len(drawn["bars"]) == 1
