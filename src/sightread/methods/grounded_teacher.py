"""Distillation from a grounded teacher: text, and the states of a model that has seen pictures (Tang et al. 2021).

As in VidLanKD, a frozen teacher reads the same masked text as the student, whose loss is

    L = L_lm + α L_nst + β L_crd

    nst  neuron selectivity transfer (Huang & Wang 2017): which tokens the neurons answer to, as distributions;
         ‖G_S - G_T‖² of each sequence, G = X Xᵀ / D, X (L, D) its states, each neuron at unit length over the tokens
    crd  contrastive representation distillation (Tian et al. 2020): the state of a token in the student against the
         teacher's states of other tokens, and the other way round, by cosine, temperature τ

The student's states go through an MLP first, one for each loss, and for crd the teacher's as well (section 3.3).
Tokens of the batch take the place of crd's memory of the whole corpus, and InfoNCE that of its binary loss. Only those
with a language-model label take part, evenly thinned to `max_pairs`: the masked ones have to be told from their
context, and a product of all tokens with all tokens would not fit where all are labelled (decoders).

    sightread distill --vokens vokens --teacher teacher/encoder --start bert-base-uncased --out student

The authors' teacher learns from videos; `lexical_contrast` with `layer=-1` makes one from pictures. Any encoder or
decoder with the corpus's tokenizer will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightread.artifacts import check_fits
from sightread.config import check_positive
from sightread.contracts import IGNORED, Losses, Objective
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import TextEncoder, config_digest, tokenizer_digest, weights_digest
from sightread.errors import ConfigError
from sightread.modules.heads import build_voken_head
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import cosines, neuron_selectivity, two_way_info_nce
from sightread.pretraining import PretrainingConfig, pretrain


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(PretrainingConfig):
    """Settings of distillation, beside those it shares with its control.

    Attributes:
        width: E, in which the states of student and teacher are compared.
        temperature: τ.
        max_pairs: Tokens of a batch that are contrasted, at most.
        nst_weight: α.
        crd_weight: β.
    """

    width: int = 256
    temperature: float = 0.07
    max_pairs: int = 1024
    nst_weight: float = 1.0
    crd_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(width=self.width, temperature=self.temperature, max_pairs=self.max_pairs)
        check_positive(or_zero=True, nst_weight=self.nst_weight, crd_weight=self.crd_weight)


class DistillationObjective(Objective):
    """A language model, the heads, and their losses; the teacher is neither trained nor saved.

    Args:
        config: Settings.
        model: The student.
        teacher: The teacher.
    """

    def __init__(self, config: DistillationConfig, model: LanguageModel, teacher: TextEncoder) -> None:
        super().__init__()
        self.settings, self.model, self.encoder = config, model, model.encoder
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple, so that it is no part of this module
        self.nst_head = build_voken_head("dense", model.width, model.width)
        self.student_head = build_voken_head("dense", model.width, config.width)
        self.teacher_head = build_voken_head("dense", teacher.width, config.width)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, lm_labels: Tensor, voken_labels: Tensor | None = None
    ) -> Losses:
        """The losses of one batch: "loss", "nst_loss", "crd_loss", "lm_loss"; arguments as for `lm.LmObjective`."""
        states = self.model(input_ids, attention_mask)  # (B, L, D)
        with torch.no_grad():
            taught = self._teacher[0].to(input_ids.device)(input_ids, attention_mask)  # (B, L, D')
        lm_loss = self.model.loss(states, lm_labels)
        nst = neuron_selectivity(self.nst_head(states), taught, attention_mask.bool())
        crd = self._contrast(states, taught, lm_labels != IGNORED)
        loss = lm_loss + self.settings.nst_weight * nst + self.settings.crd_weight * crd
        return {"loss": loss, "nst_loss": nst, "crd_loss": crd, "lm_loss": lm_loss}

    def _contrast(self, states: Tensor, taught: Tensor, chosen: Tensor) -> Tensor:
        rows = chosen.flatten().nonzero()[:, 0]
        rows = rows[:: -(-len(rows) // self.settings.max_pairs) or 1]
        student = self.student_head(states.flatten(0, 1)[rows])  # (T, E)
        teacher = self.teacher_head(taught.flatten(0, 1)[rows])
        itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        each = torch.arange(len(rows), device=rows.device)
        return two_way_info_nce(cosines(student, teacher), each, itself, self.settings.temperature)


def train(
    config: DistillationConfig,
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    teacher: str | Path,
    **options: Any,
) -> Path:
    """Pre-train a student.

    Args:
        config: Settings.
        corpus: What to read; its vokens are ignored.
        out: Folder of the run.
        start: The student; see `pretraining.start_model`.
        teacher: Folder or Hub name of the teacher.
        **options: As for `pretraining.pretrain`.

    Raises:
        ArtifactError: If the teacher has another tokenizer than the corpus.
        ConfigError: If the teacher cannot read as many tokens.
    """
    frozen = TextEncoder.from_pretrained(teacher)
    remedy = f"student and teacher read the same tokens; take a teacher with the tokenizer in {corpus.path}"
    tokenizer = corpus.artifact.inputs["tokenizer"]
    check_fits("the teacher's tokenizer", tokenizer_digest(frozen.tokenizer), tokenizer, remedy)
    if config.max_length > frozen.max_length:
        raise ConfigError(f"max_length={config.max_length}: the teacher reads at most {frozen.max_length} tokens")

    def make_objective(model: LanguageModel) -> DistillationObjective:
        return DistillationObjective(config, model, frozen)

    inputs = {"teacher": weights_digest(frozen), "teacher_config": config_digest(frozen.model)}
    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, **options)
