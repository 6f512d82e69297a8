"""Scores over seeds: medians, means, intervals, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sightread.errors import ConfigError


@dataclass(frozen=True)
class Summary:
    """Scores of several runs.

    Attributes:
        scores: One a seed.
        mean: Their mean.
        median: Their median.
        low: Lower end of the 95 % interval of the mean, Student's t over seeds; NaN for a single run.
        high: Upper end.
    """

    scores: tuple[float, ...]
    mean: float
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def summarize(scores: Sequence[float], level: float = 0.95) -> Summary:
    """Mean, median and the t-interval of the mean over runs; raises `ConfigError` if there is none."""
    if not len(scores):
        raise ConfigError("no scores to summarise")
    values = np.asarray(scores, dtype=np.float64)
    low = high = math.nan
    if len(values) > 1:
        half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        low, high = float(values.mean() - half), float(values.mean() + half)
    return Summary(tuple(values.tolist()), float(values.mean()), float(np.median(values)), low, high)


def paired_difference(scores: Sequence[float], control: Sequence[float]) -> Summary:
    """The summary of scores minus the control's, seed by seed; both in the same order of seeds."""
    if len(scores) != len(control):
        raise ConfigError(f"{len(scores)} scores cannot be paired with {len(control)} of the control")
    return summarize(np.subtract(scores, control).tolist())
