"""A comparison on real data, for which the world's files stand in: every stage, once, and what is missing."""

import json
from dataclasses import replace

import pytest
import torch

from sightread.analysis.perplexity import perplexity
from sightread.artifacts import MANIFEST
from sightread.bank import ImageBank
from sightread.data.blocks import TokenBlocks
from sightread.data.corpora import Corpus
from sightread.encoders.text import load_tokenizer
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.ground import make_store
from sightread.experiments.real import RealExperiment, _ground
from sightread.finetuning import FinetuningConfig
from sightread.grounded import load_encoder
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig
from sightread.vokenization.job import tokenize

STEPS = {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3}
PICTURES = 20


@pytest.fixture(scope="module")
def data(world_folder, text_encoder_folder, image_encoder_folder, tmp_path_factory):
    """A data folder: the world, models, and lists of pictures."""
    folder = tmp_path_factory.mktemp("data")
    for name, source in {"world": world_folder, "text": text_encoder_folder, "image": image_encoder_folder}.items():
        (folder / name).symlink_to(source)
    names = sorted(path.name for path in (world_folder / "images").iterdir())
    (folder / "train.txt").write_text("\n".join(names[:PICTURES]))
    (folder / "test.txt").write_text("\n".join(names[PICTURES:]))
    return folder


@pytest.fixture(scope="module")
def experiment():
    return RealExperiment(
        arms=(
            TEXT_ONLY,
            Arm(name="vokens"),
            Arm(name="rests on another", method="lm", vokens="none", after="vokens"),
            Arm(name="as it is", method="start"),
        ),
        text_encoder="text", image_encoder="image", captions="world/captions.tsv", images="world/images",
        split="train.txt", test_split="test.txt", bank="world/images", bank_size=9, corpus="world/corpus.txt",
        corpus_lines=30, matching=MatchingConfig(layers=(0, -1), hidden=8, width=8, max_length=32, training=STEPS),
        pretraining=PretrainingConfig(max_length=32, packed=False, training=STEPS),
        finetuning=FinetuningConfig(pooling="mean", max_length=32, training=STEPS),
        tasks={"world": "world/tasks/color"}, num_train=16, seeds=(0, 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(experiment, data, tmp_path_factory):
    """What the experiment gave and said, and its folder."""
    out, said = tmp_path_factory.mktemp("real") / "out", []
    return experiment.run(out, data=data, say=said.append), said, out


def test_every_stage_leaves_its_folder(ran, experiment):
    outcome, said, out = ran
    assert len(ImageBank.load(out / "vokenizer" / "bank")) == 9
    results = json.loads((out / "results.json").read_text())
    assert results["retrieval"]["pictures"] == 24 - PICTURES
    assert set(results["seconds"]) == {
        "bank", "matching", "retrieval", "vokens: matched encoder", "vokens: none encoder", "pre-training",
        "fine-tuning",
    }  # fmt: skip
    assert [line.strip() for line in said if line.startswith("  ")] == [
        "text-only", "vokens", "rests on another", "as it is", *(f"{arm.name} on world" for arm in experiment.arms)
    ]  # fmt: skip
    for arm in experiment.arms:
        scores = json.loads((out / "scores" / arm.name / "world" / MANIFEST).read_text())
        assert scores["report"]["seeds"] == [0, 1]
        assert scores["config"]["num_train"] == 16
        assert arm.name in outcome.table
        assert (arm == TEXT_ONLY) != (f"{arm.name}: of 1 tasks" in outcome.verdict)
    assert json.loads((out / "rests on another" / MANIFEST).read_text())["inputs"]["match_compute_of"]
    assert outcome.scores == [f"{arm.name}=scores/{arm.name}" for arm in experiment.arms]
    assert (out / "comparison.md").is_file()


def test_run_again_it_does_nothing_twice(ran, experiment, data, monkeypatch):
    outcome, _, out = ran
    taken = json.loads((out / "results.json").read_text())["seconds"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    for place in ("sightread.train.fit", "sightread.pretraining.fit", "sightread.methods.matching.fit"):
        monkeypatch.setattr(place, None)  # whoever calls it fails
    again = experiment.run(out, data=data, say=lambda _: None)
    assert again == outcome
    now = json.loads((out / "results.json").read_text())["seconds"]
    assert all(now[stage] >= seconds for stage, seconds in taken.items()), "the first session's seconds are lost"
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    names = {path.relative_to(out).parts[0] for path in changed}
    comparison = ("comparison.md", "comparison.tex", "comparison.csv", "comparison-summary.csv", "comparison.json")
    assert names <= {"results.json", "scores", *comparison}
    assert {path.name for path in changed if "scores" in path.parts} <= {MANIFEST}


def test_grounded_arms_are_asked_for_hidden_words(experiment, data, tmp_path):
    joint = Arm(name="two regions", method="joint", vokens="none", settings={"strategy": "i2t", "num_regions": 2})
    found, blind = (
        Arm(name=f"K = {k}", method="associative", vokens="none", pictures="scene", settings={"num_images": k})
        for k in (2, 0)
    )
    asked = replace(
        experiment, arms=(TEXT_ONLY, joint, found, blind), test_corpus="world/corpus.txt", test_lines=20, tasks={}
    )
    outcome = asked.run(tmp_path, data=data, say=lambda _: None)
    head, _, *rows = (tmp_path / "perplexities.md").read_text().splitlines()
    assert outcome.table.splitlines() == [head, _, *rows]
    cells = {row.split(" | ")[0].removeprefix("| "): row.strip("| ").split(" | ")[1:] for row in rows}
    assert list(cells) == [joint.name, found.name, blind.name]
    assert [cell.count("–") for cell in map(" ".join, cells.values())] == [0, 0, 1]
    blind_encoder = load_encoder(tmp_path / blind.name / "encoder")
    tokenizer = load_tokenizer(data / "text")
    corpus = tokenize(Corpus(data / "world" / "corpus.txt", max_lines=20), tokenizer, tmp_path / "again")
    blocks = TokenBlocks(corpus, tokenizer, max_length=32)
    value = perplexity(blind_encoder.cross_modal, blocks).value
    assert cells[blind.name][0].startswith(f"{value:.1f} [")
    assert (tmp_path / "found.html").read_text().count('class="found"') == 6
    assert (tmp_path / "found.png").is_file()
    assert not (tmp_path / "vokenizer").exists()


def test_passages_a_language_model_and_synsets(experiment, data, world_folder, tmp_path):
    noun = (world_folder / "nouns.tsv").read_text().splitlines()[1].split("\t")[0]
    shown = tmp_path / "shown"
    shown.mkdir()
    for number, picture in enumerate(sorted((world_folder / "images").iterdir())[:2]):
        (shown / f"n0000000{number}.png").write_bytes(picture.read_bytes())
    (tmp_path / "synsets.tsv").write_text(f"n00000000\tcat, {noun}\n")
    found = Arm(name="found", method="associative", vokens="none", pictures="object", settings={"num_images": 1})
    base = replace(experiment.pretraining, training={"max_steps": 3})
    asked = replace(
        experiment, arms=(found,), corpus="", passages=("world/corpus.txt",) * 10, test_lines=20, bank="",
        tasks={}, base=base, synsets=str(tmp_path / "synsets.tsv"), synset_images=str(shown),
    )  # fmt: skip
    outcome = asked.run(tmp_path / "out", data=data, say=lambda _: None)
    assert "| found |" in outcome.table
    assert set((tmp_path / "out" / "passages").iterdir()) >= {tmp_path / "out/passages/test.txt"}
    trained = json.loads((tmp_path / "out/language-model" / MANIFEST).read_text())
    assert trained["config"]["training"]["max_steps"] == 3
    assert json.loads((tmp_path / "out/found" / MANIFEST).read_text())["config"]["training"]["max_steps"] == 2
    base_weights = load_encoder(tmp_path / "out/language-model/encoder").get_input_embeddings().weight
    encoder = load_encoder(tmp_path / "out/found/encoder")
    assert torch.equal(encoder.get_input_embeddings().weight, base_weights), "the arm begins elsewhere"
    assert encoder.finder.association.bank.ids == ["n00000000.png", "n00000001.png"]
    assert encoder.finder.association.retrieve([f"a {noun} ."], 1).tolist() == [[0]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"test_split": "", "test_corpus": "world/corpus.txt"}, ConfigError, "give test_split beside test_corpus"),
        ({"passages": ("world/corpus.txt",)}, ConfigError, "either a corpus or passages"),
        ({"corpus": "", "passages": ("world/corpus.txt",), "test_corpus": "world/corpus.txt"}, ConfigError,
         "leave test_corpus out"),
        ({"synsets": "world/nouns.tsv"}, ConfigError, "synsets and pictures of them"),
        ({"text_encoder": ""}, ConfigError, "--set text_encoder="),
        ({"captions": "no/where.tsv"}, DataError, "there is no .*data.*/no/where.tsv; give a path below .*or hf:NAME"),
        ({"images": "no/where"}, DataError, "no folder of pictures at .*where"),
        ({"split": "nowhere.txt"}, DataError, "cannot read the list of pictures .*nowhere.txt"),
        ({"test_split": "nowhere.txt"}, DataError, "cannot read the list of pictures .*nowhere.txt"),
        ({"corpus": "no/where.txt"}, DataError, "there is no .*data.*/no/where.txt"),
        ({"bank": "no/where"}, DataError, "there is no .*data.*/no/where"),
        ({"tasks": {"world": "no/where"}}, DataError, "there is no .*data.*/no/where"),
        ({"tasks": {"worlt": "world/tasks/color"}}, ConfigError, "did you mean 'world'"),
        ({"text_encoder": "no/where/encoder"}, DataError, "there is no .*data.*/encoder;.* or a name on the Hub"),
        ({"text_encoder": "nobody/nothing"}, ArtifactError, "nobody/nothing cannot be loaded"),
        ({"image_encoder": "world"}, ArtifactError, "world cannot be loaded as a model"),
        ({"starts": {"encoder": "world.json"}}, DataError, "there is no .*data.*/world.json"),
        ({"tokenizers": {"encoder": "wordpieces"}}, DataError, "there is no .*data.*/wordpieces"),
        ({"arms": (TEXT_ONLY, Arm(name="x", control="y"))}, ConfigError, "control is 'y'"),
        ({"arms": (Arm(name="x", method="oracle"),)}, ConfigError, "method is 'oracle'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_any_work(change, error, message, experiment, data, monkeypatch, tmp_path):
    monkeypatch.chdir(data / "world")  # where tasks/color lies, but is not looked for
    with pytest.raises(error, match=message):
        replace(experiment, **change).check(data)
    with pytest.raises(error, match=message):
        replace(experiment, **change).run(tmp_path / "out", data=data, say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_what_lies_in_the_current_folder_is_not_taken_for_data(experiment, data, monkeypatch):
    monkeypatch.chdir(data / "world")
    for change in ({"corpus": "corpus.txt"}, {"text_encoder": "tasks/color"}):
        with pytest.raises(DataError, match=r"there is no .*data"):
            replace(experiment, **change).check(data)


def test_it_needs_data(experiment, data, monkeypatch):
    monkeypatch.delenv("SIGHTREAD_DATA", raising=False)
    with pytest.raises(ConfigError, match="give --data, or set SIGHTREAD_DATA"):
        experiment.check(None)
    monkeypatch.setenv("SIGHTREAD_DATA", str(data))
    experiment.check(None)


def test_without_vokens_there_is_no_vokenizer_and_the_text_encoder_gives_the_tokenizer(experiment, data, tmp_path):
    bare = replace(experiment, arms=(TEXT_ONLY, Arm(name="captions", method="lm", vokens="captions")))
    ground = _ground(bare, data, tmp_path)
    assert (ground.vokenizers, ground.tokenizer) == ({}, data / "text")
    assert make_store("captions", ground).num_tokens > 0
