"""Detectors in ONNX files, by ONNX Runtime; the extra `onnx`.

A folder of `model.onnx`, a file of class names, `*.names`, one a line, and `meta.json`:

    {"input": {"name": …, "shape": [1, 3, H, W], "channels": "RGB" or "BGR", "scale": "pixel" or "pixel/255",
               "mean": [three numbers], "std": [three numbers], "resize": "stretch"},
     "decode": {…, "score_threshold": 0.5, "nms_iou": 0.45, "nms": "class" or "all"}}

`mean` and `std` may be left out, `nms_iou`, too: then no box is suppressed. `decode` says how the output is read:

- **arrays**: `"boxes"`, `"scores"` and `"classes"` name the outputs, (R, 4), (R,) and (R,), or without `"classes"` the
  scores of every class, (R, C), each perhaps in a batch of one; `"box"` is "xyxy", "xywh" (the corner first) or
  "cxcywh" (the centre first), `"unit"` "pixel" (of the input) or "share".
- **grid**, as FastestDet's: the one output is (1, 5 + C, h, w); the cell in row r and column c holds objectness, x and
  y, of which the centre is ((c + tanh x) / w, (r + tanh y) / h), width and height before the sigmoid, and the
  probability of each class. `"centre"` and `"size"` tell these formulas, `"score"` is "objectness**a * max(class)**b".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image, Resampling

from sightread.artifacts import digest, digest_file
from sightread.config import check_choice
from sightread.data.regions import Detections
from sightread.data.tables import read_json, text_lines
from sightread.errors import ArtifactError, ConfigError, MissingExtra
from sightread.metrics import iou

_SCORE = re.compile(r"objectness\*\*([\d.]+) \* max\(class\)\*\*([\d.]+)")
_CHANNELS, _SCALES = {"RGB": slice(None), "BGR": slice(None, None, -1)}, {"pixel": 1.0, "pixel/255": 255.0}
_TO_CORNERS = {  # of a box of four numbers: columns of the matrix give x1, y1, x2, y2
    "xyxy": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "xywh": [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]],
    "cxcywh": [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]],
}


class OnnxDetector:
    """A detector in a folder, as described above; it takes as many threads as torch does.

    Args:
        folder: The folder.
        threshold: Least confidence of a box; None for that of `meta.json`.

    Raises:
        ArtifactError: If a file is missing or cannot be read.
        ConfigError: If `meta.json` lacks something, or asks for what is not known.
        MissingExtra: If ONNX Runtime is not installed.
    """

    def __init__(self, folder: Path | str, threshold: float | None = None) -> None:
        model, meta, names = (_only(Path(folder), pattern) for pattern in ("model.onnx", "meta.json", "*.names"))
        settings = read_json(meta)
        try:
            self._input, self._decode = settings["input"], settings["decode"]
            self._size = tuple(self._input["shape"][:1:-1])  # width, height
            self.threshold = float(self._decode["score_threshold"] if threshold is None else threshold)
            _check(self._input, self._decode)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{meta} lacks {error}; see sightread/encoders/onnx_detector.py") from error
        self.names = [line.strip() for _, line in text_lines(names)]
        self.digest = digest(digest_file(model), json.dumps(settings), *self.names, str(self.threshold))
        self._session = _session(model)

    def __call__(self, images: Sequence[Image], ids: Sequence[str]) -> list[Detections]:
        """What is in each picture, best first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        boxes, scores, classes = self._outputs(self._pixels(image))
        sure = scores >= self.threshold
        boxes, scores, classes = boxes[sure], scores[sure], classes[sure]
        if len(classes) and classes.max() >= len(self.names):
            raise ConfigError(f"class {classes.max()} has no name: its file of names has {len(self.names)} lines")
        kinds = classes if self._decode.get("nms", "class") == "class" else np.zeros_like(classes)
        rows = nms(boxes, scores, kinds, self._decode.get("nms_iou", 1.0))
        return Detections(boxes[rows], [self.names[kind] for kind in classes[rows]], scores[rows])

    def _pixels(self, image: Image) -> np.ndarray:
        """As the model takes them, float32 (1, 3, H, W)."""
        pixels = np.asarray(image.resize(self._size, Resampling.BILINEAR), np.float32)
        pixels = pixels[..., _CHANNELS[self._input["channels"]]] / _SCALES[self._input["scale"]]
        mean, std = (np.array(self._input.get(name, usual), np.float32) for name, usual in (("mean", 0), ("std", 1)))
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])

    def _outputs(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes as shares, float (R, 4), scores, float (R,), and classes, int (R,)."""
        decode, given = self._decode, {self._input["name"]: pixels}
        if "boxes" not in decode:
            powers = [float(power) for power in _SCORE.fullmatch(decode["score"]).groups()]  # type: ignore[union-attr]
            return decode_grid(self._session.run(None, given)[0][0], *powers)
        names = [decode[name] for name in ("boxes", "scores", "classes") if name in decode]
        boxes, scores, *classes = self._session.run(names, given)
        boxes = boxes.reshape(-1, 4) @ np.array(_TO_CORNERS[decode["box"]], np.float32)
        boxes = boxes / (np.array(self._size * 2) if decode["unit"] == "pixel" else 1)
        scores = scores.reshape(len(boxes), -1)
        kinds = classes[0].reshape(-1).astype(np.int64) if classes else scores.argmax(axis=1)
        return boxes, scores.max(axis=1), kinds


def decode_grid(cells: np.ndarray, of_object: float, of_class: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A box from every cell of a grid.

    Args:
        cells: Objectness, centre (2), size (2) and probabilities of classes, float (5 + C, h, w).
        of_object: Power of objectness in the score.
        of_class: Power of the best class's probability.

    Returns:
        Boxes as shares, float (h·w, 4), row by row; scores, float (h·w,); classes, int (h·w,).
    """
    height, width = cells.shape[1:]
    objectness, offsets, sizes, classes = np.split(cells.reshape(len(cells), -1), [1, 3, 5])
    rows, columns = np.divmod(np.arange(height * width), width)
    centres = (np.stack([columns, rows]) + np.tanh(offsets)) / [[width], [height]]
    half = 0.5 / (1 + np.exp(-sizes))
    scores = objectness[0] ** of_object * classes.max(axis=0) ** of_class
    return np.concatenate([centres - half, centres + half]).T, scores, classes.argmax(axis=0)


def nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, most_overlap: float) -> np.ndarray:
    """Non-maximum suppression: of boxes of a class that overlap, only the best stays.

    Args:
        boxes: x1, y1, x2, y2, float (R, 4).
        scores: float (R,); of equal ones the first is the better.
        classes: int (R,); all the same to suppress across classes.
        most_overlap: Intersection over union above which the worse goes.

    Returns:
        The rows that stay, best first, int64.
    """
    order, kept = np.argsort(-scores, kind="stable"), list[int]()
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        hidden = (iou(boxes[[best]], boxes[rest])[0] > most_overlap) & (classes[rest] == classes[best])
        order = rest[~hidden]
    return np.array(kept, dtype=np.int64)


def _check(taken: Mapping[str, Any], decode: Mapping[str, Any]) -> None:
    """Raise `ConfigError` or `KeyError` at what is not known, or not there."""
    check_choice("channels", taken["channels"], _CHANNELS)
    check_choice("scale", taken["scale"], _SCALES)
    check_choice("resize", taken["resize"], ["stretch"])
    check_choice("nms", decode.get("nms", "class"), ["class", "all"])
    if "boxes" in decode:
        check_choice("box", decode["box"], _TO_CORNERS)
        check_choice("unit", decode["unit"], ["pixel", "share"])
    elif not (_SCORE.fullmatch(decode["score"]) and "tanh" in decode["centre"] and "sigmoid" in decode["size"]):
        raise ConfigError(f"decode is {json.dumps(decode)}: neither arrays nor a grid as FastestDet's")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ArtifactError(f"{folder} holds {len(found)} files {pattern}, expected one: it is no ONNX detector")
    return found[0]


def _session(model: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(f"{model} needs ONNX Runtime: pip install 'sightread[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions have no common base
        raise ArtifactError(f"{model} cannot be loaded: {error}") from error
