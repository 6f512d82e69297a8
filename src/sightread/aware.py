"""Encoders, and models that translate, whose states look at the pictures found for their text (Zhang et al. 2020).

    encoder, tokenizer = load_encoder("aware/encoder"), load_tokenizer("aware/encoder")
    encoder(**tokenizer("a dog jumps", return_tensors="pt")).last_hidden_state

They find their pictures themselves, as a `GroundedEncoder` does, and a task cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, GenerationConfig, MarianConfig, MarianMTModel
from transformers.modeling_outputs import BaseModelOutput

from sightread.artifacts import folder_of
from sightread.config import check_positive, check_share
from sightread.encoders.text import longest_input
from sightread.errors import ConfigError
from sightread.grounded import Finder, GroundedConfig, GroundedEncoder, read_finding, write_finding
from sightread.modules.fusion import AwareText, PictureAttention


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """How text looks at pictures.

    Attributes:
        num_images: m, pictures found for a text.
        heads: Attention heads.
        gated: Whether a gate weighs what was seen.
        dropout: Dropout on the attention.
    """

    num_images: int = 8
    heads: int = 8
    gated: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_positive(num_images=self.num_images, heads=self.heads)
        check_share(dropout=self.dropout)

    def attention(self, width: int, image_width: int) -> PictureAttention:
        """The layer that looks, with fresh weights, for states and pictures of these widths."""
        return PictureAttention(width, image_width, heads=self.heads, gated=self.gated, dropout=self.dropout)


class AwareConfig(GroundedConfig):
    """The shape of an aware encoder: `look` holds the settings of a `LookConfig`, beside what a grounded one has;
    `untaught` says that the layer that looks has learnt nothing yet."""

    model_type = "sightread-aware"

    def __init__(self, look: dict[str, Any] | None = None, untaught: bool = False, **more: Any) -> None:
        self.look, self.untaught = look or {}, untaught
        super().__init__(**more)


class AwareEncoder(GroundedEncoder):
    """An encoder of text whose states look at the pictures found for it."""

    config_class = AwareConfig

    @staticmethod
    def fresh(config: Any) -> AwareText:
        """Fresh weights of this shape."""
        text = AutoModel.from_config(AutoConfig.for_model(**config.text))
        return AwareText(text, LookConfig(**config.look).attention(text.config.hidden_size, config.image_width))

    def begin_anew(self) -> None:
        """Draw the layer that looks again, if it is untaught: it is to be another with each seed. It no longer is."""
        if self.config.untaught:
            width = self.config.hidden_size
            layer = LookConfig(**self.config.look).attention(width, self.config.image_width)
            self.cross_modal.attention = layer.train(self.training)
            self.config.untaught = False

    @classmethod
    def around(cls, text: Any, tokenizer: Any, finder: Finder, look: LookConfig) -> AwareEncoder:
        """A text encoder with pictures at its elbow; the layer that looks is fresh.

        Raises:
            ConfigError: If the encoder reads pictures already, or its width is no multiple of the heads.
        """
        if text.config.model_type.startswith("sightread-"):
            raise ConfigError(f"this encoder reads more than text ({text.config.model_type}); give one of text alone")
        width, image_width = text.config.hidden_size, finder.features.shape[2]
        config = AwareConfig(
            look=vars(look), text=text.config.to_dict(), image_width=image_width, num_images=look.num_images,
            num_regions=finder.features.shape[1], hidden_size=width, vocab_size=text.config.vocab_size,
            num_hidden_layers=text.config.num_hidden_layers, pad_token_id=text.config.pad_token_id,
            max_position_embeddings=longest_input(text, tokenizer), associative=True, untaught=True,
        )  # fmt: skip
        return cls(config, AwareText(text, look.attention(width, image_width)), finder)


class AwareTranslatorConfig(MarianConfig):
    """The shape of an `AwareTranslator`: a `MarianConfig` with `look`, `image_width` and `num_images`."""

    model_type = "sightread-aware-marian"
    look: dict[str, Any] | None = None
    image_width: int = 1
    num_images: int = 8
    associative: bool = True


class AwareTranslator(MarianMTModel):
    """A Marian whose encoder looks at the pictures found for the source text.

    Its other weights are drawn first: with the same seed they are those of the `MarianMTModel` without pictures.

    Args:
        config: Its shape.
        finder: What finds pictures.
    """

    config_class = AwareTranslatorConfig

    def __init__(self, config: AwareTranslatorConfig, finder: Finder | None = None) -> None:
        super().__init__(config)
        self.model.encoder = _LookingEncoder(self.model.encoder, config, finder)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write weights, config and association; the tokenizer is the caller's to add."""
        for part in (self.config, self.generation_config):
            part.save_pretrained(folder)
        write_finding(Path(folder), self, self.model.encoder.finder)

    @staticmethod
    def shape(finder: Finder, look: LookConfig) -> dict[str, Any]:
        """What its config holds beside Marian's."""
        return {"look": vars(look), "image_width": finder.features.shape[2], "num_images": look.num_images}

    @classmethod
    def from_pretrained(cls, name: str | Path, *_: Any, **__: Any) -> AwareTranslator:  # type: ignore[override]
        """Load a folder, with its tokenizer, or a repository of the Hub; raises `ArtifactError` if something is missing
        of it."""
        folder = folder_of(name)
        model = cls(AwareTranslatorConfig.from_pretrained(folder))
        model.model.encoder.finder = read_finding(folder, model, model.config)
        model.generation_config = GenerationConfig.from_pretrained(folder)
        return model.eval()


class _LookingEncoder(AwareText):
    """Stands in the place of a Marian's encoder."""

    def __init__(self, text: Any, config: AwareTranslatorConfig, finder: Finder | None) -> None:
        super().__init__(text, LookConfig(**config.look or {}).attention(config.d_model, config.image_width))
        self.finder = finder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:  # type: ignore[override]
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        images: dict[str, Any] = self.finder(input_ids, mask) if self.finder else {}
        return BaseModelOutput(last_hidden_state=super().forward(input_ids, mask, **images)[0])

    def get_input_embeddings(self) -> Any:
        return self.text.get_input_embeddings()


for _config, _auto, _model in (
    (AwareConfig, AutoModel, AwareEncoder), (AwareTranslatorConfig, AutoModelForSeq2SeqLM, AwareTranslator)
):  # fmt: skip
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    _auto.register(_config, _model, exist_ok=True)
