"""Token-picture matching: the model behind vokenization (Tan & Bansal 2020, section 3.2).

Captions say which words and which pictures belong together. Both backbones are frozen; two MLP heads carry the token's
states h_i (D) and the picture's feature v (F) to unit vectors of width E, and their inner product is the relevance

    r(token i of sentence s, picture x) = head_text(h_i) · head_image(v_x).

Every token of a caption is trained to prefer its own picture:

    hinge        mean_i max(0, margin - r(i, x) + r(i, x')),  x' a *different* picture, redrawn every epoch   (eq. 3)
    batch_hinge  the same against every other picture of the batch
    info_nce     cross-entropy over the pictures of the batch, temperature learnt                             (default)

Captions of the same picture are never negatives of each other. With `level=sentence` a caption is one vector, the state
of its [CLS], in the place of its tokens' (the paper's baseline of sentence-level retrieval). Run it with

    sightread match --captions captions.tsv --images images --text-encoder MODEL --image-encoder MODEL --out vokenizer

The result is a `Vokenizer` folder. On Flickr8k with MiniLM and MobileNetV2 six epochs take minutes; docs/results.md
has the retrieval scores of the three objectives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightread.artifacts import Artifact, digest
from sightread.bank import ImageBank
from sightread.config import check_choice, check_share
from sightread.contracts import Batch, Losses, Objective
from sightread.data.captions import Captions
from sightread.encoders.features import TokenFeatures, image_features, token_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder, weights_digest
from sightread.errors import ConfigError, DataError
from sightread.modules.heads import ProjectionHead
from sightread.modules.losses import batch_hinge, info_nce, learnt_temperature, pairwise_hinge
from sightread.runtime import seed_everything
from sightread.train import fit, training_arguments
from sightread.vokenizer import KIND, Vokenizer, VokenizerConfig

OBJECTIVES = ("info_nce", "batch_hinge", "hinge")


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(VokenizerConfig):
    """Settings of matching, beside those of the vokenizer it makes.

    Attributes:
        objective: "info_nce", "batch_hinge" or "hinge".
        margin: Margin of the hinges.
        temperature: Where InfoNCE's learnt temperature begins.
        dropout: Dropout inside the heads.
        input_dropout: Dropout on the features that go into them; a few thousand pictures are soon learnt by heart.
        seed: Seed of weights, order, negatives and dropout.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    objective: str = "info_nce"
    margin: float = 0.5
    temperature: float = 0.07
    dropout: float = 0.3
    input_dropout: float = 0.2
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 6, "per_device_train_batch_size": 256, "learning_rate": 1e-3, "weight_decay": 0.01,
            "warmup_steps": 0.05, "lr_scheduler_type": "cosine",
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective", self.objective, OBJECTIVES)
        check_share(dropout=self.dropout, input_dropout=self.input_dropout)
        if self.hidden < 1:
            raise ConfigError(f"hidden={self.hidden}: the heads that are trained need a hidden layer, 256 wide perhaps")


class MatchingObjective(Objective):
    """Two heads and the loss between them, on cached features."""

    def __init__(self, config: MatchingConfig, text_width: int, image_width: int) -> None:
        super().__init__()
        self.settings = config
        dropout = config.dropout, config.input_dropout
        self.encoder = self.text_head = ProjectionHead(text_width, config.hidden, config.width, *dropout)
        self.image_head = ProjectionHead(image_width, config.hidden, config.width, *dropout)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(  # type: ignore[override]
        self, tokens: Tensor, caption_of: Tensor, images: Tensor, pictures: Tensor, negatives: Tensor
    ) -> Losses:
        """The loss of one batch of captions.

        Args:
            tokens: States of all tokens, float (T, D).
            caption_of: Caption of each token, int64 (T,).
            images: Feature of each caption's picture, float32 (B, F).
            pictures: Which picture that is, int64 (B,).
            negatives: Feature of a different picture for each caption, float32 (B, F).
        """
        text, image = self.text_head(tokens.float()), self.image_head(images)  # (T, E), (B, E)
        if self.settings.objective == "hinge":
            positive = (text * image[caption_of]).sum(dim=-1)
            negative = (text * self.image_head(negatives)[caption_of]).sum(dim=-1)
            return {"loss": pairwise_hinge(positive, negative, self.settings.margin)}
        scores = text @ image.T  # (T, B)
        excluded = pictures[caption_of][:, None] == pictures[None, :]
        if self.settings.objective == "batch_hinge":
            return {"loss": batch_hinge(scores, caption_of, excluded, self.settings.margin)}
        temperature = learnt_temperature(self.log_temperature)
        loss = info_nce(scores, caption_of, excluded, temperature)
        return {"loss": loss, "temperature": temperature.detach()}


class MatchingExamples:
    """Captions with the cached states of their tokens and features of their pictures.

    Args:
        tokens: States of the captions' tokens.
        features: Features of the pictures, float32 (V, F).
        picture_of: Picture of each caption, int64 (N,).
    """

    def __init__(self, tokens: TokenFeatures, features: np.ndarray, picture_of: np.ndarray) -> None:
        if len(features) < 2:
            raise DataError("matching needs at least two different pictures, one to prefer to the other")
        self.tokens, self.features, self.picture_of = tokens, features, picture_of

    def __len__(self) -> int:
        return len(self.picture_of)

    def example(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int, int]:
        """A caption: its tokens' states (L, D), its picture, and a different one drawn from `rng`."""
        picture = int(self.picture_of[index])
        other = int(rng.integers(len(self.features) - 1))
        states = self.tokens.vectors[self.tokens.begins[index] : self.tokens.begins[index + 1]]
        return states, picture, other + (other >= picture)

    def collate(self, examples: Sequence[tuple[np.ndarray, int, int]]) -> Batch:
        """Lay the tokens end to end."""
        states, pictures, negatives = zip(*examples, strict=True)
        caption_of = np.repeat(np.arange(len(states)), [len(s) for s in states])
        return {
            "tokens": torch.from_numpy(np.concatenate(states)),
            "caption_of": torch.from_numpy(caption_of),
            "images": torch.from_numpy(self.features[list(pictures)]),
            "pictures": torch.tensor(pictures),
            "negatives": torch.from_numpy(self.features[list(negatives)]),
        }


def train(
    config: MatchingConfig,
    captions: Captions,
    out: Path | str,
    *,
    text_encoder: TextEncoder,
    image_encoder: ImageEncoder,
    bank: ImageBank | None = None,
    cache: Path | None = None,
    max_skipped: float = 0.1,
    overwrite: bool = False,
    resume: bool = False,
) -> Vokenizer:
    """Train the heads and write the vokenizer.

    Args:
        config: Settings.
        captions: Captioned pictures to learn from.
        out: Folder of the vokenizer.
        text_encoder: Frozen text encoder, with the layers of `config`.
        image_encoder: Frozen image encoder.
        bank: Pictures for the vokens, by default all those learnt from.
        cache: Folder that keeps the pictures' features.
        max_skipped: Share of pictures that may be broken.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    inputs = {"text_encoder": weights_digest(text_encoder), "image_encoder": image_encoder.digest}
    inputs["captions"] = digest(*captions.texts, *captions.pictures.ids, captions.picture_of.tobytes())
    inputs["bank"] = bank.digest if bank else "the captioned pictures"
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return Vokenizer.from_pretrained(out)
    started = time.monotonic()
    if bank:
        bank.check_encoder(image_encoder)
    features, rows, skipped = image_features(image_encoder, captions.pictures, cache=cache, max_skipped=max_skipped)
    captions = captions.keep_pictures(rows)
    skipped.merge(captions.skipped)
    tokens = token_features(text_encoder, captions.texts, level=config.level)
    seed_everything(config.seed)
    objective = MatchingObjective(config, text_encoder.width, features.shape[1])
    args = training_arguments(artifact.path, config.training, seed=config.seed)
    log = fit(objective, MatchingExamples(tokens, features, captions.picture_of), args=args, resume=resume)
    bank = bank or ImageBank(captions.pictures.ids, features, _paths(captions), encoder=image_encoder.digest)
    kept = VokenizerConfig(**{f.name: getattr(config, f.name) for f in fields(VokenizerConfig)})
    vokenizer = Vokenizer(kept, text_encoder, objective.text_head, image_encoder, objective.image_head, bank)
    report = {"captions": len(captions.texts), "pictures": len(features), "skipped": skipped.report()}
    vokenizer.save_into(artifact, report | {"last": log[-1:], "seconds": time.monotonic() - started})
    return vokenizer


def _paths(captions: Captions) -> list[str]:
    paths = [captions.pictures.path(row) for row in range(len(captions.pictures))]
    return [str(path.resolve()) if path else "" for path in paths]
