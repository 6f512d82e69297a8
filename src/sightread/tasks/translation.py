"""Machine translation: a Transformer (Vaswani et al. 2017) trained from scratch, scored by BLEU and chrF.

Source and target share a byte-level BPE vocabulary of C pieces and its embeddings. The loss smooths the labels by ε: a
target token y_t of a pair (x, y) costs, on average over the tokens of a batch,

    -(1 - ε) log p(y_t | y_<t, x) - ε mean_c log p(c | y_<t, x).

The weights of the last checkpoints are averaged, and a beam searches for the translations. Run it with

    sightread translate --dataset multi30k --data multi30k --preset small --out scores

docs/results.md tells what to expect. With an association the encoder looks at the pictures found for each source
sentence (`aware.AwareTranslator`); all else stays as it is, the weights at the start included.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from sightread.artifacts import CHECKPOINTS, digest
from sightread.association import Association
from sightread.aware import AwareTranslator, LookConfig
from sightread.config import check_share
from sightread.contracts import IGNORED, Batch, Losses, Objective, Row
from sightread.data.blocks import pad, text_of
from sightread.data.parallel import ParallelText
from sightread.data.skipped import Skipped
from sightread.encoders.seq2seq import build_transformer, check_lengths, learn_vocabulary, padded, token_ids, translate
from sightread.errors import ConfigError
from sightread.grounded import Finder
from sightread.metrics import METRICS, translation_signatures
from sightread.runtime import seed_everything
from sightread.scores import SeededRuns, score_split, write_scores
from sightread.statistics import Summary
from sightread.train import fit, training_arguments

METRIC = "translation"
_TRAINING = {
    "lr_scheduler_type": "inverse_sqrt", "adam_beta2": 0.98, "adam_epsilon": 1e-9,
    "train_sampling_strategy": "group_by_length", "save_strategy": "steps", "save_steps": 0.05,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """Settings of a translation model; the defaults suit Multi30k on a laptop.

    Attributes:
        layers: Layers of the encoder, and of the decoder.
        width: Width of the states and embeddings.
        heads: Attention heads.
        feed_forward: Width inside the feed-forward layers.
        dropout: Dropout on embeddings and on the output of every sublayer.
        vocab_size: Pieces of the joint vocabulary, at most.
        label_smoothing: ε of the loss.
        max_length: Tokens; a longer sentence is left out of training, with its pair.
        averaged: How many of the last checkpoints are averaged, at most; 1 to take the last weights.
        num_beams: Hypotheses that the search keeps.
        length_penalty: The search ranks by log p(y | x) / |y|^length_penalty; not GNMT's formula, see
            `encoders.seq2seq.build_transformer`.
        look: How the encoder looks at pictures, where there are any.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    layers: int = 3
    width: int = 256
    heads: int = 4
    feed_forward: int = 512
    dropout: float = 0.3
    vocab_size: int = 6000
    label_smoothing: float = 0.1
    max_length: int = 256
    averaged: int = 5
    num_beams: int = 4
    length_penalty: float = 0.6
    look: LookConfig = field(default_factory=lambda: LookConfig(heads=4))
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 20, "per_device_train_batch_size": 64, "learning_rate": 1e-3, "warmup_steps": 1000,
            **_TRAINING,
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_share(dropout=self.dropout, label_smoothing=self.label_smoothing)
        if self.averaged > 1 and self.training.get("save_strategy") != "steps":
            raise ConfigError(f"averaged={self.averaged} needs checkpoints: set save_strategy=steps, or averaged=1")
        if self.width % self.heads:
            raise ConfigError(f"width={self.width} is no multiple of heads={self.heads}")


PRESETS = {
    "small": TranslationConfig(),
    "base": TranslationConfig(
        layers=6, width=512, heads=8, feed_forward=2048, dropout=0.1, vocab_size=37_000,
        training={
            "max_steps": 100_000, "per_device_train_batch_size": 128, "gradient_accumulation_steps": 7,
            "learning_rate": 7e-4, "warmup_steps": 4000, **_TRAINING, "save_steps": 1500,
        },
    ),
}  # fmt: skip
"""`base` is Vaswani et al.'s: 7 · 128 pairs are about their 25,000 tokens; for little data set dropout=0.3."""


class TranslationObjective(Objective):
    """A sequence-to-sequence model and its label-smoothed loss."""

    def __init__(self, model: Any, label_smoothing: float) -> None:
        super().__init__()
        self.encoder: Any = model
        self.label_smoothing = label_smoothing

    def forward(self, labels: Tensor, **inputs: Tensor) -> Losses:  # type: ignore[override]
        """The loss of one batch, and its part `nll`, the mean negative log-likelihood of a token.

        Args:
            labels: Target tokens, int64 (B, L), `IGNORED` at padding.
            **inputs: What the model takes: `input_ids` and `attention_mask`, int64 (B, L).
        """
        shifted = self.encoder.prepare_decoder_input_ids_from_labels(labels)
        logits = self.encoder(**inputs, decoder_input_ids=shifted, use_cache=False).logits  # (B, L, C)
        real = labels != IGNORED
        log_p = logits[real].float().log_softmax(dim=-1)  # (T, C)
        nll = -log_p.gather(1, labels[real][:, None]).mean()
        return {"loss": (1 - self.label_smoothing) * nll - self.label_smoothing * log_p.mean(), "nll": nll}


class TranslationExamples:
    """Tokenized pairs, as `fit` takes them.

    A batch holds, all int64 (B, L): `input_ids`, `attention_mask`, and `labels`, which are `IGNORED` at padding.

    Args:
        pairs: The pairs.
        tokenizer: The joint tokenizer.
        max_length: Tokens; pairs with a longer side are left out.

    Attributes:
        lengths: Tokens of each pair, both sides together, by which `fit` can group.
        skipped: What was left out.
    """

    def __init__(self, pairs: Sequence[Row], tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.skipped = tokenizer, Skipped()
        self.pairs = list[tuple[np.ndarray, np.ndarray]]()
        sides = (token_ids(tokenizer, side) for side in zip(*pairs, strict=True))
        for number, (source, target) in enumerate(zip(*sides, strict=True), start=1):
            if max(len(source), len(target)) > max_length:
                self.skipped.add(f"longer than {max_length} tokens", f"training pair {number}")
            else:
                self.pairs.append((source, target))
        self.lengths = [len(source) + len(target) for source, target in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def example(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A pair's tokens; nothing is drawn."""
        return self.pairs[index]

    def collate(self, examples: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
        """Pad each side to its longest."""
        sources, targets = zip(*examples, strict=True)
        return {**padded(sources, self.tokenizer.pad_token_id), "labels": pad(targets, IGNORED)}


def average_checkpoints(checkpoints: Path, count: int) -> dict[str, Tensor]:
    """The mean of the weights of the last `count` checkpoints below a folder, float64 by name; empty without any."""
    files = sorted(checkpoints.glob("checkpoint-*/model.safetensors"), key=lambda p: int(p.parent.name.split("-")[1]))
    means = dict[str, Tensor]()
    for file in (last := files[-count:]):
        for name, value in safetensors.torch.load_file(file).items():
            means[name] = means.get(name, 0) + value.double() / len(last)
    return means


def train(
    config: TranslationConfig,
    data: ParallelText,
    out: Path | str,
    *,
    seeds: Sequence[int],
    association: Association | None = None,
    keep_models: bool = False,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Summary]:
    """Train a model with every seed and score it on all splits that are there but "train".

    Args:
        config: Settings.
        data: The data set.
        out: Folder of scores: `seed-<n>/` with scores, predictions and log of each run, and a manifest.
        seeds: Seeds of weights, order and dropout.
        association: What finds pictures for the source sentences; they are sought once, before training. None: text is
            all that is read.
        keep_models: Keep each model and its tokenizer in `seed-<n>/model`, as `AutoModelForSeq2SeqLM` loads them, once
            `sightread.aware` is imported if it looks at pictures.
        overwrite: Replace what is in `out`.
        resume: Leave seeds that are done as they are, and go on with the others from their last checkpoints; others
            may be added to those of a finished folder.

    Returns:
        A summary over seeds for each "<split>_<score>", and for "diverged"; runs that diverged are among them.

    Raises:
        ConfigError: If there is no seed, no split to score, or fewer pictures than are to be found.
    """
    rows = {split: data.load(split) for split in dict.fromkeys(("train", *data.splits()))}
    if not seeds or len(rows) < 2:
        raise ConfigError(f"{len(seeds)} seeds, splits {', '.join(rows)}: expected a seed, and a split to score")
    settings = {**asdict(config), "keep_models": keep_models}
    inputs = {"task": data.name, "rows": digest(*map(repr, rows.values()))}
    if association:
        association.retrieve([], config.look.num_images)  # refuses a wrong number before any work,
        config.look.attention(config.width, association.bank.features.shape[1])  # and heads that do not fit
        inputs["association"] = association.digest
    runs = SeededRuns(out, seeds, config=settings, inputs=inputs, overwrite=overwrite, resume=resume)
    if runs.finished:
        return runs.summaries()
    pairs = rows.pop("train")
    tokenizer = learn_vocabulary((text for pair in pairs for text in pair), config.vocab_size)
    for split, scored in rows.items():
        check_lengths(tokenizer, [pair.inputs for pair in scored], split)
    examples = TranslationExamples(pairs, tokenizer, config.max_length)
    finder = Finder(association, tokenizer, config.look.num_images) if association else None
    seen = _find_all(finder, examples, rows, runs.path / CHECKPOINTS / "pictures") if finder else {}
    for seed, folder in runs.left.items():
        model, loss = _train_one(config, examples, finder, folder, seed=seed, resume=resume)
        if keep_models:
            model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
        _score(model, tokenizer, rows, folder, loss)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    examples.skipped.merge(data.skipped)
    name = f"transformer-{config.layers}x{config.width}"
    name += f"-{config.look.num_images}-pictures-{association.kind}" if association else ""
    signatures, skipped = translation_signatures(), examples.skipped.report()
    runs.finish(data.name, METRIC, name, signatures=signatures, skipped=skipped, **seen)
    return runs.summaries()


def _find_all(
    finder: Finder, examples: TranslationExamples, rows: Mapping[str, Sequence[Row]], folder: Path
) -> dict[str, Any]:
    """Find the pictures of all source sentences, of training and of the splits that are scored."""
    sources = [ids for ids, _ in examples.pairs]
    sources += token_ids(finder.tokenizer, [pair.inputs for part in rows.values() for pair in part])
    return finder.prepare([text_of(finder.tokenizer, ids) for ids in sources], folder)


def _train_one(
    config: TranslationConfig,
    examples: TranslationExamples,
    finder: Finder | None,
    folder: Path,
    *,
    seed: int,
    resume: bool,
) -> tuple[Any, float]:
    """The model with its averaged weights, and the mean training loss."""
    seed_everything(seed)
    looking = {"kind": AwareTranslator, **AwareTranslator.shape(finder, config.look)} if finder else {}
    model = build_transformer(
        examples.tokenizer, layers=config.layers, width=config.width, heads=config.heads, dropout=config.dropout,
        feed_forward=config.feed_forward, num_beams=config.num_beams, length_penalty=config.length_penalty,
        **looking,
    )  # fmt: skip
    if finder:
        model.model.encoder.finder = finder
    objective = TranslationObjective(model, config.label_smoothing)
    settings = {**config.training, "save_total_limit": config.averaged}
    log = fit(objective, examples, args=training_arguments(folder, settings, seed=seed), resume=resume)
    means = average_checkpoints(folder / CHECKPOINTS, config.averaged)
    objective.load_state_dict(means, strict=False)  # tied weights are saved under one name only
    return model, log.mean_loss


def _score(model: Any, tokenizer: Any, rows: Mapping[str, Sequence[Row]], folder: Path, loss: float) -> None:
    """Write the predictions and scores of one run."""
    scores = {"diverged": 0.0 if math.isfinite(loss) else 1.0}
    for split, pairs in rows.items():
        sources, gold = zip(*pairs, strict=True)
        scores |= score_split(folder, split, METRIC, translate(model, tokenizer, sources), gold)
    if not scores["diverged"] and scores[f"{next(iter(rows))}_{METRICS[METRIC].main}"] < 1:
        scores["diverged"] = 3.0
    write_scores(folder, scores)
