"""CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) taken apart: two towers and their maps to one space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sightread.encoders.image import ImageEncoder, load_processor
from sightread.encoders.text import TextEncoder, load_model, load_tokenizer
from sightread.errors import ConfigError


@dataclass(frozen=True)
class ClipTowers:
    """A text tower and an image tower, each with its linear map to the joint space.

    Attributes:
        text_encoder: States of tokens after the last LayerNorm.
        text_projection: (D) -> (E).
        image_encoder: What the tower pools of a picture.
        image_projection: (F) -> (E); SigLIP's is the identity.
    """

    text_encoder: TextEncoder
    text_projection: nn.Linear
    image_encoder: ImageEncoder
    image_projection: nn.Linear

    @classmethod
    def from_pretrained(cls, name: str | Path) -> ClipTowers:
        """Load a folder or Hub name.

        Raises:
            ArtifactError: If it cannot be loaded.
            ConfigError: If it is neither a CLIP nor a SigLIP.
        """
        model = load_model(name, "AutoModel")
        kind = model.config.model_type
        if kind == "clip":
            text, image = _linear(model.text_projection.weight), _linear(model.visual_projection.weight)
        elif kind == "siglip":
            head = model.text_model.head
            text, image = _linear(head.weight, head.bias), _linear(torch.eye(head.out_features))
        else:
            raise ConfigError(
                f"{name} is of the kind {kind!r}; give a CLIP or a SigLIP, or train a vokenizer: sightread match"
            )
        text_encoder = TextEncoder(model.text_model, load_tokenizer(name))
        return cls(text_encoder, text, ImageEncoder(model.vision_model, load_processor(name)), image)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(*weight.T.shape)
    linear.load_state_dict({"weight": weight, "bias": weight.new_zeros(len(weight)) if bias is None else bias})
    return linear
