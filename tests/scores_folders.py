"""Made-up scores folders for tests, and to look at: `python tests/scores_folders.py FOLDER`.

Three encoders on three tasks with five seeds each. "grounded" is truly better on nli, "random" no better anywhere and
diverged once.
"""

import json
import sys
from pathlib import Path

import numpy as np

from sightread.artifacts import Artifact
from sightread.metrics import METRICS

HOSTILE = r"<b>R&D_100%</b> | #1 \~^{x}"
LABELS = ("entailment", "neutral", "contradiction")
SKILL = {"text-only": {"nli": 0.70, "similarity": 0.9, "tags": 0.8},
         "grounded": {"nli": 0.80, "similarity": 0.9, "tags": 0.8},
         "random": {"nli": 0.70, "similarity": 0.6, "tags": 0.8}}  # fmt: skip
METRIC = {"nli": "classification", "similarity": "correlation", "tags": "entities"}


def write_scores(folder, *, task, metric, encoder, answers, diverged=None, split="test", config=None):
    """A finished scores folder; `answers` are (prediction, gold) of each row, by seed."""
    artifact = Artifact.begin(
        folder,
        "scores",
        config=config or {"max_length": 128, "training": {"learning_rate": 5e-5}},
        inputs={"encoder": "0" * 64},
    )
    for seed, rows in answers.items():
        path = folder / f"seed-{seed}"
        path.mkdir()
        lines = [json.dumps({"row": i, "prediction": p, "gold": g}) for i, (p, g) in enumerate(rows)]
        (path / f"predictions-{split}.jsonl").write_text("\n".join(lines) + "\n")
        scores = METRICS[metric].scores(*map(list, zip(*rows, strict=True)))
        (path / "scores.json").write_text(json.dumps({f"{split}_{name}": score for name, score in scores.items()}))
    artifact.finish({
        "task": task, "metric": metric, "main_score": METRICS[metric].main, "encoder": encoder,
        "seeds": list(answers), "diverged": diverged or {}, "summary": {},
    })  # fmt: skip
    return folder


def write_all(root, num_rows=200, seeds=range(5)):
    """The whole set, as root/<encoder>/<task>; returns the encoders' folders, the control first."""
    for arm, skills in SKILL.items():
        for task, skill in skills.items():
            broken = arm == "random" and task == "nli"
            answers = {
                seed: _answers(task, skill - 0.35 * (broken and seed == 3), num_rows, seed, arm) for seed in seeds
            }
            write_scores(
                root / arm / task, task=task, metric=METRIC[task], encoder=f"runs/{arm}/encoder", answers=answers,
                diverged={3: "the training loss was not finite"} if broken else {},
            )  # fmt: skip
    return [root / arm for arm in SKILL]


def write_meagre(root):
    """One seed, a hostile name, a missing task, a run that diverged and was the only one; returns what to read."""
    rows = [("a", "a"), ("b", "a"), ("b", "b")]
    for i, (arm, task, guess) in enumerate(
        [("control", HOSTILE, "a"), (HOSTILE, HOSTILE, "b"), (HOSTILE, "sst2", "a")]
    ):
        write_scores(
            root / str(i), task=task, metric="classification", encoder=arm.replace("/", ""),
            answers={0: [(guess, "a"), *rows]}, diverged={0: "the same answer everywhere"} if i == 1 else None,
        )  # fmt: skip
    return [str(root / "0"), f"{HOSTILE}={root / '1'}", f"{HOSTILE}={root / '2'}"]


def _answers(task, skill, num_rows, seed, arm):
    """Right with probability `skill`, mostly on the same rows in every run: some are hard for all encoders."""
    rows, own = np.random.default_rng(0), np.random.default_rng([seed, *arm.encode()])
    hard = 0.5 * rows.random(num_rows) + 0.5 * own.random(num_rows)  # sum of two uniforms
    right = hard < np.quantile(hard, np.clip(skill + 0.02 * own.normal(), 0, 1))
    kinds = rows.integers(0, 3, num_rows).tolist()
    if task == "similarity":
        gold = rows.uniform(0, 5, num_rows).round(2).tolist()
        return [(round(float(g + own.normal() * (0.5 if ok else 3)), 4), g) for g, ok in zip(gold, right, strict=True)]
    if task == "tags":
        gold = [["O", "B-PER", "I-PER"][: k + 1] + ["O"] * 3 + ["B-LOC"] * (k == 2) for k in kinds]
        return [(tags if ok else ["O"] * len(tags), tags) for tags, ok in zip(gold, right, strict=True)]
    return [(LABELS[k if ok else (k + 1) % 3], LABELS[k]) for k, ok in zip(kinds, right, strict=True)]


if __name__ == "__main__":
    print(*write_all(Path(sys.argv[1])))
