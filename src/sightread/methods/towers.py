"""A small CLIP: a text tower and a map of image features to one space, learnt from captioned pictures.

    L = mean of the cross-entropies of caption → picture and picture → caption over the batch,
        of cos(t, v) / τ, τ learnt                                                  (Radford et al. 2021, section 2.3)

t is the projected state of a caption's <|endoftext|>, v the features of an image encoder, which stays as it is, through
an MLP. Captions of one picture are no negatives of each other. Where no CLIP is at hand it can be a teacher (`xdbert`).

    sightread towers --captions captions.tsv --image-encoder MODEL --tokenizer openai/clip-vit-base-patch32 --out towers

`encoder/` is a `CLIPTextModelWithProjection` with its tokenizer, and the map of images beside it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sightread.artifacts import Artifact, digest
from sightread.config import check_positive, check_share
from sightread.contracts import Batch, Losses, Objective, to_device
from sightread.data.blocks import special_tokens_around
from sightread.data.captions import Captions
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.seq2seq import padded
from sightread.encoders.text import check_fast, load_model, load_tokenizer, tokenizer_digest
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.modules.heads import ProjectionHead
from sightread.modules.losses import cosines, learnt_temperature, two_way_info_nce
from sightread.runtime import seed_everything
from sightread.train import fit, training_arguments

KIND, IMAGES = "towers", "image_projection.safetensors"
_OLD_END = 2  # with this number transformers looks for the end where the largest number stands


@dataclass(frozen=True, kw_only=True)
class TowersConfig:
    """Settings of the towers.

    Attributes:
        hidden_size: D, in heads of 64.
        num_layers: Layers of the text tower.
        width: E, of the joint space.
        image_hidden: Width of the hidden layer between image features and the joint space.
        max_length: Tokens in a row, special ones included; what is longer is cut and counted.
        dropout: Of attention, and within the map of images.
        input_dropout: On image features.
        temperature: Where τ begins.
        seed: Seed of weights, order and dropout.
        training: Hugging Face `TrainingArguments` by their own names.
    """

    hidden_size: int = 256
    num_layers: int = 4
    width: int = 256
    image_hidden: int = 512
    max_length: int = 77
    dropout: float = 0.1
    input_dropout: float = 0.2
    temperature: float = 0.07
    seed: int = 0
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "num_train_epochs": 10, "per_device_train_batch_size": 256, "learning_rate": 5e-4, "weight_decay": 0.1,
            "warmup_steps": 0.05, "lr_scheduler_type": "cosine",
        }
    )  # fmt: skip

    def __post_init__(self) -> None:
        names = ("hidden_size", "num_layers", "width", "image_hidden", "max_length", "temperature")
        check_positive(**{name: getattr(self, name) for name in names})
        check_share(dropout=self.dropout, input_dropout=self.input_dropout)
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"hidden_size={self.hidden_size} is no multiple of 64, the width of a head")

    @property
    def num_heads(self) -> int:
        """Of the text tower."""
        return max(self.hidden_size // 64, 1)


class TowersObjective(Objective):
    """Both towers and the loss between them.

    Args:
        text: The text tower, a `CLIPTextModelWithProjection`.
        image_head: What maps image features (B, F) to unit vectors (B, E).
        temperature: Where τ begins.
    """

    def __init__(self, text: Any, image_head: ProjectionHead, temperature: float = 0.07) -> None:
        super().__init__()
        self.text: Any = text
        self.encoder, self.image_head = self.text, image_head
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, images: Tensor, pictures: Tensor
    ) -> Losses:
        """The loss of one batch.

        Args:
            input_ids: Captions, int64 (B, L).
            attention_mask: int64 (B, L).
            images: Features of their pictures, float32 (B, F).
            pictures: Which they are, int64 (B,).
        """
        text = self.text(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        own, same = torch.arange(len(text), device=text.device), pictures[:, None] == pictures[None]
        temperature = learnt_temperature(self.log_temperature)
        loss = two_way_info_nce(cosines(text, self.image_head(images)), own, same, temperature) / 2
        return {"loss": loss, "temperature": temperature.detach()}

    @torch.no_grad()
    def text_vectors(self, tokenizer: Any, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Unit vectors of some texts, float32 (N, E); what is longer than the tower reads is cut."""
        found, cut = list[Tensor](), 0
        for begin in range(0, len(texts), batch_size):
            ids, num_cut = encode(
                tokenizer, texts[begin : begin + batch_size], self.text.config.max_position_embeddings
            )
            cut += num_cut
            batch = to_device(padded(ids, tokenizer.pad_token_id or 0), self.text.device)
            found.append(nn.functional.normalize(self.text.eval()(**batch).text_embeds.float(), dim=-1).cpu())
        if cut:
            warnings.warn(f"{cut} of {len(texts)} texts are longer than the tower reads, and are cut", stacklevel=2)
        return torch.cat(found).numpy()

    @torch.no_grad()
    def image_vectors(self, features: np.ndarray) -> np.ndarray:
        """Unit vectors of image features, float32 (V, F) -> (V, E)."""
        vectors: Tensor = self.image_head.eval()(torch.from_numpy(features).to(self.text.device))
        return vectors.float().cpu().numpy()

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write the text tower, its tokenizer, and the map of images beside it."""
        self.text.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        safetensors.torch.save_model(self.image_head, str(folder / IMAGES))

    @classmethod
    def load(cls, folder: Path | str) -> TowersObjective:
        """Both towers of a folder; raises `ArtifactError` if there is none."""
        text = load_model(folder, "CLIPTextModelWithProjection")
        try:
            weights = safetensors.torch.load_file(Path(folder) / IMAGES)
            (hidden, width), out = weights["layers.2.weight"].shape, len(weights["layers.5.bias"])
            head = ProjectionHead(width, hidden, out)
            head.load_state_dict(weights)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"{folder} holds no map of images ({error}); make it by: sightread towers") from error
        return cls(text, head).eval()


class CaptionedFeatures:
    """Captions with the features of their pictures, as `fit` takes them.

    Args:
        ids: Token ids of captions, int64 (L,) each.
        features: Features of the pictures, float32 (V, F).
        picture_of: Picture of each caption, int64 (N,).
        tokenizer: CLIP's.
    """

    def __init__(self, ids: Sequence[np.ndarray], features: np.ndarray, picture_of: np.ndarray, tokenizer: Any) -> None:
        if len(features) < 2:
            raise DataError("towers need at least two different pictures, one to prefer to the other")
        self.ids, self.features, self.picture_of, self.tokenizer = ids, features, picture_of, tokenizer
        self.lengths = [len(row) for row in ids]

    def __len__(self) -> int:
        return len(self.ids)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its number; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """Pad to the longest caption."""
        pictures = self.picture_of[list(examples)]
        images = {"images": torch.from_numpy(self.features[pictures]), "pictures": torch.from_numpy(pictures)}
        return {**padded([self.ids[i] for i in examples], self.tokenizer.pad_token_id or 0), **images}


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[np.ndarray], int]:
    """Token ids of texts, int64 (L,) each, and how many were too long, and lost their ends."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, split_special_tokens=True)
    return [np.array(ids) for ids in encoded["input_ids"]], sum(bool(part.overflowing) for part in encoded.encodings)


def train(
    config: TowersConfig,
    captions: Captions,
    out: Path | str,
    *,
    tokenizer: Any,
    image_encoder: ImageEncoder,
    cache: Path | None = None,
    max_skipped: float = 0.1,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Train the towers.

    Args:
        config: Settings.
        captions: Captioned pictures to learn from.
        out: Folder of the run; `encoder/` holds the towers.
        tokenizer: CLIP's, or another that puts an end on texts.
        image_encoder: Frozen image encoder.
        cache: Folder that keeps the pictures' features.
        max_skipped: Share of pictures that may be broken.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished run in `out`.
    """
    inputs = {
        "tokenizer": tokenizer_digest(check_fast(tokenizer)), "image_encoder": image_encoder.digest,
        "captions": digest(*captions.texts, *captions.pictures.ids, captions.picture_of.tobytes()),
    }  # fmt: skip
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    started = time.monotonic()
    features, rows, skipped = image_features(image_encoder, captions.pictures, cache=cache, max_skipped=max_skipped)
    captions = captions.keep_pictures(rows)
    skipped.merge(captions.skipped)
    ids, cut = encode(tokenizer, captions.texts, config.max_length)
    seed_everything(config.seed)
    objective = fresh_towers(config, tokenizer, features.shape[1])
    args = training_arguments(artifact.path, config.training, seed=config.seed)
    log = fit(objective, CaptionedFeatures(ids, features, captions.picture_of, tokenizer), args=args, resume=resume)
    objective.save(artifact.path / "encoder", tokenizer)
    return artifact.finish({
        "captions": len(ids), "cut": cut, "pictures": len(features), "skipped": skipped.report(), "steps": log.steps,
        "last": log[-1:], "seconds": time.monotonic() - started,
    })  # fmt: skip


def fresh_towers(config: TowersConfig, tokenizer: Any, image_width: int) -> TowersObjective:
    """Towers as they begin; raises `ConfigError` if the tokenizer does not put an end on texts, as CLIP's does."""
    _, end = special_tokens_around(tokenizer)
    if not len(end) or end[-1] == _OLD_END:
        raise ConfigError(
            f"{type(tokenizer).__name__} puts no end on a text, which CLIP reads there, or one that transformers takes "
            "for another; take CLIP's own"
        )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=config.hidden_size, intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads, projection_dim=config.width,
        max_position_embeddings=config.max_length, attention_dropout=config.dropout, eos_token_id=int(end[-1]),
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    head = ProjectionHead(image_width, config.image_hidden, config.width, config.dropout, config.input_dropout)
    return TowersObjective(CLIPTextModelWithProjection(text), head, config.temperature)


def caption_vectors(towers: Path | str, captions: Captions, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `analysis.retrieval.ranks_of_own` compares: vectors of captions, float32 (N, E), and pictures, (V, E).

    Args:
        towers: Folder of the towers: a run's `encoder/`.
        captions: Captions of V pictures.
        features: Features of these, float32 (V, F), as the image encoder gave them.
    """
    model = TowersObjective.load(towers)
    return model.text_vectors(load_tokenizer(towers), captions.texts), model.image_vectors(features)
