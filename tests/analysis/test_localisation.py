"""Heat maps of an embedding that sees colours and nothing else, and the pointing game counted by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightread.analysis.localisation import heat_maps, overlay, peak, pointing_game, write_overlays
from sightread.association.semantic_visual import JointEmbedding
from sightread.association.words import WordVectors
from sightread.data.images import PictureFiles
from sightread.data.regions import Detections
from sightread.errors import DataError
from sightread.modules.semantic_visual import ImagePath, TextPath

SIDE, CELL = 4, 8


class Colours(nn.Module):
    """A picture's 4 × 4 cells, each its mean colour."""

    num_parts = SIDE * SIDE

    def preprocess(self, images):
        pixels = [
            np.asarray(image.resize((SIDE * CELL, SIDE * CELL), Image.Resampling.BOX), np.float32) / 255
            for image in images
        ]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def forward(self, pixels):
        return nn.functional.avg_pool2d(pixels, CELL).flatten(2).transpose(1, 2).flatten(1)


@pytest.fixture(scope="module")
def embedding():
    """Of the words red, green and blue, on pictures."""
    text, image = TextPath(3, 3, "mean"), ImagePath(3, 3, 1)
    text.norm = image.places[0] = nn.Identity()
    for layer in (text.layer, image.places[1]):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return JointEmbedding(WordVectors(["red", "green", "blue"], np.eye(3, dtype=np.float32)), text, Colours(), image)


def picture(cells, size=(SIDE * CELL, SIDE * CELL)):
    """A black picture with cells (row, column) of a colour."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for (row, column), colour in cells.items():
        image[row, column] = colour
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST)


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_heat_is_where_the_word_is(embedding):
    image = picture({(1, 3): RED, (2, 0): BLUE, (0, 0): (128, 0, 128)}, (64, 96))
    red, blue, both = heat_maps(embedding, image, ["red", "a blue thing", "red blue"])
    expected = np.zeros((SIDE, SIDE))
    expected[1, 3], expected[0, 0] = 1, 128 / 255
    np.testing.assert_allclose(red, expected, atol=1e-6)
    np.testing.assert_allclose(both, (red + blue) / np.sqrt(2), atol=1e-6)
    assert (peak(red), peak(blue)) == ((0.875, 0.375), (0.125, 0.625))
    with pytest.raises(DataError, match="'dog' holds no word that the embedding knows"):
        heat_maps(embedding, image, ["red", "dog"])


def test_the_overlay_is_hot_where_the_heat_is(embedding, tmp_path):
    image = picture({(1, 3): RED}, (64, 96))
    paths = write_overlays(embedding, image, ["red", "blue"], tmp_path / "heat")
    assert [path.name for path in paths] == ["heat-1.png", "heat-2.png"]
    with Image.open(paths[0]) as shown:
        pixels = np.asarray(shown, float)
        assert shown.size == (64, 96)
    hot, cold = pixels[36, 56], pixels[80, 10]
    assert hot[0] > 200
    assert hot[1] > cold[1] + 80
    assert overlay(image, np.zeros((4, 4))).size == (64, 96)  # of no heat at all


def test_the_pointing_game_is_counted(embedding, tmp_path):
    for name, cells in (("a", {(0, 0): RED, (3, 3): BLUE}), ("b", {(1, 1): RED}), ("c", {})):
        picture(cells).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    boxes = {
        "a.png": [("red", (0, 0, 0.3, 0.3)), ("blue", (0.2, 0.2, 0.9, 0.7)), ("blue", (0.8, 0.8, 1, 1))],
        "b.png": [("red", (0.4, 0.4, 1, 1)), ("dog", (0, 0, 1, 1)), ("", (0, 0, 1, 1))],
    }

    def given(images, ids):
        assert all(isinstance(image, Image.Image) for image in images)
        rows = [boxes.get(id_) for id_ in ids]
        return [
            row
            and Detections(np.array([box for _, box in row], np.float32), [tag for tag, _ in row], np.ones(len(row)))
            for row in rows
        ]

    pictures = PictureFiles.from_folder(tmp_path)
    scores = pointing_game(embedding, pictures, given, max_skipped=0.3)
    # red and blue of a: both right, the centre in the first blue box; red of b: wrong, the centre right
    assert (scores["questions"], scores["pictures"]) == (3, 2)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["centre"] == pytest.approx(2 / 3)
    assert {reason: found["count"] for reason, found in scores["skipped"].items()} == {
        "name of unknown words": 1, next(reason for reason in scores["skipped"] if "broken" in reason): 1
    }  # fmt: skip
    with pytest.raises(DataError, match="pictures are bad"):
        pointing_game(embedding, pictures, given)
    with pytest.raises(DataError, match="has a box whose name"):
        pointing_game(embedding, pictures.select([2]), given)
