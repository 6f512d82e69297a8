"""The demo on a world so small that it proves nothing but the plumbing: every step, once, on equal terms."""

import gc
import json
import re
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sightread.artifacts import MANIFEST
from sightread.cli import app
from sightread.compare import Comparison
from sightread.data.scenes import ATTRIBUTES
from sightread.data.voken_corpus import VokenCorpus
from sightread.data.world import WorldConfig
from sightread.finetuning import FinetuningConfig
from sightread.methods.image_words import ImageWordsConfig
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig
from sightread.recipes import world as recipe
from sightread.recipes.world import ARMS, COLUMNS, DemoConfig, _handing_looks, demo, verdict
from sightread.tasks.classification import Classification

EPOCH = {"num_train_epochs": 1, "per_device_train_batch_size": 32, "learning_rate": 1e-3}
TINY = DemoConfig(
    seeds=(0, 1),
    world=WorldConfig(num_scenes=40, num_sentences=120, sentences_per_noun=1, harm_examples=8, image_size=32),
    image=ImageWordsConfig(widths=(8, 12), min_count=1, training=EPOCH),
    matching=MatchingConfig(layers=(0, -1), hidden=16, width=8, max_length=32, training=EPOCH),
    num_pictures=20,
    encoder=DemoConfig().encoder | {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2},
    pretraining=PretrainingConfig(max_length=32, packed=False, training=EPOCH),
    finetuning=FinetuningConfig(pooling="mean", max_length=32, training=EPOCH),
    probing=FinetuningConfig(pooling="mean", max_length=32, freeze_encoder=True, training=EPOCH),
)


class Here(Executor):
    """Runs jobs at once, in this process."""

    def __init__(self, *_, **__):
        pass

    def submit(self, job, /, *args):
        future = Future()
        future.set_result(job(*args))
        return future


@pytest.fixture(scope="module")
def small():
    """The recipe with a tiny config, two of its tasks, and no processes of its own."""
    gc.freeze()  # the Trainer collects garbage after every run: of all that was ever imported, half a second each
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "DemoConfig", lambda seeds: replace(TINY, seeds=seeds))
        patch.setattr(recipe, "COLUMNS", [column for column in COLUMNS if column.name in {"color", "agreement"}])
        patch.setattr(recipe, "worker_pool", Here)
        yield patch


@pytest.fixture(scope="module")
def ran(small, tmp_path_factory):
    """`sightread demo --seeds 2`: what it said, and its folder."""
    out = tmp_path_factory.mktemp("recipe") / "demo"
    result = CliRunner().invoke(app, ["demo", "--seeds", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return result.stdout, out


def test_the_demo_runs_from_end_to_end(ran):
    said, out = ran
    results = json.loads((out / "results.json").read_text())
    assert (results["seeds"], list(results["arms"])) == ([0, 1], list(ARMS))
    for arm, columns in results["arms"].items():
        assert set(columns) == {"color", "agreement"}
        for column in columns:
            scores = [json.loads((out / f"seed-{seed}" / f"{arm}.json").read_text())[column] for seed in (0, 1)]
            assert columns[column]["scores"] == scores
            assert all(0 <= score <= 1 for score in scores)
    assert f"report: {out / 'report.html'}" in said
    assert json.loads((out / MANIFEST).read_text())["report"]["verdict"] in said
    for arm in ARMS:
        assert re.search(rf"^{arm} .*\[.*,.*\]", said, re.MULTILINE), arm
    for step in ("world, text-only encoder, vokens", *ARMS):
        assert len(re.findall(rf"seed [01]: {step} ", said)) == 2


def test_reported_scores_are_those_of_the_predictions(ran):
    _, out = ran
    results = json.loads((out / "results.json").read_text())
    for arm in ARMS:
        folder = out / "seed-1"
        rows = (folder / "world/tasks/color/test.tsv").read_text().splitlines()[1:]
        guesses = (folder / "scores" / arm / "color" / "predictions-test.jsonl").read_text().splitlines()
        pairs = zip(map(json.loads, guesses), rows, strict=True)
        accuracy = np.mean([guess["prediction"] == row.split("\t")[1] for guess, row in pairs])
        assert results["arms"][arm]["color"]["scores"][1] == pytest.approx(accuracy)


def test_the_report_and_its_strip(ran):
    _, out = ran
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert all(arm in page for arm in ARMS)
    nouns = [line.split("\t") for line in (out / "seed-0" / "world" / "nouns.tsv").read_text().splitlines()[1:]]
    told = re.findall(r"A (\w+) is ([\w, ]+): no text says so", page)
    assert len(told) == 2
    for noun, look in told:
        assert [noun, *look.split(", "), "test"] in nouns
    with Image.open(out / "strip.png") as strip:
        assert strip.size == (7 * 104 + 8, 164)  # the {noun} is in the garden .


@pytest.mark.parametrize("seed", [0, 1])
def test_arms_read_the_same_text_with_other_vokens(seed, ran):
    folder = ran[1] / f"seed-{seed}"
    bare, seen, drawn = (list(VokenCorpus(folder / name)) for name in ("tokens", "vokens", "random_vokens"))
    assert [line.text for line in bare] == (folder / "world" / "corpus.txt").read_text().splitlines()
    for lines in zip(bare, seen, drawn, strict=True):
        assert len({line.text for line in lines}) == 1
        assert len({line.token_ids.tobytes() for line in lines}) == 1
    vokens = [np.concatenate([line.voken_ids for line in lines]) for lines in (seen, drawn)]
    assert (vokens[0] != vokens[1]).mean() > 0.5
    assert {*vokens[1].tolist()} == set(range(20))
    configs = [json.loads((folder / arm / MANIFEST).read_text()) for arm in ARMS[:-1]]
    shared = ("seed", "max_length", "packed", "mask_probability", "training")
    for config in configs:
        assert [config["config"][name] for name in shared] == [configs[0]["config"][name] for name in shared]
        assert config["inputs"]["start"] == configs[0]["inputs"]["start"], "other initial weights"
        assert config["inputs"]["corpus"] == configs[0]["inputs"]["corpus"]


def test_every_seed_is_a_world_of_its_own(ran):
    worlds = [(ran[1] / f"seed-{seed}" / "world" / "nouns.tsv").read_text() for seed in (0, 1)]
    assert worlds[0] != worlds[1]


def test_a_second_run_is_refused(ran):
    result = CliRunner().invoke(app, ["demo", "--seeds", "2", "--out", str(ran[1])])
    assert (result.exit_code, "--resume" in result.stderr) == (2, True)


def test_resuming_does_nothing_twice_and_the_missing_alike(ran, small):
    _, out = ran
    arm, expected = out / "seed-1" / "voken classification.json", (out / "results.json").read_text()
    scores, trained = arm.read_text(), []
    arm.unlink()  # as if it had been stopped in this arm
    score, train = recipe._score, recipe.train_and_score
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightread.data.world.write_world", None)  # whoever calls it fails
        patch.setattr(recipe, "_score", lambda *args: trained.append((args[1], args[2])) or score(*args))
        assert demo(TINY, out, say=lambda _: None).scores.keys() == set(ARMS)
    assert set(trained) == {(1, "voken classification")}
    assert arm.read_text() == scores, "an arm trained alone scores as it did among the others"
    assert (out / "results.json").read_text() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_score", None)
        assert train(TINY, 1, "oracle", out / "seed-1")[0] == 0.0
        result = CliRunner().invoke(app, ["demo", "--seeds", "2", "--out", str(out), "--resume"])
    assert result.exit_code == 0, result.output
    assert (out / "results.json").read_text() == expected


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_oracle_is_handed_the_true_looks(name, split, world_folder):
    task = Classification("world", world_folder / "tasks" / name)
    lines = (world_folder / "nouns.tsv").read_text().splitlines()
    columns = lines[0].split("\t")
    look_of = {line.split("\t")[0]: dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:]}
    handed = _handing_looks(task.load, world_folder / "nouns.tsv")(split)
    for row, told in zip(task.load(split), handed, strict=True):
        (noun,) = set(row.inputs[0].split()) & set(look_of)
        look = look_of[noun]
        words = f"{look['size']} {look['color']} {look['pattern']} {look['shape']} {noun}"
        assert told.inputs == (row.inputs[0].replace(f" {noun} ", f" {words} "),)
        assert told.gold == row.gold == look[name]


def test_the_oracle_is_handed_nothing_where_there_is_no_noun(world_folder):
    task = Classification("world", world_folder / "tasks" / "agreement")
    assert _handing_looks(task.load, world_folder / "nouns.tsv")("test") == task.load("test")


@pytest.mark.parametrize(
    ("scores", "words"), [([0.7, 0.8, 0.75], "lies above"), ([0.1, 0.8, 0.3], "NOT clearly above")]
)
def test_the_verdict_is_the_truth_whatever_it_is(scores, words):
    arms = {arm: {"color": [0.15, 0.2, 0.16]} for arm in ARMS} | {"voken regression": {"color": scores}}
    said = verdict(Comparison(COLUMNS[:1], (0, 1, 2), arms))
    assert "text alone scores 0.17 (chance is 0.17)" in said
    assert re.search(rf"voken regression {np.mean(scores):.2f}: [\w ]*{words}", said)
    assert "voken classification 0.17: NOT clearly above" in said


@pytest.mark.slow
def test_the_demo_on_processes_of_its_own(tmp_path):
    said = []
    comparison = demo(TINY, tmp_path, workers=2, say=said.append)
    assert len(said) == 2 * (1 + len(ARMS))
    assert all(len(comparison.scores[arm][column.name]) == 2 for arm in ARMS for column in COLUMNS)
    assert (tmp_path / "report.html").read_text().count("<svg") == len(COLUMNS)
