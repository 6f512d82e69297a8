"""A model that knows agreement is right, an indifferent one at chance."""

import pytest
from made_up import THINGS, KnowingEncoder, PlantedEncoder, write_jsonl, write_probe_data

from sightread.errors import DataError
from sightread.probes.grammar import probe_grammar, read_pairs
from sightread.probes.results import ProbeConfig
from sightread.runtime import data_root

CONFIG = ProbeConfig(num_resamples=50)
LINES = ["the is are here", *THINGS]


@pytest.fixture
def data(tmp_path):
    return write_probe_data(tmp_path)


def test_a_model_that_knows_agreement_is_right(data):
    results = {result.score: result for result in probe_grammar(KnowingEncoder(LINES, {"here": "is"}), data, CONFIG)}
    assert {name: (r.value, r.items, r.detail) for name, r in results.items()} == {
        "accuracy": (1.0, 12, False),
        "accuracy morphology": (1.0, 6, False),
        "accuracy syntax_semantics": (1.0, 6, False),
        "accuracy agreement": (1.0, 6, True),
        "accuracy binding": (1.0, 6, True),
    }
    assert results["accuracy"].chance == 0.5
    assert results["accuracy"].answers[0] == {
        "item": "the frog is here", "against": "the frog are here", "value": 1.0
    }  # fmt: skip


def test_a_model_that_knows_it_the_wrong_way_round_is_wrong(data):
    assert probe_grammar(KnowingEncoder(LINES, {"here": "are"}), data, CONFIG)[0].value == 0.0


def test_indifference_is_chance(data):
    result = probe_grammar(KnowingEncoder(LINES, {}), data, CONFIG)[0]
    assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)


def test_without_a_head_it_says_so(data):
    [result] = probe_grammar(PlantedEncoder(len), data, CONFIG)
    assert (result.score, result.value, result.note) == ("accuracy", None, "no head")


def test_the_first_pairs_of_each_paradigm_are_taken(data):
    pairs = read_pairs(data, 2)
    assert [(pair.paradigm, pair.good) for pair in pairs] == [
        ("agreement", "the frog is here"), ("agreement", "the coal is here"),
        ("binding", "the frog is here"), ("binding", "the coal is here"),
    ]  # fmt: skip


def test_a_broken_line_is_named(tmp_path):
    row = {"sentence_good": "a", "sentence_bad": "b", "UID": "c"}
    write_jsonl(tmp_path / "probes/blimp_sample.jsonl", [row | {"field": "d"}, row])
    with pytest.raises(DataError, match="jsonl:2 has no text in field"):
        read_pairs(tmp_path, 9)


@pytest.mark.realdata
def test_the_official_file():
    pairs = read_pairs(data_root() / "data", 100)
    assert len(pairs) == 6700
    assert {pair.field for pair in pairs} == {"syntax", "semantics", "morphology", "syntax_semantics"}
