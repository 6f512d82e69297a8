"""RefCOCO+: boxes in shares, the region that overlaps most, and what has none."""

import numpy as np
import pytest
import torch

from picture_tasks import BOXES, COLORS, look, write_references, write_store
from sightread.errors import DataError
from sightread.metrics import METRICS, iou
from sightread.tasks import load_task

REFERENCES = [
    ("train", 0, [0, 0, 80, 100], "left"), ("train", 1, [100, 0, 60, 80], "most of the right"),
    ("train", 0, [80, 0, 20, 100], "between"), ("train", 2, [0, 0, 80, 100], "where nothing was found"),
    ("val", 1, [0, 0, 80, 80], "left"), ("testA", 2, [0, 0, 9, 9], "nothing"), ("testB", 3, [0, 0, 9, 9], "unknown"),
]  # fmt: skip


@pytest.fixture
def task(tmp_path):
    """Pictures of 200 by 100 pixels: two regions, two, and none."""
    write_references(tmp_path, REFERENCES)
    pictures = {"0.jpg": look("red", "blue"), "1.jpg": look("blue", "red"), "2.jpg": look()}
    write_store(tmp_path / "regions", pictures)
    return load_task("refcoco+", tmp_path, regions=tmp_path / "regions")


def test_official_records(task):
    assert task.splits() == ["train", "dev", "testA", "testB"]
    rows = task.load("train")
    assert [(row.inputs.pictures, row.inputs.text) for row in rows] == [(("0",), "left"), (("1",), "most of the right")]
    assert rows[1].gold == pytest.approx([0.5, 0, 0.8, 0.8])
    assert task.skipped["train"].report()["rows of train none of whose regions is meant"] == {
        "count": 2, "first": ["0", "2"],
    }  # fmt: skip
    with pytest.raises(DataError, match="not one picture of testB"):
        task.load("testB")


def test_what_is_missing(tmp_path, task):
    (tmp_path / "instances.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="is not of RefCOCO's format: KeyError"):
        task.load("train")
    (tmp_path / "instances.json").unlink()
    with pytest.raises(DataError, match=r"needs COCO's boxes beside it, in instances\.json"):
        task.load("train")
    (tmp_path / "refs(unc).json").unlink()
    with pytest.raises(DataError, match=r"no refs\(unc\)\.json .*; the official refs\(unc\)\.p is never loaded"):
        task.splits()


def test_the_loss_is_over_the_regions_that_are_there(task, tokenizer):
    rows = [*task.load("train"), *task.load("dev")]
    examples = task.encode(rows, tokenizer, 32)
    labels = examples.collate([examples.example(i, None) for i in range(3)])["labels"]
    assert labels.tolist() == [[1, 0], [0, 1], [1, 0]]
    labels = torch.tensor([[0, 1, -100], [0, 0, 1]])
    scores = np.array([[0.5, 2.0, 9.0], [1.0, 0.0, -1.0]])
    by_hand = [np.log(np.exp(scores[0, :2]).sum()) - 2.0, np.log(np.exp(scores[1]).sum()) + 1.0]
    assert float(task.loss(torch.tensor(scores), labels)) == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert task.head(5)(torch.zeros(2, 3, 5)).shape == (2, 3)


def test_the_best_region_that_is_there_is_the_answer(task, tokenizer):
    rows = [*task.load("dev"), *task.load("testA")]
    examples = task.encode(rows, tokenizer, 32)
    assert [label.tolist() for label in examples.texts.labels] == [[1, 0], []]
    said = task.predict([np.array([1.0, 2.0, 9.0]), np.array([3.0, 1.0, 2.0])], rows, examples)
    assert said == [BOXES[1].tolist(), None]
    assert METRICS["referring"].scores([BOXES[0].tolist(), None], [row.gold for row in rows]) == {"accuracy": 0.5}


def test_fewer_regions_are_those_of_highest_score(tmp_path):
    write_references(tmp_path, REFERENCES[:2])
    second = look(*COLORS[:2])._replace(scores=np.array([0.1, 0.9], np.float32))
    write_store(tmp_path / "regions", {"0.jpg": second, "1.jpg": second})
    task = load_task("refcoco+", tmp_path, regions=tmp_path / "regions", settings=["most=1"])
    assert [row.inputs.text for row in task.load("train")] == ["most of the right"]


def test_overlap_is_that_of_counted_points():
    """Of boxes whose corners lie on a grid of tenths: the points between its lines."""
    rng = np.random.default_rng(0)
    boxes, others = (np.sort(rng.integers(0, 11, (n, 2, 2)), axis=1).reshape(n, 4) / 10 for n in (30, 40))
    x, y = np.meshgrid(np.arange(0.05, 1, 0.1), np.arange(0.05, 1, 0.1))
    inside = [[(b[0] < x) & (x < b[2]) & (b[1] < y) & (y < b[3]) for b in of] for of in (boxes, others)]
    counted = [[(a & b).sum() / max((a | b).sum(), 1) for b in inside[1]] for a in inside[0]]
    np.testing.assert_allclose(iou(boxes, others), counted, atol=1e-12)
    assert iou([[0, 0, 1, 1]], []).shape == (1, 0)
