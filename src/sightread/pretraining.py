"""What every kind of pre-training shares: blocks of a voken corpus in, an ordinary checkpoint out."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightread.artifacts import Artifact
from sightread.contracts import Objective, to_device
from sightread.data.blocks import TokenBlocks
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer, longest_input, tokenizer_digest, weights_digest
from sightread.errors import ConfigError
from sightread.modules.masked_lm import MaskedLanguageModel
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import fit, training_arguments

KIND = "encoder"


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """Settings that an arm and its control share.

    Attributes:
        max_length: Tokens in a block, special ones included.
        packed: Fill blocks across line ends.
        mask_probability: Share of tokens that are masked.
        seed: Seed of weights, order, masks and dropout.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    max_length: int = 128
    packed: bool = True
    mask_probability: float = 0.15
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 1, "per_device_train_batch_size": 32, "learning_rate": 2e-4, "weight_decay": 0.01,
            "warmup_steps": 0.05, "lr_scheduler_type": "linear",
        }
    )  # fmt: skip


def start_model(source: str | Path, tokenizer: Any) -> MaskedLanguageModel:
    """A checkpoint (folder or Hub name), or fresh weights from a Hugging Face `config.json` file.

    A config gets the vocabulary size of the tokenizer.

    Raises:
        ConfigError: If the file is no model config.
    """
    if not str(source).endswith(".json"):
        return MaskedLanguageModel.from_pretrained(source)
    from transformers import AutoConfig

    try:
        settings = json.loads(Path(source).read_text())
        config = AutoConfig.for_model(**settings)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{source} is no Hugging Face model config ({error})") from error
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    return MaskedLanguageModel.from_config(config)


def pretrain(
    make_objective: Callable[[MaskedLanguageModel], Objective],
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    config: PretrainingConfig,
    inputs: Mapping[str, str] | None = None,
    match_compute_of: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Pre-train an encoder on a voken corpus; the common part of voken pre-training and its control.

    Two runs with the same corpus, start and settings read the same blocks in the same order with the same masks, and
    begin with the same weights, whatever their objectives.

    Args:
        make_objective: Puts an objective on the language model.
        corpus: What to read.
        out: Folder of the run; the checkpoint is in its `encoder/`.
        start: A checkpoint, or a `config.json` for fresh weights.
        config: Settings.
        inputs: Digests of what the objective rests on.
        match_compute_of: Another run: take as many steps as cost the same time here as that run's did there.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    fresh = str(start).endswith(".json")
    tokenizer = load_tokenizer(corpus.path / "tokenizer" if fresh else start)
    corpus.check_tokenizer(tokenizer_digest(tokenizer))
    blocks = TokenBlocks(
        corpus, tokenizer, max_length=config.max_length, packed=config.packed, probability=config.mask_probability
    )
    seed_everything(config.seed)
    model = start_model(start, tokenizer)
    if config.max_length > (limit := longest_input(model.encoder, tokenizer)):
        raise ConfigError(f"max_length={config.max_length}: this model reads at most {limit} tokens")
    inputs = {"start": weights_digest(model), "corpus": corpus.artifact.inputs["corpus"], **(inputs or {})}
    if match_compute_of:
        inputs["match_compute_of"] = str(match_compute_of)
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    objective = make_objective(model)
    if match_compute_of:
        config = _with_matched_steps(config, objective, blocks, match_compute_of)
    started = time.monotonic()
    log = fit(
        objective, blocks, args=training_arguments(artifact.path, config.training, seed=config.seed), resume=resume
    )
    seconds = time.monotonic() - started
    model.save_pretrained(artifact.path / "encoder")
    tokenizer.save_pretrained(artifact.path / "encoder")
    return artifact.finish({"steps": log.steps, "seconds": seconds, "last": log[-1:]})


def step_seconds(objective: Objective, blocks: TokenBlocks, batch_size: int, *, repeats: int = 7) -> float:
    """Median seconds of one forward and backward pass, weights untouched."""
    device = next(objective.parameters()).device
    times = list[float]()
    for repeat in range(repeats + 1):
        rows = (np.arange(batch_size) + repeat * batch_size) % len(blocks)
        batch = blocks.collate([blocks.example(int(row), keyed_rng(0, 0, int(row))) for row in rows])
        began = time.perf_counter()
        objective(**to_device(batch, device))["loss"].backward()
        times.append(time.perf_counter() - began)
    objective.zero_grad(set_to_none=True)
    return statistics.median(times[1:])


def _with_matched_steps(
    config: PretrainingConfig, objective: Objective, blocks: TokenBlocks, other: Path
) -> PretrainingConfig:
    report = Artifact.open(other, KIND).report
    batch_size = int(config.training.get("per_device_train_batch_size", 8))
    steps = max(round(report["seconds"] / step_seconds(objective, blocks, batch_size)), 1)
    return replace(config, training={**config.training, "max_steps": steps})
