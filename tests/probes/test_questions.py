"""Official files, made up: what is read from them, and what is said of broken ones."""

import json

import numpy as np
import pytest
from made_up import COLORS, THINGS, write_jsonl, write_lines, write_probe_data

from sightread.errors import DataError
from sightread.probes.files import MissingData, log_frequency, read_norms
from sightread.probes.questions import QUESTION_SETS, SIZE_PROMPTS
from sightread.runtime import data_root


@pytest.fixture
def data(tmp_path):
    return write_probe_data(tmp_path)


def test_memory_colors(data):
    asked = QUESTION_SETS["memory_colors"](data)
    first, second = asked.questions[:2]
    assert (first.subject, first.choices[first.answer]) == ("frog", "green")
    assert first.choices == tuple(sorted(set(THINGS.values())))
    assert first.clozes[2] == ("The color of frog is [Y].", first.choices)
    assert second.clozes[2].prompt == "The color of a coal is [Y]."
    assert asked.priors == {"majority": dict.fromkeys(THINGS.values(), 1)}


def test_coda_averages_the_annotations_that_are_included(data):
    asked = QUESTION_SETS["coda"](data)
    frog, coal = asked.questions[:2]
    shares = dict(zip(coal.choices, coal.distribution, strict=True))
    assert shares["black"] == pytest.approx((4 / 14 + 2 / 12) / 2)  # the third annotator is left out
    assert shares["pink"] == pytest.approx((1 / 14 + 1 / 12) / 2)
    assert coal.choices[coal.answer] == "black"
    assert (frog.subject, coal.subject) == ("frogs", "coals")
    prompts = [cloze.prompt for cloze in coal.clozes]
    assert prompts[0] == "Most coals are [Y]."
    assert prompts[-1] == "This coal is [Y]."
    assert len(frog.clozes) == len(coal.clozes) - 1  # it has no singular
    assert asked.priors["mean distribution"]["green"] == pytest.approx(
        np.mean([q.distribution[4] for q in asked.questions])
    )


def test_vicomte_counts_are_in_alphabetical_order_of_the_values(data):
    asked = QUESTION_SETS["vicomte_color"](data)
    frog, coal = asked.questions[:2]
    assert frog.choices == ("black", "green", "red", "white")
    assert frog.distribution == pytest.approx(np.array([0, 9, 2, 3]) / 14)
    assert (frog.answer, coal.answer) == (1, 0)
    assert [cloze.prompt for cloze in frog.clozes] == ["frog is [Y] .", "[Y] frog ."]


def test_vicomte_pairs_have_the_right_one_first_and_the_prior_of_train(data):
    asked = QUESTION_SETS["vicomte_size_larger"](data)
    [question, _] = asked.questions
    assert (question.subject, question.choices, question.answer) == ("frog", ("straw", "brick"), 0)
    assert question.clozes[0].prompt == "frog is larger than [Y] ."
    assert asked.priors == {"majority": {"straw": 1, "flour": 1}}
    assert not asked.sayable


def test_sizes_are_asked_both_ways_round(data):
    questions = QUESTION_SETS["relative_size"](data).questions
    assert [question.choices for question in questions] == [("plum", "straw"), ("brick", "plum"), ("frog", "flour")]
    assert questions[0].clozes[:2] == (
        ("The plum is [Y] than the straw.", ("larger", "smaller")),
        ("The straw is [Y] than the plum.", ("smaller", "larger")),
    )
    assert len(questions[0].clozes) == 2 * len(SIZE_PROMPTS)


def test_shapes_take_the_prompts_of_the_authors(data):
    asked = QUESTION_SETS["shape_association_adj"](data)
    plum, star = asked.questions
    assert (plum.choices, plum.answer, star.answer) == (("triangular", "circular"), 1, 0)
    assert [cloze.prompt for cloze in star.clozes] == ["a [Y] sea star", "sea stars are [Y]"]


def test_frequencies_are_those_of_the_rarest_word(data):
    norms = read_norms(data)
    assert "ice age" not in norms  # a bigram
    assert log_frequency(norms, "Coal") == pytest.approx(np.log(12))
    assert log_frequency(norms, "coal frog") == pytest.approx(np.log(2))
    assert np.isnan(log_frequency(norms, "coal mine"))


@pytest.mark.parametrize("name", QUESTION_SETS)
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(MissingData, match=rf"no probes/\w+.* in {tmp_path}"):
        QUESTION_SETS[name](tmp_path)


BROKEN = {
    "memory_colors": ("memory_colors.jsonl", '{"item": "frog"}', r"jsonl:1 has no text in label; its fields are item"),
    "vicomte_color": ("vicomte/db/color/test.jsonl", "{'sub'", r"test.jsonl:1 is no JSON"),
    "vicomte_shape": (
        "vicomte/db/shape/test.jsonl",
        '{"sub": "frog", "obj": "bent"}',
        r"test.jsonl:1 has the value 'bent', which is not in .*shape-words.txt",
    ),
    "vicomte_material": (
        "vicomte/db/material/test.jsonl",
        '{"sub": "moth", "obj": "clay"}',
        r"material-dist.jsonl.gz:1 has None for 'moth', expected 2 counts",
    ),
    "vicomte_cooccur": ("vicomte/prompts/cooccur.jsonl", "[]", r"cooccur.jsonl:1: expected a JSON object"),
    "relative_size": ("relative_size_pairs.txt", "brick the plum", r"pairs.txt:1 has 3 words, expected two"),
    "shape_association": (
        "isbertblind/shape_association.csv",
        "word,gt,options\nplum,round,\"['circle']\"",
        r"csv:2 has the answer 'round', which is none of its options",
    ),
    "shape_association_adj": ("isbertblind/shapes_adj.json", "[]", r"shapes_adj.json has no prompts"),
    "vicomte_size_larger": ("vicomte/db/size_larger/train.jsonl", "", r"train.jsonl is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_named(name, data):
    file, content, message = BROKEN[name]
    write_lines(data / "probes" / file, content)
    with pytest.raises(DataError, match=message):
        QUESTION_SETS[name](data)


def test_what_coda_cannot_be_is_named(data):
    folder = data / "probes/coda"
    thing = {"class_id": "/m/0", "object_s": None, "object_pl": None}
    write_jsonl(folder / "objects.jsonl", [thing])
    with pytest.raises(DataError, match=r"objects.jsonl:1 has neither object_pl nor object_s"):
        QUESTION_SETS["coda"](data)
    write_jsonl(folder / "objects.jsonl", [thing | {"class_id": "/m/99"}])
    with pytest.raises(DataError, match=r"objects.jsonl:1: /m/99 has no annotation that is included"):
        QUESTION_SETS["coda"](data)
    annotation = {"class_id": "/m/0", "included": True} | dict.fromkeys(COLORS, 0)
    write_jsonl(folder / "annotations.jsonl", [annotation | {"red": "much"}])
    with pytest.raises(DataError, match=r"annotations.jsonl:1 has 'much' where a number is expected"):
        QUESTION_SETS["coda"](data)
    write_jsonl(folder / "annotations.jsonl", [annotation])
    with pytest.raises(DataError, match=r"annotations.jsonl:1 has weights that sum to 0, expected more"):
        QUESTION_SETS["coda"](data)


@pytest.mark.parametrize("name", ["relative_size", "memory_colors"])
def test_an_empty_file_is_named(name, data):
    file = {"relative_size": "relative_size_pairs.txt", "memory_colors": "memory_colors.jsonl"}[name]
    (data / "probes" / file).write_text("")
    with pytest.raises(DataError, match=f"{file} is empty"):
        QUESTION_SETS[name](data)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "questions", "choices"),
    [
        ("memory_colors", 109, 11), ("coda", 521, 11), ("vicomte_color", 574, 12), ("vicomte_shape", 140, 12),
        ("vicomte_material", 284, 18), ("vicomte_cooccur", 420, 2), ("vicomte_size_larger", 200, 2),
        ("vicomte_size_smaller", 200, 2), ("relative_size", 486, 2), ("shape_association", 109, 3),
        ("shape_association_adj", 109, 3),
    ],
)  # fmt: skip
def test_official_files(name, questions, choices):
    asked = QUESTION_SETS[name](data_root() / "data").questions
    assert len(asked) == questions
    assert {len(question.choices) for question in asked} == {choices}
    assert all(cloze.prompt.count("[Y]") == 1 for question in asked for cloze in question.clozes)
    assert json.dumps([question.distribution for question in asked]).count("NaN") == 0
