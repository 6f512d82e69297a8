"""finetune(): any encoder on any task, one seed; finetune_seeds(): several, with their summary.

An encoder is anything that `AutoModel` loads: grounded or not, the harness cannot tell.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.artifacts import Artifact, digest, write_atomic
from sightread.config import check_choice
from sightread.contracts import Batch, Examples, Losses, Objective, Task, to_device
from sightread.encoders.text import load_model, load_tokenizer, longest_input, weights_digest
from sightread.errors import ConfigError
from sightread.runtime import default_device, keyed_rng, seed_everything
from sightread.statistics import Summary, summarize
from sightread.train import fit, training_arguments

KIND = "scores"
POOLINGS = ("first", "mean")


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """Settings of fine-tuning.

    Attributes:
        pooling: What stands for a sequence: its "first" token, or the "mean" of all its tokens.
        freeze_encoder: Train the head alone: a linear probe.
        max_length: Tokens in a sequence; longer ones are cut.
        seed: Seed of the head, the order and dropout.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    pooling: str = "first"
    freeze_encoder: bool = False
    max_length: int = 128
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 3, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 128,
            "learning_rate": 5e-5, "weight_decay": 0.01, "warmup_steps": 0.1, "lr_scheduler_type": "linear",
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_choice("pooling", self.pooling, POOLINGS)


class FinetuningObjective(Objective):
    """An encoder with a task's head on one vector a sequence."""

    def __init__(self, encoder: Any, task: Task, config: FinetuningConfig) -> None:
        super().__init__()
        self.encoder, self.task, self.pooling = encoder, task, config.pooling
        self.head = task.head(encoder.config.hidden_size)
        self.knows_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def pool(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """One vector a sequence, (B, D), of int64 (B, L) inputs."""
        types = {"token_type_ids": token_type_ids} if self.knows_types else {}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        if self.pooling == "first":
            return states[:, 0]
        weights = attention_mask[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    def outputs(self, **inputs: Tensor) -> Tensor:
        """What the head gives for a batch, which may hold vectors that are already `pooled`."""
        return self.head(inputs["pooled"] if "pooled" in inputs else self.pool(**inputs))

    def forward(self, labels: Tensor, **inputs: Tensor) -> Losses:  # type: ignore[override]
        """The task's loss; labels as the task collates them."""
        return {"loss": self.task.loss(self.outputs(**inputs), labels)}


class PooledExamples:
    """Examples of a frozen encoder, pooled once so that training its head costs next to nothing."""

    def __init__(self, objective: FinetuningObjective, examples: Examples, batch_size: int) -> None:
        batches = list(_inputs_and_labels(examples, batch_size))
        self.labels = torch.cat([labels for _, labels in batches])
        with torch.no_grad():
            encoder = objective.to(default_device()).eval()
            self.pooled = torch.cat([encoder.pool(**inputs).float().cpu() for inputs, _ in batches])

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its row; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """`pooled` (B, D) and `labels` of some rows."""
        rows = list(examples)
        return {"pooled": self.pooled[rows], "labels": self.labels[rows]}


def finetune(
    encoder: Any,
    tokenizer: Any,
    task: Task,
    *,
    config: FinetuningConfig,
    out: Path,
    splits: Sequence[str] = ("dev", "test"),
) -> dict[str, float]:
    """Fine-tune an encoder on a task and score it.

    Args:
        encoder: A Hugging Face encoder; it is changed.
        tokenizer: Its tokenizer.
        task: The task.
        config: Settings, the seed among them.
        out: Folder for `predictions-<split>.jsonl` and `scores.json`.
        splits: Splits to score.

    Returns:
        Scores by "<split>_<metric>"; "diverged" is 1.0 if the training loss was no longer finite.
    """
    seed_everything(config.seed)
    objective = FinetuningObjective(encoder, task, config)
    limit = min(config.max_length, longest_input(encoder, tokenizer))
    args = training_arguments(out, config.training, seed=config.seed)

    def encode(split: str) -> Examples:
        examples = task.encode(task.load(split), tokenizer, limit)
        frozen = config.freeze_encoder
        return PooledExamples(objective, examples, args.per_device_eval_batch_size) if frozen else examples

    log = fit(objective, encode("train"), args=args)
    scores = {"diverged": float(not math.isfinite(log.mean_loss))}
    for split in splits:
        predictions = task.predict(predict(objective, encode(split), args.per_device_eval_batch_size))
        lines = [json.dumps({"row": i, "prediction": guess}) for i, guess in enumerate(predictions)]
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / f"predictions-{split}.jsonl", "\n".join(lines) + "\n")
        scores |= {f"{split}_{name}": value for name, value in task.metrics(predictions, task.load(split)).items()}
    write_atomic(out / "scores.json", json.dumps(scores, indent=1))
    return scores


@torch.no_grad()
def predict(objective: FinetuningObjective, examples: Examples, batch_size: int) -> Tensor:
    """The head's outputs for every example, in order, on the CPU."""
    objective = objective.to(default_device()).eval()
    return torch.cat(
        [objective.outputs(**inputs).float().cpu() for inputs, _ in _inputs_and_labels(examples, batch_size)]
    )


def _inputs_and_labels(examples: Examples, batch_size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    for begin in range(0, len(examples), batch_size):
        indices = range(begin, min(begin + batch_size, len(examples)))
        batch = examples.collate([examples.example(i, keyed_rng(0, 0, i)) for i in indices])
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        yield to_device(inputs, default_device()), batch["labels"]


def finetune_seeds(
    name: str | Path,
    task: Any,
    *,
    seeds: Sequence[int],
    config: FinetuningConfig,
    out: Path | str,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Summary]:
    """Fine-tune a checkpoint afresh with every seed.

    Args:
        name: Folder or Hub name of the encoder.
        task: The task; scored on its dev and test splits, as far as they are there.
        seeds: The seeds.
        config: Settings; its own seed is replaced.
        out: Folder: `seed-<n>/` with scores and predictions of each run, and a manifest with the summary.
        overwrite: Replace what is in `out`.
        resume: Leave seeds that are done as they are.

    Returns:
        A summary over seeds for each score.
    """
    tokenizer, splits = load_tokenizer(name), [split for split in task.splits() if split != "train"]
    if not seeds:
        raise ConfigError("no seeds were given; at least one is needed, and five for a claim")
    rows = digest(*(repr(task.load(split)) for split in ("train", *splits)))
    inputs = {
        "encoder": weights_digest(load_model(name, "AutoModel")),
        "task": task.name,
        "rows": rows,
    }
    settings = {**vars(replace(config, seed=-1)), "seeds": list(seeds)}
    artifact = Artifact.begin(out, KIND, config=settings, inputs=inputs, overwrite=overwrite, resume=resume)
    runs = []
    for seed in seeds:
        folder = artifact.path / f"seed-{seed}"
        if (folder / "scores.json").is_file():
            runs.append(json.loads((folder / "scores.json").read_text()))
            continue
        encoder = load_model(name, "AutoModel")
        runs.append(finetune(encoder, tokenizer, task, config=replace(config, seed=seed), out=folder, splits=splits))
    summaries = {score: summarize([run[score] for run in runs]) for score in runs[0]}
    artifact.finish({"main_score": task.main_score, "summary": {name: vars(s) for name, s in summaries.items()}})
    return summaries
