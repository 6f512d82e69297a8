"""Intervals over seeds: against values from a table of Student's t, and by their coverage."""

import math

import numpy as np
import pytest

from sightread.errors import ConfigError
from sightread.statistics import paired_difference, summarize

T_975 = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216}  # by degrees of freedom, from a printed table
T_95 = {1: 6.31375, 2: 2.91999, 3: 2.35336, 4: 2.13185, 9: 1.83311}


@pytest.mark.parametrize(("level", "table"), [(0.95, T_975), (0.90, T_95)])
@pytest.mark.parametrize(
    "scores", [[0.2, 0.5], [1.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0], [0.61, 0.64, 0.59, 0.7, 0.66], list(range(10))]
)
def test_t_interval_by_hand(scores, level, table):
    n = len(scores)
    mean = sum(scores) / n
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / (n - 1))
    half = table[n - 1] * deviation / math.sqrt(n)
    found = summarize(scores, level)
    assert found.scores == tuple(scores)
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("scores", "median"), [([3, 1, 2], 2), ([4, 1, 3, 2], 2.5), ([0, 0, 0, 9], 0)])
def test_median(scores, median):
    assert summarize(scores).median == median


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.7, 0.05, size=(2000, 4))
    covered = [found.low <= 0.7 <= found.high for found in map(summarize, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_paired_difference_is_taken_seed_by_seed():
    scores, control = [0.5, 0.7, 0.9], [0.4, 0.6, 0.8]
    found = paired_difference(scores, control)
    assert found.scores == pytest.approx((0.1, 0.1, 0.1))
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))  # though the two overlap unpaired
    assert summarize(scores).low < summarize(control).high
    assert paired_difference([1, 5], [2, 2]).scores == (-1, 3)


def test_one_score_has_no_interval():
    found = summarize([0.5])
    assert (found.mean, found.median) == (0.5, 0.5)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_scores_have_an_interval_of_no_width():
    found = summarize([0.5, 0.5, 0.5])
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
    assert str(found) == "0.500 [0.500, 0.500]"


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda: summarize([]), "no scores"), (lambda: paired_difference([1, 2], [1]), "2 scores .* paired with 1")],
)
def test_what_cannot_be_summarised(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
