"""Where in a picture is the evidence for a token? Where the score falls if that place is covered.

A window slides over the picture and covers it with the picture's mean colour; the heat at its place is what the token's
score loses (Zeiler & Fergus 2014, section 4.2). It asks nothing of the image encoder but features, `PLACES`² and one.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from sightread.encoders.image import ImageEncoder
from sightread.vokenizer import Vokenizer

PLACES = 7  # along each side
_WINDOW = 2 / PLACES  # width of what is covered, as a share of the picture's
_AT_ONCE = 7  # pictures in a batch: few for the caches


@torch.inference_mode()
def evidence(vokenizer: Vokenizer, image: Image, vector: np.ndarray) -> np.ndarray:
    """What the score of a token with a picture loses where the picture is covered.

    Args:
        vokenizer: What chose the picture; here it sees the whole of it, whatever its view.
        image: The picture, RGB.
        vector: The token in the joint space, a unit row, float32 (E,).

    Returns:
        The heat, float32 (`PLACES`, `PLACES`), from -2 to 2; negative where covering raises the score.
    """
    encoder = vokenizer.image_encoder
    seeing = ImageEncoder(encoder.model, encoder.processor, encoder.pooling, "whole").eval()
    pixels = seeing.preprocess([image]).to(vokenizer.device)
    seen = torch.cat([pixels, _covered(pixels[0])])
    features = torch.cat([seeing(some) for some in seen.split(_AT_ONCE)])
    views = features.repeat(1, len(encoder.processors))  # each view, if there are two, is the whole
    whole, *without = vokenizer.image_vectors(views.cpu().numpy()) @ vector
    return (whole - np.array(without)).reshape(PLACES, PLACES)


def _covered(pixels: Tensor) -> Tensor:
    """A picture (3, H, W) with each of its places covered, row by row, (`PLACES`², 3, H, W)."""
    _, height, width = pixels.shape
    copies = pixels.repeat(PLACES**2, 1, 1, 1)
    middles = (np.arange(PLACES) + 0.5) / PLACES
    begins, ends = (middles - _WINDOW / 2).clip(min=0), middles + _WINDOW / 2
    for place, copy in enumerate(copies):
        row, column = divmod(place, PLACES)
        rows = slice(round(begins[row] * height), round(ends[row] * height))
        columns = slice(round(begins[column] * width), round(ends[column] * width))
        copy[:, rows, columns] = pixels.mean(dim=(1, 2), keepdim=True)
    return copies
