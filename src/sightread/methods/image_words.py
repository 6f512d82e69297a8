"""A small image encoder from scratch: name the words of a picture's captions (Joulin et al. 2016).

    L = -mean over pictures of mean over its caption words w of log softmax(W v)[w]

where v (F) is the picture's feature. It sees what any captioned pictures show and no other label, so it is what the
controlled world uses in the place of a network trained on a million photographs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from sightread.artifacts import Artifact, digest
from sightread.contracts import Batch, Losses, Objective
from sightread.data.captions import Captions
from sightread.encoders.image import ImageEncoder, build_small_image_encoder
from sightread.errors import DataError
from sightread.train import fit, training_arguments

KIND = "image-encoder"


@dataclass(frozen=True, kw_only=True)
class ImageWordsConfig:
    """Settings.

    Attributes:
        widths: Channels of the stages; the last is F.
        min_count: Words rarer than this are no labels.
        seed: Seed of weights and order.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    widths: tuple[int, ...] = (24, 48, 64)
    min_count: int = 5
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {"num_train_epochs": 4, "per_device_train_batch_size": 64, "learning_rate": 4e-3,
                                 "lr_scheduler_type": "cosine", "warmup_steps": 0.05}
    )  # fmt: skip


class ImageWordsObjective(Objective):
    """An image encoder and a linear layer that names words."""

    def __init__(self, encoder: ImageEncoder, num_words: int, width: int) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, nn.Linear(width, num_words)

    def forward(self, pixel_values: Tensor, words: Tensor) -> Losses:  # type: ignore[override]
        """The loss of pixels (B, 3, H, W) and word shares (B, C), rows of which sum to one."""
        log_p = self.classifier(self.encoder(pixel_values)).log_softmax(dim=-1)
        return {"loss": -(words * log_p).sum(dim=-1).mean()}


class ImageWordsExamples:
    """Pictures, held decoded, with the share of each word in their captions."""

    def __init__(self, captions: Captions, encoder: ImageEncoder, min_count: int) -> None:
        words = [re.findall(r"\w+", text.lower()) for text in captions.texts]
        counts = Counter(word for caption in words for word in set(caption))
        self.words = sorted(word for word, count in counts.items() if count >= min_count)
        if not self.words:
            raise DataError(f"no word occurs in {min_count} captions; lower min_count or give more captions")
        column = {word: i for i, word in enumerate(self.words)}
        self.shares = np.zeros((len(captions.pictures), len(self.words)), dtype=np.float32)
        for picture, caption in zip(captions.picture_of, words, strict=True):
            for word in caption:
                if word in column:
                    self.shares[picture, column[word]] += 1
        self.shares /= np.maximum(self.shares.sum(axis=1, keepdims=True), 1)
        images = [_load(captions, row) for row in range(len(captions.pictures))]
        self.pixels = torch.cat([encoder.preprocess(images[i : i + 256]) for i in range(0, len(images), 256)])

    def __len__(self) -> int:
        return len(self.pixels)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its row; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """Pixels and word shares of some rows."""
        rows = list(examples)
        return {"pixel_values": self.pixels[rows], "words": torch.from_numpy(self.shares[rows])}


def _load(captions: Captions, row: int) -> Image:
    try:
        return captions.pictures.load(row)
    except DataError as error:
        raise DataError(f"{captions.pictures.ids[row]}: {error}") from error


def train(
    config: ImageWordsConfig, captions: Captions, out: Path | str, *, overwrite: bool = False, resume: bool = False
) -> Path:
    """Train a small ResNet and write it as a folder that `ImageEncoder.from_pretrained` loads from `encoder/`."""
    inputs = {"captions": digest(*captions.texts, *captions.pictures.ids)}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    torch.manual_seed(config.seed)
    encoder = build_small_image_encoder(_load(captions, 0).height, config.widths)
    examples = ImageWordsExamples(captions, encoder, config.min_count)
    objective = ImageWordsObjective(encoder, len(examples.words), config.widths[-1])
    log = fit(objective, examples, args=training_arguments(artifact.path, config.training, seed=config.seed))
    encoder.save_pretrained(artifact.path / "encoder")
    return artifact.finish({"words": len(examples.words), "last": log[-1:]})
