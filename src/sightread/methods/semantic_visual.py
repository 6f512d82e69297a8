"""A semantic-visual embedding: sentences find pictures, and pictures sentences, in one space (Engilberge et al. 2018).

A text t is read by a GRU over the vectors of its words, or by a linear map of the mean state of any encoder. Every
place of a picture's last feature map goes through one linear map, and the places are pooled by WELDON (Durand et al.
2016), per feature the mean of the k highest plus the mean of the k lowest:

    x = unit(mean_top-k W G_p + mean_bottom-k W G_p),   G (P, F), W (F, E),   s(t, x) = t · x.

Both have unit length. Unlike the paper's, the paths begin with LayerNorm, and no map follows the pooling. Each caption
is to prefer its picture to the hardest other one of the batch, and each picture its caption (Faghri et al. 2018):

    max(0, α - s(t, x) + max_x' s(t, x')) + max(0, α - s(t, x) + max_t' s(t', x));

captions of one picture are no negatives of each other. In the first batches all negatives count alike: against the
hardest alone all scores soon become one, and the loss stays at 2α. Word vectors and the image encoder stay as they are.
Run it with

    sightread embed --captions captions.tsv --images images --words glove.txt --image-encoder MODEL --out embedding

`embedding/association` then finds pictures for any text, as every association does. Feature maps lie on disk while it
is trained, 4·P·F bytes a picture, and are mapped into memory: no more than a batch is held.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.artifacts import CHECKPOINTS, Artifact, digest
from sightread.association.folder import load_association
from sightread.association.semantic_visual import JointEmbedding, SemanticVisualAssociation, Words, padded_words
from sightread.config import check_choice, check_positive
from sightread.contracts import Batch, Losses, Objective
from sightread.data.captions import Captions
from sightread.data.skipped import Skipped
from sightread.encoders.feature_maps import FeatureMaps, seeing_maps
from sightread.encoders.image import ImageEncoder
from sightread.errors import DataError
from sightread.modules.semantic_visual import READERS, ImagePath, TextPath, triplet, weldon
from sightread.runtime import seed_everything
from sightread.train import fit, training_arguments

KIND, ASSOCIATION = "embedding", "association"


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Settings of the embedding.

    Attributes:
        width: E.
        extremes: k of WELDON.
        reader: What reads the words of a text: "gru", or "mean".
        margin: α.
        easy_steps: Batches at the beginning in which all negatives count alike.
        seed: Seed of weights and order.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    width: int = 512
    extremes: int = 15
    reader: str = "gru"
    margin: float = 0.2
    easy_steps: int = 500
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 10, "per_device_train_batch_size": 128, "learning_rate": 1e-3, "warmup_steps": 0.05,
            "lr_scheduler_type": "cosine", "max_grad_norm": 2.0,
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_choice("reader", self.reader, READERS)
        check_positive(width=self.width, extremes=self.extremes, margin=self.margin)
        check_positive(or_zero=True, easy_steps=self.easy_steps)


class EmbeddingObjective(Objective):
    """Both paths, and the loss between them."""

    def __init__(self, config: EmbeddingConfig, text_width: int, image_width: int) -> None:
        super().__init__()
        self.encoder = self.text_path = TextPath(text_width, config.width, config.reader)
        self.image_path = ImagePath(image_width, config.width, config.extremes)
        self.margin, self.easy_steps = config.margin, config.easy_steps
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # a checkpoint remembers it

    def forward(  # type: ignore[override]
        self, words: Tensor, lengths: Tensor, maps: Tensor, pictures: Tensor
    ) -> Losses:
        """The loss of one batch of captions.

        Args:
            words: Vectors of words, float (B, L, D).
            lengths: How many words each has, int64 (B,).
            maps: The feature map of each caption's picture, float (B, P, F).
            pictures: Which picture that is, int64 (B,).
        """
        scores = self.text_path(words, lengths) @ self.image_path(maps).T  # (B, B)
        hardest = bool(self.seen >= self.easy_steps)
        self.seen += self.training
        return {"loss": triplet(scores, pictures[:, None] == pictures, self.margin, hardest=hardest)}


class CaptionedMaps:
    """Captions, the vectors of their words in half precision, and the feature maps of their pictures.

    Args:
        words: Of each caption, (L, D), at least one.
        picture_of: Row of each caption's map, int64 (N,).
        maps: The maps.
    """

    def __init__(self, words: Sequence[np.ndarray], picture_of: np.ndarray, maps: FeatureMaps) -> None:
        self.words, self.picture_of, self.maps = words, picture_of, maps

    def __len__(self) -> int:
        return len(self.words)

    def example(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """A caption's words and its picture; nothing is drawn."""
        return self.words[index], int(self.picture_of[index])

    def collate(self, examples: Sequence[tuple[np.ndarray, int]]) -> Batch:
        """Pad the words, and read the maps."""
        words, pictures = zip(*examples, strict=True)
        maps = torch.from_numpy(np.stack([self.maps[picture] for picture in pictures]))
        return {**padded_words(words), "maps": maps, "pictures": torch.tensor(pictures)}


def known_captions(captions: Captions, words: Words, maps: FeatureMaps, skipped: Skipped) -> CaptionedMaps:
    """The captions of the pictures that have maps, but those of which no word is known; notes all that is left out."""
    for part in (captions.skipped, maps.skipped):
        skipped.merge(part)
    captions, vectors = captions.keep_pictures(maps.rows), list[np.ndarray]()
    for at in range(0, len(captions.texts), 128):  # full precision is held of so many only
        vectors += [of.astype(np.float16) for of in words.tokens(captions.texts[at : at + 128])]
    known = [row for row, of in enumerate(vectors) if len(of)]
    for row in sorted({*range(len(vectors))} - {*known}):
        skipped.add("caption without a known word", f"{captions.texts[row]!r:.80}")
    if len({*captions.picture_of[known].tolist()}) < 2:
        raise DataError(
            "an embedding needs captions with known words of two pictures at least, one to prefer to another"
        )
    return CaptionedMaps([vectors[row] for row in known], captions.picture_of[known], maps)


def train(
    config: EmbeddingConfig,
    captions: Captions,
    out: Path | str,
    *,
    words: Words,
    image_encoder: ImageEncoder,
    pictures: Any = None,
    cache: Path | None = None,
    max_skipped: float = 0.1,
    overwrite: bool = False,
    resume: bool = False,
) -> SemanticVisualAssociation:
    """Train an embedding, and make a bank in its space.

    Args:
        config: Settings.
        captions: Captioned pictures to learn from.
        out: Folder of the run; `association/` is what finds pictures.
        words: What gives vectors of words.
        image_encoder: Frozen image encoder; whatever its view, whole pictures are seen.
        pictures: Pictures to be found, by default those learnt from.
        cache: Folder that keeps the feature maps; by default they go when it is trained.
        max_skipped: Share of pictures that may be broken.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    encoder = seeing_maps(image_encoder, captions.pictures)
    weldon(torch.zeros(1, encoder.num_parts, 1), config.extremes)  # refuses a wrong number before any work
    shown, inputs = pictures or captions.pictures, _digests(words, captions)
    inputs |= {"image_encoder": encoder.digest, "pictures": digest(*shown.ids)}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return load_association(artifact.path / ASSOCIATION)  # type: ignore[return-value]
    started, cache, skipped = time.monotonic(), cache or artifact.path / CHECKPOINTS, Skipped()
    maps = FeatureMaps(encoder, captions.pictures, cache / "maps", max_skipped=max_skipped)
    examples = known_captions(captions, words, maps, skipped)
    seed_everything(config.seed)
    objective = EmbeddingObjective(config, words.width, maps[0].shape[1])
    args = training_arguments(artifact.path, config.training, seed=config.seed)
    log = fit(objective, examples, args=args, resume=resume)
    embedding = JointEmbedding(words, objective.text_path, encoder, objective.image_path)
    if pictures is not None:
        maps = FeatureMaps(encoder, pictures, cache / "bank-maps", max_skipped=max_skipped)
        skipped.merge(maps.skipped)
    made = SemanticVisualAssociation(embedding.bank(shown, maps), embedding)
    made.save(artifact.path / ASSOCIATION, overwrite=(artifact.path / ASSOCIATION).exists())
    report = {"captions": len(examples), "pictures": len(made.bank), "skipped": skipped.report(), "last": log[-1:]}
    artifact.finish(report | {"steps": log.steps, "seconds": time.monotonic() - started})
    return made


def _digests(words: Words, captions: Captions) -> dict[str, str]:
    state = words.state()
    return {
        "words": digest(repr(state.values), *(array.tobytes() for array in state.arrays.values())),
        "captions": digest(*captions.texts, *captions.pictures.ids, captions.picture_of.tobytes()),
    }
