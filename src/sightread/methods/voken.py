"""Voken pre-training: read, and predict the picture of every token (Tan & Bansal 2020, section 3.1).

Beside language modelling, every token predicts its voken, the row v_i of its picture in a bank of V:

    L = λ_voken L_voken + λ_lm L_lm,  with f(v) the feature of a picture, s(h, v) = cos(head(h), f(v)), τ a temperature

    classification  -mean_i log softmax(head(h_i))[v_i]                                          head: D -> V    (eq. 1)
    soft            mean_i KL(softmax(scores of the k best pictures / τ) || softmax(head(h_i)))  head: D -> V
    regression      mean_i 1 - s(h_i, v_i), or the smooth L1 distance of head(h_i) and f(v_i),
                    summed over features                                                         head: D -> F
    contrastive     -mean_i log softmax(s(h_i, ·) / τ)[v_i], over the pictures of the batch and
                    some drawn from the bank, τ learnt                                           head: D -> F

over all tokens (the paper), the masked or the unmasked ones; tokens without a voken carry no voken loss. Classification
transfers only as far as different words share pictures; the others also carry how alike two pictures are. With
`labelled=sentence` the first token alone predicts the one voken of its block: the paper's SentLabel, for vokens of a
sentence-level vokenizer.

    sightread pretrain --vokens vokens --objective classification --start bert-base-uncased --out grounded

The result is an ordinary checkpoint: `AutoModel.from_pretrained("grounded/encoder")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightread.artifacts import check_fits
from sightread.bank import ImageBank
from sightread.config import check_choice, check_positive
from sightread.contracts import IGNORED, Batch, Losses, Objective
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.features import centred
from sightread.errors import ConfigError
from sightread.modules.heads import HEADS, build_voken_head, split_voken_head
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import (
    cosine_regression,
    learnt_temperature,
    linear_classification,
    smooth_l1_regression,
    soft_classification,
)
from sightread.pretraining import PretrainingConfig, pretrain

KINDS = ("classification", "soft", "regression", "contrastive")
OF_FEATURES = ("regression", "contrastive")  # whose head predicts a picture's feature
DISTANCES = {"cosine": cosine_regression, "smooth_l1": smooth_l1_regression}
LABELLED = ("all", "masked", "unmasked", "sentence")


@dataclass(frozen=True, kw_only=True)
class VokenConfig(PretrainingConfig):
    """Settings of voken pre-training, beside those it shares with its control.

    Attributes:
        objective: "classification", "soft", "regression" or "contrastive".
        distance: Of regression: "cosine" or "smooth_l1", the latter of features scaled to unit variance.
        temperature: Of soft vokens, fixed; of contrast, where it begins.
        num_negatives: Of contrast: pictures that each block draws from the bank beside those of the batch.
        head: "linear" (equation 1), "dense" (their code), or "shared": linear, on what the words' last layer reads.
        labelled: Which tokens carry the voken loss: "all", "masked", "unmasked", or "sentence": the first, for all.
        voken_weight: λ_voken.
        lm_weight: λ_lm; 0 for vokens alone.
    """

    objective: str = "classification"
    distance: str = "cosine"
    temperature: float = 0.07
    num_negatives: int = 4
    head: str = "linear"
    labelled: str = "all"
    voken_weight: float = 1.0
    lm_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective", self.objective, KINDS)
        check_choice("distance", self.distance, DISTANCES)
        check_choice("head", self.head, HEADS)
        check_choice("labelled", self.labelled, LABELLED)
        check_positive(temperature=self.temperature)
        check_positive(or_zero=True, num_negatives=self.num_negatives)
        check_positive(or_zero=True, voken_weight=self.voken_weight, lm_weight=self.lm_weight)
        if not self.voken_weight + self.lm_weight:
            raise ConfigError("voken_weight=0 and lm_weight=0: nothing would be learnt; give one of them some weight")
        if self.labelled == "sentence" and self.packed:
            raise ConfigError("labelled=sentence: a packed block holds parts of many sentences; give packed=false too")
        if self.labelled == "sentence" and self.objective == "soft":
            raise ConfigError(
                "labelled=sentence has one voken a block, soft vokens one set a token; choose one of them"
            )


class VokenObjective(Objective):
    """A language model with a voken head, and their weighted loss.

    Args:
        config: Settings.
        model: The language model.
        num_vokens: V.
        features: Features of the bank's pictures, float32 (V, F); regression and contrast need them.
    """

    def __init__(
        self, config: VokenConfig, model: LanguageModel, num_vokens: int, features: Tensor | None = None
    ) -> None:
        super().__init__()
        if model.causal and config.labelled != "all":
            why = "reads nothing before its first token" if config.labelled == "sentence" else "masks no tokens"
            raise ConfigError(f"labelled={config.labelled}: a decoder {why}; give labelled=all")
        of_features = config.objective in OF_FEATURES
        if of_features and (features is None or len(features) != num_vokens):
            raise ConfigError(f"voken {config.objective} needs the features of all {num_vokens} pictures; give --bank")
        self.settings, self.model, self.encoder = config, model, model.encoder
        targets = features if of_features and features is not None else torch.zeros(num_vokens, 0)
        self.targets: Tensor
        self.register_buffer("targets", targets, persistent=False)
        width = model.output.in_features if config.head == "shared" else model.width
        self.head = build_voken_head(config.head, width, targets.shape[1] if of_features else num_vokens)
        if config.objective == "contrastive":
            self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor,
        voken_labels: Tensor,
        top_ids: Tensor | None = None,
        top_scores: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> Losses:
        """The losses of one batch: "loss", "voken_loss", "lm_loss".

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            voken_labels: int64 (B, L).
            top_ids: Of soft vokens: the k best pictures, int64 (B, L, k).
            top_scores: Their scores, float32 (B, L, k).
            negatives: Of contrast: pictures drawn from the bank, int64 (n,).
        """
        states = self.model(input_ids, attention_mask)  # (B, L, D)
        with nullcontext() if self.settings.lm_weight else torch.no_grad():
            lm_loss = self.model.loss(states, lm_labels)
        chosen, vokens = self._labelled(lm_labels, voken_labels)
        read = states[chosen]
        if self.settings.head == "shared":
            read = self.model.transform(read)
        if self.settings.objective == "soft":
            voken_loss = self._soft_loss(read, top_ids[chosen], top_scores[chosen])  # type: ignore[index]
        elif self.settings.objective == "contrastive":
            voken_loss = self._contrastive_loss(read, vokens, negatives)
        elif self.settings.objective == "regression":
            voken_loss = DISTANCES[self.settings.distance](self.head(read), self.targets[vokens])
        else:
            voken_loss = linear_classification(*self._classifier(read), vokens)
        loss = self.settings.voken_weight * voken_loss + self.settings.lm_weight * lm_loss
        return {"loss": loss, "voken_loss": voken_loss, "lm_loss": lm_loss}

    def _labelled(self, lm_labels: Tensor, voken_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Where a voken is predicted, bool (B, L), and which, int64 (T,)."""
        chosen, masked = voken_labels != IGNORED, lm_labels != IGNORED
        which = self.settings.labelled
        if which == "sentence":
            any_label, first = chosen.any(dim=1), chosen.int().argmax(dim=1, keepdim=True)
            chosen = torch.zeros_like(chosen)
            chosen[:, 0] = any_label
            return chosen, voken_labels.gather(1, first)[any_label, 0]
        if which != "all":
            chosen &= masked if which == "masked" else ~masked
        return chosen, voken_labels[chosen]

    def _classifier(self, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before, output = split_voken_head(self.head)
        return before(read), output.weight, output.bias

    def _soft_loss(self, read: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
        shares = (scores / self.settings.temperature).softmax(dim=-1)
        return soft_classification(*self._classifier(read), classes, shares)

    def _contrastive_loss(self, read: Tensor, vokens: Tensor, negatives: Tensor | None) -> Tensor:
        drawn = vokens.new_zeros(0) if negatives is None else negatives
        pictures, place = torch.cat([vokens, drawn]).unique(return_inverse=True)
        guesses = self.head(read).to(self.targets.dtype)
        with torch.autocast(read.device.type, enabled=False):  # as in `cosines`
            queries = functional.normalize(guesses, dim=-1) / learnt_temperature(self.log_temperature)
            keys = functional.normalize(self.targets[pictures], dim=-1)
            return linear_classification(queries, keys, None, place[: len(vokens)])


class DrawnPictures:
    """Wrong pictures for contrast, beside each block; see `data.blocks.Beside`."""

    def __init__(self, num_vokens: int, count: int) -> None:
        self.num_vokens, self.count = num_vokens, count

    def draw(self, rng: np.random.Generator, block: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows of the bank, int64 (count,)."""
        return rng.integers(self.num_vokens, size=self.count)

    def collate(self, drawn: Sequence[np.ndarray]) -> Batch:
        """All of them, `negatives` int64 (B · count,)."""
        return {"negatives": torch.from_numpy(np.concatenate(drawn))}


def train(
    config: VokenConfig,
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    bank: ImageBank | None = None,
    **options: Any,
) -> Path:
    """Pre-train with vokens.

    Args:
        config: Settings.
        corpus: The voken corpus.
        out: Folder of the run.
        start: See `pretraining.start_model`.
        bank: The bank of the vokens; regression and contrast need it.
        **options: As for `pretraining.pretrain`.
    """
    corpus.check_has_vokens()
    if config.objective == "soft" and not corpus.top:
        raise ConfigError(f"{corpus.path} holds the best picture of each token alone; vokenize with --top 5, say")
    if config.labelled == "sentence" and corpus.artifact.inputs.get("level") != "sentence":
        raise ConfigError(f"labelled=sentence: {corpus.path} holds the vokens of tokens; match with level=sentence")
    inputs, features = {"vokens": corpus.digest}, None
    if bank is not None and config.objective in OF_FEATURES:
        remedy = "give the bank inside the vokenizer that made the voken corpus"
        check_fits("the bank", bank.digest, corpus.artifact.inputs["bank"], remedy)
        features, inputs["bank"] = torch.from_numpy(centred(bank.features)), bank.digest
    blocks: dict[str, Any] = {"soft": config.objective == "soft"}
    if config.objective == "contrastive":
        blocks["beside"] = DrawnPictures(corpus.num_vokens, config.num_negatives)

    def make_objective(model: LanguageModel) -> VokenObjective:
        return VokenObjective(config, model, corpus.num_vokens, features)

    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, blocks=blocks, **options)
