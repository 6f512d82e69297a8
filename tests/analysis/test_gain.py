import json
from collections import namedtuple

import pytest
from scipy import stats

from scores_folders import write_scores
from sightread.analysis.gain import _credit, as_dicts, as_markdown, draw, gain_of, text_ratio
from sightread.errors import DataError
from sightread.runs import read_runs

TYPES = {"dog", "red"}
TEXTS = ["a red dog", "the dog", "nothing", "red red dog", "so it is", "a dog or not"]
GOLD = ["a", "b", "a", "b", "a", "b"]
WRONG = {"a": "b", "b": "a"}


def runs(folder, name, right, metric="classification", gold=GOLD, seeds=(0, 1)):
    """Runs that answer rightly where `right`, by seed, says so."""
    wrong = [WRONG[g] if isinstance(g, str) else g + 1.0 for g in gold]
    answers = {seed: [(g if ok else w, g) for g, w, ok in zip(gold, wrong, right[seed], strict=True)] for seed in seeds}
    write_scores(folder / name, task="nli", metric=metric, encoder=f"runs/{name}/encoder", answers=answers)
    return read_runs([folder / name])[0]


@pytest.mark.parametrize(
    ("inputs", "ratio"),
    [
        ("a Red dog.", 2 / 3), (("a dog", "red"), 2 / 3), ("", 0), ({"question": "dog?", "ids": [3]}, 1),
        (namedtuple("Pair", "text other")("red", ("dog", "a")), 2 / 3), (["..."], 0),
    ],
)  # fmt: skip
def test_a_ratio_is_of_the_words_of_all_that_is_read(inputs, ratio):
    assert text_ratio(inputs, TYPES) == pytest.approx(ratio)


def test_gains_are_the_means_over_common_seeds(tmp_path):
    control = runs(tmp_path, "control", {0: [0, 0, 1, 0, 1, 1], 1: [0, 1, 1, 0, 1, 0], 2: [1] * 6}, seeds=(0, 1, 2))
    encoder = runs(tmp_path, "encoder", {0: [1, 1, 1, 0, 0, 1], 1: [1, 0, 1, 1, 1, 0]})
    found = gain_of(encoder, control, TEXTS, TYPES)
    assert found.gains.tolist() == [1, 0, 0, 0.5, -0.5, 0]
    assert found.ratios == pytest.approx([2 / 3, 1 / 2, 0, 1, 0, 1 / 4])
    assert found.score == pytest.approx(found.gains.mean())
    assert found.spearman == pytest.approx(stats.spearmanr(found.ratios, found.gains).statistic)
    assert found.interval[0] <= found.spearman <= found.interval[1]
    with pytest.raises(DataError, match="5 rows with gold"):
        gain_of(encoder, control, TEXTS[:5], TYPES)


def test_numbers_gain_by_coming_nearer(tmp_path):
    gold = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]
    control = runs(tmp_path, "control", {0: [0] * 6}, "correlation", gold, seeds=(0,))
    encoder = runs(tmp_path, "encoder", {0: [1, 1, 0, 0, 0, 0]}, "correlation", gold, seeds=(0,))
    assert gain_of(encoder, control, TEXTS, TYPES).gains.tolist() == [1, 1, 0, 0, 0, 0]


def test_what_does_not_vary_has_no_correlation(tmp_path):
    control = runs(tmp_path, "control", {0: [1] * 6, 1: [1] * 6})
    same = gain_of(control, control, TEXTS, TYPES)
    assert (same.spearman, same.interval) == (None, None)
    other = runs(tmp_path, "other", {7: [1] * 6}, seeds=(7,))
    with pytest.raises(DataError, match="no seed in common"):
        gain_of(other, control, TEXTS, TYPES)
    assert "| nli | 6 | 0.403 | – (0) | – (0) | +0.0000 | – | – |" in as_markdown([same])
    assert json.loads(json.dumps(as_dicts([same])))["nli"]["gains"] == [0.0] * 6


def test_what_is_answered_better_and_worse_is_listed(tmp_path):
    control = runs(tmp_path, "control", {0: [0, 0, 1, 0, 1, 1], 1: [0, 1, 1, 0, 1, 0]})
    encoder = runs(tmp_path, "encoder", {0: [1, 1, 1, 0, 0, 1], 1: [1, 0, 1, 1, 1, 0]})
    found = gain_of(encoder, control, TEXTS, TYPES)
    told = as_dicts([found])["nli"]
    assert [(item["text"], item["gain"]) for item in told["improved"]] == [("a red dog", 1.0), ("red red dog", 0.5)]
    assert told["worsened"] == [{"text": "so it is", "gain": -0.5, "ratio": 0.0}]
    assert "| nli | 6 | 0.403 | 0.833 (2) | 0.000 (1) |" in as_markdown([found])


@pytest.mark.parametrize(
    ("metric", "gold", "guesses", "credit"),
    [
        ("choice", [0, 3], [0, 0], [1, 0]), ("span", [["Rome", "in Rome"], ["a dog"]], ["in Rome", "dog"], [1, 1]),
        ("span", [["Rome"], ["two cats"]], ["Paris", "two dogs"], [0, 0.5]),
        ("paraphrase", ["1", "0"], ["1", "1"], [1, 0]), ("correlation", [1.0, 5.0], [2.5, 5.0], [-1.5, 0]),
    ],
)  # fmt: skip
def test_every_kind_of_answer_is_worth_what_its_task_says(metric, gold, guesses, credit, tmp_path):
    answers = {0: list(zip(guesses, gold, strict=True))}
    write_scores(tmp_path / "some", task="nli", metric=metric, encoder="e", answers=answers)
    assert _credit(read_runs([tmp_path / "some"])[0], 0).tolist() == credit


def test_it_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    control = runs(tmp_path, "control", {0: [0, 0, 1, 0, 1, 1], 1: [0, 1, 1, 0, 1, 0]})
    encoder = runs(tmp_path, "encoder", {0: [1, 1, 1, 0, 0, 1], 1: [1, 0, 1, 1, 1, 0]})
    svg, _ = draw([gain_of(encoder, control, TEXTS, TYPES)], tmp_path / "gain")
    assert ">grounding ratio of the task<" in svg.read_text()
