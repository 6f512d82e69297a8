"""Tasks about pictures in the harness: each learns what regions alone tell, and its predictions are compared."""

import json
import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner

from picture_tasks import TOYS, look, write_store
from regions_fixture import make_regions
from sightread.artifacts import Artifact
from sightread.cli import app
from sightread.compare import compare_runs
from sightread.data.encoded_pictures import picture_key
from sightread.data.given_boxes import GivenBoxes
from sightread.data.regions import Part, Regions, write_regions
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError, DataError
from sightread.finetuning import FinetuningConfig, finetune_seeds
from sightread.metrics import METRICS
from sightread.modules.single_stream import SingleStream
from sightread.runs import read_runs
from sightread.runtime import data_root
from sightread.task_model import FinetuningObjective
from sightread.tasks import load_task
from sightread.tasks.vqa import normalise

TRAINING = {"per_device_train_batch_size": 16, "learning_rate": 2e-2, "lr_scheduler_type": "constant"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Folder of each toy's files, with its regions within, and its settings."""
    made = {}
    for name, write in TOYS.items():
        folder = tmp_path_factory.mktemp("toy")
        dataset, pictures, settings = write(folder)
        write_store(folder / "regions", pictures)
        made[name] = partial(load_task, dataset, folder, regions=folder / "regions", settings=settings)
    return made


@pytest.fixture(scope="module")
def scores(toys, text_encoder_folder, tmp_path_factory):
    """Folder of each toy's scores, fine-tuned with one seed."""
    folder = tmp_path_factory.mktemp("scores")
    for name, load in toys.items():
        config = FinetuningConfig(training={**TRAINING, "max_steps": 24})
        finetune_seeds(text_encoder_folder, load(), seeds=[1], config=config, out=folder / name)
    return folder


@pytest.mark.parametrize("name", TOYS)
def test_it_learns_what_regions_tell(name, scores, toys):
    report = Artifact.open(scores / name, "scores").report
    assert report["summary"][f"dev_{report['main_score']}"]["mean"] > 0.9  # by chance one half
    assert report["skipped"] == {}
    rows = [json.loads(line) for line in (scores / name / "seed-1" / "predictions-dev.jsonl").open()]
    assert [row["gold"] for row in rows] == json.loads(json.dumps([row.gold for row in toys[name]().load("dev")]))
    said = METRICS[report["metric"]].scores(*([row[key] for row in rows] for key in ("prediction", "gold")))
    written = json.loads((scores / name / "seed-1" / "scores.json").read_text())
    assert {f"dev_{key}": value for key, value in said.items()}.items() <= written.items()


def test_predictions_alone_are_compared(scores):
    comparison = compare_runs(read_runs([f"one={scores}", f"other={scores}"]))
    assert {f"{name} (dev)" for name in TOYS} - set(comparison.columns) == {"refcoco+ (dev)"}  # which has tests
    assert {comparison.cells["other", column].difference.mean for column in comparison.columns} == {0}


@pytest.mark.parametrize("name", TOYS)
def test_states_are_those_of_the_model_read_alone(name, toys, text_encoder_folder):
    """Each row of a batch, padded, by itself: the same outputs, and regions after words."""
    task, tokenizer = toys[name](), load_tokenizer(text_encoder_folder)
    examples = getattr(task, "encode_training", task.encode)(task.load("train"), tokenizer, 32)
    torch.manual_seed(0)
    model = SingleStream.from_pretrained(text_encoder_folder, region_width=task.regions.width)
    objective = FinetuningObjective(model, task).eval()
    drawn = [examples.example(i, np.random.default_rng(i)) for i in (0, 5)]
    batch = dict(examples.collate(drawn))
    labels = batch.pop("labels")
    with torch.no_grad():
        together, ways = objective.states(**batch), examples.ways
        assert len(together) == 2 * ways
        assert len(labels) == 2
        for place, (number, pictures) in enumerate(drawn):
            for way, picture in enumerate(pictures):
                regions = task.regions[picture]
                words = tokenizer(task.load("train")[number].inputs.text, return_tensors="pt")
                alone = model(
                    **words, region_vectors=torch.tensor(regions.vectors)[None],
                    region_boxes=torch.tensor(regions.boxes)[None],
                )  # fmt: skip
                expected = alone.regions[0] if task.reads == "regions" else alone.last_hidden_state[0, 0]
                torch.testing.assert_close(together[place * ways + way], expected, atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_is_run_once_a_sequence(toys, text_encoder_folder, tmp_path, monkeypatch):
    """Of each of the 24 rows, two pictures: 48 sequences, in five epochs too."""
    states, seen = FinetuningObjective.states, []
    monkeypatch.setattr(
        FinetuningObjective, "states", lambda *a, **k: seen.append(len(k["input_ids"])) or states(*a, **k)
    )
    config = FinetuningConfig(freeze_encoder=True, training={**TRAINING, "num_train_epochs": 5})
    finetune_seeds(text_encoder_folder, toys["nlvr2"](), seeds=[0], config=config, out=tmp_path / "out")
    assert sum(seen) == 2 * 24


def test_an_encoder_that_has_seen_nothing_is_resumed(toys, text_encoder_folder, tmp_path):
    config = FinetuningConfig(max_length=32, training={**TRAINING, "max_steps": 1})
    for part in (AutoModel.from_pretrained(text_encoder_folder), load_tokenizer(text_encoder_folder)):
        part.save_pretrained(tmp_path / "bare")  # without the head of a language model
    for process in range(2):
        torch.manual_seed(process)
        scores = finetune_seeds(
            tmp_path / "bare", toys["nlvr2"](), seeds=[0], config=config, out=tmp_path / "out", resume=True
        )
    assert len(scores["dev_accuracy"].scores) == 1


def test_pictures_that_are_not_there_are_left_out_and_told(text_encoder_folder, tmp_path):
    """By the command line, whose options reach the task; without tags and with, the regions of other digests."""
    dataset, pictures, _ = TOYS["vqa2"](tmp_path)
    write_store(tmp_path / "regions", {name: pictures[name] for name in list(pictures)[2:]})
    command = [
        "finetune", "--encoder", text_encoder_folder, "--task", dataset, "--data", tmp_path, "--regions",
        tmp_path / "regions", "--seeds", 1, "--set", "max_steps=1", "--set", "task.min_answers=3", "--out",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*map(str, command), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "skipped 2: rows of train whose picture has no regions (0, 1)\n" in result.stderr
    artifact = Artifact.open(tmp_path / "out", "scores")
    assert artifact.config["task.min_answers"] == 3
    assert artifact.report["skipped"]["rows of train whose picture has no regions"]["count"] == 2
    again = CliRunner().invoke(app, [*map(str, command), str(tmp_path / "out"), "--resume", "--set", "task.tags=no"])
    assert again.exit_code == 2
    assert "cannot be resumed" in again.stderr
    wrong = CliRunner().invoke(app, [*map(str, command), str(tmp_path / "new"), "--set", "task.tag=no"])
    assert "unknown setting 'tag'; did you mean 'tags'?" in wrong.stderr
    write_store(tmp_path / "others", {"other.jpg": look("red")})
    with pytest.raises(DataError, match=r"vqa2: not one picture of train is in .*others .* called other.jpg"):
        load_task(dataset, tmp_path, regions=tmp_path / "others").load("train")


def test_regions_are_for_tasks_about_pictures(tmp_path):
    with pytest.raises(ConfigError, match="vqa2 is about pictures: give their regions"):
        load_task("vqa2", tmp_path)
    with pytest.raises(ConfigError, match="swag is a task of text alone"):
        load_task("swag", tmp_path, regions=tmp_path)


@pytest.mark.parametrize("name", TOYS)
def test_a_task_can_be_sent_to_another_process(name, toys):
    task = toys[name]()
    rows = task.load("train")
    assert pickle.loads(pickle.dumps(task)).load("train") == rows


@pytest.mark.parametrize(
    ("name", "key"),
    [("COCO_val2014_000000000025.jpg", "25"), ("25", "25"), ("train2017/000000000025.jpg", "25"), ("0", "0"),
     ("1000268201_693b08cb0e.jpg", "1000268201_693b08cb0e"), ("dev-850-0-img0.png", "dev-850-0-img0"), ("a.b", "a.b")],
)  # fmt: skip
def test_one_name_of_a_picture(name, key):
    assert picture_key(name) == key


def test_two_pictures_of_one_name(toys, tmp_path):
    write_store(tmp_path / "regions", {"1.jpg": look("red"), "a/01.png": look("blue")})
    with pytest.raises(DataError, match=r"1\.jpg and a/01\.png are one name"):
        toys["vqa2"](regions=tmp_path / "regions")


@pytest.mark.realdata
def test_questions_about_real_pictures(text_encoder_folder, tmp_path):
    """Of 60,000 questions the 158 about pictures that are there, with made-up regions; answers are of all."""
    data = data_root() / "data"
    regions = make_regions(tmp_path / "regions", sorted(path.name for path in (data / "coco-small/images").iterdir()))
    task = load_task("vqa2", data / "vqa-v2-subset", regions=regions)
    rows = {split: task.load(split) for split in task.splits()}
    assert [len(of) for of in rows.values()] == [126, 21, 11]
    records = [record for split in rows for _, record in task.table.load(split)]
    assert len(records) == sum(map(len, rows.values())) + sum(skipped.count for skipped in task.skipped.values())
    counts = Counter(record["answer"] for _, record in task.table.load("train"))
    assert {"yes", "no", "2", "red"} < {a for a in counts if counts[a] >= 9 and a == normalise(a)} <= set(task.answers)
    run_briefly(task, text_encoder_folder, tmp_path)


@pytest.mark.realdata
def test_sentences_about_real_scenes(text_encoder_folder, tmp_path):
    """NLVR's scenes as tags; the dev split is cut into three."""
    folder = data_root() / "data" / "nlvr1"
    pictures = sorted(path.name for path in (folder / "images").glob("dev-*"))
    found = GivenBoxes(folder / "dev.jsonl.gz")([], pictures)
    regions = [Regions(f.boxes.astype("f"), np.ones((len(f.tags), 2), "f"), f.tags, f.scores) for f in found]
    store = write_regions([lambda: Part(pictures, regions)], tmp_path / "regions", width=2)
    task = load_task("nlvr", folder, regions=store, carve="dev")
    rows = [row for split in task.splits() for row in task.load(split)]
    assert (len(rows), sum(row.gold == "true" for row in rows)) == (989, 547)
    examples = task.encode(rows, load_tokenizer(text_encoder_folder), 32)
    assert examples.collate([examples.example(0, None)])["tag_ids"].shape[1] > 0
    run_briefly(task, text_encoder_folder, tmp_path)


def run_briefly(task, encoder, folder):
    config = FinetuningConfig(training={**TRAINING, "max_steps": 2})
    summaries = finetune_seeds(encoder, task, seeds=[0], config=config, out=folder / "out")
    rows = [json.loads(line) for line in (folder / "out" / "seed-0" / "predictions-test.jsonl").open()]
    scores = METRICS[task.metric].scores(*([row[key] for row in rows] for key in ("prediction", "gold")))
    assert scores["accuracy"] == summaries["test_accuracy"].mean
