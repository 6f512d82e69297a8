"""Arms and their voken corpora on the small fixtures: every kind is made, and what cannot be is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from regions_fixture import make_regions
from sightread.artifacts import MANIFEST
from sightread.data.corpora import Corpus
from sightread.encoders.text import build_byte_tokenizer, load_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.ground import (
    FOUND,
    LEVELS,
    STORES,
    TOP,
    Ground,
    make_association,
    make_pictures,
    make_store,
    store_path,
)
from sightread.experiments.needs import associations_of, check_arms, levels_of, pictures_of, stores_of
from sightread.experiments.trainers import METHODS, train
from sightread.grounded import load_encoder
from sightread.methods.semantic_visual import EmbeddingConfig
from sightread.methods.towers import TowersConfig
from sightread.pretraining import PretrainingConfig

TRAINING = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
VOKENS = Arm(name="vokens")
ARMS = (  # every method; each after what it rests on
    TEXT_ONLY,
    VOKENS,
    Arm(name="soft", vokens="top", settings={"objective": "soft", "max_steps": 1}),
    Arm(name="regression", settings={"objective": "regression"}),
    Arm(name="contrast", method="lexical contrast", vokens="none", settings={"captions_per_block": 2}),
    Arm(name="student", method="grounded teacher", vokens="none", after="contrast"),
    Arm(name="noise", method="weight noise", start="checkpoint", after="further"),
    Arm(name="untrained", method="start"),
    Arm(name="untrained bytes", method="start", start="bytes"),
    Arm(name="as it is", method="start", start="checkpoint"),
    Arm(name="matched", method="lm", vokens="none", after="vokens"),
    Arm(name="bytes", start="bytes"),
    Arm(name="joint", method="joint", vokens="none", start="checkpoint"),
    *(Arm(name=f"by {kind}", method="associative", vokens="none", start="checkpoint", pictures=kind,
          settings={"num_images": 2}) for kind in ("scene", "voken")),
    Arm(name="apart", method="unpaired", vokens="none", start="checkpoint", reads=("captions", "pictures")),
    Arm(name="tower", method="towers"),
    Arm(name="taught", method="xdbert", vokens="none", start="checkpoint", after="tower",
        settings={"fresh_clip": True}),
    Arm(name="with teacher", method="xbert", after="taught"),
    Arm(name="a clip", method="clip", start="clip"),
    *(Arm(name=f"looking, {kind}", method="aware", start="checkpoint", pictures=kind, settings={"num_images": 3})
      for kind in ("semantic-visual", "random of semantic-visual")),
)  # fmt: skip
KINDS = {
    "joint": "sightread-grounded", "associative": "sightread-grounded", "towers": "clip_text_model",
    "clip": "clip_text_model", "xbert": "sightread-xbert", "aware": "sightread-aware",
}  # fmt: skip
FURTHER = Arm(name="further", start="checkpoint", vokens="none", method="lm")


@pytest.fixture(scope="module")
def ground(
    world_folder, captions, text_encoder_folder, image_encoder_folder, vokenizer_folder, tokenizer, tmp_path_factory
):
    """The world's text; the sentence-level vokenizer is the other one, told to read sentences."""
    folder = tmp_path_factory.mktemp("arms")
    corpus = Corpus(world_folder / "corpus.txt")
    build_byte_tokenizer(corpus, 300).save_pretrained(folder / "tokenizer-bytes")
    config = json.loads((text_encoder_folder / "config.json").read_text())
    (folder / "fresh.json").write_text(json.dumps(config))
    (folder / "bytes.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    return Ground(
        folder=folder, corpus=corpus, captions=captions, tokenizer=text_encoder_folder,
        vokenizers={"token": vokenizer_folder, "sentence": sentence_level(vokenizer_folder, folder / "sentence")},
        image_encoder=image_encoder_folder, features=folder / "features",
        regions=make_regions(folder / "regions", captions.pictures.ids).path,
        starts={"encoder": folder / "fresh.json", "bytes": folder / "bytes.json", "checkpoint": text_encoder_folder,
                "clip": folder / "tower" / "encoder"},
        tokenizers={"bytes": folder / "tokenizer-bytes"},
        pretraining=PretrainingConfig(max_length=32, packed=False, training=TRAINING),
        towers=TowersConfig(hidden_size=16, num_layers=1, width=8, image_hidden=8, max_length=24, training=TRAINING),
        embedding=EmbeddingConfig(width=8, extremes=1, easy_steps=1, training=TRAINING),
    )  # fmt: skip


def sentence_level(source, out):
    from sightread.vokenizer import Vokenizer

    vokenizer = Vokenizer.from_pretrained(source)
    vokenizer.config = replace(vokenizer.config, level="sentence")
    return vokenizer.save_pretrained(out)


def lines_of(corpus):
    return [(line.text, line.token_ids.tolist(), line.starts.tolist()) for line in corpus]


@pytest.mark.parametrize("kind", STORES)
def test_every_store_holds_the_same_lines_and_tokens(kind, ground, captions):
    store = make_store(kind, ground)
    texts = {"captions": captions.texts}.get(kind, list(ground.corpus))
    if kind == "as long as captions":
        words = [len(text.split()) for text in texts]
        texts = texts[: 1 + np.searchsorted(np.cumsum(words), sum(len(text.split()) for text in captions.texts))]
        assert len(texts) < 80
    tokenizer = load_tokenizer(ground.tokenizer)
    assert [line.text for line in store] == texts
    assert [line.token_ids.tolist() for line in store] == tokenizer(texts, add_special_tokens=False)["input_ids"]
    bare = kind in ("none", "captions", "as long as captions")
    assert store.num_vokens == (0 if bare else len(tokenizer) if kind == "tokens" else 24)
    assert store.top == (TOP if kind == "top" else 0)
    vokens = np.concatenate([line.voken_ids for line in store])
    assert (vokens < store.num_vokens).all() != bare
    if kind == "sentence":
        assert all(len(set(line.voken_ids.tolist())) == 1 for line in store)


def test_stores_differ_in_their_vokens_alone_and_are_made_once(ground):
    stores = {
        kind: make_store(kind, ground) for kind in ("matched", "top", "random", "shuffled", "tokens", "frequency")
    }
    vokens = {kind: np.concatenate([line.voken_ids for line in store]) for kind, store in stores.items()}
    assert (vokens["matched"] == vokens["top"]).all()
    assert (np.sort(vokens["matched"]) == np.sort(vokens["shuffled"])).all()
    assert all((vokens["matched"] != vokens[kind]).mean() > 0.3 for kind in ("random", "shuffled", "tokens"))
    before = {path: path.stat().st_mtime_ns for path in ground.folder.rglob("*.parquet")}
    again = make_store("random", ground)
    assert again.digest == stores["random"].digest
    assert {path: path.stat().st_mtime_ns for path in ground.folder.rglob("*.parquet")} == before


@pytest.mark.parametrize("kind", ["none", "matched", "top", "shuffled", "tokens", "captions"])
def test_a_start_with_its_own_tokenizer_reads_the_same_text_in_its_tokens(kind, ground):
    store, plain = make_store(kind, ground, "bytes"), make_store(kind, ground)
    tokenizer = load_tokenizer(ground.tokenizers["bytes"])
    assert [line.text for line in store] == [line.text for line in plain]
    assert lines_of(store) != lines_of(plain)
    assert store.top == plain.top
    assert store.num_vokens == (len(tokenizer) if kind == "tokens" else plain.num_vokens)
    for line, words in zip(store, plain, strict=True):
        assert line.token_ids.tolist() == tokenizer(line.text, add_special_tokens=False)["input_ids"]
        voken_at = dict(zip(words.ends.tolist(), words.voken_ids.tolist(), strict=True))
        carried = dict(zip(line.ends.tolist(), line.voken_ids.tolist(), strict=True))
        assert kind not in ("matched", "top") or carried == {end: voken_at.get(end, carried[end]) for end in carried}
        assert kind != "tokens" or (line.voken_ids == line.token_ids).all()
    if kind == "shuffled":
        both = store, make_store("matched", ground, "bytes")
        vokens = [np.sort(np.concatenate([line.voken_ids for line in corpus])) for corpus in both]
        assert (vokens[0] == vokens[1]).all()
    assert make_store(kind, ground, "checkpoint").path == plain.path


@pytest.fixture(scope="module")
def trained(ground):
    """Every arm, trained in order; and the folders that `load_encoder` loads."""
    check_arms((FURTHER, *ARMS), ground.starts, ground.pretraining)
    for kind, start in stores_of((FURTHER, *ARMS)):
        make_store(kind, ground, start)
    for kind, start in associations_of(ARMS):
        make_association(kind, ground, start)
    for kind, start, count in pictures_of(ARMS):
        make_pictures(kind, ground, start, count)
    folders = {arm.name: train(arm, ground) for arm in (FURTHER, *ARMS)}
    assert {arm.method for arm in ARMS} == set(METHODS)
    return folders


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_method_leaves_a_checkpoint_of_its_start(arm, trained, ground):
    folder = trained[arm.name]
    assert folder == ground.folder / arm.name / "encoder"
    model, tokenizer = load_encoder(folder), AutoTokenizer.from_pretrained(folder)
    expected = load_tokenizer(ground.tokenizers.get(arm.start, ground.tokenizer))
    assert tokenizer("a red box .")["input_ids"] == expected("a red box .")["input_ids"]
    assert model.config.vocab_size == len(expected)
    assert model.config.model_type == KINDS.get(arm.method, "roberta" if arm.start == "bytes" else "bert")
    manifest = json.loads((folder.parent / MANIFEST).read_text())
    steps = arm.settings.get("max_steps", 2)
    assert arm.name == "matched" or manifest["report"].get("steps", steps) == steps


def test_arms_begin_alike_and_what_is_left_alone_stays(trained, ground):
    inputs = {name: json.loads((folder.parent / MANIFEST).read_text())["inputs"] for name, folder in trained.items()}
    alike = ("text-only", "vokens", "soft", "regression", "contrast", "student")
    assert len({inputs[name]["start"] for name in alike}) == 1
    start, untrained = weights(trained["as it is"]), weights(trained["untrained"])
    assert all(value.equal(weights(ground.starts["checkpoint"])[name]) for name, value in start.items())
    assert any(not value.equal(weights(trained["vokens"])[f"bert.{name}"]) for name, value in untrained.items())
    assert inputs["matched"]["match_compute_of"]


def test_weight_noise_goes_as_far_as_what_it_imitates(trained):
    start, far, noise = (weights(trained[name]) for name in ("as it is", "further", "noise"))
    for name, value in start.items():
        assert (noise[name] - value).norm().item() == pytest.approx((far[name] - value).norm().item(), rel=1e-3)


def test_an_arm_that_is_trained_is_left_as_it_is(trained, ground, monkeypatch):
    monkeypatch.setattr("sightread.pretraining.fit", None)  # whoever calls it fails
    monkeypatch.setattr("sightread.vokenizer.Vokenizer.from_pretrained", None)
    before = {path: path.stat().st_mtime_ns for path in ground.folder.rglob("*.safetensors")}
    for arm in (arm for arm in ARMS if arm.pictures != "voken"):
        assert train(arm, ground) == trained[arm.name]
    assert {path: path.stat().st_mtime_ns for path in ground.folder.rglob("*.safetensors")} == before


@pytest.mark.parametrize(
    ("name", "change"),
    [("as it is", "start"), ("untrained", "seed"), ("untrained bytes", "tokenizer"), ("noise", "like")],
)
def test_an_arm_of_another_start_or_seed_is_not_taken_for_this_one(name, change, trained, ground, tmp_path):
    """Each was made of what has been changed since."""
    arm = next(arm for arm in ARMS if arm.name == name)
    shutil.copytree(ground.folder / name, tmp_path / name)
    shutil.copytree(ground.folder / ("vokens" if change == "like" else "further"), tmp_path / "further")
    other = {
        "start": {"starts": {**ground.starts, "checkpoint": trained["vokens"]}},
        "seed": {"pretraining": replace(ground.pretraining, seed=1)},
        "tokenizer": {"tokenizers": {"bytes": ground.tokenizer}},
        "like": {},
    }[change]
    with pytest.raises(ArtifactError, match=f"cannot be resumed: it was begun with another .*{change}"):
        train(arm, replace(ground, folder=tmp_path, **other))


def test_an_arm_takes_the_voken_corpus_that_was_made_and_makes_none(ground, tmp_path):
    elsewhere = replace(ground, folder=tmp_path)
    with pytest.raises(ArtifactError, match=r"no folder .*vokens-matched; expected a voken-corpus"):
        train(VOKENS, elsewhere)
    assert not list(tmp_path.iterdir())


def test_what_a_corpus_cannot_give_is_refused_and_leaves_nothing(ground):
    make_store("matched", ground)
    with pytest.raises(ConfigError, match="vokenize with --top"):
        train(Arm(name="refused", settings={"objective": "soft"}), ground)
    assert not (ground.folder / "refused").exists()


FOUND_BY_SCENE = {"method": "associative", "vokens": "none", "pictures": "scene"}


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([{"settings": {"objectiv": "soft"}}], "arm 'x': unknown setting 'objectiv'; did you mean 'objective'"),
        ([{"settings": {"learning_rat": 1e-3}}], "did you mean 'learning_rate'"),
        ([{"settings": {"objective": "sofd"}}], "did you mean 'soft'"),
        ([{"method": "start", "settings": {"max_steps": 1}}], "arm 'x': start takes no settings; max_steps was given"),
        ([{"method": "vokens"}], "arm 'x': method is 'vokens'.*did you mean 'voken'"),
        ([{"vokens": "shuffeld"}], "vokens is 'shuffeld'.*did you mean 'shuffled'"),
        ([{"start": "encodr"}], "start is 'encodr', expected one of encoder, checkpoint; did you mean 'encoder'"),
        ([{}, {"name": "y", "control": "z"}], "arm 'y': control is 'z', expected one of x, y"),
        ([{}, {}], "'x' stands twice"),
        ([{"after": "y"}, {"name": "y"}], "'x' rests on 'y', which must stand before it"),
        ([{"method": "associative", "vokens": "none"}], "arm 'x': pictures is ''"),
        ([{"method": "associative", "pictures": "scene"}], "arm 'x': vokens is 'matched', expected one of none"),
        ([{**FOUND_BY_SCENE, "settings": {"max_length": 8}}], "max_length: an arm that finds pictures has the"),
        ([{**FOUND_BY_SCENE, "settings": {"num_images": 99}}], "num_images=99: pictures are found for 24 at most"),
        ([{"method": "weight noise"}], "arm 'x': weight noise rests on another arm"),
        ([{"method": "grounded teacher", "vokens": "none"}], "grounded teacher rests on another arm"),
    ],
)  # fmt: skip
def test_arms_that_cannot_be_are_refused(arms, message):
    with pytest.raises(ConfigError, match=message):
        check_arms([Arm(**{"name": "x", **arm}) for arm in arms], ["encoder", "checkpoint"], PretrainingConfig())


def test_what_arms_need(ground):
    starts = {"matched": ("bytes", "encoder"), "none": ("checkpoint", "encoder"), "top": ("encoder",)}
    assert stores_of(ARMS) == [(kind, start) for kind in starts for start in starts[kind]]
    assert pictures_of(ARMS) == [(kind, "checkpoint", FOUND) for kind in ("scene", "voken")]
    by_objects = [Arm(name=str(k), method="associative", pictures="object", settings={"num_images": k}) for k in (0, 2)]
    assert pictures_of(by_objects) == [("object", "encoder", k) for k in (1, 2)]
    assert levels_of(ARMS) == levels_of([Arm(name="x", vokens="frequency")]) == ["token"]
    assert levels_of([Arm(name="x", vokens="sentence"), VOKENS]) == ["token", "sentence"]
    assert levels_of([Arm(name="x", vokens="sentence")]) == ["sentence"]
    assert levels_of([TEXT_ONLY, Arm(name="x", method="lm", vokens="captions"), Arm(name="y", method="start")]) == []
    assert levels_of([Arm(name="x", method="associative", vokens="none", pictures="voken")]) == ["token"]
    assert levels_of([Arm(name="x", method="associative", vokens="none", pictures="scene")]) == []
    assert set(STORES) - set(LEVELS) == {"none", "captions", "as long as captions", "tokens"}
    assert store_path("none", ground, "bytes").name == "vokens-none-bytes"
