"""Masked language modelling alone: the text-only control of every method (Devlin et al. 2019, section 3.1).

    L = mean over masked positions of -log p(token | masked sentence)

It reads the same voken corpus as voken pre-training, in the same order, with the same masks, and ignores the vokens.

    sightread pretrain --vokens vokens --objective mlm --start bert-base-uncased --out encoder
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sightread.contracts import IGNORED, Losses, Objective
from sightread.data.voken_corpus import VokenCorpus
from sightread.modules.losses import token_classification
from sightread.modules.masked_lm import MaskedLanguageModel
from sightread.pretraining import PretrainingConfig, pretrain


class MlmObjective(Objective):
    """A masked language model and its loss."""

    def __init__(self, model: MaskedLanguageModel) -> None:
        super().__init__()
        self.model, self.encoder = model, model.encoder

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, mlm_labels: Tensor, voken_labels: Tensor | None = None
    ) -> Losses:
        """The loss of one batch; all arguments int64 (B, L), vokens are ignored."""
        states = self.model(input_ids, attention_mask)  # (B, L, D)
        masked = mlm_labels != IGNORED
        return {"loss": token_classification(self.model.logits(states[masked]), mlm_labels[masked])}


def train(
    config: PretrainingConfig, corpus: VokenCorpus, out: Path | str, *, start: str | Path, **options: Any
) -> Path:
    """Pre-train with masked language modelling alone; arguments as for `pretraining.pretrain`."""
    return pretrain(MlmObjective, corpus, out, start=start, config=config, inputs={"objective": "mlm"}, **options)
