"""What a probe found, with its interval and what must stand beside it; and the table of several encoders."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sightread.statistics import bootstrap_interval

Answer = Mapping[str, str | float]
"""One item: what was asked, what was answered, what is right, and, for scores that are means, what it counted."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Settings that all probes share.

    Attributes:
        seed: Of the drawing of words, of folds, of resamples.
        num_resamples: Resamples of each bootstrap interval.
        num_words: Words of the concreteness norms, drawn at random, that are embedded; all take minutes.
        pairs_per_paradigm: Pairs of each BLiMP paradigm that are scored; each takes some 20 readings of a sentence.
        folds: Parts of the words in cross-validation.
    """

    seed: int = 0
    num_resamples: int = 1000
    num_words: int = 8000
    pairs_per_paradigm: int = 20
    folds: int = 5


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One score of one encoder.

    Attributes:
        probe: Name of the probe.
        encoder: Label of the encoder.
        score: What was measured; empty where the whole probe was skipped.
        value: The score, or None where there is none; `note` says why.
        low: Lower end of its 95 % interval, percentile bootstrap over items.
        high: Upper end.
        chance: What guessing scores.
        references: What answers without seeing, or without an encoder, score, by name.
        items: How many were asked.
        note: Why there is no value, or what is missing beside it.
        detail: Whether it is a part of another score, left out of the table.
        answers: The items, one by one; they are written beside the result and not read back.
    """

    probe: str
    encoder: str
    score: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    items: int = 0
    note: str = ""
    detail: bool = False
    answers: Sequence[Answer] = field(default=(), repr=False)

    @property
    def best_reference(self) -> str:
        """The highest reference with its name, or an en dash."""
        if not self.references:
            return "–"
        name, value = max(self.references.items(), key=lambda item: item[1])
        return f"{value:.3f} {name}"

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None else "")


def mean_interval(
    values: Sequence[float] | np.ndarray, subjects: Sequence[str], config: ProbeConfig
) -> tuple[float | None, float | None]:
    """95 % interval of the mean of N values; what is asked of one subject is resampled together.

    (None, None) where there is but one subject.
    """
    _, number = np.unique(np.asarray(subjects), return_inverse=True)
    clusters = np.stack([np.bincount(number, weights=values), np.bincount(number)], axis=1)  # (subjects, 2)
    if len(clusters) < 2:
        return None, None

    def ratio(drawn: np.ndarray) -> float:
        total, count = drawn.sum(axis=0)
        return float(total / count)

    return bootstrap_interval(clusters, statistic=ratio, num=config.num_resamples, seed=config.seed)


def table(results: Sequence[ProbeResult]) -> str:
    """One Markdown table of several encoders: a row a score, a column an encoder; below it what was skipped and why."""
    shown = [result for result in results if not result.detail]
    encoders = list(dict.fromkeys(result.encoder for result in shown))
    by_row: dict[tuple[str, str], dict[str, ProbeResult]] = {}
    for result in shown:
        by_row.setdefault((result.probe, result.score), {})[result.encoder] = result
    rows = [["probe", "score", *encoders, "chance", "best reference", "items"]]
    for (probe, score), found in by_row.items():
        first = next((result for result in found.values() if result.value is not None), next(iter(found.values())))
        cells = [str(found.get(encoder, "–")) for encoder in encoders]
        chance = "–" if first.chance is None else f"{first.chance:.3f}"
        rows.append([probe, score or "–", *cells, chance, first.best_reference, str(first.items or "–")])
    return "\n".join([*_aligned(rows), *_notes(shown)])


def as_csv(results: Sequence[ProbeResult]) -> str:
    """One line a score and encoder, details too."""
    names = ("probe", "score", "encoder", "value", "low", "high", "chance", "references", "items", "note")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for result in results:
        references = "; ".join(f"{name}={value:.6g}" for name, value in result.references.items())
        writer.writerow([references if name == "references" else getattr(result, name) for name in names])
    return file.getvalue()


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *body = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return [header, "| " + " | ".join("-" * width for width in widths) + " |", *body]


def _notes(results: Sequence[ProbeResult]) -> list[str]:
    """Each note once, with its encoder and the probes it is about."""
    about: dict[str, dict[str, None]] = {}
    for result in results:
        if result.note:
            about.setdefault(f"{result.encoder}: {result.note}", {})[result.probe] = None
    return ["", *(f"{note} ({', '.join(probes)})" for note, probes in about.items())] if about else []
