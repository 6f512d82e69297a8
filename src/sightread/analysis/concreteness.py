"""Are words that people call concrete the words of which a vokenizer is sure? (Brysbaert et al. 2014)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightread.analysis.figures import COLORS, FAINT, INK, bare, new_figure, save
from sightread.errors import DataError
from sightread.statistics import bootstrap_interval, rank_correlation

FEWEST_WORDS = 10


@dataclass(frozen=True)
class Concreteness:
    """Words with their ratings and scores.

    Attributes:
        words: The words.
        ratings: Mean rating of each, 1 (abstract) to 5 (concrete), float64 (N,).
        scores: Mean score of its vokens, float64 (N,).
        occurrences: How often it occurs, float64 (N,).
        spearman: Rank correlation of ratings and scores.
        interval: 95 % bootstrap interval of it, over words.
        given_frequency: What is left of it when ranks of frequency are taken out of both.
    """

    words: list[str]
    ratings: np.ndarray
    scores: np.ndarray
    occurrences: np.ndarray
    spearman: float
    interval: tuple[float, float]
    given_frequency: float


def concreteness(
    words: Mapping[str, tuple[int, float]], ratings: Mapping[str, float], *, least: int = 5, seed: int = 0
) -> Concreteness:
    """Compare ratings and scores of words.

    Args:
        words: How often each word occurs, and its mean score, as `VokenStatistics` has them.
        ratings: How concrete people call them.
        least: Words that occur less often are left out.
        seed: Of the bootstrap.

    Raises:
        DataError: If hardly a word is both scored and rated.
    """
    both = [word for word, (times, _) in words.items() if times >= least and word in ratings]
    if len(both) < FEWEST_WORDS:
        raise DataError(
            f"{len(both)} words have a rating and occur {least} times or more with a score; vokenize more text with "
            "--top 2 or more"
        )
    rows = np.array([(ratings[word], words[word][1], words[word][0]) for word in both])
    low, high = bootstrap_interval(rows[:, :2], statistic=rank_correlation, num=1000, seed=seed)
    rated, scores, occurrences = rows.T
    return Concreteness(
        both, rated, scores, occurrences, rank_correlation(rows[:, :2]), (low, high), _given_frequency(rows)
    )


def _given_frequency(rows: np.ndarray) -> float:
    """Partial rank correlation: (r_xy - r_xz r_yz) / √((1 - r_xz²) (1 - r_yz²))."""
    xy, xz, yz = (rank_correlation(rows[:, pair]) for pair in ([0, 1], [0, 2], [1, 2]))
    return float((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def as_markdown(found: Concreteness) -> str:
    """The correlation in a sentence."""
    low, high = found.interval
    return (
        f"Concreteness against score, {len(found.words):,} words: Spearman {found.spearman:.2f} "
        f"[{low:.2f}, {high:.2f}]; {found.given_frequency:.2f} when frequency is taken out.\n"
    )


def as_csv(found: Concreteness) -> str:
    """A line for each word."""
    columns = (found.words, *(c.tolist() for c in (found.ratings, found.scores, found.occurrences)))
    lines = [("word", "concreteness", "score", "tokens"), *zip(*columns, strict=True)]
    return "".join(f"{','.join(map(str, line))}\n" for line in lines)


def draw(found: Concreteness, out: Path, *, named: int = 6) -> list[Path]:
    """A dot a word, the mean score of each fifth of the words by rating, and the names of the most extreme.

    Args:
        found: What to draw.
        out: Where, without a suffix.
        named: Words of highest score that are named, and as many of lowest.

    Returns:
        The files `out`.svg and `out`.pdf.
    """
    figure = new_figure(7, 4.6)
    axes = figure.add_subplot()
    bare(axes)
    axes.scatter(found.ratings, found.scores, 3 + 4 * np.log10(found.occurrences), COLORS[0], alpha=0.3, linewidths=0)
    fifths = [rows for rows in np.array_split(np.argsort(found.ratings, kind="stable"), 5) if len(rows)]
    middles, means = ([float(values[fifth].mean()) for fifth in fifths] for values in (found.ratings, found.scores))
    axes.plot(middles, means, "o-", color=COLORS[3], label="mean of a fifth of the words")
    for row in _extremes(found, named):
        at = (found.ratings[row], found.scores[row])
        axes.annotate(found.words[row], at, (3, 2), textcoords="offset points", fontsize=8, color=INK)
    low, high = found.interval
    axes.set(xlabel="concreteness, as rated by people", ylabel="mean score of the word's vokens")
    said = f"Spearman {found.spearman:.2f} [{low:.2f}, {high:.2f}], {len(found.words):,} words"
    axes.set_title(said.replace("-", "−"), fontsize=10, color=FAINT)
    axes.legend(frameon=False)
    return save(figure, out)


def _extremes(found: Concreteness, count: int) -> list[int]:
    """Words of highest and of lowest score, none so near to another that their names would lie upon each other."""
    order, chosen = np.argsort(found.scores, kind="stable"), list[int]()
    near = np.array([0.6, np.ptp(found.scores) / 25])
    places = np.stack([found.ratings, found.scores], axis=1)
    for rows in (order, order[::-1]):
        most = len(chosen) + count
        for row in rows[: 5 * count].tolist():
            if len(chosen) < most and not (np.abs(places[chosen] - places[row]) < near).all(axis=1).any():
                chosen.append(row)
    return chosen
