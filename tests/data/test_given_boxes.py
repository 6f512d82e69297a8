import gzip
import json

import numpy as np
import pytest
from PIL import Image

from sightread.data.given_boxes import GivenBoxes
from sightread.errors import DataError
from sightread.runtime import data_root


def written(path, content):
    lines = "".join(json.dumps(line) + "\n" for line in content) if path.name.endswith("l") else json.dumps(content)
    path.write_text(lines)
    return path


COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "train/b.jpg", "width": 10, "height": 10},
    ],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [20, 10, 100, 50]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 100]},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 3, "name": "tennis racket"}],
}
LISTED = [
    {"file": "images/a.jpg", "width": 200, "height": 100, "objects": [
        {"category": "tennis racket", "bbox": [20, 10, 100, 50]}, {"category": "dog", "bbox": [0, 0, 200, 100]}]},
    {"image": "b.jpg", "width": 10, "height": 10, "objects": []},
    {"image": "c.jpg", "width": 10, "height": 10, "objects": None},
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [("boxes.json", COCO), ("boxes.jsonl", LISTED)])
def test_boxes_become_shares(tmp_path, name, content):
    path = written(tmp_path / name, content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    for source in (path, tmp_path / f"{name}.gz"):
        one, none, *unknown = GivenBoxes(source)([], ["a.jpg", "elsewhere/b.jpg", "c.jpg", "d.jpg"])
        np.testing.assert_allclose(one.boxes, [[0.1, 0.1, 0.6, 0.6], [0, 0, 1, 1]])
        assert one.tags == ["tennis racket", "dog"]
        assert one.scores.tolist() == [1, 1]
        assert (none.boxes.shape, none.tags, none.scores.shape) == ((0, 4), [], (0,))
        assert unknown == [None, None]


def test_scenes_of_nlvr(tmp_path):
    thing = {"type": "circle", "color": "#0099ff", "x_loc": 40, "y_loc": 10, "size": 20}
    scene = [[], [thing], [thing | {"color": "Yellow", "type": "square", "x_loc": 0}]]
    found = GivenBoxes(written(tmp_path / "dev.jsonl", [{"image": "x.png", "structured_rep": scene}]))([], ["x.png"])[0]
    assert found.tags == ["blue circle", "yellow square"]
    np.testing.assert_allclose(found.boxes * [400, 100, 400, 100], [[190, 10, 210, 30], [300, 10, 320, 30]])


def test_the_world_gives_its_boxes(world_folder):
    given = GivenBoxes(world_folder / "regions.jsonl")
    for line in (world_folder / "regions.jsonl").read_text().splitlines()[:8]:
        scene = json.loads(line)
        found = given([], [scene["image"]])[0]
        assert found.tags == [thing["tag"] for thing in scene["objects"]]
        pixels = np.asarray(Image.open(world_folder / "images" / scene["image"]), float)
        coloured = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(axis=2) > 0
        for left, top, right, bottom in np.rint(found.boxes * scene["width"]).astype(int):
            assert coloured[top:bottom, left:right].mean() > 0.2
            coloured[top:bottom, left:right] = False
        assert not coloured.any()


FAULTS = {
    "twice.jsonl": ([LISTED[1], LISTED[1]], "b.jpg twice"),
    "without.jsonl": ([{"image": "b.jpg", "width": 10, "height": 10}], r"without.jsonl:1 is no picture .*objects"),
    "short.jsonl": ([{"image": "x", "structured_rep": [[]]}], "short.jsonl:1 is no picture"),
    "other.json": ({"images": []}, "other.json has not the form of COCO's instances .*categories"),
    "stray.json": (COCO | {"images": []}, "stray.json has not the form"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_place(tmp_path, name):
    content, message = FAULTS[name]
    with pytest.raises(DataError, match=message):
        GivenBoxes(written(tmp_path / name, content))


@pytest.mark.realdata
def test_things_of_nlvr_lie_where_their_colour_is():
    folder = data_root() / "data" / "nlvr1"
    colours = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
    given = GivenBoxes(folder / "dev.jsonl.gz")
    for path in sorted((folder / "images").glob("dev-*.png"))[:30]:
        pixels, found = np.asarray(Image.open(path).convert("RGB"), int), given([], [path.name])[0]
        for tag, box in zip(found.tags, np.rint(found.boxes * [400, 100, 400, 100]).astype(int), strict=True):
            colour, shape = tag.split()
            left, top, right, bottom = box
            near = np.abs(pixels - colours[colour]).max(axis=2) < 40
            inside = near[top:bottom, left:right].mean()
            assert inside > {"square": 0.9, "circle": 0.6, "triangle": 0.3}[shape], (path.name, tag, inside)


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8], None])
def test_a_box_that_is_none_is_told_by_its_picture(tmp_path, box):
    listed = [{"file": "a.jpg", "width": 9, "height": 9, "objects": [{"tag": "dog", "box": box}]}]
    with pytest.raises(DataError, match=r"boxes.jsonl, a.jpg: a box is not x, y, width and height"):
        GivenBoxes(written(tmp_path / "boxes.jsonl", listed))
