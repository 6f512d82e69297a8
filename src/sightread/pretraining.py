"""What every kind of pre-training shares: blocks of a voken corpus in, an ordinary checkpoint out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainingArguments

from sightread.artifacts import MANIFEST, Artifact, digest_file
from sightread.config import check_share
from sightread.contracts import Examples, Objective, to_device
from sightread.data.blocks import TokenBlocks
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import (
    config_digest,
    hub_names,
    load_tokenizer,
    longest_input,
    tokenizer_digest,
    weights_digest,
)
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import flop_formulas
from sightread.runtime import seed_everything
from sightread.train import fit, reading_order, training_arguments

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

    def __post_init__(self) -> None:
        check_share(mask_probability=self.mask_probability)


def start_model(source: str | Path, tokenizer: Any) -> LanguageModel:
    """A checkpoint (folder or Hub name), or fresh weights.

    Args:
        source: The checkpoint; or a Hugging Face `config.json`; or a shape such as "new:bert-6L-512H": any model type
            of transformers, layers and hidden size, with heads of 64 and a feed-forward layer four times as wide.
        tokenizer: Gives a fresh model its vocabulary size and special tokens.

    Raises:
        ConfigError: If the file is no model config, there is no such type of model, or none of this shape.
    """
    if not is_fresh(source):
        return LanguageModel.from_pretrained(source)
    from transformers import AutoConfig

    try:
        name = str(source)
        settings = _settings_of(name) if name.startswith("new:") else json.loads(Path(source).read_text())
        settings |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}
        return LanguageModel.from_config(AutoConfig.for_model(**settings | {"vocab_size": len(tokenizer)}))
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ConfigError(
            f"{source} is no Hugging Face model config of a language model, and no shape new:TYPE-nL-nH, such as "
            f"new:bert-6L-512H ({reason})"
        ) from error


def is_fresh(source: str | Path) -> bool:
    """Whether `start_model` makes fresh weights of this."""
    return str(source).endswith(".json") or str(source).startswith("new:")


def _settings_of(source: str) -> dict[str, Any]:
    if not (shape := SHAPE.fullmatch(source)):
        raise ValueError("layers or hidden size are not given")
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
        match_compute_of: A finished run: take as many steps as cost the floating-point operations of all of its own.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    tokenizer, model = begin(start, corpus, config)
    examples = TokenBlocks(
        corpus, tokenizer, max_length=config.max_length, packed=config.packed, probability=config.mask_probability,
        causal=model.causal, **(blocks or {}),
    )  # fmt: skip
    inputs = {"corpus": corpus.artifact.inputs["corpus"], **(inputs or {})}
    objective = make_objective(model)  # which refuses settings that do not go with this model
    return train_encoder(
        objective, model, examples, tokenizer, out, config=config, inputs=inputs, match_compute_of=match_compute_of,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip


def train_encoder(
    objective: Objective, model: LanguageModel, examples: Examples, tokenizer: Any, out: Path | str, *,
    config: PretrainingConfig, inputs: Mapping[str, str], match_compute_of: Path | None = None,
    overwrite: bool = False, resume: bool = False,
) -> Path:  # fmt: skip
    """Train an objective on any examples, and write its encoder: `pretrain`, once its blocks are made.

    Args:
        objective: The objective.
        model: The language model in it, untrained.
        examples: What to read.
        tokenizer: The tokenizer.
        out: This and the others: as for `pretrain`.
        config: Settings.
        inputs: Digests of the examples, and of what else the objective rests on.
        match_compute_of: A finished run.
        overwrite: Replace.
        resume: Go on.
    """
    inputs = {
        "start": weights_digest(model), "start_config": config_digest(model.encoder),
        "tokenizer": tokenizer_digest(tokenizer), **inputs,
    }  # fmt: skip
    if match_compute_of:
        compute, inputs["match_compute_of"] = _compute_of(match_compute_of)
    if objective.encoder is not model.encoder:
        inputs["encoder"] = weights_digest(objective.encoder)
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    args = training_arguments(artifact.path, config.training, seed=config.seed)
    flops = step_flops(objective, examples, args)
    if match_compute_of:
        args.max_steps = max(round(compute / flops), 1)
    started = time.monotonic()
    log = fit(objective, examples, args=args, resume=resume)
    seconds = time.monotonic() - started
    if objective.encoder is model.encoder:
        learnt = getattr(config, "lm_weight", 1) > 0
        model.save_pretrained(artifact.path / "encoder", with_head=learnt or not model.fresh_head)
    else:
        objective.encoder.save_pretrained(artifact.path / "encoder")  # type: ignore[operator]
    tokenizer.save_pretrained(artifact.path / "encoder")
    return artifact.finish({
        "steps": log.steps, "flops": flops * log.steps, "seconds": seconds, "last": log[-1:],
        "base_models": hub_names(model.encoder),
    })  # fmt: skip


def step_flops(objective: Objective, examples: Examples, args: TrainingArguments) -> int:
    """Floating-point operations of one optimiser step in matrix products, forward and backward, weights untouched.

    They are counted in one batch, the first that is read, or the first of each kind, and depend on objective, examples
    and seed alone: not on the machine, its load, or what ran before.
    """
    order = reading_order(examples, args)
    plain = sdpa_kernel(SDPBackend.MATH)  # other attention is not counted on every device
    with plain, FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        for first in range(0, order.num_kinds * order.batch_size, order.batch_size):
            batch = examples.collate([order[(first + i) % len(order)] for i in range(args.train_batch_size)])
            objective.to(args.device)(**to_device(batch, args.device))["loss"].backward()
    objective.zero_grad(set_to_none=True)
    return int(counter.get_total_flops()) * args.gradient_accumulation_steps * args.world_size // order.num_kinds


def begin(start: str | Path, corpus: VokenCorpus | None, config: PretrainingConfig) -> tuple[Any, LanguageModel]:
    """Tokenizer and model, which fit the corpus, if there is one, and each other."""
    if corpus is None and is_fresh(start):
        raise ConfigError(f"{start} makes fresh weights, which take their tokenizer from a corpus: give one")
    tokenizer = load_tokenizer(corpus.path / "tokenizer" if corpus is not None and is_fresh(start) else start)
    if corpus is not None:
        corpus.check_tokenizer(tokenizer_digest(tokenizer))
    seed_everything(config.seed)
    model = start_model(start, tokenizer)
    if config.max_length > (limit := longest_input(model.encoder, tokenizer)):
        raise ConfigError(f"max_length={config.max_length}: this model reads at most {limit} tokens")
    return tokenizer, model


def _compute_of(run: Path) -> tuple[int, str]:
    """Floating-point operations of a finished run, and the digest of its manifest."""
    report = Artifact.open(run, KIND).report
    if "flops" not in report:
        raise ArtifactError(f"{run} does not say what it cost: no pre-training, or an older version's; make it again")
    return report["flops"], digest_file(run / MANIFEST)
