"""Detectors: pictures in, boxes with tags and scores out, best first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image

from sightread.artifacts import digest
from sightread.data.given_boxes import GivenBoxes
from sightread.data.regions import Detections
from sightread.encoders.image import load_processor
from sightread.encoders.onnx_detector import OnnxDetector
from sightread.encoders.text import config_digest, load_model, weights_digest
from sightread.errors import ConfigError
from sightread.runtime import default_device

THRESHOLD = 0.5  # of a Hugging Face detector's confidence, as its makers' own post-processing


class Detector(Protocol):
    """What finds things in pictures.

    Attributes:
        digest: Digest of all that its answers follow from.
    """

    digest: str

    def __call__(self, images: Sequence[Image], ids: Sequence[str]) -> Sequence[Detections | None]:
        """What is in each picture, best first; None where that is not known."""
        ...


def load_detector(source: Path | str, threshold: float | None = None) -> Detector:
    """A detector by where it lies: boxes in a file, a folder with `model.onnx`, else a model of Hugging Face.

    Args:
        source: File, folder or Hub name.
        threshold: Least confidence; None for the detector's own.

    Raises:
        ConfigError: If a threshold is given for boxes in a file.
    """
    if Path(source).is_file():
        if threshold is not None:
            raise ConfigError(f"threshold={threshold}: the boxes of {source} have no scores; leave it out")
        return GivenBoxes(source)
    if (Path(source) / "model.onnx").is_file():
        return OnnxDetector(source, threshold)
    return HuggingFaceDetector.from_pretrained(source, THRESHOLD if threshold is None else threshold)


class HuggingFaceDetector:
    """Any object detector of Transformers (DETR, YOLOS, RT-DETR, …).

    Args:
        model: The model.
        processor: Its image processor.
        threshold: Least confidence of a box.
    """

    def __init__(self, model: Any, processor: Any, threshold: float = THRESHOLD) -> None:
        self.model, self.processor, self.threshold = model.to(default_device()).eval(), processor, threshold
        settings = json.dumps(processor.to_dict(), sort_keys=True, default=str)
        self.digest = digest(weights_digest(model), config_digest(model), settings, str(threshold))

    @classmethod
    def from_pretrained(cls, name: str | Path, threshold: float = THRESHOLD) -> HuggingFaceDetector:
        """Load a folder or Hub name; raises `ArtifactError` if it cannot be loaded."""
        return cls(load_model(name, "AutoModelForObjectDetection"), load_processor(name), threshold)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image], ids: Sequence[str]) -> list[Detections]:
        """What is in each picture, best first."""
        return [self._detect(image) for image in images]  # one by one: YOLOS takes a batch's padding for picture

    def _detect(self, image: Image) -> Detections:
        inputs = self.processor([image], return_tensors="pt").to(self.model.device)
        (found,) = self.processor.post_process_object_detection(
            self.model(**inputs),
            threshold=self.threshold,
            target_sizes=torch.ones(1, 2),  # so that boxes are shares
        )
        return self._detections(*(found[name].cpu() for name in ("boxes", "labels", "scores")))

    def _detections(self, boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor) -> Detections:
        order = scores.argsort(descending=True, stable=True)
        tags = [self.model.config.id2label[label] for label in labels[order].tolist()]
        return Detections(boxes[order].numpy(), tags, scores[order].numpy())
