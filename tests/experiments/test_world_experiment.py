"""The demo on a world so small that it proves nothing but the plumbing: every step, once, on equal terms."""

import gc
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sightread.artifacts import MANIFEST, RUN, write_atomic
from sightread.cli import app
from sightread.compare import Comparison
from sightread.data.scenes import ATTRIBUTES
from sightread.data.voken_corpus import VokenCorpus
from sightread.data.world import WorldConfig
from sightread.errors import ConfigError
from sightread.experiments import one_world, world
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.one_world import COLUMNS, _handing_looks, ground_of
from sightread.experiments.world import DEMO, WorldExperiment, verdict
from sightread.finetuning import FinetuningConfig
from sightread.methods.image_words import ImageWordsConfig
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig
from sightread.tasks.classification import Classification

EPOCH = {"num_train_epochs": 1, "per_device_train_batch_size": 32, "learning_rate": 1e-3}
TINY = WorldExperiment(
    seeds=(0, 1),
    arms=(
        TEXT_ONLY,
        Arm(name="random vokens", vokens="random"),
        Arm(name="voken classification"),
        DEMO[-1],
        Arm(name="noise", method="weight noise", start="text-only", after="voken classification",
            control="random vokens"),
    ),
    world=WorldConfig(num_scenes=40, num_sentences=120, sentences_per_noun=1, harm_examples=8, image_size=32),
    image=ImageWordsConfig(widths=(8, 12), min_count=1, training=EPOCH),
    matching=MatchingConfig(layers=(0, -1), hidden=16, width=8, max_length=32, training=EPOCH),
    num_pictures=20,
    encoders={
        "encoder": WorldExperiment().encoders["encoder"]
        | {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    },
    pretraining=PretrainingConfig(max_length=32, packed=False, training=EPOCH | {"logging_steps": 2}),
    finetuning=FinetuningConfig(pooling="mean", max_length=32, training=EPOCH),
    probing=FinetuningConfig(pooling="mean", max_length=32, freeze_encoder=True, training=EPOCH),
)  # fmt: skip
ARMS = [arm.name for arm in TINY.arms]


@pytest.fixture(scope="module")
def demo():
    """`sightread demo` in this process, on tiny worlds and two of their tasks."""
    gc.freeze()  # the Trainer collects garbage after every run: of all that was ever imported, half a second each

    def run(words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sightread.recipes.world.demo", lambda: TINY)
            patch.setattr(one_world, "COLUMNS", [column for column in COLUMNS if column.name in {"color", "agreement"}])
            return CliRunner().invoke(app, ["demo", "--seeds", "2", "--workers", "1", *words])

    return run


@pytest.fixture(scope="module")
def ran(demo, tmp_path_factory):
    """What the demo said, and its folder."""
    out = tmp_path_factory.mktemp("recipe") / "demo"
    result = demo(["--out", str(out)])
    assert result.exit_code == 0, result.output
    return result.stdout, out


def test_the_demo_runs_from_end_to_end(ran):
    said, out = ran
    results = json.loads((out / "results.json").read_text())
    assert (results["seeds"], list(results["arms"])) == ([0, 1], list(ARMS))
    for arm, columns in results["arms"].items():
        assert set(columns) == {"color", "agreement"}
        for column in columns:
            found = [json.loads((out / f"seed-{seed}" / "scores" / f"{arm}.json").read_text()) for seed in (0, 1)]
            scores = [result["scores"][column] for result in found]
            assert columns[column]["scores"] == scores
            assert all(0 <= score <= 1 for score in scores)
    assert f"report: {out / 'report.html'}" in said
    assert json.loads((out / MANIFEST).read_text())["report"]["verdict"] in said
    for arm in ARMS:
        assert re.search(rf"^{arm} .*\[.*,.*\]", said, re.MULTILINE), arm
    steps = (
        "world, text-only encoder, vokens",
        "text-only",
        "random vokens",
        "voken classification",
        "noise",
        "oracle",
    )
    assert re.findall(r"(seed [01]: .*?) {2,}", said) == [f"seed {seed}: {step}" for seed in (0, 1) for step in steps]


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
    assert page.count('<svg viewBox="0 0 760') == 2  # a task each
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert "not finished" not in page
    for told in ("Learning curves", "What each token sees", "Made-up nouns have looks", "Made with sightread"):
        assert told in page
    assert all(arm in page for arm in ARMS)
    nouns = [line.split("\t") for line in (out / "seed-0" / "world" / "nouns.tsv").read_text().splitlines()[1:]]
    told = re.findall(r"A (\w+) is ([\w, ]+): no text says so", page)
    assert len(told) == 2
    for noun, look in told:
        assert [noun, *look.split(", "), "test"] in nouns
    with Image.open(out / "strip.png") as strip:
        assert strip.size == (7 * 104 + 8, 164)  # the {noun} is in the garden .


STORES = ("vokens-none", "vokens-matched", "vokens-random")


@pytest.mark.parametrize("seed", [0, 1])
def test_arms_read_the_same_text_with_other_vokens(seed, ran):
    folder = ran[1] / f"seed-{seed}"
    bare, seen, drawn = (list(VokenCorpus(folder / name)) for name in STORES)
    assert [line.text for line in bare] == (folder / "world" / "corpus.txt").read_text().splitlines()
    for lines in zip(bare, seen, drawn, strict=True):
        assert len({line.text for line in lines}) == 1
        assert len({line.token_ids.tobytes() for line in lines}) == 1
    vokens = [np.concatenate([line.voken_ids for line in lines]) for lines in (seen, drawn)]
    assert (vokens[0] != vokens[1]).mean() > 0.5
    assert {*vokens[1].tolist()} == set(range(20))
    configs = [json.loads((folder / arm / MANIFEST).read_text()) for arm in ARMS[:3]]
    shared = ("seed", "max_length", "packed", "mask_probability", "training")
    for config in configs:
        assert [config["config"][name] for name in shared] == [configs[0]["config"][name] for name in shared]
        assert config["inputs"]["start"] == configs[0]["inputs"]["start"], "other initial weights"
        assert config["inputs"]["corpus"] == configs[0]["inputs"]["corpus"]


def test_every_seed_is_a_world_of_its_own(ran):
    worlds = [(ran[1] / f"seed-{seed}" / "world" / "nouns.tsv").read_text() for seed in (0, 1)]
    assert worlds[0] != worlds[1]


def test_a_second_run_is_refused(ran, demo):
    result = demo(["--out", str(ran[1])])
    assert (result.exit_code, "--resume" in result.stderr) == (2, True)


def test_a_finished_run_is_told_again(ran, demo, monkeypatch):
    said, out = ran
    monkeypatch.setattr(WorldExperiment, "run", None)  # whoever calls it fails
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    result = demo(["--out", str(out), "--resume"])
    assert result.exit_code == 0, result.output
    assert "is finished" in result.stdout
    assert said.endswith(result.stdout[result.stdout.index("\n\n") :])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def minutes(out):
    return json.loads((out / MANIFEST).read_text())["report"]["seconds"] / 60


def test_resuming_does_nothing_twice_and_the_missing_alike(ran, demo, monkeypatch):
    _, out = ran
    arm, ready = out / "seed-1" / "scores" / "voken classification.json", out / "seed-1" / "ready.json"
    former, results, scored, score = (
        json.loads(arm.read_text()),
        (out / "results.json").read_text(),
        [],
        one_world._score,
    )
    arm.unlink()  # as if it had been stopped in this arm
    (out / MANIFEST).rename(out / RUN)
    ready.write_text(json.dumps(json.loads(ready.read_text()) | {"took": 6000.0}))
    monkeypatch.setattr("sightread.data.world.write_world", None)  # whoever calls it fails
    monkeypatch.setattr("sightread.pretraining.fit", None)
    monkeypatch.setattr(one_world, "_score", lambda *args: scored.append((args[1], args[2].name)) or score(*args))
    result = demo(["--out", str(out), "--resume"])
    assert result.exit_code == 0, result.output
    assert scored == [(1, "voken classification")] * 2  # both tasks
    now = json.loads(arm.read_text())
    assert now | {"took": 0} == former | {"took": 0}, "an arm scored alone scores as it did among the others"
    assert (out / "results.json").read_text() == results
    assert 100 < minutes(out) < 105, "what was done before the stop counts"


def test_a_world_needs_no_data_and_only_the_tokenizers_and_vokenizers_of_its_arms(ran, tmp_path):
    _, out = ran
    with pytest.raises(ConfigError, match=r"makes its own data.*without --data"):
        TINY.check(tmp_path)
    with pytest.raises(ConfigError, match=r"start is 'roberta', expected one of .*text-only"):
        replace(TINY, arms=(TEXT_ONLY, Arm(name="x", start="roberta"))).check(None)
    folders = {path.name for path in (out / "seed-0").iterdir()}
    assert not folders & {"tokenizer-roberta", "vokenizer-sentence"}
    assert {"tokenizer", "vokenizer"} <= folders
    several = WorldExperiment(arms=(TEXT_ONLY, Arm(name="x", vokens="sentence", start="roberta")))
    ground = ground_of(several, 0, out / "seed-0")
    assert (list(ground.tokenizers), list(ground.vokenizers)) == (["roberta"], ["token", "sentence"])


SCORES = {
    "text-only": [0.10, 0.20, 0.30], "random vokens": [0.20, 0.20, 0.20], "voken classification": [0.80, 0.85, 0.90],
    "noise": [0.30, 0.40, 0.20], "oracle": [1.0, 1.0, 0.9],
}  # fmt: skip


def test_the_table_says_all_and_names_what_diverged(monkeypatch, tmp_path):
    """Trained and scored by nobody: the scores of colour are given, one of them of a run that diverged."""

    def trains(arm, ground):
        for name in (arm.name, "scores"):
            (ground.folder / name).mkdir(parents=True, exist_ok=True)
        write_atomic(ground.folder / arm.name / "manifest.json", json.dumps({"report": {"seconds": 7.4}}))
        return ground.folder / arm.name / "encoder"

    def scores(_, seed, arm, task, *__):
        diverged = (seed, arm.name, task) == (2, "noise", "color")
        return {"test_accuracy": SCORES[arm.name][seed] if task == "color" else 0.5, "diverged": float(diverged)}

    for name, fake in {"train": trains, "_score": scores,
                       "ground_of": lambda _, __, folder: SimpleNamespace(folder=folder)}.items():  # fmt: skip
        monkeypatch.setattr(one_world, name, fake)
    for name, fake in {"prepare": lambda *_: (0.0, {}), "_draw_strip": lambda *_: ((), "")}.items():
        monkeypatch.setattr(world, name, fake)
    replace(TINY, seeds=(0, 1, 2)).run(tmp_path, workers=1, say=lambda _: None)
    *tables, note = (tmp_path / "table.md").read_text().strip().split("\n\n")
    scores, differences, medians = (
        {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in table.splitlines())} for table in tables
    )
    assert list(scores) == ["encoder", "---", *ARMS, "chance"]
    assert scores["encoder"] == ["color", "shape", "size", "pattern", "agreement", "word order", "s"]
    # half of an interval is t(2) · deviation / √3: 4.30265 · 0.1 / 1.73205, and a half of it
    assert scores["text-only"] == ["0.20 [−0.05, 0.45]", *["0.50 [0.50, 0.50]"] * 5, "7"]
    assert scores["voken classification"][0] == "0.85 [0.73, 0.97]"
    assert list(differences)[2:] == [
        "random vokens − text-only", "voken classification − text-only", "oracle − text-only", "noise − random vokens"
    ]  # fmt: skip
    assert differences["voken classification − text-only"][0] == "+0.65 [+0.53, +0.77]"
    assert differences["noise − random vokens"][:2] == ["+0.10 [−0.15, +0.35]", "+0.00 [+0.00, +0.00]"]
    assert [medians[arm][0] for arm in ARMS] == ["0.20", "0.20", "0.85", "1.00", "0.30"]
    assert note == "Runs that diverged, and count: noise (color of seed 2)."
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["diverged"] == {arm: ["color of seed 2"] if arm == "noise" else [] for arm in ARMS}
    assert results["seconds"] == dict.fromkeys(ARMS, [7.4] * 3)


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
    ("scores", "words"), [([0.7, 0.8, 0.75], "Clearly above"), ([0.1, 0.8, 0.3], "NOT clearly above")]
)
def test_the_verdict_is_the_truth_whatever_it_is(scores, words):
    arms = {arm.name: {"color": [0.15, 0.2, 0.16]} for arm in DEMO} | {"voken regression": {"color": scores}}
    said = verdict(Comparison(COLUMNS[:1], (0, 1, 2), arms, controls={"oracle": "voken regression"}))
    assert "text-only scores 0.17 (chance is 0.17)" in said
    assert re.search(rf"\. {words}: [^:]*voken regression {np.mean(scores):.2f}[,.]", said), said
    assert re.search(r"NOT clearly above: .*voken classification 0.17, .*oracle 0.17 \(over voken regression\)", said)


@pytest.mark.slow
def test_worlds_on_processes_of_their_own(tmp_path):
    said = []
    outcome = TINY.run(tmp_path, workers=2, say=said.append)
    assert len(said) == 2 * (1 + len(ARMS))
    assert all(arm in outcome.table for arm in ARMS)
    assert len(outcome.sentences) == 4
