import json
from collections import namedtuple

import pytest
from scipy import stats

from scores_folders import write_scores
from sightread.analysis.gain import as_dicts, as_markdown, draw, gain_of, text_ratio
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
    assert "| nli | 6 | 0.403 | +0.0000 | – | – |" in as_markdown([same])
    assert json.loads(json.dumps(as_dicts([same])))["nli"]["gains"] == [0.0] * 6


def test_it_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    control = runs(tmp_path, "control", {0: [0, 0, 1, 0, 1, 1], 1: [0, 1, 1, 0, 1, 0]})
    encoder = runs(tmp_path, "encoder", {0: [1, 1, 1, 0, 0, 1], 1: [1, 0, 1, 1, 1, 0]})
    svg, _ = draw([gain_of(encoder, control, TEXTS, TYPES)], tmp_path / "gain")
    assert ">grounding ratio of the task<" in svg.read_text()
