"""SQuAD's rules by example, and against the text of its script."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.metrics import METRICS
from sightread.squad import best_no_answer_threshold, exact_match, normalize_answer, token_f1

TEXT = st.lists(st.sampled_from(["the", "red", "cat", "cat,", "sat", "A", "."]), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat", "cat"), ("a\tcat an the", "cat"), ("theatre", "theatre"), ("the-cat", "thecat"),
        ("U.S.", "us"), ("can't", "cant"), ("$5,000!", "5000"), ("Curaçao", "curaçao"), ("ÉCOLE", "école"),
        ("“quoted”", "“quoted”"), ("3 – 4", "3 – 4"), ("a", ""), ("", ""), ("\u00a0x\u2003y ", "x y"),
    ],
)  # fmt: skip
def test_answers_are_compared_as_squad_does(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the red cat", ["Red cat!"], 1, 1),
        ("red cat", ["cat", "the cat sat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("dog", ["cat"], 0, 0),
        ("cat", ["dog", "cat"], 1, 1),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("cat", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("", ["the", "cat"], 0, 0),  # an answer of nothing but articles is none, as long as there is another
        ("", ["the"], 1, 1),
    ],
)
def test_squad_scores(prediction, answers, exact, f1):
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)
    assert METRICS["span"].scores([prediction], [answers]) == pytest.approx({"f1": f1, "exact_match": exact})


def official_f1(a_gold, a_pred):
    """Written after the text of SQuAD 2.0's script."""
    gold_toks, pred_toks = a_gold.split(), a_pred.split()
    num_same = sum((Counter(gold_toks) & Counter(pred_toks)).values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = num_same / len(pred_toks), num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


@given(*[st.lists(st.sampled_from("xyz"), max_size=6).map(" ".join)] * 2)
def test_token_f1_is_the_official_one(gold, guess):
    assert token_f1(guess, [gold]) == pytest.approx(official_f1(gold, guess))


def test_best_no_answer_threshold_by_hand():
    gold = [["cat"], [], ["dog"], []]
    guesses = ["cat", "bird", "dog", "fish"]
    assert best_no_answer_threshold([0.1, 0.8, 0.3, 0.9], guesses, gold) == (0.3, 1.0)
    assert best_no_answer_threshold([0.9, 0.1, 0.8, 0.2], guesses, gold)[1] == 0.5
    level, score = best_no_answer_threshold([0.5] * 4, ["x"] * 4, gold)
    assert level < 0.5
    assert score == 0.5


@given(
    st.lists(
        st.tuples(st.integers(0, 4).map(lambda n: n / 4), TEXT, st.lists(TEXT, max_size=2)), min_size=1, max_size=8
    ),
    st.sampled_from(["f1", "exact_match"]),
)
def test_no_threshold_is_better_than_the_best(rows, score):
    levels, guesses, gold = map(list, zip(*rows, strict=True))

    def score_at(threshold):
        answered = [guess if level <= threshold else "" for level, guess in zip(levels, guesses, strict=True)]
        return METRICS["span"].scores(answered, gold)[score]

    threshold, best = best_no_answer_threshold(levels, guesses, gold, score)
    assert score_at(threshold) == pytest.approx(best)
    assert best == pytest.approx(max(map(score_at, [-1.0, *levels])))
