"""Hugging Face vision models as picture encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor, nn

from sightread.artifacts import digest
from sightread.config import check_choice
from sightread.encoders.text import load_model, weights_digest
from sightread.errors import ArtifactError

POOLINGS = ("pooled", "mean")


class ImageEncoder(nn.Module):
    """Any Hugging Face vision model (ResNet, MobileNet, ViT, CLIP, SigLIP, DINOv2, …), one vector a picture.

    Args:
        model: The model; of a text-and-image model its image tower is used.
        processor: Its image processor.
        pooling: "pooled", what the model itself calls its feature (`image_embeds`, `pooler_output`), or "mean",
            the mean of its last feature map or patch states.
    """

    def __init__(self, model: Any, processor: Any, pooling: str = "pooled") -> None:
        check_choice("pooling", pooling, POOLINGS)
        super().__init__()
        self.model, self.processor, self.pooling = model, processor, pooling

    @classmethod
    def from_pretrained(cls, name: str | Path, pooling: str = "pooled", *, whole: bool = False) -> ImageEncoder:
        """Load a folder or Hub name.

        Args:
            name: The folder or name.
            pooling: "pooled" or "mean".
            whole: Squeeze the whole picture into the model's square, where its processor would cut out the centre. The
                processor keeps this when it is saved.

        Raises:
            ArtifactError: If it cannot be loaded.
        """
        model = load_model(name, "AutoModel")
        from transformers import AutoImageProcessor

        try:
            processor = AutoImageProcessor.from_pretrained(str(name), backend="pil")
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{name} has no image processor: {error}") from error
        if whole and getattr(processor, "do_center_crop", False):
            processor.do_center_crop, processor.size = False, processor.crop_size
        return cls(model, processor, pooling)

    @property
    def digest(self) -> str:
        """Digest of what turns a picture into features: weights, preprocessing, pooling."""
        return digest(
            weights_digest(self), json.dumps(self.processor.to_dict(), sort_keys=True, default=str), self.pooling
        )

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Pictures as the model takes them, float32 (B, 3, H, W)."""
        return self.processor(list(images), return_tensors="pt")["pixel_values"]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features of preprocessed pictures, float (B, F)."""
        two_towers = hasattr(self.model, "get_image_features")
        if two_towers and self.pooling == "pooled":
            output = self.model.get_image_features(pixel_values=pixel_values)
            return output if isinstance(output, Tensor) else output.pooler_output
        output = (self.model.vision_model if two_towers else self.model)(pixel_values=pixel_values)
        if self.pooling == "pooled" and getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)  # CNNs pool to (B, F, 1, 1)
        states = output.last_hidden_state
        return states.mean(dim=(2, 3)) if states.ndim == 4 else states.mean(dim=1)  # (B, F)

    def save_pretrained(self, folder: Path) -> None:
        """Write model and processor; the pooling is the caller's to remember."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def build_small_image_encoder(image_size: int, widths: Sequence[int] = (24, 48, 64)) -> ImageEncoder:
    """A small ResNet with fresh weights, for pictures of a given size; to be trained."""
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    config = ResNetConfig(
        embedding_size=widths[0], hidden_sizes=list(widths), depths=[1] * len(widths), layer_type="basic"
    )
    processor = ConvNextImageProcessorPil(
        do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"shortest_edge": image_size}
    )
    return ImageEncoder(ResNetModel(config), processor)
