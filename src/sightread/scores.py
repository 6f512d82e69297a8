"""The folder of scores: what every task writes of its runs, and `compare` reads back.

manifest.json                      task, metric, encoder, seeds, what diverged, a summary
seed-<n>/scores.json               scores by "<split>_<score>", and "diverged"
seed-<n>/predictions-<split>.jsonl one line a row: its number, the answer, the right answer
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from sightread.artifacts import Artifact, write_atomic
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


class SeededRuns:
    """A folder of scores while its runs are made, one a seed; more seeds may come later.

    Args:
        out: The folder.
        seeds: The seeds.
        overwrite: Replace what is in `out`.
        resume: Leave the seeds that are done as they are.
        header: `config` and `inputs`; see `Artifact.begin`.

    Attributes:
        path: The folder.
        left: Where the runs that are still to be made are written, by seed.
        finished: Whether all that was asked for is there.

    Raises:
        ArtifactError: As `Artifact.begin`.
    """

    def __init__(
        self, out: Path | str, seeds: Sequence[int], *, overwrite: bool = False, resume: bool = False, **header: Any
    ) -> None:
        self._began = monotonic()
        self._artifact = Artifact.begin(out, KIND, overwrite=overwrite, resume=resume, **header)
        self.path = self._artifact.path
        self._asked = {seed: self.path / f"seed-{seed}" for seed in seeds}
        self.left = {seed: folder for seed, folder in self._asked.items() if not (folder / SCORES).is_file()}
        if self._artifact.finished and self.left:
            self._artifact.reopen()
        self.finished = self._artifact.finished

    def summaries(self) -> dict[str, Summary]:
        """A summary of each score over the seeds that were asked for."""
        return _summaries(self._asked)

    def finish(self, task: str, metric: str, encoder: str, **found: Any) -> None:
        """Write the manifest: scores of all runs that are there, seconds of all commands, and what was `found`."""
        names = (folder.parent.name for folder in self.path.glob(f"seed-*/{SCORES}"))
        seeds = sorted(int(name.removeprefix("seed-")) for name in names)
        summaries = _summaries({seed: self.path / f"seed-{seed}" for seed in seeds})
        codes = zip(seeds, summaries["diverged"].scores, strict=True)
        self._artifact.finish({
            "task": task, "metric": metric, "main_score": METRICS[metric].main, "encoder": encoder, "seeds": seeds,
            "diverged": {seed: DIVERGED[code] for seed, code in codes if code},
            "summary": {name: vars(summary) for name, summary in summaries.items()}, **found,
            "seconds": self._artifact.report.get("seconds", 0.0) + monotonic() - self._began,
        })  # fmt: skip


def _summaries(folders: Mapping[int, Path]) -> dict[str, Summary]:
    runs = [json.loads((folder / SCORES).read_text()) for folder in folders.values()]
    return {name: summarize([run[name] for run in runs]) for name in runs[0]}
