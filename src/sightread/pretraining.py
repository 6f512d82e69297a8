"""What every kind of pre-training shares: blocks of a voken corpus in, an ordinary checkpoint out."""

from __future__ import annotations

import json
import re
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
from sightread.modules.language_model import LanguageModel
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import fit, training_arguments

KIND = "encoder"
SHAPE = re.compile(r"new:(?P<type>[\w-]+)-(?P<layers>\d+)L-(?P<width>\d+)H")
SPECIAL = ("pad", "bos", "eos", "cls", "sep")


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


def start_model(source: str | Path, tokenizer: Any) -> LanguageModel:
    """A checkpoint (folder or Hub name), or fresh weights.

    Args:
        source: The checkpoint; or a Hugging Face `config.json`; or a shape such as "new:bert-6L-512H": any model type
            of transformers, layers and hidden size, with heads of 64 and a feed-forward layer four times as wide.
        tokenizer: Gives a fresh model its vocabulary size and special tokens.

    Raises:
        ConfigError: If the file is no model config, or there is no such type of model.
    """
    if not is_fresh(source):
        return LanguageModel.from_pretrained(source)
    from transformers import AutoConfig

    try:
        shape = SHAPE.fullmatch(str(source))
        settings = _settings_of(shape) if shape else json.loads(Path(source).read_text())
        settings |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}
        config = AutoConfig.for_model(**settings | {"vocab_size": len(tokenizer)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{source} is no Hugging Face model config ({error})") from error
    return LanguageModel.from_config(config)


def is_fresh(source: str | Path) -> bool:
    """Whether `start_model` makes fresh weights of this."""
    return str(source).endswith(".json") or str(source).startswith("new:")


def _settings_of(shape: re.Match[str]) -> dict[str, Any]:
    width = int(shape["width"])
    return {"model_type": shape["type"], "hidden_size": width, "num_hidden_layers": int(shape["layers"]),
            "num_attention_heads": max(width // 64, 1), "intermediate_size": 4 * width}  # fmt: skip


def pretrain(
    make_objective: Callable[[LanguageModel], Objective],
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    config: PretrainingConfig,
    inputs: Mapping[str, str] | None = None,
    blocks: Mapping[str, Any] | None = None,
    match_compute_of: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Pre-train an encoder, or a decoder, on a voken corpus; the common part of every method and its control.

    Two runs with the same corpus, start and settings read the same blocks in the same order with the same masks, and
    begin with the same weights, whatever their objectives.

    Args:
        make_objective: Puts an objective on the language model.
        corpus: What to read.
        out: Folder of the run; the checkpoint is in its `encoder/`.
        start: See `start_model`.
        config: Settings.
        inputs: Digests of what the objective rests on.
        blocks: What the objective reads beside masked text: `soft` and `beside` of `TokenBlocks`.
        match_compute_of: Another run: take as many steps as cost the same time here as that run's did there.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    tokenizer = load_tokenizer(corpus.path / "tokenizer" if is_fresh(start) else start)
    corpus.check_tokenizer(tokenizer_digest(tokenizer))
    seed_everything(config.seed)
    model = start_model(start, tokenizer)
    if config.max_length > (limit := longest_input(model.encoder, tokenizer)):
        raise ConfigError(f"max_length={config.max_length}: this model reads at most {limit} tokens")
    examples = TokenBlocks(
        corpus, tokenizer, max_length=config.max_length, packed=config.packed, probability=config.mask_probability,
        causal=model.causal, **(blocks or {}),
    )  # fmt: skip
    inputs = {"start": weights_digest(model), "corpus": corpus.artifact.inputs["corpus"], **(inputs or {})}
    if match_compute_of:
        inputs["match_compute_of"] = str(match_compute_of)
    objective = make_objective(model)  # which refuses settings that do not go with this model
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    if match_compute_of:
        config = _with_matched_steps(config, objective, examples, match_compute_of)
    started = time.monotonic()
    log = fit(
        objective, examples, args=training_arguments(artifact.path, config.training, seed=config.seed), resume=resume
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
