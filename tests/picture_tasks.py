"""Small tasks about pictures, in their official formats: what is to be said stands in the regions' vectors alone."""

import json
from collections import Counter

import numpy as np

from sightread.data.regions import Part, Regions, RegionStore, write_regions

COLORS = ("red", "blue", "green", "white", "black", "brown")
BOXES = np.array([[0, 0, 0.4, 1], [0.5, 0, 1, 0.8]], np.float32)
WHOLE = {"images": [{"id": i, "width": 200, "height": 100} for i in range(99)]}


def look(*colors):
    """A region for each colour, at most two, from left to right."""
    vectors = 3 * np.eye(len(COLORS), dtype=np.float32)[[COLORS.index(color) for color in colors]]
    return Regions(
        BOXES[: len(colors)], vectors.reshape(-1, len(COLORS)), [""] * len(colors), np.ones(len(colors), "f")
    )


def write_store(folder, pictures) -> RegionStore:
    """A store of some pictures' regions, in the place of a former one."""
    part = Part(list(pictures), list(pictures.values()))
    return write_regions([lambda: part], folder, width=len(COLORS), overwrite=folder.exists())


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def question(number, answers, picture=None, kind="other"):
    """A record of VQA as JSON lines hold it; `answers` are those of ten people."""
    counts = Counter(answers)
    return {"question_id": number, "image_id": number if picture is None else picture, "question": "what is it ?",
            "answer": counts.most_common(1)[0][0], "answers": counts, "answer_type": kind}  # fmt: skip


def write_vqa(folder):
    """What colour is it?"""
    for split, numbers in (("train", range(16)), ("valid", range(16, 24))):
        write_lines(folder / f"{split}.jsonl", [question(i, [COLORS[i % 2]] * 10) for i in numbers])
    return "vqa2", {f"{i}.jpg": look(COLORS[i % 2]) for i in range(24)}, ["min_answers=2"]


def write_nlvr2(folder):
    """True where the left picture is red; the right one is so as often."""
    for split, numbers in (("train", range(16)), ("dev", range(16, 24))):
        rows = [
            {"identifier": f"x-{i}-0", "sentence": "the left box is red", "label": str(i % 2 == 0)} for i in numbers
        ]
        write_lines(folder / f"{split}.json", rows)
    pairs = [(f"x-{i}-img{side}.png", look(COLORS[(i >> side) % 2])) for i in range(24) for side in (0, 1)]
    return "nlvr2", dict(pairs), []


def write_flickr8k(folder):
    """A caption names the colour of its picture; of two, in the dev split."""
    (folder / "captions.tsv").write_text("".join(f"{i}.jpg#0\t{COLORS[i % 2]}\n" for i in range(18)))
    (folder / "split_train.txt").write_text("\n".join(f"{i}.jpg" for i in range(16)))
    (folder / "split_dev.txt").write_text("16.jpg\n17.jpg")
    return "flickr8k", {f"{i}.jpg": look(COLORS[i % 2]) for i in range(18)}, []


def write_refcoco(folder):
    """The expression names the colour of one of two regions."""
    pictures = {f"COCO_train2014_{i:012d}.jpg": look(*COLORS[:2][:: 1 if i % 3 else -1]) for i in range(24)}
    things = [(i, side, COLORS[regions.vectors[side].argmax()]) for i, regions in enumerate(pictures.values())
              for side in (0, 1)]  # fmt: skip
    boxes = [[0, 0, 80, 100], [100, 0, 100, 80]]
    splits = ["train"] * 16 + ["val"] * 6 + ["testA", "testB"]
    write_references(folder, [(splits[i], i, boxes[side], color) for i, side, color in things])
    return "refcoco+", pictures, []


def write_references(folder, references):
    """RefCOCO's files of (split, picture, box in pixels, expression)."""
    boxes = [{"id": n, "image_id": picture, "bbox": box} for n, (_, picture, box, _) in enumerate(references)]
    refs = [{"ref_id": n, "ann_id": n, "image_id": picture, "split": split, "sentences": [{"sent": said}]}
            for n, (split, picture, _, said) in enumerate(references)]  # fmt: skip
    (folder / "refs(unc).json").write_text(json.dumps(refs))
    (folder / "instances.json").write_text(json.dumps({**WHOLE, "annotations": boxes}))


TOYS = {"vqa2": write_vqa, "nlvr2": write_nlvr2, "flickr8k": write_flickr8k, "refcoco+": write_refcoco}
