"""Does an encoder know what things look like? The questions of `questions.py`, put in two ways.

- cloze: the choice that a masked language model finds most probable in the prompts' slot, averaged over prompts; needs
  a masked-LM head.
- stroop: the choice that changes the meaning of a phrase least; any encoder.

Accuracy counts a tie of n choices as 1/n. Spearman is, for each subject, the rank correlation of the choices' scores
with how people, or pictures, spread over them, averaged over subjects; 0 where the scores are all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from scipy import stats

from sightread.probes.encoder import ProbedEncoder
from sightread.probes.files import MissingData, Norm, log_frequency, read_norms
from sightread.probes.questions import QUESTION_SETS, Question, QuestionSet
from sightread.probes.results import Answer, ProbeConfig, ProbeResult, mean_interval
from sightread.probes.scoring import pseudo_log_likelihoods
from sightread.probes.stroop import stroop_similarities

Scores = Sequence[np.ndarray]
"""For each question the scores of its choices, float64 (choices,)."""

ValuesOf = Callable[[Scores, Sequence[Question]], np.ndarray]

TIE = 1e-9  # sums of the same numbers in another order


def probe_attributes(encoder: ProbedEncoder, data: Path, config: ProbeConfig, *, name: str) -> list[ProbeResult]:
    """Ask one data set of `QUESTION_SETS`; raises `MissingData` if a file of it is not there."""
    asked = QUESTION_SETS[name](data)
    blanks = _blank_results(ProbeResult(probe=name, encoder=encoder.label, items=len(asked.questions)), asked, data)
    results = []
    for way in ("cloze", "stroop") if asked.sayable else ("cloze",):
        named = {score: replace(blank, score=f"{way} {score}") for score, blank in blanks.items()}
        if way == "cloze" and encoder.masked_lm is None:
            results += [replace(blank, note=encoder.headless) for blank in named.values()]
            continue
        scores = _WAYS[way](encoder, asked.questions)
        results += [_scored(blank, _SCORES[score], scores, asked.questions, config) for score, blank in named.items()]
    return results


def cloze_scores(encoder: ProbedEncoder, questions: Sequence[Question]) -> list[np.ndarray]:
    """Mean log-probability of each choice over a question's prompts; see `scoring`."""
    filled = [(c.prompt, word) for question in questions for c in question.clozes for word in c.words]
    found = pseudo_log_likelihoods(encoder, *zip(*filled, strict=True))
    sizes = [(len(question.clozes), len(question.choices)) for question in questions]
    ends = list(accumulate(prompts * choices for prompts, choices in sizes))
    parts = np.split(found, ends[:-1])
    return [part.reshape(size).mean(axis=0) for part, size in zip(parts, sizes, strict=True)]


def stroop_scores(encoder: ProbedEncoder, questions: Sequence[Question]) -> list[np.ndarray]:
    """Similarity of each choice's phrases with the neutral ones; see `stroop`."""
    return stroop_similarities(encoder, [q.subject for q in questions], [q.choices for q in questions])


def accuracies(scores: Scores, questions: Sequence[Question]) -> np.ndarray:
    """1 where the right choice alone scores highest, 1/n where it shares that with n - 1 others, float64 (N,)."""
    found = []
    for score, question in zip(scores, questions, strict=True):
        best = score >= score.max() - TIE
        found.append(best[question.answer] / best.sum())
    return np.array(found)


def correlations(scores: Scores, questions: Sequence[Question]) -> np.ndarray:
    """Spearman's correlation of scores and distribution within each question, float64 (N,)."""
    pairs = [(score, question.distribution) for score, question in zip(scores, questions, strict=True)]
    return np.array([stats.spearmanr(*pair).statistic if min(np.ptp(side) for side in pair) else 0.0 for pair in pairs])


_WAYS = {"cloze": cloze_scores, "stroop": stroop_scores}
_SCORES: dict[str, ValuesOf] = {"accuracy": accuracies, "spearman": correlations}


def _blank_results(blank: ProbeResult, asked: QuestionSet, data: Path) -> dict[str, ProbeResult]:
    """For each score of a data set what stands beside the encoder's value: chance and the references."""
    questions = asked.questions
    indifferent = [np.zeros(len(question.choices)) for question in questions]
    guesses = {name: [_weights(prior, question) for question in questions] for name, prior in asked.priors.items()}
    try:
        norms = read_norms(data)
        guesses["frequency"] = [_frequencies(norms, question) for question in questions]
    except MissingData as missing:
        blank = replace(blank, note=f"no frequency beside it: {missing}")
    names = ("accuracy", "spearman") if questions[0].distribution else ("accuracy",)
    return {
        name: replace(
            blank,
            chance=float(_SCORES[name](indifferent, questions).mean()),
            references={guess: float(_SCORES[name](scores, questions).mean()) for guess, scores in guesses.items()},
        )
        for name in names
    }


def _weights(prior: Mapping[str, float], question: Question) -> np.ndarray:
    return np.array([float(prior.get(choice, 0)) for choice in question.choices])


def _frequencies(norms: Mapping[str, Norm], question: Question) -> np.ndarray:
    """Log-frequencies; a word that the list lacks is taken for one of middling frequency."""
    known = np.array([log_frequency(norms, choice) for choice in question.choices])
    return np.where(np.isnan(known), 0.0 if np.isnan(known).all() else np.nanmedian(known), known)


def _scored(
    blank: ProbeResult, values_of: ValuesOf, scores: Scores, questions: Sequence[Question], config: ProbeConfig
) -> ProbeResult:
    values = values_of(scores, questions)
    low, high = mean_interval(values, [question.subject for question in questions], config)
    answers = [_answer(*asked) for asked in zip(questions, scores, values, strict=True)]
    return replace(blank, value=float(values.mean()), low=low, high=high, answers=answers)


def _answer(question: Question, scores: np.ndarray, value: float) -> Answer:
    return {
        "item": question.subject,
        "prediction": question.choices[int(scores.argmax())],
        "gold": question.choices[question.answer],
        "value": float(value),
    }
