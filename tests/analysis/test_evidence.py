"""The evidence is what the score loses: computed again picture by picture, and found where the thing is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sightread.analysis.evidence import PLACES, evidence
from sightread.encoders.image import ImageEncoder
from sightread.vokenizer import Vokenizer

SIDE = 32


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


def score(vokenizer, pixels, vector):
    """Of one picture, float32 (3, H, W) as the model takes it, with a token."""
    encoder = vokenizer.image_encoder
    with torch.no_grad():
        feature = encoder.model(pixel_values=torch.from_numpy(pixels)[None]).pooler_output.flatten(1)
        return float(vokenizer.image_head(feature)[0] @ torch.from_numpy(vector))


def test_heat_is_what_the_score_loses(vokenizer):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    vector = vokenizer.bank.vectors[0]
    heat = evidence(vokenizer, image, vector)
    assert heat.shape == (PLACES, PLACES)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
    whole, mean = score(vokenizer, pixels, vector), pixels.mean(axis=(1, 2))
    for row, column in [(0, 0), (3, 3), (2, 6), (6, 0)]:
        covered = pixels.copy()
        for y in range(SIDE):
            for x in range(SIDE):  # a window as wide as two places, about the middle of its own
                far = [abs((at + 0.5) / SIDE - (place + 0.5) / PLACES) for at, place in ((y, row), (x, column))]
                if max(far) < 1 / PLACES:
                    covered[:, y, x] = mean
        assert heat[row, column] == pytest.approx(whole - score(vokenizer, covered, vector), abs=1e-5)


class MeanColour(torch.nn.Module):
    """A vision model whose feature is the mean colour."""

    def forward(self, pixel_values):
        return SimpleNamespace(pooler_output=pixel_values.mean(dim=(2, 3)))


@pytest.mark.parametrize("view", ["crop", "whole", "both"])
def test_the_whole_picture_is_looked_at_whatever_the_view(view):
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    encoder = ImageEncoder(MeanColour(), processor, "pooled", view)
    seeing = SimpleNamespace(
        image_encoder=encoder, device="cpu", image_vectors=lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    )
    image = Image.new("RGB", (4 * SIDE, SIDE), "black")
    image.paste("red", (0, 0, SIDE // 2, SIDE // 2))  # above, at the end that no crop shows
    red = np.array([1, 0, 0] * len(encoder.processors), np.float32) / len(encoder.processors) ** 0.5
    assert evidence(seeing, image, red).argmax() in {PLACES, 2 * PLACES}  # the windows at the edge are smaller
