"""Image retrieval: splits as they are given out, wrong pictures that are wrong, ranks among all pictures."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from picture_tasks import COLORS, look, write_store
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError, DataError
from sightread.metrics import METRICS
from sightread.modules.single_stream import SingleStream
from sightread.task_model import FinetuningObjective, predict
from sightread.tasks import image_retrieval, load_task
from sightread.tasks.image_retrieval import ranks_of, read_split

SPLITS = {"train": "012345", "dev": "6789", "test": "abc"}
CAPTIONS = {
    name: ("a red box", f"box {name}", f"a {color} key")
    for name, color in zip("0123456789abc", 3 * COLORS, strict=False)
}


@pytest.fixture
def load(tmp_path):
    """The task of thirteen pictures `x0.jpg` and so on, each with three captions, of which all share the first."""

    def write(form="lists", **settings):
        if form == "lists":
            lines = [f"x{name}.jpg#{i}\t{said}" for name, of in CAPTIONS.items() for i, said in enumerate(of)]
            (tmp_path / "captions.tsv").write_text("\n".join([*lines, "other.jpg#0\tnothing"]))
            for split, names in SPLITS.items():
                (tmp_path / f"split_{split}.txt").write_text("".join(f"x{name}.jpg\n" for name in names))
        else:
            theirs = {"train": "restval", "dev": "val", "test": "test"}
            pictures = [
                {"filename": f"x{name}.jpg", "split": theirs[split], "sentences": [{"raw": s} for s in CAPTIONS[name]]}
                for split, names in SPLITS.items() for name in names
            ]  # fmt: skip
            (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": pictures}))
        regions = write_store(
            tmp_path / "regions", {f"x{name}.jpg": look(COLORS[i % 6]) for i, name in enumerate(CAPTIONS)}
        )
        pairs = [f"{key}={value}" for key, value in settings.items()]
        return load_task("flickr8k", tmp_path, regions=regions, settings=pairs)

    return write


@pytest.mark.parametrize("form", ["lists", "karpathy"])
def test_splits_as_they_are_given_out(form, load):
    task = load(form)
    assert task.splits() == ["train", "dev", "test"]
    for split, names in SPLITS.items():
        found = [(row.gold, row.inputs.text) for row in task.load(split)]
        assert found == [(f"x{name}.jpg", caption) for name in names for caption in CAPTIONS[name]]


def test_wrong_pictures_are_drawn_anew_and_are_wrong(load, tokenizer):
    """One caption is that of every picture but the last two, which alone are drawn for it."""
    task = load()
    rows = [row for row in task.load("train") if row.inputs.text != "a red box" or row.gold < "x4"]
    examples = task.encode_training(rows, tokenizer, 32)
    assert len(examples) == len(rows)
    for number, row in enumerate(rows):
        again, pictures = examples.example(number, np.random.default_rng(number))
        own, *others = (task.regions.ids[picture] for picture in pictures)
        assert (again, own, len({own, *others})) == (number, row.gold, 3)
        assert row.inputs.text != "a red box" or {*others} == {"x4.jpg", "x5.jpg"}
    seen = {tuple(examples.example(1, np.random.default_rng(epoch))[1]) for epoch in range(300)}
    assert seen == {(0, i, j) for i in range(1, 6) for j in range(1, 6) if i != j}
    batch = examples.collate([examples.example(1, np.random.default_rng(0))])
    assert batch["input_ids"].shape[0] == batch["region_boxes"].shape[0] == 3
    assert batch["labels"].tolist() == [0]
    with pytest.raises(DataError, match="6 pictures are too few: each caption needs 2 that are not its own"):
        task.encode_training(task.load("train"), tokenizer, 32)


def test_every_pair_is_scored_as_if_it_were_alone(load, text_encoder_folder, monkeypatch):
    """Whatever the block; and the answers are the ranks of those scores."""
    task, tokenizer = load(), load_tokenizer(text_encoder_folder)
    model = SingleStream.from_pretrained(text_encoder_folder, region_width=len(COLORS))
    objective, rows = FinetuningObjective(model, task).eval(), task.load("dev")
    monkeypatch.setattr(image_retrieval, "BLOCK", 3)
    examples = task.encode(rows, tokenizer, 32)
    assert [len(block) for block in examples.blocks] == [2, 2]
    said = task.predict(predict(objective, examples, 128), rows, examples)
    scores = np.zeros((12, 4))
    for i, row in enumerate(rows):
        for j, name in enumerate(SPLITS["dev"]):
            regions = task.regions[task.regions.row_of[f"x{name}.jpg"]]
            with torch.no_grad():
                out = model(**tokenizer(row.inputs.text, return_tensors="pt"),
                            region_vectors=torch.tensor(regions.vectors)[None],
                            region_boxes=torch.tensor(regions.boxes)[None])  # fmt: skip
                scores[i, j] = objective.head(out.last_hidden_state[:, 0])
    assert [answer["picture"] for answer in said] == [f"x{SPLITS['dev'][j]}.jpg" for j in scores.argmax(axis=1)]
    own = np.repeat(range(4), 3)
    assert [answer["rank"] for answer in said] == [
        1 + (line > line[k]).sum() for line, k in zip(scores, own, strict=True)
    ]
    assert {answer["of"] for answer in said} == {4}


def test_ties_count_half_and_no_number_is_the_lowest():
    scores = np.array([[3.0, 1, 2, 1], [1, 1, 1, 1], [np.nan, 0, -5, 9], [np.nan] * 4])
    own = np.array([1, 2, 0, 3])
    assert ranks_of(scores, own).tolist() == [3.5, 2.5, 4.0, 2.5]
    random = np.random.default_rng(0).integers(0, 5, (50, 7)).astype(float)
    own = np.arange(50) % 7
    by_hand = [1 + sum(s > line[k] for s in line) + sum(s == line[k] for i, s in enumerate(line) if i != k) / 2
               for line, k in zip(random, own, strict=True)]  # fmt: skip
    assert ranks_of(random, own).tolist() == by_hand


def test_fewer_candidates_are_drawn_once_and_told(load):
    task = load(candidates=3, captions_each=2)
    rows = task.load("dev")
    assert rows == load(candidates=3, captions_each=2).load("dev")
    assert sorted(Counter(row.gold for row in rows).values()) == [2, 2, 2]
    assert [row for row in load().load("dev") if row in rows] == rows
    assert len(load(captions_each=1).load("test")) == 3
    assert len(task.load("train")) == 18
    with pytest.raises(ConfigError, match="candidates=-1"):
        load(candidates=-1)


def test_recalls():
    said = [{"rank": rank, "of": 20} for rank in (1.0, 1.5, 5.0, 12.0)]
    found = METRICS["ranks"].scores(said, ["x"] * 4)
    assert found == {"R@1": 0.25, "R@5": 0.75, "R@10": 0.75, "median_rank": 3.25, "candidates": 20.0}


def test_captions_that_lie_beside_a_list_twice_are_read_once(tmp_path):
    (tmp_path / "captions.tsv").write_text("a.jpg#0\ta dog\na.jpg#1\ta dog\n")
    (tmp_path / "flickr.token").write_text("a.jpg#0\ta dog\nb.jpg#0\ta cat\n")
    (tmp_path / "split_dev.txt").write_text("a.jpg\nb.jpg\n")
    rows = read_split(tmp_path / "split_dev.txt")
    assert [(row["picture"], row["caption"]) for _, row in rows] == [("a.jpg", "a dog")] * 2 + [("b.jpg", "a cat")]
    (tmp_path / "captions.tsv").write_text("a.jpg#0\ta dog\nno caption here\n")
    with pytest.raises(DataError, match=r"1 of 3 captions beside .* are bad.*captions.tsv:2"):
        read_split(tmp_path / "split_dev.txt")
