"""Hugging Face vision models as picture encoders."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional

from sightread.artifacts import digest
from sightread.config import check_choice
from sightread.encoders.text import load_model, weights_digest
from sightread.errors import ArtifactError, ConfigError

POOLINGS = ("pooled", "mean")
REGIONS = re.compile(r"regions-([1-9]\d*)")
VIEWS = ("crop", "whole", "both")
MOST_BEFORE = 8  # states that stand before those of patches: [CLS], registers
MAP_DIMS = 4  # of a feature map, (B, F, H, W)


class ImageEncoder(nn.Module):
    """Any Hugging Face vision model (ResNet, MobileNet, ViT, CLIP, SigLIP, DINOv2, …), one vector a picture.

    Args:
        model: The model; of a text-and-image model its image tower is used.
        processor: Its image processor.
        pooling: "pooled", what the model itself calls its feature (`image_embeds`, `pooler_output`), or "mean",
            the mean of its last feature map or patch states; or "regions-N", the means of N parts of that map, row by
            row, which is cut into rows and columns as equal in number as N allows.
        view: What the model sees of a picture that is not square: "crop", what its processor cuts out, often the
            centre; "whole", the whole picture squeezed into the square; "both", one feature of each, side by side.
    """

    def __init__(self, model: Any, processor: Any, pooling: str = "pooled", view: str = "crop") -> None:
        regions = REGIONS.fullmatch(pooling)
        if not regions and pooling not in POOLINGS:
            check_choice("pooling", pooling, (*POOLINGS, "regions-16 or the like"))
        check_choice("view", view, VIEWS)
        super().__init__()
        self.model, self.processor, self.pooling, self.view = model, processor, pooling, view
        self.num_parts = int(regions[1]) if regions else 1
        squeezed = _squeezing(processor)
        if view == "both" and squeezed is None:
            raise ConfigError(f"view=both: {type(processor).__name__} cuts nothing away, so that both views are one")
        whole = squeezed or processor
        self.processors = {"crop": [processor], "whole": [whole], "both": [processor, whole]}[view]

    @classmethod
    def from_pretrained(cls, name: str | Path, pooling: str = "pooled", view: str = "crop") -> ImageEncoder:
        """Load a folder or Hub name; raises `ArtifactError` if it cannot be loaded."""
        return cls(load_model(name, "AutoModel"), load_processor(name), pooling, view)

    @property
    def num_regions(self) -> int:
        """N, vectors that make up a feature: its regions, of every view; 1 if it is one vector."""
        return self.num_parts * len(self.processors) if self.num_parts > 1 else 1

    @property
    def digest(self) -> str:
        """Digest of what turns a picture into features: weights, preprocessing, pooling."""
        return digest(
            weights_digest(self), self.pooling,
            *(json.dumps(processor.to_dict(), sort_keys=True, default=str) for processor in self.processors),
        )  # fmt: skip

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Pictures as the model takes them, float32 (B·W, 3, H, W), the W views of a picture one after the other."""
        views = [processor(list(images), return_tensors="pt")["pixel_values"] for processor in self.processors]
        return torch.stack(views, dim=1).flatten(0, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features of preprocessed pictures, float (B, F); regions one after the other, (B, N·F)."""
        return self._features(pixel_values).unflatten(0, (-1, len(self.processors))).flatten(1)

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """The last feature map of preprocessed pictures, or their patch states laid out as one, float (B, F, H, W)."""
        states = self._tower(pixel_values).last_hidden_state
        return states if states.ndim == MAP_DIMS else _as_map(states)

    def _features(self, pixel_values: Tensor) -> Tensor:
        if self.pooling.startswith("regions"):
            return self._regions(self.feature_map(pixel_values))
        if hasattr(self.model, "get_image_features") and self.pooling == "pooled":
            output = self.model.get_image_features(pixel_values=pixel_values)
            return output if isinstance(output, Tensor) else output.pooler_output
        output = self._tower(pixel_values)
        if self.pooling == "pooled" and getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)  # CNNs pool to (B, F, 1, 1)
        states = output.last_hidden_state
        return states.mean(dim=(2, 3)) if states.ndim == MAP_DIMS else states.mean(dim=1)  # (B, F)

    def _tower(self, pixel_values: Tensor) -> Any:
        two_towers = hasattr(self.model, "get_image_features")
        return (self.model.vision_model if two_towers else self.model)(pixel_values=pixel_values)

    def _regions(self, feature_map: Tensor) -> Tensor:
        rows = max(n for n in range(1, math.isqrt(self.num_parts) + 1) if self.num_parts % n == 0)
        parts = functional.adaptive_avg_pool2d(feature_map, (rows, self.num_parts // rows))  # (B, F, rows, columns)
        return parts.flatten(2).transpose(1, 2).flatten(1)

    def save_pretrained(self, folder: Path) -> None:
        """Write model and processor; pooling and view are the caller's to remember."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _as_map(states: Tensor) -> Tensor:
    """Patch states (B, L, F) as a map (B, F, H, W) of the square that they tile, without those before it ([CLS])."""
    side = math.isqrt(states.shape[1])
    if states.shape[1] - side * side > MOST_BEFORE:
        raise ConfigError(f"{states.shape[1]} patch states tile no square, so that they cannot be cut into regions")
    return states[:, states.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))


def load_processor(name: str | Path) -> Any:
    """Load an image processor; raises `ArtifactError` if there is none."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(str(name), backend="pil")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{name} has no image processor: {error}") from error


def _squeezing(processor: Any) -> Any | None:
    """A copy that squeezes the whole picture into the square, or None if nothing was cut away."""
    if not getattr(processor, "do_center_crop", False):
        return None
    squeezing = copy.deepcopy(processor)
    squeezing.do_center_crop, squeezing.size = False, processor.crop_size
    return squeezing


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
