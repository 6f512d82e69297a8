"""The Penn Discourse Treebank, in files made up after the LDC's format."""

import pytest

from sightread.errors import DataError
from sightread.tasks.classification import Classification


def line(kind="Implicit", sense="Contingency.Cause.Reason", arg1="It rained", arg2="the street was wet"):
    cells = [""] * 48
    cells[0], cells[11], cells[24], cells[34] = kind, sense, arg1, arg2
    return "|".join(cells)


@pytest.fixture
def release(tmp_path):
    def write(section, name, *lines):
        (tmp_path / section).mkdir(exist_ok=True)
        (tmp_path / section / f"{name}.pipe").write_text("".join(text + "\n" for text in lines))

    write("02", "wsj_0201", line(), line("Explicit"), line(sense="Expansion.Conjunction"))
    write("20", "wsj_2001", line(sense="Comparison.Contrast.Juxtaposition", arg1="He sang", arg2="she slept"))
    write("00", "wsj_0001", line(sense="Temporal"), line(sense="Temporal.Synchrony"))
    write("21", "wsj_2100", line("EntRel", sense=""), line())
    write("23", "wsj_2300", line())
    return write


def test_implicit_relations_by_section_and_second_level(release, tmp_path):
    task = Classification("pdtb", tmp_path)
    assert task.splits() == ["train", "dev", "test"]
    gold = {split: [row.gold for row in task.load(split)] for split in task.splits()}
    assert gold == {
        "train": ["Contingency.Cause", "Expansion.Conjunction", "Comparison.Contrast"],
        "dev": ["Temporal.Synchrony"],
        "test": ["Contingency.Cause"],
    }
    assert task.load("train")[2].inputs == ("He sang", "she slept")
    assert len(task.labels) == 11


def test_a_broken_line_is_named(release, tmp_path):
    release("03", "wsj_0301", line(), "Implicit|too|short")
    with pytest.raises(DataError, match=r"wsj_0301\.pipe:2 has 3 columns, expected 48"):
        Classification("pdtb", tmp_path).load("train")


def test_no_release(tmp_path):
    with pytest.raises(DataError, match=r"pdtb: no 02/\*\.pipe or"):
        Classification("pdtb", tmp_path).load("train")
