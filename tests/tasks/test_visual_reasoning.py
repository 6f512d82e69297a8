"""NLVR2 and NLVR: sentences stay with their pictures, and the left one stays left."""

import pytest
import torch

from picture_tasks import look, write_lines, write_store
from sightread.data.encoded_pictures import Pictured
from sightread.errors import DataError
from sightread.tasks import load_task


@pytest.fixture
def load(tmp_path):
    def write(name, **files):
        for stem, rows in files.items():
            write_lines(tmp_path / f"{stem}.json", rows)
        sides = [f"{split}-0-{i}-img{side}.png" for split in ("train", "dev") for i in (0, 1) for side in (0, 1)]
        write_store(tmp_path / "regions", {picture: look("red") for picture in [*sides, "dev-3-0-0.png"]})
        return load_task(name, tmp_path, regions=tmp_path / "regions")

    return write


def test_official_files(load):
    rows = [{"identifier": f"dev-0-{i}-1", "sentence": "one box", "label": str(i == 1)} for i in (0, 1)]
    hidden = [{"identifier": "dev-0-1-0", "sentence": "no box"}]
    task = load("nlvr2", dev=rows, train=[{**rows[0], "identifier": "train-0-1-0", "directory": 9}], test1=hidden)
    assert task.splits() == ["train", "dev", "test"]
    assert task.load("dev")[1] == (Pictured(("dev-0-1-img0", "dev-0-1-img1"), "one box"), "true")
    assert task.load("train")[0].inputs.pictures == ("train-0-1-img0", "train-0-1-img1")
    assert task.load("test")[0].gold is None
    one = [{"identifier": "3-0", "sentence": "a box", "label": "true"}]
    named = [{**one[0], "image": "images/dev-3-0-0.png", "label": "false"}]
    task = load("nlvr", dev=one, test=named)
    assert [task.load(split)[0].gold for split in ("dev", "test")] == ["true", "false"]
    assert {task.rows_of(task.load(split)[0])[0] for split in ("dev", "test")} == {8}


@pytest.mark.parametrize("label", ["yes", "", 1])
def test_a_wrong_label_is_named_by_line(label, load):
    row = {"identifier": "dev-0-0-0", "sentence": "a", "label": "True"}
    with pytest.raises(DataError, match=r"dev\.json:2 has label .*, expected true or false"):
        load("nlvr2", dev=[row, {**row, "label": label}]).load("dev")


def test_pictures_are_read_side_by_side(load):
    task = load("nlvr2", dev=[])
    head, vectors = task.head(3).eval(), torch.randn(4, 3)
    expected = head[2](torch.stack([torch.cat([vectors[0], vectors[1]]), torch.cat([vectors[2], vectors[3]])]))
    torch.testing.assert_close(head(vectors), expected)
    assert task.predict([logits.detach().numpy() for logits in expected], [], None) == [
        "true" if second > first else "false" for first, second in expected.tolist()
    ]
