"""Intervals and tests: against tables, SciPy, the enumeration of all resamples, and by their coverage and size."""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sightread.errors import ConfigError
from sightread.metrics import METRICS, Metric
from sightread.statistics import (
    bootstrap_interval,
    holm,
    paired_bootstrap,
    paired_difference,
    permutation_test,
    rank_correlation,
    summarize,
)

CHOICE, PARAPHRASE, RANKS = METRICS["choice"], METRICS["paraphrase"], METRICS["rank_correlation"]
MEAN = Metric(  # a prediction is its own score
    main="mean",
    compute=lambda predictions, gold: {"mean": float(np.mean(predictions))},
    parts=lambda predictions, gold: np.stack([np.asarray(predictions), np.ones(len(gold))], axis=1),
    total=lambda sums: sums[..., 0] / sums[..., 1],
)

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
    assert found.std == pytest.approx(deviation)
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
    assert found.low is found.high is found.std is None
    assert str(found) == "0.500 [–: a single run]"


def test_equal_scores_have_an_interval_of_no_width():
    found = summarize([0.5, 0.5, 0.5])
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
    assert str(found) == "0.500 [0.500, 0.500]"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarize([]), "no scores"),
        (lambda: paired_difference([1, 2], [1]), "2 scores .* paired with 1"),
        (lambda: bootstrap_interval([0.5]), "at least 2, got 1"),
        (lambda: paired_bootstrap(CHOICE, [[1, 2]], [[1, 2], [1, 2]], [1, 2]), "1 and 2 runs on 2 rows"),
        (lambda: permutation_test(CHOICE, [[1, 2]], [[1]], [1, 2]), "1 and 1 runs on 2 rows"),
    ],
)
def test_what_cannot_be_summarised(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


# Bootstrap


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_bootstrap_interval_is_that_of_scipy(statistic):
    values = np.random.default_rng(1).exponential(size=60)
    theirs = stats.bootstrap((values,), statistic, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert bootstrap_interval(values, statistic=statistic, num=5000) == pytest.approx(theirs, abs=0.03)


def test_bootstrap_interval_of_three_items_by_enumeration():
    values = [0.0, 1.0, 5.0]
    means = sorted(np.mean(drawn) for drawn in product(values, repeat=3))
    found = bootstrap_interval(values, level=0.8)
    assert found == pytest.approx((means[2], means[-3]))  # 10 % and 90 % of 27 lie within the third from either end


def test_bootstrap_of_pairs_keeps_them_together():
    pairs = np.array([[x, 2 * x] for x in range(8)])
    low, high = bootstrap_interval(pairs, statistic=lambda drawn: stats.spearmanr(*drawn.T).statistic, num=50)
    assert (low, high) == pytest.approx((1, 1))


def enumerate_differences(metric, a, b, gold, level):
    """The difference in every resample of examples and of seeds, by the metric itself."""

    @cache
    def of_seeds(rows):
        answers = [gold[i] for i in rows]
        scores = [[metric.scores([run[i] for i in rows], answers)[metric.main] for run in runs] for runs in (a, b)]
        return np.subtract(*scores)

    stretch = stats.t.ppf((1 + level) / 2, len(a) - 1) / stats.norm.ppf((1 + level) / 2) if len(a) > 1 else 0
    for rows in product(range(len(gold)), repeat=len(gold)):
        found = of_seeds(tuple(sorted(rows)))
        for drawn in product(found, repeat=len(a) - 1):
            yield np.mean(found) + (stretch * (np.mean(drawn) - np.mean(found)) if drawn else 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("metric", "a", "b", "gold"),
    [
        (PARAPHRASE, ["1101", "1111", "0101"], ["0101", "1010", "0110"], "1101"),
        (CHOICE, ["abca"], ["abbb"], "abcc"),
        (RANKS, [[1, 2, 4, 3], [1, 3, 2, 4]], [[2, 1, 4, 3], [4, 3, 2, 1]], [1, 2, 3, 4]),
    ],
)
def test_paired_bootstrap_by_enumeration(metric, a, b, gold):
    every = np.array(list(enumerate_differences(metric, a, b, gold, level=0.8)))
    found = paired_bootstrap(metric, a, b, gold, level=0.8)
    means = [np.mean([metric.scores(run, gold)[metric.main] for run in runs]) for runs in (a, b)]
    assert found.mean == pytest.approx(means[0] - means[1])
    assert np.mean(every <= found.low + 1e-9) >= 0.07
    assert np.mean(every < found.low - 1e-9) <= 0.13
    assert np.mean(every >= found.high - 1e-9) >= 0.07
    assert np.mean(every > found.high + 1e-9) <= 0.13
    assert found.p == pytest.approx(min(1, 2 * min(np.mean(every <= 1e-12), np.mean(every >= -1e-12))), abs=0.05)


def test_paired_bootstrap_of_one_seed_is_that_of_scipy():
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 2, 80)
    a, b = (np.where(rng.random(80) < share, gold, 1 - gold) for share in (0.8, 0.65))
    hits = (a == gold).astype(float) - (b == gold)
    theirs = stats.bootstrap((hits,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    found = paired_bootstrap(CHOICE, [a.tolist()], [b.tolist()], gold.tolist(), num=5000)
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.02)
    assert found.mean == pytest.approx(hits.mean())


@pytest.mark.parametrize(("of_seeds", "of_rows"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.1)])
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_bootstrap_covers_the_difference(num_seeds, of_seeds, of_rows):
    """Whether most of the variance lies between seeds, between examples, or in both."""
    rng, covered, shape = np.random.default_rng(3), [], (num_seeds, 60)
    for i in range(400):
        noise = (
            of_seeds * rng.normal(size=(num_seeds, 1)) + of_rows * rng.normal(size=60) + 0.1 * rng.normal(size=shape)
        )
        found = paired_bootstrap(MEAN, (0.5 + noise).tolist(), np.zeros(shape).tolist(), [0] * 60, num=300, seed=i)
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


# Permutation


KNOWN = {}


def main_score(metric, run, gold):
    """By the metric itself; many swaps of a few rows leave the same."""
    key = str((metric, run, gold))
    return KNOWN[key] if key in KNOWN else KNOWN.setdefault(key, metric.scores(run, gold)[metric.main])


def brute_force_p(metric, a, b, gold):
    """Every swap of the answers to an example, by the metric itself."""
    found = []
    for swaps in product([False, True], repeat=len(gold)):
        mixed = [
            [
                [(x, y)[swap != other] for x, y, swap in zip(*runs, swaps, strict=True)]
                for runs in zip(a, b, strict=True)
            ]
            for other in (False, True)
        ]
        scores = [[main_score(metric, run, gold) for run in runs] for runs in mixed]
        found.append(np.mean(np.subtract(*scores)))
    return np.mean(np.abs(found) >= abs(found[0]) - 1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("metric", "a", "b", "gold"),
    [
        (PARAPHRASE, ["11010", "11110", "01011"], ["01011", "10100", "01101"], "11011"),
        (METRICS["cola"], ["110101", "111101"], ["000101", "010101"], "110101"),
        (METRICS["correlation"], [[1, 2, 4, 3, 9], [1, 3, 2, 4, 8]], [[2, 1, 4, 3, 7], [4, 3, 2, 1, 0]], range(5)),
        (RANKS, [[1, 2, 4, 3, 9], [1, 3, 2, 4, 9]], [[2, 1, 4, 3, 7], [4, 3, 2, 1, 0]], [1, 2, 3, 4, 5]),
        (METRICS["entities"], [[["B-A", "O"], ["B-B", "I-B"], ["O"]]], [[["O", "O"], ["B-B", "O"], ["B-A"]]],
         [["B-A", "O"], ["B-B", "I-B"], ["O"]]),
    ],
)  # fmt: skip
def test_permutation_test_by_brute_force(metric, a, b, gold):
    assert permutation_test(metric, a, b, gold) == pytest.approx(brute_force_p(metric, a, b, gold))


def test_permutation_test_of_one_seed_is_that_of_scipy():
    gold, a, b = "abcabcabcabc", "abcabcabcaba", "abcbbccbaaba"
    hits = [[float(x == g) for x, g in zip(run, gold, strict=True)] for run in (a, b)]
    theirs = stats.permutation_test(
        hits, lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_test(CHOICE, [a], [b], gold) == pytest.approx(theirs.pvalue)


def test_random_swaps_agree_with_all_and_never_give_0():
    gold = "1" * 12
    a, b = "111111111100", "000111011100"
    exact = permutation_test(CHOICE, [a], [b], gold)
    assert permutation_test(CHOICE, [a], [b], gold, num=15) == pytest.approx(exact, abs=0.3)
    for metric, right, wrong, truth in [
        (CHOICE, "1" * 30, "0" * 30, "1" * 30), (RANKS, list(range(30)), list(range(30, 0, -1)), list(range(30))),
    ]:  # fmt: skip
        assert permutation_test(metric, [right], [wrong], truth, num=400) == pytest.approx(1 / 401)


def test_the_size_of_the_permutation_test():
    """Equal encoders with runs that answer alike: p below 0.1 in about one of ten cases, however many the seeds."""
    rng, found = np.random.default_rng(4), []
    for _ in range(300):
        a, b = (np.repeat(rng.integers(0, 2, (1, 40)), 5, axis=0) for _ in range(2))
        found.append(permutation_test(CHOICE, a.tolist(), b.tolist(), [1] * 40, num=199))
    assert np.mean(np.array(found) <= 0.1) < 0.13
    assert np.mean(np.array(found) <= 0.5) > 0.35


RUNS = st.lists(st.tuples(*[st.sampled_from("01")] * 5), min_size=2, max_size=12)


@given(RUNS)
def test_exchanging_the_encoders_turns_the_difference_round(rows):
    gold, *runs = map("".join, zip(*rows, strict=True))
    a, b = runs[:2], runs[2:]
    forth = paired_bootstrap(PARAPHRASE, a, b, gold, num=50)
    back = paired_bootstrap(PARAPHRASE, b, a, gold, num=50)
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert forth.low - 1e-9 <= forth.high
    assert forth.p == back.p
    assert permutation_test(PARAPHRASE, a, b, gold) == permutation_test(PARAPHRASE, b, a, gold)


def test_equal_answers_differ_by_nothing():
    found = paired_bootstrap(CHOICE, ["ab", "ab"], ["ab", "ab"], "ac")
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert permutation_test(CHOICE, ["ab", "ab"], ["ab", "ab"], "ac") == 1


# Holm


def test_holm_by_hand():
    # sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1, each at least as large as the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1, p * len(p_values)) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values)
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_a_rank_correlation_is_scipys(pairs):
    values = np.array(pairs, dtype=np.float64)
    varies = np.ptp(values, axis=0).min() > 0
    assert rank_correlation(values) == pytest.approx(stats.spearmanr(*values.T).statistic if varies else 0.0)
