"""How SQuAD compares answers: the rules of its official script, version 2.0, which scores version 1.1 too.

Of the script for 1.1 it differs only in what never matters there: an answer of nothing but articles and punctuation.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """An answer as SQuAD compares it: lower case; without ASCII punctuation and a, an, the; single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals one of the answers after normalisation; no answers are right if none is given."""
    return float(normalize_answer(prediction) in _normalized(answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 of the bags of tokens after normalisation, the best over the answers.

    As SQuAD 2.0's script has it: where prediction or answer is empty, 1.0 if both are, else 0.0.
    """
    guess = normalize_answer(prediction).split()
    return max(_bag_f1(guess, answer.split()) for answer in _normalized(answers))


def _normalized(answers: Sequence[str]) -> list[str]:
    return [text for text in map(normalize_answer, answers) if text] or [""]


def _bag_f1(guess: list[str], answer: list[str]) -> float:
    if not guess or not answer:
        return float(guess == answer)
    return 2 * (Counter(guess) & Counter(answer)).total() / (len(guess) + len(answer))


SCORES = {"f1": token_f1, "exact_match": exact_match}
"""Both scores of one answer, by name."""


def best_no_answer_threshold(
    no_answer: Sequence[float], predictions: Sequence[str], gold: Sequence[Sequence[str]], score: str = "f1"
) -> tuple[float, float]:
    """The threshold above which it is best to answer nothing, as SQuAD 2.0's script finds it.

    Unlike there, questions of one probability stay on one side, since no threshold can part them.

    Args:
        no_answer: Probability, or any score, that there is no answer; one a question.
        predictions: What is answered otherwise.
        gold: The right answers of each question, empty where there are none.
        score: "f1" or "exact_match".

    Returns:
        The threshold, and the mean score with it: a question is answered if its probability is at most the threshold.
    """
    levels = np.asarray(no_answer, dtype=np.float64)
    of = SCORES[score]
    silent = np.array([of("", answers) for answers in gold])
    gains = np.array([of(guess, answers) for guess, answers in zip(predictions, gold, strict=True)]) - silent
    order = np.argsort(levels, kind="stable")
    ends = np.flatnonzero(np.diff(levels[order], append=np.inf))  # last of each run of equal levels
    gained = np.concatenate([[0.0], gains[order].cumsum()[ends]])
    thresholds = np.concatenate([[np.nextafter(levels.min(), -np.inf)], levels[order][ends]])
    best = int(gained.argmax())
    return float(thresholds[best]), float((silent.sum() + gained[best]) / len(levels))
