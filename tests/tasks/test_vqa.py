"""VQA 2.0: answers are written and weighed as by the official evaluation, and files that do not fit are told."""

import itertools
import json

import numpy as np
import pytest
import torch

from picture_tasks import look, question, write_lines, write_store
from sightread.errors import ConfigError, DataError
from sightread.metrics import METRICS
from sightread.tasks import load_task
from sightread.tasks.vqa import normalise, worth

NAMES = "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("The Red  Box.", "red box"), ("A\ntwo", "2"), ("none", "0"), ("ten an one", "10 1"), ("eleven", "eleven"),
        ("dont", "don't"), ("girl's", "girl's"), ("its", "its"), ("youre", "you're"), ("shes", "shes"), ("hed", "he'd"),
        ("oclock", "o'clock"), ("2:50 pm", "2:50 pm"), ("3.5", "3.5"), ("u.s.", "us"), ("100,978", "100978"),
        ("black-and-white", "black and white"), ("red, blue", "red blue"), ("red,blue", "red blue"), ("50%", "50%"),
        ("x-ray - old", "xray old"), ("yes!", "yes"), ("?", ""), ("1,000-ft", "1000ft"),
    ],
)  # fmt: skip
def test_answers_are_written_one_way(said, written):
    assert normalise(said) == written
    assert normalise(written) == written


@pytest.mark.parametrize("count", range(11))
def test_worth_is_the_mean_over_nine_of_ten(count):
    people = [True] * count + [False] * (10 - count)
    by_hand = [min(1, sum(others) / 3) for others in itertools.combinations(people, 9)]
    assert worth(count, 10) == pytest.approx(np.mean(by_hand))
    assert [worth(c, 10) for c in (1, 2, 3, 4)] == pytest.approx([0.3, 0.6, 0.9, 1.0])


@pytest.fixture
def official(tmp_path):
    """Two questions of train, one of dev whose answers are not like, and one of test without answers."""

    def write(change=lambda split, questions, answers: None):
        for split, numbers in (("train2014", [7, 8]), ("val2014", [9]), ("test2015", [10])):
            asked = [{"question_id": i, "image_id": i, "question": f"what {i} ?"} for i in numbers]
            said = [
                {"question_id": i, "multiple_choice_answer": "red", "answer_type": "other",
                 "answers": [{"answer": a} for a in ["red"] * 6 + ["Red."] * 2 + ["blue"] * 2]} for i in numbers
            ]  # fmt: skip
            change(split, asked, said)
            (tmp_path / NAMES[0].format(split)).write_text(json.dumps({"questions": asked}))
            if split != "test2015":
                (tmp_path / NAMES[1].format(split)).write_text(json.dumps({"annotations": said}))
        pictures = {f"COCO_train2014_{i:012d}.jpg": look("red") for i in (7, 8, 9, 10)}
        write_store(tmp_path / "regions", pictures)
        return load_task("vqa2", tmp_path, regions=tmp_path / "regions", settings=["min_answers=2"])

    return write


def test_official_files(official):
    task = official()
    assert task.splits() == ["train", "dev", "test"]
    first = task.load("train")[0]
    assert (first.inputs.pictures, first.inputs.text) == (("7",), "what 7 ?")
    assert first.gold == {"answers": {"red": 1.0, "blue": pytest.approx(0.6)}, "type": "other"}
    assert task.load("test")[0].gold is None
    assert task.answers == ["red"]


def test_questions_and_answers_that_do_not_fit(official, tmp_path):
    def other(split, questions, answers):
        if split == "train2014":
            answers[1]["question_id"] = 99

    with pytest.raises(DataError, match=r"do not fit: 2 questions are in one of them alone \(first: 8\)"):
        official(other).load("train")

    def broken(split, questions, answers):
        answers[0].pop("answers")

    with pytest.raises(DataError, match="is not of VQA's format: KeyError"):
        official(broken).load("train")
    task = official()
    (tmp_path / NAMES[1].format("val2014")).unlink()
    with pytest.raises(
        DataError, match=r"_val2014_questions.json has its answers in .*_val2014_annotations.json, which"
    ):
        task.load("dev")


@pytest.fixture
def task(tmp_path):
    """Three answers said at least twice, one once; the second question of dev has an answer that cannot be given."""
    said = ["red", "Blue", "red", "blue", "red", "the two", "2", "green"]
    write_lines(tmp_path / "train.jsonl", [question(i, [a] * 10, picture=0) for i, a in enumerate(said)])
    dev = [question(1, ["red"] * 8 + ["blue"] * 2, 0), question(2, ["black"] * 9 + ["2"], 0, "number"),
           question(3, ["yes"] * 10, 0, "yes/no")]  # fmt: skip
    write_lines(tmp_path / "valid.jsonl", dev)
    write_store(tmp_path / "regions", {"0.jpg": look("red")})
    return load_task("vqa2", tmp_path, regions=tmp_path / "regions", settings=["min_answers=2"])


def test_the_vocabulary_is_of_frequent_answers(task, tmp_path):
    assert task.answers == ["red", "2", "blue"]
    task.settings = type(task.settings)(min_answers=4)
    del task.answers
    with pytest.raises(ConfigError, match="no answer is given 4 times or more; set a lower min_answers"):
        task.answers  # noqa: B018


def test_the_loss_is_summed_over_answers_and_averaged_over_questions(task, tokenizer):
    examples = task.encode(task.load("dev"), tokenizer, 32)
    labels = examples.collate([examples.example(i, None) for i in (0, 1, 2)])["labels"]
    assert labels.numpy() == pytest.approx(np.array([[1, 0, 0.6], [0, 0.3, 0], [0, 0, 0]]))
    logits = np.array([[0.5, -1, 2], [3, 0, -0.5], [1, 1, -4]])
    p, y = 1 / (1 + np.exp(-logits)), labels.double().numpy()
    by_hand = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / 3
    assert float(task.loss(torch.tensor(logits), labels)) == pytest.approx(by_hand, rel=1e-6)
    assert task.predict(list(logits), [], None) == ["blue", "red", "red"]


def test_the_score_is_what_answers_are_worth(task):
    gold = [row.gold for row in task.load("dev")]
    found = METRICS["vqa"].scores(["blue", "2", "red"], gold)
    assert found == pytest.approx({"accuracy": (0.6 + 0.3 + 0) / 3, "yes_no": 0.0, "number": 0.3, "other": 0.6})
    assert METRICS["vqa"].scores(["blue"], [{"answers": {"blue": 0.6}, "type": None}]) == {"accuracy": 0.6}


@pytest.mark.parametrize("answers", [["red"], [{"answer": "red"}], {"red": 0}, {}])
def test_answers_of_another_format_are_told(tmp_path, answers):
    good = {"question_id": 1, "image_id": "1.jpg", "question": "what?", "answer": "red", "answers": {"red": 10}}
    write_lines(tmp_path / "train.jsonl", [good, {**good, "question_id": 2, "answers": answers}])
    store = write_store(tmp_path / "regions", {"1.jpg": look("red")})
    with pytest.raises(DataError, match=r"train\.jsonl.* (no answers|no question with its answers)"):
        load_task("vqa2", tmp_path, regions=store).load("train")
