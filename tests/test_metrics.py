"""Scores against counts made by hand, the libraries against the sums that resampling uses."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sightread.errors import DataError
from sightread.metrics import METRICS, translation_signatures

BINARY = st.sampled_from(["0", "1"])
TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
TEXT = st.lists(st.sampled_from(["the", "red", "cat", "cat,", "sat", "A", "."]), max_size=7).map(" ".join)
NUMBER = st.integers(-40, 40).map(lambda n: n / 8)


def same_length_rows(values):
    """Pairs of lists of `values`, equally long, not empty."""
    return st.lists(st.tuples(values, values), min_size=1, max_size=4).map(
        lambda row: [list(x) for x in zip(*row, strict=True)]
    )


def answered(span, no_answer=-1.0):
    return {"span": span, "no_answer": no_answer}


def box(corners):
    (x1, x2), (y1, y2) = (sorted(pair) for pair in corners)
    return [x1, y1, x2, y2]


BOX = st.tuples(*[st.tuples(NUMBER, NUMBER)] * 2).map(box)
WORTHS = st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.3, 0.6, 0.9, 1.0]))
ROW = {  # a prediction with its gold
    "classification": st.tuples(*[st.sampled_from(["a", "b", "c"])] * 2),
    "paraphrase": st.tuples(BINARY, BINARY),
    "cola": st.tuples(BINARY, BINARY),
    "correlation": st.tuples(NUMBER, NUMBER),
    "rank_correlation": st.tuples(NUMBER, NUMBER),
    "error": st.tuples(NUMBER, NUMBER),
    "span": st.tuples(TEXT, st.lists(TEXT, max_size=3)),
    "span_or_none": st.tuples(st.builds(answered, TEXT, NUMBER), st.lists(TEXT, max_size=3)),
    "choice": st.tuples(*[st.integers(0, 3)] * 2),
    "entities": same_length_rows(TAGS),
    "target": same_length_rows(BINARY),
    "translation": st.tuples(TEXT, TEXT),
    "vqa": st.tuples(st.sampled_from("abcd"), st.fixed_dictionaries({"answers": WORTHS, "type": st.just("other")})),
    "ranks": st.tuples(st.fixed_dictionaries({"rank": st.sampled_from([1.0, 1.5, 6.0]), "of": st.just(9)}), TEXT),
    "referring": st.tuples(st.none() | BOX, BOX),
}


def test_every_metric_is_tested():
    assert set(ROW) == set(METRICS)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.parts])
def test_main_score_is_the_total_of_the_parts(name):
    metric = METRICS[name]

    @settings(max_examples=40)
    @given(st.lists(ROW[name], min_size=1, max_size=12), st.data())
    def holds(rows, data):
        predictions, gold = map(list, zip(*rows, strict=True))
        parts = metric.parts(predictions, gold)
        assert parts.dtype == np.float64
        assert parts.shape[0] == len(rows)
        assert metric.total(parts.sum(axis=0)) == pytest.approx(metric.scores(predictions, gold)[metric.main])
        times = data.draw(
            hnp.arrays(np.int64, (3, len(rows)), elements=st.integers(0, 3)).filter(lambda w: w.any(1).all())
        )
        resampled = [[row for row, k in zip(rows, line, strict=True) for _ in range(k)] for line in times]
        scores = [metric.scores(*map(list, zip(*lines, strict=True)))[metric.main] for lines in resampled]
        assert metric.total(times @ parts) == pytest.approx(scores, abs=1e-6)

    holds()


def test_spearman_is_recomputed():
    assert METRICS["rank_correlation"].parts is METRICS["rank_correlation"].total is None


@pytest.mark.parametrize("name", METRICS)
def test_rows_without_gold_do_not_count(name):
    metric = METRICS[name]
    examples = {
        "choice": (1, 1, 0), "entities": (["B-X"], ["B-X"], ["O"]), "target": (["1"], ["1"], ["0"]),
        "span": ("cat", ["cat"], "dog"), "span_or_none": (answered("cat"), ["cat"], answered("dog")),
        "correlation": (0.5, 1.5, 9.0), "rank_correlation": (0.5, 1.5, 9.0), "error": (0.5, 1.5, 9.0),
        "vqa": ("a", {"answers": {"a": 1.0}, "type": None}, "b"), "referring": ([0, 0, 1, 1], [0, 0, 1, 1], None),
        "ranks": ({"rank": 1.0, "of": 9}, "x", {"rank": 9.0, "of": 9}),
    }  # fmt: skip
    guess, answer, wild = examples.get(name, ("1", "1", "0"))
    with warnings.catch_warnings(action="ignore"):
        assert metric.scores([guess, wild, guess], [answer, None, answer]) == metric.scores([guess] * 2, [answer] * 2)
    assert metric.scores([guess], [None]) == metric.scores([], []) == {}


def test_a_missing_prediction_is_an_error():
    with pytest.raises(DataError, match="2 predictions for 1 rows"):
        METRICS["choice"].scores([1, 2], [1])
    for name in ("entities", "target"):
        with pytest.raises(DataError, match=r"row 1 .* 1 labels predicted for 2 words"):
            METRICS[name].scores([["0"], ["0"]], [["0"], ["0", "0"]])


def test_no_answer_where_it_is_ahead():
    found = METRICS["span_or_none"].scores(
        [answered("cat"), answered("dog", 2.0), answered("sun", 3.0)], [["cat"], [], ["sun"]]
    )
    assert (found["exact_match"], found["f1"]) == pytest.approx((2 / 3, 2 / 3))
    assert (found["best_exact_match"], found["best_f1"]) == pytest.approx((2 / 3, 2 / 3))  # no threshold parts 2 from 3
    found = METRICS["span_or_none"].scores([answered("cat", 1.0), answered("dog", 2.0)], [["cat"], []])
    assert (found["exact_match"], found["best_exact_match"]) == (0.5, 1.0)


# Labels, by hand


def test_classification():
    found = METRICS["classification"].scores(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    assert found == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3})


def test_paraphrase_is_the_mean_of_accuracy_and_f1():
    found = METRICS["paraphrase"].scores(["1", "1", "0", "0", "1"], ["1", "0", "1", "0", "1"])
    assert found == pytest.approx({"accuracy": 3 / 5, "f1": 2 / 3, "accuracy_f1": (3 / 5 + 2 / 3) / 2})


def test_matthews():
    tp, tn, fp, fn = 4, 3, 2, 1
    gold, guesses = "1" * 4 + "0" * 3 + "0" * 2 + "1", "1" * 4 + "0" * 3 + "1" * 2 + "0"
    by_hand = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert METRICS["cola"].scores(list(guesses), list(gold)) == pytest.approx({"matthews": by_hand, "accuracy": 0.7})
    assert METRICS["cola"].scores(["1"] * 10, list(gold))["matthews"] == 0


def test_target_words_are_pooled():
    found = METRICS["target"].scores([["1", "0"], ["1"], []], [["1", "1"], ["0"], []])
    assert found == pytest.approx({"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 1 / 3})


def test_entities_count_whole_ones_only():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG"]]
    guesses = [["B-PER", "I-PER", "O", "B-ORG"], ["O"]]  # one of three found, one of two right
    assert METRICS["entities"].scores(guesses, gold) == pytest.approx({"f1": 0.4, "precision": 1 / 2, "recall": 1 / 3})
    shorter = [["B-PER", "O", "O", "B-LOC"], ["B-ORG"]]  # the cut entity is wrong
    assert METRICS["entities"].scores(shorter, gold)["f1"] == pytest.approx(2 / 3)


# Numbers


def test_correlations_and_error_by_hand():
    guesses, gold = [1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 5.0]
    x, y = np.array(guesses) - 2.5, np.array(gold) - 2.75
    expected = {
        "pearson": (x @ y) / math.sqrt((x @ x) * (y @ y)),
        "spearman": 1 - 6 * (0 + 0 + 1 + 1) / (4 * 15),
        "rmse": math.sqrt((0 + 0 + 1 + 4) / 4),
    }
    for name in ("correlation", "rank_correlation", "error"):
        assert METRICS[name].scores(guesses, gold) == pytest.approx(expected)
    assert [METRICS[name].main for name in ("correlation", "rank_correlation", "error")] == list(expected)
    assert [name for name, metric in METRICS.items() if metric.lower_is_better] == ["error"]


def test_constant_predictions_correlate_0_and_say_so():
    with pytest.warns(UserWarning, match="constant"):
        found = METRICS["correlation"].scores([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert (found["pearson"], found["spearman"]) == (0, 0)
    with pytest.warns(UserWarning, match="2 predictions are no finite numbers"):
        found = METRICS["error"].scores([math.nan, -math.inf, 1.0], [3.0, 4.0, 1.0])
    assert found["rmse"] == pytest.approx(5 / math.sqrt(3))


def test_pearson_of_large_numbers_does_not_cancel():
    gold, guesses = [1e6 + 1, 1e6 + 2, 1e6 + 4], [5e5 + 2, 5e5 + 1, 5e5 + 4]
    metric = METRICS["correlation"]
    by_hand = np.corrcoef([2, 1, 4], [1, 2, 4])[0, 1]
    assert metric.total(metric.parts(guesses, gold).sum(axis=0)) == pytest.approx(by_hand, rel=1e-9)


# Translation


def test_bleu_by_hand():
    found = METRICS["translation"].scores(["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "a dog runs"])
    precisions = [(5 + 2) / (6 + 2), (3 + 1) / (5 + 1), 2 / 4, 1 / 3]
    brevity = math.exp(1 - 9 / 8)
    assert found["bleu"] == pytest.approx(100 * brevity * math.prod(precisions) ** 0.25)
    assert 0 < found["chrf"] < 100
    assert METRICS["translation"].scores(["a b c d"], ["a b c d"]) == pytest.approx({"bleu": 100, "chrf": 100})


def test_signatures_name_what_makes_bleu_comparable():
    signatures = translation_signatures()
    for said in ("nrefs:1", "case:mixed", "tok:13a", "smooth:exp", "version:"):
        assert said in signatures["bleu"]
    assert "nc:6" in signatures["chrf"]
