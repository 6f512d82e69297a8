"""Does an encoder still know grammar? BLiMP (Warstadt et al. 2020): pairs of sentences, one of them ungrammatical.

Nothing here needs vision: it shows whether grounding does harm. A masked language model is right where it finds the
grammatical sentence more probable; see `scoring.sentence_scores`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sightread.probes.encoder import ProbedEncoder
from sightread.probes.files import records, texts_of
from sightread.probes.results import Answer, ProbeConfig, ProbeResult, mean_interval
from sightread.probes.scoring import sentence_scores


class MinimalPair(NamedTuple):
    """A grammatical sentence and its ungrammatical twin."""

    good: str
    bad: str
    paradigm: str
    field: str


def probe_grammar(encoder: ProbedEncoder, data: Path, config: ProbeConfig) -> list[ProbeResult]:
    """Accuracy overall, for each field, and, as details, for each paradigm."""
    pairs = read_pairs(data, config.pairs_per_paradigm)
    blank = ProbeResult(probe="blimp", encoder=encoder.label, score="accuracy", chance=0.5)
    if encoder.masked_lm is None:
        return [replace(blank, items=len(pairs), note=encoder.headless)]
    scores = sentence_scores(encoder, [sentence for pair in pairs for sentence in (pair.good, pair.bad)])
    parts = defaultdict[tuple[str, bool], list[Answer]](list)  # by name of the score, and whether it is a detail
    for pair, (good, bad) in zip(pairs, scores.reshape(-1, 2).tolist(), strict=True):
        answer = {"item": pair.good, "against": pair.bad, "value": float(good > bad) + 0.5 * (good == bad)}
        for part in (("accuracy", False), (f"accuracy {pair.field}", False), (f"accuracy {pair.paradigm}", True)):
            parts[part].append(answer)
    return [
        _result(replace(blank, score=score, detail=detail), found, config) for (score, detail), found in parts.items()
    ]


def read_pairs(data: Path, per_paradigm: int) -> list[MinimalPair]:
    """The first `per_paradigm` pairs of each paradigm; raises `DataError` naming the line."""
    found = defaultdict[str, list[MinimalPair]](list)
    for where, row in records(data, "probes/blimp_sample.jsonl"):
        good, bad, paradigm, field = texts_of(where, row, "sentence_good", "sentence_bad", "UID", "field")
        if len(found[paradigm]) < per_paradigm:
            field = field.replace("/", "_")  # one field is spelt both ways
            found[paradigm].append(MinimalPair(good, bad, paradigm, field))
    return [pair for pairs in found.values() for pair in pairs]


def _result(blank: ProbeResult, answers: Sequence[Answer], config: ProbeConfig) -> ProbeResult:
    values = [float(answer["value"]) for answer in answers]
    low, high = mean_interval(values, [str(answer["item"]) for answer in answers], config)
    return replace(blank, value=sum(values) / len(values), low=low, high=high, items=len(values), answers=answers)
