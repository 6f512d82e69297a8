"""The table and the report: right numbers, sound HTML, nothing from outside."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image

from sightread.analysis.strips import StripToken
from sightread.compare import Column, Comparison, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert('arm')</script>"
COLUMNS = (Column("color", 1 / 6), Column("shape", 1 / 4))


@pytest.fixture
def comparison():
    scores = {
        "text-only": {"color": [0.10, 0.20, 0.30], "shape": [0.5, 0.5, 0.5]},
        "grounded": {"color": [0.80, 0.85, 0.90], "shape": [0.4, 0.5, 0.6]},
        HOSTILE: {"color": [0.20, 0.90, 0.40], "shape": [0.2, 0.2, 0.2]},
    }
    return Comparison(COLUMNS, (0, 1, 2), scores)


@pytest.fixture
def page(comparison, tmp_path):
    tokens = [StripToken("<b>dog", [Image.new("RGB", (96, 96), "red")], [0.5], ["dog.png"])]
    path = write_report(
        tmp_path / "report.html", comparison, title="A & B", verdict="grounded < oracle", explanation="How.",
        strips=[tokens, tokens], strips_explanation="What.", facts={"processor": "<fast>", "cores": "2"},
    )  # fmt: skip
    return path.read_text()


class Page(HTMLParser):
    """Checks that tags nest, and keeps what a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_table_holds_the_numbers(comparison):
    header, control, grounded, *_, chance = comparison.table().splitlines()
    assert header.split() == ["encoder", "color", "shape"]
    # half of the interval is t(2) * deviation / sqrt(3): 4.30265 * 0.1 / 1.73205 and a half of it
    assert control.split("  ")[0] == "text-only"
    assert control.split()[1:] == ["0.20", "[-0.05,0.45]", "0.50", "[0.50,0.50]"]
    assert grounded.split()[1:] == ["0.85", "[0.73,0.97]", "0.50", "[0.25,0.75]"]
    assert chance.split() == ["chance", "0.17", "0.25"]
    assert chance.index("0.17") == grounded.index("0.85"), "chance stands below the means"


def test_apart_means_above_and_clear(comparison):
    assert comparison.control == "text-only"
    assert comparison.apart("grounded", "color")
    assert not comparison.apart("grounded", "shape")  # equal means
    assert not comparison.apart(HOSTILE, "color")  # its mean is above, its interval is not
    assert not comparison.apart(HOSTILE, "shape")  # apart, but below


def test_json_holds_scores_summaries_and_differences(comparison):
    found = json.loads(comparison.to_json())
    assert found["seeds"] == [0, 1, 2]
    assert found["chance"] == {"color": 1 / 6, "shape": 0.25}
    cell = found["arms"]["grounded"]["color"]
    assert cell["scores"] == [0.8, 0.85, 0.9]
    assert cell["mean"] == pytest.approx(0.85)
    assert cell["difference"]["scores"] == pytest.approx([0.7, 0.65, 0.6])
    assert set(found["arms"]["text-only"]["shape"]["difference"]["scores"]) == {0}


def test_report_nests_and_says_everything(page):
    read = Page(page)
    for said in ("A & B", "grounded < oracle", "How.", "What.", "<b>dog", "<fast>", "0.85", "[0.73, 0.97]", "+0.65"):
        assert said in read.texts, said
    assert read.tags.count("svg") == len(COLUMNS)
    assert read.tags.count("img") == 2


def test_report_takes_nothing_from_outside(page):
    assert "http" not in page
    assert "link" not in Page(page).tags
    sources = [value for name, value in Page(page).attributes if name in {"src", "href"}]
    assert sources
    assert all(value.startswith("data:image/") for value in sources)


def test_report_escapes_hostile_names(page):
    read = Page(page)
    assert "script" not in read.tags
    assert HOSTILE in read.texts
    assert "&lt;script&gt;" in page


def test_plot_draws_every_seed_at_its_score(page):
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL)[0])
    dots = [float(dot.get("cx")) for dot in svg.iter("circle") if dot.get("r") == "3"]
    ticks = {text.text: float(text.get("x")) for text in svg.iter("text")}
    left, width = ticks["0.0"], ticks["1.0"] - ticks["0.0"]
    expected = [0.10, 0.20, 0.30, 0.80, 0.85, 0.90, 0.20, 0.90, 0.40]
    assert dots == pytest.approx([left + width * score for score in expected], abs=0.06)
    assert ticks["chance"] == pytest.approx(left + width / 6, abs=0.06)
