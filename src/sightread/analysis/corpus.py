"""How far corpora lie from captions: the statistics of Vokenization's table 1 (Tan & Bansal 2020).

Of each corpus: tokens, sentences, vocabulary, tokens a sentence, the Jensen-Shannon divergence of its one- and
two-token counts p to those of a reference q,

    JSD = ½ Σ p log(p / m) + ½ Σ q log(q / m),    m = (p + q) / 2,    in nats, 0 to log 2 = 0.69

and its grounding ratio. Two samples of one text diverge too, the more so the smaller they are: put one beside the
others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from sightread.analysis.grounded_types import grounding_ratio
from sightread.analysis.ngrams import Counts
from sightread.analysis.tally import tally

RARE = 5  # what occurs no more often is no part of the vocabulary
HEADER = ("corpus", "tokens", "sentences", "vocabulary", "tokens a sentence", "1-gram JSD", "2-gram JSD", "grounded")


@dataclass(frozen=True)
class CorpusStatistics:
    """A row of the table.

    Attributes:
        tokens: Tokens.
        sentences: Sentences.
        vocabulary: Types that occur more than five times.
        tokens_per_sentence: Their ratio.
        jsd_1: Jensen-Shannon divergence of single tokens to the reference, in nats.
        jsd_2: The same of pairs of neighbours.
        grounding_ratio: Share of tokens of grounded types; None where these are not known.
    """

    tokens: int
    sentences: int
    vocabulary: int
    tokens_per_sentence: float
    jsd_1: float
    jsd_2: float
    grounding_ratio: float | None


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Divergence of two distributions in nats, 0 to log 2, each given by counts of the same events, (N,)."""
    p, q = p / p.sum(), q / q.sum()
    sums = [float((x[x > 0] * np.log(x[x > 0] / ((p + q) / 2)[x > 0])).sum()) for x in (p, q)]
    return max(sum(sums) / 2, 0.0)


def divergences(counts: Counts, reference: Counts) -> tuple[float, float]:
    """Divergence of single tokens and of pairs of neighbours; both counts must share the rows of their types."""
    both, size = (counts, reference), max(len(counts.unigrams), len(reference.unigrams))
    single = [np.pad(one.unigrams, (0, size - len(one.unigrams))) for one in both]
    pairs, _ = tally(np.concatenate([one.pairs for one in both]))
    double = [np.zeros(len(pairs), np.int64) for _ in both]
    for times, one in zip(double, both, strict=True):
        times[np.searchsorted(pairs, one.pairs)] = one.bigrams
    return jensen_shannon(*single), jensen_shannon(*double)


def statistics_of(counts: Counts, reference: Counts, types: Collection[str] | None = None) -> CorpusStatistics:
    """A row of the table."""
    tokens = int(counts.unigrams.sum())
    return CorpusStatistics(
        tokens, counts.sentences, int((counts.unigrams > RARE).sum()), tokens / counts.sentences,
        *divergences(counts, reference), grounding_ratio(counts, types) if types is not None else None,
    )  # fmt: skip


def as_dicts(rows: Mapping[str, CorpusStatistics]) -> dict[str, dict[str, float | None]]:
    """The numbers, by corpus."""
    return {name: asdict(row) for name, row in rows.items()}


def as_markdown(rows: Mapping[str, CorpusStatistics]) -> str:
    """The table."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1))]
    for name, row in rows.items():
        ratio = "–" if row.grounding_ratio is None else f"{100 * row.grounding_ratio:.1f} %"
        numbers = [f"{number:,}" for number in (row.tokens, row.sentences, row.vocabulary)]
        lines.append((name, *numbers, f"{row.tokens_per_sentence:.1f}", f"{row.jsd_1:.2f}", f"{row.jsd_2:.2f}", ratio))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
