"""Voken pre-training: read, and predict the picture of every token (Tan & Bansal 2020, section 3.1).

Beside masked language modelling, every token predicts its voken, the row v_i of its picture in a bank of V:

    L = L_voken + λ L_MLM
    classification  L_voken = -mean_i log softmax(head(h_i))[v_i]                              head: D -> V    (eq. 1)
    regression      L_voken =  mean_i 1 - cos(head(h_i), f(v_i))    f the picture's feature    head: D -> F

over all tokens (the paper), the masked or the unmasked ones; tokens without a voken carry no voken loss. Classification
transfers only as far as different words share pictures; regression also carries how alike two pictures are.

    sightread pretrain --vokens vokens --objective classification --start bert-base-uncased --out grounded

The result is an ordinary checkpoint: `AutoModel.from_pretrained("grounded/encoder")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightread.artifacts import check_fits
from sightread.bank import ImageBank
from sightread.config import check_choice
from sightread.contracts import IGNORED, Losses, Objective
from sightread.data.voken_corpus import VokenCorpus
from sightread.errors import ConfigError
from sightread.modules.heads import HEADS, build_voken_head, split_voken_head
from sightread.modules.losses import cosine_regression, linear_classification, token_classification
from sightread.modules.masked_lm import MaskedLanguageModel
from sightread.pretraining import PretrainingConfig, pretrain

KINDS = ("classification", "regression")
LABELLED = ("all", "masked", "unmasked")


@dataclass(frozen=True, kw_only=True)
class VokenConfig(PretrainingConfig):
    """Settings of voken pre-training, beside those it shares with its control.

    Attributes:
        objective: "classification" or "regression".
        head: "linear" (the paper's) or "dense".
        labelled: Which tokens carry the voken loss: "all", "masked" or "unmasked".
        mlm_weight: λ.
    """

    objective: str = "classification"
    head: str = "linear"
    labelled: str = "all"
    mlm_weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, KINDS)
        check_choice("head", self.head, HEADS)
        check_choice("labelled", self.labelled, LABELLED)


class VokenObjective(Objective):
    """A masked language model with a voken head, and their weighted loss.

    Args:
        model: The language model.
        num_vokens: V.
        kind: "classification" or "regression".
        features: Features of the bank's pictures, float32 (V, F); regression needs them.
        head: "linear" (the paper's) or "dense".
        labelled: Which tokens carry the voken loss: "all", "masked" or "unmasked".
        mlm_weight: λ.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        num_vokens: int,
        *,
        kind: str = "classification",
        features: Tensor | None = None,
        head: str = "linear",
        labelled: str = "all",
        mlm_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("objective", kind, KINDS)
        check_choice("labelled", labelled, LABELLED)
        if num_vokens < 1:
            raise ConfigError(
                "this corpus was only tokenized and has no vokens; run `sightread vokenize` with a vokenizer"
            )
        if kind == "regression" and (features is None or len(features) != num_vokens):
            raise ConfigError(f"voken regression needs the features of all {num_vokens} pictures; give --bank")
        self.model, self.encoder = model, model.encoder
        self.kind, self.labelled, self.mlm_weight = kind, labelled, mlm_weight
        targets = torch.zeros(num_vokens, 0) if features is None else features
        self.targets: Tensor
        self.register_buffer("targets", targets, persistent=False)
        out = num_vokens if kind == "classification" else targets.shape[1]
        self.head = build_voken_head(head, model.width, out)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, mlm_labels: Tensor, voken_labels: Tensor
    ) -> Losses:
        """The losses of one batch: "loss", "voken_loss", "mlm_loss"; all arguments int64 (B, L)."""
        states = self.model(input_ids, attention_mask)  # (B, L, D)
        masked = mlm_labels != IGNORED
        chosen = voken_labels != IGNORED
        if self.labelled != "all":
            chosen &= masked if self.labelled == "masked" else ~masked
        mlm_loss = token_classification(self.model.logits(states[masked]), mlm_labels[masked])
        voken_loss = self.voken_loss(states[chosen], voken_labels[chosen])
        return {"loss": voken_loss + self.mlm_weight * mlm_loss, "voken_loss": voken_loss, "mlm_loss": mlm_loss}

    def voken_loss(self, states: Tensor, vokens: Tensor) -> Tensor:
        """The voken loss of labelled tokens: states (T, D), vokens int64 (T,) -> scalar."""
        if self.kind == "classification":
            before, output = split_voken_head(self.head)
            return linear_classification(before(states), output.weight, output.bias, vokens)
        return cosine_regression(self.head(states), self.targets[vokens], torch.ones_like(vokens, dtype=torch.bool))


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
        start: A checkpoint, or a `config.json` for fresh weights.
        bank: The bank of the vokens; regression needs it.
        **options: As for `pretraining.pretrain`.
    """
    corpus.check_has_vokens()
    features = None
    if bank is not None:
        remedy = "give the bank inside the vokenizer that made the voken corpus"
        check_fits("the bank", bank.digest, corpus.artifact.inputs["bank"], remedy)
        features = torch.from_numpy(bank.features - bank.features.mean(axis=0))  # directions, not the common offset

    def make_objective(model: MaskedLanguageModel) -> VokenObjective:
        return VokenObjective(
            model, corpus.num_vokens, kind=config.objective, features=features,
            head=config.head, labelled=config.labelled, mlm_weight=config.mlm_weight,
        )  # fmt: skip

    inputs = {"vokens": corpus.digest}
    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, **options)
