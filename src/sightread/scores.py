"""The folder of scores: what every task writes of its runs, and `compare` reads back.

manifest.json                      task, metric, encoder, seeds, what diverged, a summary
seed-<n>/scores.json               scores by "<split>_<score>", and "diverged"
seed-<n>/predictions-<split>.jsonl one line a row: its number, the answer, the right answer
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightread.artifacts import write_atomic
from sightread.metrics import METRICS
from sightread.statistics import Summary, summarize

KIND = "scores"
SCORES = "scores.json"
DIVERGED = {1.0: "the training loss was not finite", 2.0: "the same answer everywhere", 3.0: "a BLEU below 1"}
"""What a run's score "diverged" means; 0 is a run that did not."""


def score_split(
    folder: Path, split: str, metric: str, predictions: Sequence[Any], gold: Sequence[Any]
) -> dict[str, float]:
    """Write the answers to a split beside the right ones; returns their scores by "<split>_<score>"."""
    pairs = enumerate(zip(predictions, gold, strict=True))
    lines = [json.dumps({"row": i, "prediction": p, "gold": g}, ensure_ascii=False) for i, (p, g) in pairs]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"predictions-{split}.jsonl", "".join(line + "\n" for line in lines))
    return {f"{split}_{name}": score for name, score in METRICS[metric].scores(predictions, gold).items()}


def write_scores(folder: Path, scores: Mapping[str, float]) -> None:
    """Finish a run: with this file it is not made again."""
    write_atomic(folder / SCORES, json.dumps(scores, indent=1))


def summaries_of(folders: Mapping[int, Path]) -> dict[str, Summary]:
    """A summary of each score over finished runs, by seed."""
    runs = [json.loads((folder / SCORES).read_text()) for folder in folders.values()]
    return {name: summarize([run[name] for run in runs]) for name in runs[0]}


def report_of(task: str, metric: str, encoder: str, folders: Mapping[int, Path]) -> dict[str, Any]:
    """What the manifest tells of finished runs, by seed."""
    summaries = summaries_of(folders)
    codes = zip(folders, summaries["diverged"].scores, strict=True)
    return {
        "task": task, "metric": metric, "main_score": METRICS[metric].main, "encoder": encoder, "seeds": list(folders),
        "diverged": {seed: DIVERGED[code] for seed, code in codes if code},
        "summary": {name: vars(summary) for name, summary in summaries.items()},
    }  # fmt: skip
