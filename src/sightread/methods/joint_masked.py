"""Transferred grounding: joint masked language and region modelling of captioned pictures (Sileo 2021, section 3.1).

A cross-modal encoder reads text t and the regions r of a picture. Where m_k is 1, a word or a region is hidden:

    L_JMLM = Σ m_k H(t_k, t̂_k(t̄, r)) / Σ m_k      words, from the other words and the picture: from image to text
    L_JMRM = Σ m_k Lp(r_k, r̂_k(t, r̄)) / Σ m_k     regions, from the words and the other regions: from text to image

Each block of text comes with a captioned picture. The text has no picture, and its place is taken by the placeholder,
as it is in every task afterwards; its words are foretold whatever the strategy, or the placeholder would mean nothing:

| strategy | of captions |
| --- | --- |
| `t2i` | L_JMRM: what the picture looks like |
| `i2t` | L_JMLM: the words that a picture is said in |
| `both` | one or the other, by lot |
| `none` | L_JMLM without pictures, K = 0: the control, which reads the same captions and blocks |

A hidden region is replaced by the placeholder, too; of a picture of one region, that one is always hidden. Vectors of
regions are centred, and scaled to unit deviation, so that L1 means the same for any image encoder.

    sightread joint --vokens vokens --captions captions.tsv --image-encoder MODEL --start albert-base-v2 --out grounded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sightread.artifacts import digest
from sightread.config import check_choice, check_positive, check_share
from sightread.contracts import IGNORED, Losses
from sightread.data.captioned import DrawnCaptions, MaskedCaptions
from sightread.data.captions import Captions
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError
from sightread.grounded import GroundingConfig, GroundingObjective
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import lp_regression
from sightread.pretraining import pretrain

HIDES = {"t2i": "regions", "i2t": "words", "both": "either", "none": "words"}
STRATEGIES: Sequence[str] = tuple(HIDES)


@dataclass(frozen=True, kw_only=True)
class JointConfig(GroundingConfig):
    """Settings of transferred grounding, beside those of a cross-modal encoder, which reads one picture here.

    Attributes:
        strategy: "t2i", "i2t", "both" or "none".
        captions_per_block: Captions drawn beside each block of text.
        region_probability: Share of regions that are hidden, where any are.
        p: Of the distance between regions.
        region_weight: What L_JMRM counts beside L_JMLM.
    """

    strategy: str = "both"
    captions_per_block: int = 1
    region_probability: float = 0.15
    p: float = 1.0
    region_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(region_probability=self.region_probability)
        check_choice("strategy", self.strategy, STRATEGIES)
        if self.num_images > 1 or (self.num_images == 0 and self.strategy != "none"):
            raise ConfigError(
                f"num_images={self.num_images}: a caption has one picture; set strategy=none to read none"
            )
        check_positive(captions_per_block=self.captions_per_block, p=self.p)
        check_positive(or_zero=True, region_probability=self.region_probability, region_weight=self.region_weight)


class JointObjective(GroundingObjective):
    """A cross-modal encoder, text without pictures, and captions with theirs; arguments as `GroundingObjective`."""

    settings: JointConfig

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor,
        caption_input_ids: Tensor,
        caption_attention_mask: Tensor,
        caption_lm_labels: Tensor,
        caption_images: Tensor,
        caption_hidden: Tensor,
        voken_labels: Tensor | None = None,
    ) -> Losses:
        """The losses of one batch: "loss", "lm_loss" of the text, "caption_loss" and "region_loss" of the captions.

        Args:
            input_ids: Blocks of text, int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            caption_input_ids: Captions, int64 (C, L).
            caption_attention_mask: int64 (C, L).
            caption_lm_labels: int64 (C, L).
            caption_images: The regions of their pictures, float32 (C, N, F).
            caption_hidden: The regions that are foretold, bool (C, N).
            voken_labels: Ignored.
        """
        cross = self.model.cross
        text, _ = self.model(input_ids, attention_mask)
        words, regions = self.model(
            caption_input_ids, caption_attention_mask, caption_images, hidden=caption_hidden
        )  # (C, L, D), (C, N, D)
        lm_loss, caption_loss = cross.loss(text, lm_labels), cross.loss(words, caption_lm_labels)
        counts = [(labels != IGNORED).sum() for labels in (lm_labels, caption_lm_labels)]
        loss = (lm_loss * counts[0] + caption_loss * counts[1]) / (counts[0] + counts[1]).clamp(min=1)
        losses = {"lm_loss": lm_loss, "caption_loss": caption_loss}
        if self.model.num_images:
            targets = self.model.standardised(caption_images)[caption_hidden]
            losses["region_loss"] = lp_regression(
                self.model.image_head(regions[caption_hidden]), targets, self.settings.p
            )
            loss = loss + self.settings.region_weight * losses["region_loss"]
        return {"loss": loss, **losses}


def train(
    config: JointConfig,
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    captions: Captions,
    features: np.ndarray,
    **options: Any,
) -> Path:
    """Train a cross-modal encoder on captioned pictures and text.

    Args:
        config: Settings.
        corpus: The text; its vokens are ignored.
        out: Folder of the run; `encoder/` is a grounded encoder.
        start: The text encoder; see `pretraining.start_model`.
        captions: Captioned pictures.
        features: Vectors of their regions, float32 (V, N, F), or (V, F) where N is 1; see
            `encoders.features.image_features`.
        **options: As for `pretraining.pretrain`.
    """
    config = replace(config, num_images=int(config.strategy != "none"))
    regions = features.reshape(len(features), *features.shape[1:-1] or (1,), -1)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    masked = MaskedCaptions(
        captions, regions, tokenizer, max_length=config.max_length, hides=HIDES[config.strategy],
        probability=config.mask_probability, region_probability=config.region_probability,
    )  # fmt: skip
    inputs = {"captions": digest(*captions.texts, captions.picture_of.tobytes(), features.tobytes())}

    def make_objective(model: LanguageModel) -> JointObjective:
        return JointObjective(config, model, regions, tokenizer)

    blocks = {"beside": DrawnCaptions(masked, config.captions_per_block)}
    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, blocks=blocks, **options)
