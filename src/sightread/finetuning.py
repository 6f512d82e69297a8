"""finetune(): any encoder on any task, one seed; finetune_seeds(): several, with their summary.

An encoder is anything that `load_encoder` loads: grounded or not, the harness cannot tell. Rows are read and tokenized
once for all seeds; every prediction is written beside the right answer, so that tables and tests need no retraining.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from sightread.artifacts import CHECKPOINTS, digest
from sightread.config import check_choice
from sightread.contracts import Row, Task
from sightread.data.blocks import stands_first
from sightread.data.encoded import Part
from sightread.data.regions import RegionStore
from sightread.data.skipped import Skipped
from sightread.encoders.text import load_tokenizer, longest_input, weights_digest
from sightread.errors import ArtifactError, ConfigError
from sightread.grounded import load_encoder
from sightread.metrics import METRICS
from sightread.modules.single_stream import SingleStream
from sightread.runtime import default_device, keyed_rng, quiet_progress, seed_everything, worker_pool
from sightread.scores import SCORES, SeededRuns, score_split, write_scores
from sightread.statistics import Summary
from sightread.task_model import FinetuningObjective, PooledExamples, predict
from sightread.train import fit, training_arguments

POOLINGS = ("first", "mean")


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """Settings of fine-tuning.

    Attributes:
        pooling: What stands for a sequence: its "first" token, but the last where the tokenizer puts no [CLS] first, as
            of CLIP and of decoders, whose first token knows nothing of the others; or the "mean" of all its tokens.
        freeze_encoder: Train the head alone: a linear probe.
        max_length: Tokens in a sequence; longer ones are cut, or read in windows where the task says so.
        num_train: Train on so many rows, drawn at random with the seed; None for all.
        patience: Score dev after every epoch, stop when it has not got better for so many of them, and keep the best;
            None to train to the end.
        seed: Seed of the head, the order and dropout.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    pooling: str = "first"
    freeze_encoder: bool = False
    max_length: int = 128
    num_train: int | None = None
    patience: int | None = None
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 3, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 128,
            "learning_rate": 5e-5, "weight_decay": 0.01, "warmup_steps": 0.1, "lr_scheduler_type": "linear",
            "train_sampling_strategy": "group_by_length",
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_choice("pooling", self.pooling, POOLINGS)
        for name in ("num_train", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, expected at least 1, or none")


class TaskData:
    """A task's rows and tokens, read once for all seeds.

    Args:
        task: The task.
        tokenizer: The encoder's tokenizer.
        max_length: Tokens in a sequence.
        splits: Splits to score; by default all but "train".
        also: Other data sets to score the same model on, by name: a task whose dev split has the same kind of answers.

    Attributes:
        rows: Rows of each split.
        examples: Their tokens.
        scored: The splits that are scored.
        cut: How many texts of a split were longer than `max_length`, where any were.
        skipped: Rows that were left out.
    """

    def __init__(
        self, task: Task, tokenizer: Any, max_length: int, splits: Sequence[str] | None = None,
        also: Mapping[str, Task] | None = None,
    ) -> None:  # fmt: skip
        self.task, also = task, also or {}
        own = [split for split in task.splits() if split != "train"] if splits is None else splits
        self.rows: dict[str, Sequence[Row]] = {split: task.load(split) for split in ("train", *own)}
        self.rows |= {name: other.load("dev") for name, other in also.items()}
        for name, other in also.items():
            if (ours := getattr(task, "labels", ())) != (theirs := getattr(other, "labels", ())):
                raise ConfigError(f"{name} has labels {', '.join(theirs)}; {task.name} has {', '.join(ours)}")
        self.skipped = Skipped()
        for left_out in (part for one in (task, *also.values()) for part in getattr(one, "skipped", {}).values()):
            self.skipped.merge(left_out)
        encodings = {"train": getattr(task, "encode_training", task.encode)}
        self.examples = {
            split: encodings.get(split, task.encode)(rows, tokenizer, max_length) for split, rows in self.rows.items()
        }
        self.cut = {split: examples.cut for split, examples in self.examples.items() if examples.cut}
        self.scored = [*own, *also]

    def pool(self, objective: FinetuningObjective, batch_size: int) -> None:
        """Replace tokens by the vectors that a frozen encoder makes of them, if that has not been done."""
        for split, examples in self.examples.items():
            if not isinstance(examples, PooledExamples):
                self.examples[split] = PooledExamples(objective, examples, batch_size)

    def prepare(self, encoder: Any, folder: Path) -> dict[str, Any]:
        """Let an encoder that reads more than text find what it reads beside all sequences, before it reads any; what
        it keeps of that is in the folder. Returns what a report tells of it."""
        if not hasattr(encoder, "prepare"):
            return {}
        return dict(encoder.prepare({split: part.input_ids for split, part in self.examples.items()}, folder))

    def training_part(self, num_train: int | None, seed: int) -> Any:
        """The training examples of so many rows, drawn at random."""
        examples, count = self.examples["train"], len(self.rows["train"])
        if num_train is None or num_train >= count:
            return examples
        rows = set(keyed_rng(seed, num_train).permutation(count)[:num_train].tolist())
        return Part(examples, [i for i in range(len(examples)) if examples.row_of[i] in rows])


def finetune(
    encoder: Any,
    tokenizer: Any,
    task: Task,
    *,
    config: FinetuningConfig,
    out: Path,
    splits: Sequence[str] | None = None,
    data: TaskData | None = None,
) -> dict[str, float]:
    """Fine-tune an encoder on a task and score it.

    Args:
        encoder: A Hugging Face encoder; it is changed.
        tokenizer: Its tokenizer.
        task: The task.
        config: Settings, the seed among them.
        out: Folder for `predictions-<split>.jsonl` and `scores.json`.
        splits: Splits to score, by default all but "train".
        data: The task's rows, if they have been read, and the encoder prepared for them.

    Returns:
        Scores by "<split>_<score>"; "diverged" is 0, or a key of `scores.DIVERGED`.
    """
    seed_everything(config.seed)
    pooling = "last" if config.pooling == "first" and not stands_first(tokenizer) else config.pooling
    objective = FinetuningObjective(encoder, task, pooling=pooling, frozen=config.freeze_encoder)
    if data is None:
        data = TaskData(task, tokenizer, min(config.max_length, longest_input(encoder, tokenizer)), splits)
        with TemporaryDirectory() as aside:
            data.prepare(encoder, Path(aside))
    args = training_arguments(out, config.training, seed=config.seed)
    if config.freeze_encoder and task.reads == "sequence":
        data.pool(objective, args.per_device_eval_batch_size)
    examples = data.training_part(config.num_train, config.seed)
    best = _BestOnDev(objective, data, args, config.patience, len(examples)) if config.patience else None
    log = fit(objective, examples, args=args, callbacks=[best] if best else [])
    if best:
        best.restore()
    scores = {"diverged": 0.0 if math.isfinite(log.mean_loss) else 1.0}
    for split in data.scored:
        gold = [row.gold for row in data.rows[split]]
        predictions = answers(objective, data, split, args)
        scores |= score_split(out, split, task.metric, predictions, gold)
        if split == data.scored[0] and not scores["diverged"] and _is_constant(predictions) and not _is_constant(gold):
            scores["diverged"] = 2.0
    write_scores(out, scores)
    return scores


def answers(objective: FinetuningObjective, data: TaskData, split: str, args: TrainingArguments) -> list[Any]:
    """The task's answer to every row of a split."""
    examples = data.examples[split]
    outputs = predict(objective, examples, args.per_device_eval_batch_size, bf16=args.bf16)
    return objective.task.predict(outputs, data.rows[split], examples)


def _is_constant(answers: Sequence[Any]) -> bool:
    """Whether all answers, or all labels within them, are one and the same."""
    if any(isinstance(answer, float) for answer in answers):
        return float(np.ptp([answer for answer in answers if answer is not None])) < 1e-6
    labels = (label for answer in answers for label in (answer if isinstance(answer, list) else [answer]))
    return len({json.dumps(label) for label in labels}) < 2


class _BestOnDev(TrainerCallback):
    """Scores dev after every epoch, keeps the best weights, and ends training that gets no better."""

    def __init__(
        self, objective: FinetuningObjective, data: TaskData, args: TrainingArguments, patience: int, num_examples: int
    ) -> None:
        if "dev" not in data.scored or all(row.gold is None for row in data.rows["dev"]):
            raise ConfigError(f"patience={patience} needs a labelled dev split, which {objective.task.name} lacks here")
        self.objective, self.data, self.args, self.patience = objective, data, args, patience
        per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.steps_per_epoch = max(round(num_examples / per_step), 1)
        self.best, self.waited, self.weights = -math.inf, 0, dict[str, Tensor]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.steps_per_epoch and state.global_step < state.max_steps:
            return
        metric = METRICS[self.objective.task.metric]
        gold = [row.gold for row in self.data.rows["dev"]]
        score = metric.scores(answers(self.objective, self.data, "dev", self.args), gold)[metric.main]
        score = -score if metric.lower_is_better else score
        self.objective.train()
        self.waited += 1
        if score > self.best or not self.weights:
            self.best, self.waited = score, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in self.objective.state_dict().items()}
        control.should_training_stop |= self.waited >= self.patience

    def restore(self) -> None:
        """Go back to the best weights."""
        self.objective.load_state_dict(self.weights)


def finetune_seeds(
    name: str | Path,
    task: Task,
    *,
    seeds: Sequence[int],
    config: FinetuningConfig,
    out: Path | str,
    also: Mapping[str, Task] | None = None,
    workers: int = 1,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Summary]:
    """Fine-tune a checkpoint afresh with every seed.

    Args:
        name: Folder or Hub name of the encoder.
        task: The task; scored on all its splits but "train".
        seeds: The seeds.
        config: Settings; its own seed is replaced.
        out: Folder: `seed-<n>/` with scores and predictions of each run, and a manifest with the summary.
        also: Other data sets to score the same models on, by name.
        workers: Processes that share the seeds and the cores; on a CPU only.
        overwrite: Replace what is in `out`.
        resume: Leave seeds that are done as they are; others may be added to those of a finished folder.

    Returns:
        A summary over seeds for each score; runs that diverged are among them.

    Raises:
        ConfigError: If there is no seed, or a number of workers that cannot be.
        ArtifactError: If `out` cannot be begun or resumed, or a worker failed; seeds that are done stay there.
    """
    if not seeds:
        raise ConfigError("no seeds were given; at least one is needed, and five for a claim")
    if workers < 1 or (workers > 1 and default_device() != "cpu"):
        raise ConfigError(f"workers={workers} on {default_device()}: expected 1, or more of them on a CPU")
    start, tokenizer, data = _read(name, task, config, also)
    rows = digest(*(f"{split} {list(rows)!r}" for split, rows in data.rows.items()))
    inputs = {"encoder": weights_digest(start), "task": task.name, "rows": rows}
    settings = vars(replace(config, seed=-1))
    if (regions := _regions(task)) is not None:
        inputs["regions"] = regions.digest
        settings |= {f"task.{name}": value for name, value in vars(task.settings).items()}  # type: ignore[attr-defined]
    runs = SeededRuns(out, seeds, config=settings, inputs=inputs, overwrite=overwrite, resume=resume)
    if runs.finished:
        return runs.summaries()
    beside = runs.path / CHECKPOINTS / "beside"
    found = data.prepare(start, beside)
    left = {folder: replace(config, seed=seed) for seed, folder in runs.left.items()}
    if workers == 1:
        _tune(start, tokenizer, data, left)
    elif left:
        _tune_apart(workers, left, beside, name, task, config, also)
    runs.finish(task.name, task.metric, str(name), cut=data.cut, skipped=data.skipped.report(), **found)
    return runs.summaries()


def _read(
    name: str | Path, task: Task, config: FinetuningConfig, also: Mapping[str, Task] | None
) -> tuple[Any, Any, TaskData]:
    tokenizer, regions = load_tokenizer(name), _regions(task)
    seed_everything(0)  # so that what a checkpoint lacks, a head that no task reads among it, is the same when resumed
    start = (
        SingleStream.from_pretrained(name, region_width=regions.width) if regions is not None else load_encoder(name)
    )
    if config.freeze_encoder and getattr(start.config, "untaught", False):
        warnings.warn(
            "the layer that looks at pictures has learnt nothing yet, and with freeze_encoder it never does: scores "
            "will not tell what pictures are good for", stacklevel=4,
        )  # fmt: skip
    max_length = min(config.max_length, longest_input(start, tokenizer))
    return start, tokenizer, TaskData(task, tokenizer, max_length, also=also)


def _regions(task: Task) -> RegionStore | None:
    """The regions of a task about pictures."""
    return getattr(task, "regions", None)


def _tune(start: Any, tokenizer: Any, data: TaskData, runs: Mapping[Path, FinetuningConfig]) -> None:
    for folder, config in runs.items():
        encoder = copy.deepcopy(start)
        if hasattr(encoder, "begin_anew"):
            seed_everything(config.seed)
            encoder.begin_anew()
        finetune(encoder, tokenizer, data.task, config=config, out=folder, data=data)


def _tune_apart(workers: int, runs: Mapping[Path, FinetuningConfig], beside: Path, *what: Any) -> None:
    """Share runs among processes, each of which reads by itself what it needs."""
    with worker_pool(workers) as pool:
        shares = [dict(list(runs.items())[first::workers]) for first in range(min(workers, len(runs)))]
        jobs = [pool.submit(_read_and_tune, share, beside, *what) for share in shares]
    for job in jobs:
        if error := job.exception():
            done = sum((folder / SCORES).is_file() for folder in runs)
            raise ArtifactError(
                f"a worker failed, {type(error).__name__}: {error}; {done} of {len(runs)} seeds are done and kept: "
                "mend the cause, or take fewer workers if memory was short, and go on with --resume"
            ) from error


def _read_and_tune(runs: Mapping[Path, FinetuningConfig], beside: Path, *what: Any) -> None:
    quiet_progress()
    start, tokenizer, data = _read(*what)
    data.prepare(start, beside)
    _tune(start, tokenizer, data, runs)
