"""fit(): Hugging Face's Trainer around any Objective.

Schedules, precision, distribution, logging and checkpoints are the Trainer's, under its own names. What is ours is the
order: the examples of all epochs are laid end to end, each drawn from a generator keyed by (seed, epoch, example), so
that an arm and its control see the same data, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, get_reporting_integration_callbacks

from sightread.artifacts import CHECKPOINTS
from sightread.contracts import Examples, Objective
from sightread.errors import ConfigError
from sightread.runtime import default_device, keyed_rng, seed_everything

LOG, TENSORBOARD = "log.jsonl", "tensorboard"


class TrainingLog(list[dict[str, float]]):
    """The losses at every logging step.

    Attributes:
        steps: Optimiser steps of the whole run.
        mean_loss: Mean of the loss over them; not finite if it ever was not.
    """

    steps: int = 0
    mean_loss: float = 0.0


def training_arguments(folder: Path, settings: Mapping[str, Any], *, seed: int) -> TrainingArguments:
    """TrainingArguments for a run in `folder`, with our defaults beneath the user's settings.

    Raises:
        ConfigError: If a setting is wrong or contradicts another, if what it is to report to is not installed, or if
            one process would use many GPUs.
    """
    interactive = sys.stderr.isatty()
    defaults = {
        "output_dir": str(folder / CHECKPOINTS), "seed": seed, "logging_steps": 50, "save_strategy": "no",
        "save_total_limit": 2, "report_to": "none", "disable_tqdm": not interactive, "remove_unused_columns": False,
        "logging_nan_inf_filter": False, "dataloader_pin_memory": False, "use_cpu": default_device() == "cpu",
        "ddp_broadcast_buffers": False,  # they are constant, and may be large
    }  # fmt: skip
    try:
        args = TrainingArguments(**{**defaults, **settings})
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()  # which tells what is missing; nothing is begun or sent before training
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ConfigError(f"training settings: {error}") from error
    if args.n_gpu > 1:
        raise ConfigError(f"{args.n_gpu} GPUs, one process: set CUDA_VISIBLE_DEVICES=0, or start one a GPU by torchrun")
    return args


def fit(
    objective: Objective,
    examples: Examples,
    *,
    args: TrainingArguments,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingLog:
    """Train an objective in place.

    Args:
        objective: Model and loss; on return it holds the trained weights.
        examples: What to train on.
        args: Hugging Face's arguments. `args.seed` keys order, masks and dropout; checkpoints, if `save_strategy`
            asks for any, go to `args.output_dir`, the log to `log.jsonl` beside it, and, if `report_to` asks for that,
            to `tensorboard/`. With the sampling strategy
            "group_by_length" a batch holds examples of like `lengths`, which the examples must know. Where they know
            their `kinds`, int64 (N,), a batch holds one kind alone, and there are as many batches of every kind.
        resume: Go on from the last whole checkpoint, if there is one.
        callbacks: Hugging Face callbacks.

    Returns:
        The log.
    """
    stream = reading_order(examples, args)
    args.num_train_epochs, args.train_sampling_strategy = 1, "sequential"
    seed_everything(args.seed)
    trainer = _Trainer(
        model=objective, args=args, train_dataset=stream, data_collator=examples.collate, callbacks=list(callbacks)
    )
    trainer.remove_callback(PrinterCallback)
    board: Any = trainer.pop_callback(TensorBoardCallback)
    if board is not None:  # its own place would go with the checkpoints
        board.logging_dir = board.logging_dir or str(Path(str(args.output_dir)).with_name(TENSORBOARD))
        trainer.add_callback(board)
    checkpoint = last_checkpoint(Path(str(args.output_dir))) if resume else None
    gc.freeze()  # the Trainer collects garbage at every end; what lives on need not be looked at each time
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    gc.unfreeze()
    objective.eval()
    summary = trainer.state.log_history[-1]
    log = TrainingLog(entry for entry in trainer.state.log_history if "loss" in entry)
    log.steps, log.mean_loss = trainer.state.global_step, summary["train_loss"]
    if args.should_save:
        with suppress(OSError):  # the Trainer makes the folder of checkpoints even if it is to hold none
            Path(str(args.output_dir)).rmdir()
        folder = Path(str(args.output_dir)).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in log))
    return log


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`: the Trainer writes `trainer_state.json` last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def _per_step(args: TrainingArguments) -> int:
    """Examples of an optimiser step."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def reading_order(examples: Examples, args: TrainingArguments) -> Any:
    """The examples as `fit` reads them with these arguments, a `Stream`."""
    if args.max_steps > 0:
        return Stream(examples, args, length=args.max_steps * _per_step(args))
    if args.num_train_epochs != int(args.num_train_epochs) or args.num_train_epochs < 1:
        raise ConfigError(f"num_train_epochs={args.num_train_epochs}: expected a whole number; use max_steps for less")
    return Stream(examples, args, num_epochs=int(args.num_train_epochs))


class Stream(Dataset[Any]):
    """All epochs end to end, each in its own order; item i is a function of (seed, i) alone.

    Of examples of several kinds, every round holds one full batch of each, in random order. The first kind's examples
    are laid end to end as if there were no other; the order of a later one depends on how many stand before. The
    largest decides how long an epoch is: the others are read again.

    Attributes:
        num_kinds: How many kinds there are.
        batch_size: Examples that are read at once, on all processes.
    """

    def __init__(self, examples: Examples, args: TrainingArguments, num_epochs: int = 0, length: int = 0) -> None:
        self.examples, self.seed = examples, args.seed
        self.batch_size = args.train_batch_size * args.world_size
        kinds = np.asarray(getattr(examples, "kinds", np.zeros(len(examples), np.int64)))
        self.members = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
        self.num_kinds = len(self.members)
        largest = num_epochs * max(map(len, self.members))
        if self.num_kinds > 1:
            largest = -(-largest // self.batch_size) * self.batch_size
        self.length = length or largest * self.num_kinds
        grouped = args.train_sampling_strategy == "group_by_length"
        if grouped and not hasattr(examples, "lengths"):
            raise ConfigError("train_sampling_strategy=group_by_length: these examples have no lengths; leave it out")
        self.lengths = np.asarray(examples.lengths) if grouped else None  # type: ignore[attr-defined]
        self._orders = lru_cache(maxsize=2 * self.num_kinds)(self._permutations)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Any:
        batch, offset = divmod(item, self.batch_size)
        round_, turn = divmod(batch, self.num_kinds)
        # one word more than any other key has
        kind = int(keyed_rng(self.seed, round_, 0, 1).permutation(self.num_kinds)[turn]) if self.num_kinds > 1 else 0
        epoch, place = divmod(round_ * self.batch_size + offset, len(self.members[kind]))
        index = int(self._orders(epoch)[kind][place])
        return self.examples.example(index, keyed_rng(self.seed, epoch, index))

    def _permutations(self, epoch: int) -> list[np.ndarray]:
        """The examples of each kind, in the order of one epoch."""
        rng = keyed_rng(self.seed, epoch)
        orders = [rng.permutation(members) for members in self.members]
        if self.lengths is None:
            return orders
        size = self.batch_size
        begun = [-epoch * len(order) % size for order in orders]  # what fills up the last batch of the epoch before
        return [
            np.concatenate([order[:first], group_by_length(order[first:], self.lengths, size, rng)])
            for order, first in zip(orders, begun, strict=True)
        ]


def group_by_length(order: np.ndarray, lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Reorder examples so that batches hold like lengths, and are still drawn at random.

    Fifty batches at a time are sorted by length, cut into batches, and these shuffled; a batch that is not full stays
    last.

    Args:
        order: Example numbers in random order, int64 (N,).
        lengths: Length of every example, int64.
        batch_size: Examples in a batch.
        rng: Shuffles the batches.
    """
    batches = list[np.ndarray]()
    for begin in range(0, len(order), 50 * batch_size):
        part = order[begin : begin + 50 * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += np.split(part, range(batch_size, len(part), batch_size))
    full = [batch for batch in batches if len(batch) == batch_size]
    rng.shuffle(full)
    return np.concatenate([*full, *(batch for batch in batches if len(batch) < batch_size), order[:0]])


class _Trainer(Trainer):
    """The Trainer, taught to log every loss and to save objectives whose weights are tied."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._seen = defaultdict[str, list[Tensor]](list)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        losses = model(**inputs)
        for name, value in losses.items():
            if name != "loss":
                self._seen[name].append(value.detach().float())
        return (losses["loss"], losses) if return_outputs else losses["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:  # a loss that some kinds of batches lack is the mean over those that have it
            logs |= {name: round(float(torch.stack(values).mean()), 6) for name, values in self._seen.items()}
            self._seen.clear()
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        safetensors.torch.save_model(model, os.fspath(folder / "model.safetensors"))
