"""Answers of two encoders: matched by question, judged by value or by rank, sorted by difference."""

import shutil

import pytest

from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.web.probed import PAGE, compared, read_answers
from web_exhibit import ANSWERS, write_probe

COLOURS = "colours, accuracy"


@pytest.fixture
def folder(tmp_path):
    for encoder, answers in ANSWERS.items():
        write_probe(tmp_path, encoder, answers)
    return tmp_path


def test_folders_of_any_depth_are_read(folder):
    answers = read_answers([str(folder)])
    assert answers == read_answers([str(folder / "grounded"), str(folder / "plain" / "colours")])
    assert read_answers([f"a={folder / 'plain'}"]) == {"a": answers["plain"]}
    score = answers["plain"][COLOURS]
    assert (score.value, score.low, score.high, len(score.answers)) == (0.5, 0.25, 0.75, 3)


def test_rows_are_those_of_both_and_those_that_differ_come_first(folder):
    answers = read_answers([str(folder)])
    found = compared(answers, "plain", "grounded", COLOURS, "all", 0)
    assert [(row["item"], row["better"], row["said"], row["gold"]) for row in found["rows"]] == [
        ("rose", "second", ["blue", "red"], "red"), ("snow", "first", ["white", "black"], "white"),
        ("sky", "equal", ["blue", "blue"], "blue"),
    ]  # fmt: skip
    assert found["counts"] == {"all": 3, "first": 1, "second": 1, "equal": 1}
    assert [row["item"] for row in compared(answers, "plain", "grounded", COLOURS, "second", 0)["rows"]] == ["rose"]
    assert compared(answers, "plain", "grounded", COLOURS, "all", 2)["rows"] == found["rows"][2:]


def test_one_question_asked_twice_is_two(tmp_path):
    write_probe(tmp_path, "a", [("x", "1", "1", 1.0), ("x", "2", "1", 0.0)] * 40)
    write_probe(tmp_path, "b", [("x", "2", "1", 0.0), ("x", "1", "1", 1.0)] * 30)
    found = compared(read_answers([str(tmp_path)]), "a", "b", COLOURS, "all", 0)
    assert found["counts"] == {"all": 60, "first": 30, "second": 30, "equal": 0}
    assert len(found["rows"]) == PAGE


def test_numbers_are_judged_by_their_ranks(tmp_path):
    write_probe(tmp_path, "a", [("x", 0.1, 5.0), ("y", 0.2, 7.0), ("z", 0.9, 9.0), ("w", 0.3, 8.0)])
    write_probe(tmp_path, "b", [("x", 80.0, 5.0), ("y", 60.0, 7.0), ("z", 70.0, 9.0), ("w", 50.0, 8.0)])
    found = compared(read_answers([str(tmp_path)]), "a", "b", COLOURS, "all", 0)
    # ranks of a as the gold's, 1 2 4 3; of b 4 2 3 1
    gains = {row["item"]: row["gain"] for row in found["rows"]}
    assert gains == pytest.approx({"x": 3 / 4, "y": 0, "z": 1 / 4, "w": 2 / 4})
    assert [row["item"] for row in found["rows"]] == ["x", "w", "z", "y"]


def test_what_is_no_probe_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="no finished probe in"):
        read_answers([str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match=r"two answers of 'plain'.*label=folder"):
        read_answers([str(folder), str(folder / "plain")])
    with pytest.raises(DataError, match="have not both answered 'sizes'"):
        compared(read_answers([str(folder)]), "plain", "grounded", "sizes", "all", 0)
    for damage in ("torn", '{"score": "accuracy", "item": "x"}\n'):
        (folder / "plain/colours/answers.jsonl").write_text(damage)
        with pytest.raises(ArtifactError, match=r"damaged.*probe again"):
            read_answers([str(folder)])
    shutil.rmtree(folder / "plain")
    (folder / "grounded/colours/manifest.json").write_text("{}")
    with pytest.raises(ArtifactError):
        read_answers([str(folder)])
