"""Language modelling alone: the text-only control of every method.

    encoders  L = mean over masked positions of -log p(token | masked sentence)       (Devlin et al. 2019, section 3.1)
    decoders  L = mean over all positions of -log p(next token | tokens so far)       (Radford et al. 2019, section 2)

It reads the same voken corpus as voken pre-training, in the same order, with the same masks, and ignores the vokens.

    sightread pretrain --vokens vokens --objective lm --start bert-base-uncased --out encoder
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sightread.contracts import Losses, Objective
from sightread.data.voken_corpus import VokenCorpus
from sightread.modules.language_model import LanguageModel
from sightread.pretraining import PretrainingConfig, pretrain


class LmObjective(Objective):
    """A language model and its loss."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model, self.encoder = model, model.encoder

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, lm_labels: Tensor, voken_labels: Tensor | None = None
    ) -> Losses:
        """The loss of one batch; all arguments int64 (B, L), vokens are ignored."""
        return {"loss": self.model.loss(self.model(input_ids, attention_mask), lm_labels)}


def train(
    config: PretrainingConfig, corpus: VokenCorpus, out: Path | str, *, start: str | Path, **options: Any
) -> Path:
    """Pre-train with language modelling alone; arguments as for `pretraining.pretrain`."""
    return pretrain(LmObjective, corpus, out, start=start, config=config, inputs={"objective": "lm"}, **options)
