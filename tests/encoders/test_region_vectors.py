import time

import numpy as np
import pytest
import torch
from PIL import Image

from sightread.data.given_boxes import GivenBoxes
from sightread.data.images import PictureFiles
from sightread.data.regions import Detections, RegionStore
from sightread.encoders.image import ImageEncoder
from sightread.encoders.region_vectors import RegionEncoder, build_regions, cut_out, roi_means
from sightread.errors import ConfigError, DataError
from sightread.runtime import data_root

BOXES = {
    "whole": (0, 0, 1, 1), "a cell": (0.25, 0, 0.5, 0.5), "in a cell": (0.3, 0.1, 0.31, 0.12),
    "on a border": (0.49, 0.49, 0.51, 0.51), "any": (0.13, 0.2, 0.77, 0.9), "a corner": (0.99, 0.97, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(2, 4), (3, 3), (1, 1)])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_region_is_the_mean_of_what_it_covers(box, height, width):
    feature_map = np.random.default_rng(0).normal(size=(5, height, width))
    total, area = np.zeros(5), 0.0
    for row in range(height):
        for column in range(width):
            across = min(box[2], (column + 1) / width) - max(box[0], column / width)
            down = min(box[3], (row + 1) / height) - max(box[1], row / height)
            if across > 0 and down > 0:
                total, area = total + feature_map[:, row, column] * across * down, area + across * down
    found = roi_means(torch.tensor(feature_map, dtype=torch.float32), torch.tensor([box, box]))
    assert area == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
    np.testing.assert_allclose(found, [total / area] * 2, rtol=1e-4, atol=1e-5)


def test_what_is_cut_out_is_what_lies_in_the_box():
    image = Image.fromarray(np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3))
    pixels = np.asarray(image)
    for box, expected in {
        (0, 0, 1, 1): pixels, (0.1, 0.5, 0.6, 1): pixels[3:, 1:6],
        (0.52, 0.5, 0.53, 0.51): pixels[3:4, 5:6], (0.99, 0.99, 1, 1): pixels[5:, 9:],
    }.items():  # fmt: skip
        np.testing.assert_array_equal(cut_out(image, np.array(box, np.float32)), expected)


@pytest.fixture
def encoder(image_encoder_folder):
    return ImageEncoder.from_pretrained(image_encoder_folder, view="whole")


def test_the_whole_picture_as_a_box_is_the_picture(encoder, captions):
    images, whole = [captions.pictures.load(row) for row in range(3)], np.array([[0, 0, 1, 1]], np.float32)
    left = whole * [1, 1, 0.5, 1]
    vectors = RegionEncoder(encoder)
    found = vectors(images, [whole, np.zeros((0, 4), np.float32), np.concatenate([left, whole]).astype(np.float32)])
    with torch.no_grad():
        expected = encoder(encoder.preprocess(images)).numpy()
        feature_map = encoder.feature_map(encoder.preprocess(images[2:]))[0].numpy()
    assert vectors.width == 12
    assert [(of.shape, of.dtype) for of in found] == [(shape, np.float32) for shape in [(1, 12), (0, 12), (2, 12)]]
    np.testing.assert_allclose([found[0][0], found[2][1]], expected[[0, 2]], rtol=1e-4, atol=1e-5)
    half = feature_map[:, :, : feature_map.shape[2] // 2].mean(axis=(1, 2))
    np.testing.assert_allclose(found[2][0], half, rtol=1e-4, atol=1e-5)


def test_crops_are_seen_one_by_one(encoder, captions):
    encoder.processor.do_resize = True
    images = [captions.pictures.load(row) for row in range(3)]
    boxes = [
        np.array(of, np.float32).reshape(-1, 4) for of in ([[0, 0, 1, 1]], [], [[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]])
    ]
    vectors = RegionEncoder(encoder, "crop")
    found = vectors(images, boxes)
    side = images[2].width // 2
    crops = [images[0], images[2].crop((side, side, 2 * side, 2 * side)), images[2].crop((0, 0, side, side))]
    with torch.no_grad():
        expected = np.concatenate([encoder(encoder.preprocess([crop])) for crop in crops])
    assert [of.shape for of in found] == [(1, 12), (0, 12), (2, 12)]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)
    assert [of.shape for of in vectors(images[:1], boxes[1:2])] == [(0, 12)]


def test_what_cannot_be_pooled_is_refused(image_encoder_folder):
    cropping = ImageEncoder.from_pretrained(image_encoder_folder)
    with pytest.raises(ConfigError, match="view=crop: boxes are shares of the whole picture"):
        RegionEncoder(cropping)
    with pytest.raises(ConfigError, match="did you mean 'crop'"):
        RegionEncoder(cropping, "crops")
    with pytest.raises(ConfigError, match="does not resize"):
        RegionEncoder(cropping, "crop")


class Corners:
    """A detector that finds the left upper corner of every picture, and more in some."""

    digest = "corners"

    def __init__(self, pause=0.0):
        self.pause = pause

    def __call__(self, images, ids):
        time.sleep(self.pause)
        boxes = np.array([[0, 0, 0.5, 0.5], [0.2, -1, 0.4, 0], [0.5, 0, 1.5, 1]])
        counts = [int(id_.split("-")[1][:5]) % 3 for id_ in ids]
        return [Detections(boxes[: n + 1], list("abc")[: n + 1], np.array([0.5, 0.9, 0.7])[: n + 1]) for n in counts]


def build_slowly(world_folder, encoder_folder, out):
    pictures = PictureFiles.from_folder(world_folder / "images")
    encoder = ImageEncoder.from_pretrained(encoder_folder, view="whole")
    build_regions(pictures, Corners(pause=0.2), encoder, out, shard_size=5)


def test_a_killed_job_ends_with_the_same_bytes(world_folder, image_encoder_folder, encoder, tmp_path, kill_when):
    whole, killed, pictures = tmp_path / "whole", tmp_path / "killed", PictureFiles.from_folder(world_folder / "images")
    expected = build_regions(pictures, Corners(), encoder, whole, shard_size=5)
    enough = (killed / "shard-00001.parquet").exists
    kill_when(enough, build_slowly, world_folder, image_encoder_folder, killed)
    assert not (killed / "shard-00004.parquet").exists()
    store = build_regions(pictures, Corners(), encoder, killed, shard_size=5, resume=True)
    assert store.digest == expected.digest
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in killed.iterdir()}
    for row, regions in enumerate(store):
        tags = {0: ["a"], 1: ["a"], 2: ["c", "a"]}[row % 3]  # the best first, without the one beyond the picture
        vectors = RegionEncoder(encoder)([pictures.load(row)], [regions.boxes])[0]
        assert list(regions.tags) == tags
        np.testing.assert_allclose(regions.vectors, vectors, rtol=1e-4, atol=1e-5)
    report = store.artifact.report
    assert report["skipped_boxes"]["box with no area within the picture"]["count"] == 16
    assert (report["pictures"], report["regions"], report["shards"]) == (24, 32, 5)
    with pytest.raises(Exception, match="another detector"):
        build_regions(pictures, GivenBoxes(world_folder / "regions.jsonl"), encoder, whole, shard_size=5, resume=True)


def test_broken_and_unknown_pictures_are_listed(world_folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    known = world_folder / "images" / "scene-00003.png"
    pictures = PictureFiles(["a.png", "broken.png", known.name], [known, tmp_path / "broken.png", known])
    given, told = GivenBoxes(world_folder / "regions.jsonl"), list[str]()
    with pytest.raises(DataError, match="2 of 3 pictures are bad"):
        build_regions(pictures, given, None, tmp_path / "store")
    store = build_regions(
        pictures, given, None, tmp_path / "store", max_skipped=0.7, overwrite=True, most=1, say=told.append
    )
    assert (store.ids, store.width, store[0].vectors.shape) == ([known.name], 0, (1, 0))
    reasons = store.artifact.report["skipped"]
    assert reasons["picture of unknown boxes"]["first"] == ["a.png"]
    assert [found["first"] for reason, found in reasons.items() if reason.startswith("broken picture")] == [
        ["broken.png"]
    ]
    assert "pictures/s" in told[0]


@pytest.mark.realdata
@pytest.mark.parametrize("pooling", ["roi", "crop"])
def test_dogs_look_like_dogs(tmp_path, pooling):
    """COCO's boxes: the nearest region of another picture is of the same category far more often than by chance."""
    folder = data_root() / "data" / "coco-small"
    encoder = ImageEncoder.from_pretrained(data_root() / "models" / "mobilenet-v2-1.0-224", view="whole")
    pictures, given = PictureFiles.from_folder(folder / "images"), GivenBoxes(folder / "coco_small.jsonl")
    pictures = pictures.select([row for row, id_ in enumerate(pictures.ids) if given([], [id_])[0] is not None][:70])
    store = build_regions(pictures, given, encoder, tmp_path / "store", pooling=pooling, most=2)
    assert RegionStore(tmp_path / "store").width == 1280
    vectors = np.concatenate([regions.vectors for regions in store])
    tags = np.array([tag for regions in store for tag in regions.tags])
    owners = np.repeat(np.arange(len(store)), [len(regions.tags) for regions in store])
    vectors = (vectors - vectors.mean(0)) / np.linalg.norm(vectors - vectors.mean(0), axis=1, keepdims=True)
    nearest = np.where(owners[:, None] == owners, -2, vectors @ vectors.T).argmax(axis=1)
    same, chance = (tags[nearest] == tags).mean(), np.mean([(tags == tag).mean() for tag in tags])
    assert same > chance + 0.1, (same, chance)
