"""What single words' vectors hold: how concrete a word is, and which words are alike.

A word's vector is the mean over its pieces of the encoder's last layer, reading the word alone: unlike the input
embedding it exists for words of several pieces, and it is what training changes. It is written after a blank, as in a
sentence, since byte-level tokenizers spell a word otherwise at the start of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from sightread.bank import unit_rows
from sightread.data.tables import text_lines
from sightread.errors import DataError
from sightread.probes.encoder import ProbedEncoder
from sightread.probes.files import Norm, find, number_of, read_norms
from sightread.probes.results import ProbeConfig, ProbeResult
from sightread.runtime import keyed_rng
from sightread.statistics import bootstrap_interval

WORD_PAIRS = {
    "simlex": "EN-SIMLEX-999.txt",
    "men": "EN-MEN-TR-3k.txt",
    "ws353_similarity": "EN-WS-353-SIM.txt",
    "ws353_relatedness": "EN-WS-353-REL.txt",
    "simverb": "EN-SimVerb-3500.txt",
}
CONCRETE = 4.0  # of 5
FEWEST_PAIRS = 20

Statistic = Callable[[np.ndarray], float]
"""Of pairs (N, 2) of prediction and truth."""


def probe_concreteness(encoder: ProbedEncoder, data: Path, config: ProbeConfig) -> list[ProbeResult]:
    """Ridge regression from words' vectors to Brysbaert's ratings: R² and Spearman of cross-validated predictions.

    Words are a random part of those that SUBTLEX counts. The reference sees frequency and length of the word alone.
    """
    norms = [(word, norm) for word, norm in read_norms(data).items() if norm.occurrences > 0]
    drawn = sorted(keyed_rng(config.seed).permutation(len(norms))[: config.num_words])
    words, norms_of_words = zip(*(norms[i] for i in drawn), strict=True)
    ratings, occurrences = np.array(norms_of_words).T
    plain = np.stack([np.log1p(occurrences), [len(word) for word in words]], axis=1)
    guesses = cross_validated(word_vectors(encoder, words), ratings, config)
    plain_guesses = cross_validated(plain, ratings, config)
    pairs, plain_pairs = (np.stack([found, ratings], axis=1) for found in (guesses, plain_guesses))
    blank, results = ProbeResult(probe="concreteness", encoder=encoder.label, chance=0.0), []
    for score, statistic in (("r2", r_squared), ("spearman", spearman)):
        beside = replace(blank, score=score, references={"frequency and length": statistic(plain_pairs)})
        results.append(_result(beside, words, pairs, statistic, config))
    return results


def probe_similarity(encoder: ProbedEncoder, data: Path, config: ProbeConfig, *, name: str) -> list[ProbeResult]:
    """Spearman's correlation of cosines with people's ratings of word pairs, `name` a key of `WORD_PAIRS`.

    Also of the concrete pairs alone, both words rated at least `CONCRETE` by Brysbaert's people, and of the abstract
    ones, both rated below; pairs of one of each, and of words without a rating, count in the whole only. The reference
    calls words alike that are equally frequent.
    """
    norms = read_norms(data)
    pairs, ratings = read_word_pairs(find(data, f"lexicons/word-sim/{WORD_PAIRS[name]}"))
    first, second = (unit_rows(word_vectors(encoder, words)) for words in zip(*pairs, strict=True))
    cosines = (first * second).sum(axis=1, dtype=np.float64)
    likeness = np.stack([cosines, ratings], axis=1)
    concreteness, log_frequencies = _of_norms(pairs, norms)
    equally_frequent = -abs(np.subtract(*log_frequencies.T))
    results = []
    for part, chosen in _parts(concreteness).items():
        known = chosen & ~np.isnan(equally_frequent)
        blank = ProbeResult(probe=name, encoder=encoder.label, score=f"spearman {part}".strip(), chance=0.0)
        if known.sum() < FEWEST_PAIRS:
            results.append(replace(blank, note=f"{known.sum()} pairs, fewer than {FEWEST_PAIRS}"))
            continue
        reference = spearman(np.stack([equally_frequent[known], ratings[known]], axis=1))
        items = [" – ".join(pairs[i]) for i in np.flatnonzero(chosen)]
        blank = replace(blank, references={"frequency": reference})
        results.append(_result(blank, items, likeness[chosen], spearman, config))
    return results


def word_vectors(encoder: ProbedEncoder, words: Sequence[str]) -> np.ndarray:
    """Vectors of words read alone, float32 (N, D)."""
    return encoder.embed([f" {word}" for word in words])


def cross_validated(inputs: np.ndarray, targets: np.ndarray, config: ProbeConfig) -> np.ndarray:
    """Ridge predictions for each row by a model that has not seen it, float64 (N,).

    Inputs are standardised and the penalty chosen within the rows that a model sees, by leaving one out.

    Args:
        inputs: float (N, D).
        targets: float (N,).
        config: Seed and number of the folds.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 5, 13)))
    folds = KFold(config.folds, shuffle=True, random_state=config.seed)
    return cross_val_predict(model, inputs.astype(np.float64), targets, cv=folds)


def r_squared(pairs: np.ndarray) -> float:
    """Share of the targets' variance that predictions explain; pairs (N, 2) of prediction and target."""
    guesses, targets = pairs.T
    return float(1 - np.mean((guesses - targets) ** 2) / targets.var())


def spearman(pairs: np.ndarray) -> float:
    """Rank correlation of pairs (N, 2); 0 where one side is all the same."""
    return float(stats.spearmanr(*pairs.T).statistic) if np.ptp(pairs, axis=0).min() > 0 else 0.0


def read_word_pairs(path: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Pairs of words and their ratings float64 (N,); a line is two words and a number, parted by blanks or tabs."""
    pairs, ratings = [], []
    for where, line in text_lines(path):
        if cells := line.split():
            if len(cells) != 3:
                raise DataError(f"{where} has {len(cells)} columns, expected two words and a number")
            pairs.append((cells[0], cells[1]))
            ratings.append(number_of(where, cells[2]))
    if not pairs:
        raise DataError(f"{path} is empty")
    return pairs, np.array(ratings)


def _result(
    blank: ProbeResult, items: Sequence[str], pairs: np.ndarray, statistic: Statistic, config: ProbeConfig
) -> ProbeResult:
    """The result of a statistic of pairs (N, 2) of prediction and truth."""
    low, high = bootstrap_interval(pairs, statistic=statistic, num=config.num_resamples, seed=config.seed)
    answers = [
        {"item": item, "prediction": guess, "gold": gold}
        for item, (guess, gold) in zip(items, pairs.tolist(), strict=True)
    ]
    return replace(blank, value=statistic(pairs), low=low, high=high, items=len(pairs), answers=answers)


def _of_norms(pairs: Sequence[tuple[str, str]], norms: dict[str, Norm]) -> tuple[np.ndarray, np.ndarray]:
    """Concreteness and log-frequency of both words of each pair, float64 (N, 2) each; NaN where they are unknown."""
    unknown = Norm(np.nan, np.nan)
    found = np.array([[norms.get(word.lower(), unknown) for word in pair] for pair in pairs])  # (N, 2, 2)
    return found[:, :, 0], np.log1p(found[:, :, 1])


def _parts(concreteness: np.ndarray) -> dict[str, np.ndarray]:
    """Which pairs count in which score; NaN is neither below nor above."""
    return {
        "": np.full(len(concreteness), True),
        "concrete": np.all(concreteness >= CONCRETE, axis=1),
        "abstract": np.all(concreteness < CONCRETE, axis=1),
    }
