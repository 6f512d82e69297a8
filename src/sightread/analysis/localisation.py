"""Where in a picture is a word? A joint embedding's last feature map, asked place by place (Engilberge et al. 2018).

The heat at a place is the inner product of the text's vector with what the image path makes of that place alone. The
pointing game (Zhang et al. 2016) asks whether the hottest place lies within a box of what was named.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightread.artifacts import write_atomic
from sightread.association.semantic_visual import JointEmbedding
from sightread.contracts import Pictures
from sightread.data.skipped import Skipped
from sightread.errors import DataError

CENTRE = (0.5, 0.5)
_OPACITY = 0.55  # of the heat over the picture
_COLD, _HOT = np.array([24, 40, 120]), np.array([255, 214, 0])


def heat_maps(embedding: JointEmbedding, image: Image.Image, texts: Sequence[str]) -> np.ndarray:
    """The heat of words or phrases on a picture, float32 (N, H, W); raises `DataError` if no word of one is known."""
    vectors = embedding(texts)
    if unknown := [text for text, vector in zip(texts, vectors, strict=True) if not vector.any()]:
        raise DataError(f"{unknown[0]!r:.80} holds no word that the embedding knows, and can be nowhere; give another")
    return np.einsum("hwe,ne->nhw", embedding.places(image).numpy(), vectors)


def peak(heat: np.ndarray) -> tuple[float, float]:
    """The middle of the hottest place of a map (H, W), as shares x, y of the picture; of equal ones the first."""
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    return (float(x) + 0.5) / heat.shape[1], (float(y) + 0.5) / heat.shape[0]


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture under its heat, float (H, W), from the coldest place to the hottest."""
    scaled = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-9)
    smooth = np.asarray(Image.fromarray(scaled.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC))
    colours = _COLD + smooth.clip(0, 1)[..., None] * (_HOT - _COLD)
    return Image.blend(image.convert("RGB"), Image.fromarray(colours.astype(np.uint8)), _OPACITY)


def write_overlays(embedding: JointEmbedding, image: Image.Image, texts: Sequence[str], out: Path) -> list[Path]:
    """Write `out`-1.png and so on, the heat of each text on the picture; returns their paths."""
    paths = [out.with_name(f"{out.name}-{number}.png") for number in range(1, len(texts) + 1)]
    for path, heat in zip(paths, heat_maps(embedding, image, texts), strict=True):
        overlay(image, heat).save(file := io.BytesIO(), "PNG")
        write_atomic(path, file.getvalue())
    return paths


def pointing_game(
    embedding: JointEmbedding, pictures: Pictures, boxes: Callable[..., Any], *, max_skipped: float = 0.1
) -> dict[str, Any]:
    """Does the hottest place for a name lie in a box that has it? Each name in each picture is asked once.

    Args:
        embedding: The embedding.
        pictures: The pictures.
        boxes: Images and ids -> for each a `data.regions.Detections`, or None where its boxes are not known; a
            `GivenBoxes`. Pictures without boxes, and names of unknown words, are left out.
        max_skipped: Share of pictures that may be broken.

    Returns:
        `accuracy`, that of the picture's centre, `centre`, both over all `questions` in `pictures`, and what was
        `skipped`.

    Raises:
        DataError: If nothing can be asked.
    """
    skipped, unknown, hits, asked = Skipped(), Skipped(), list[tuple[bool, bool]](), 0
    for index, id_ in enumerate(pictures.ids):
        try:
            image = pictures.load(index)
        except DataError as error:
            skipped.add(str(error), id_)
            continue
        found = boxes([image], [id_])[0]
        names = list(dict.fromkeys(filter(None, found.tags))) if found else []
        known = [name for name, vector in zip(names, embedding(names), strict=True) if vector.any()]
        for name in sorted({*names} - {*known}):
            unknown.add("name of unknown words", f"{name} in {id_}")
        asked += bool(known)
        for name, heat in zip(known, heat_maps(embedding, image, known), strict=True):
            its = found.boxes[np.array(found.tags) == name]
            hits.append((_within(peak(heat), its), _within(CENTRE, its)))
    skipped.check(len(pictures), max_skipped, "pictures")
    if not hits:
        raise DataError(f"not one of {len(pictures)} pictures has a box whose name the embedding knows")
    skipped.merge(unknown)
    accuracy, centre = np.mean(hits, axis=0).tolist()
    return {
        "accuracy": accuracy, "centre": centre, "questions": len(hits), "pictures": asked, "skipped": skipped.report()
    }  # fmt: skip


def _within(point: tuple[float, float], boxes: np.ndarray) -> bool:
    x, y = point
    return bool(((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).any())
