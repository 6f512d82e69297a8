"""Arms that read pictures and words in one stream, on a tiny world and on its files as real data."""

import json
from dataclasses import replace

import pytest

from sightread.artifacts import MANIFEST
from sightread.data.regions import RegionStore
from sightread.data.world import WorldConfig
from sightread.errors import ConfigError
from sightread.experiments import one_world
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.needs import check_arms
from sightread.experiments.one_world import COLUMNS, ground_of
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.finetuning import FinetuningConfig
from sightread.methods.image_words import ImageWordsConfig
from sightread.methods.matching import MatchingConfig
from sightread.modules.single_stream import SingleStream
from sightread.pretraining import PretrainingConfig

STEPS = {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3}
ARMS = (
    TEXT_ONLY,
    Arm(name="apart", method="unpaired", vokens="none", start=TEXT_ONLY.name, reads=("captions", "pictures")),
    Arm(name="no tags", method="unpaired", vokens="none", start=TEXT_ONLY.name, reads=("pairs",),
        settings={"tags": False}),
)  # fmt: skip
TUNING = FinetuningConfig(max_length=32, num_train=16, training=STEPS)
TINY = WorldExperiment(
    seeds=(0,), arms=ARMS, held_out=6, retrieval=TUNING, num_pictures=9, finetuning=TUNING, probing=TUNING,
    world=WorldConfig(num_scenes=24, num_sentences=60, sentences_per_noun=1, harm_examples=8, image_size=32),
    image=ImageWordsConfig(widths=(8, 12), min_count=1, training=STEPS),
    matching=MatchingConfig(layers=(0, -1), hidden=8, width=8, max_length=32, training=STEPS),
    encoders={"encoder": WorldExperiment().encoders["encoder"] | {"hidden_size": 16, "num_attention_heads": 2}},
    pretraining=PretrainingConfig(max_length=32, packed=False, training=STEPS),
)  # fmt: skip


def tags_read(folder):
    return json.loads((folder / MANIFEST).read_text())["config"]["tags"]


def test_on_a_world_captions_find_pictures_that_no_arm_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(one_world, "COLUMNS", COLUMNS[:1])
    TINY.run(tmp_path, workers=1, say=lambda _: None)
    folder = tmp_path / "seed-0"
    store, trained = RegionStore(folder / "regions"), ground_of(TINY, 0, folder).captions.pictures.ids
    asked = (folder / "retrieval" / "split_test.txt").read_text().split()
    assert (len(asked), sorted({*trained, *asked})) == (6, store.ids)
    assert not {*trained} & {*asked}
    for arm in ARMS:
        found = json.loads((folder / "scores" / f"{arm.name}.json").read_text())["scores"]
        assert set(found) == {"color", "retrieval"}
        rows = (folder / "scores" / arm.name / "retrieval" / "predictions-test.jsonl").read_text().splitlines()
        ranks = [json.loads(row)["prediction"]["rank"] for row in rows]
        assert len(ranks) == 6
        assert found["retrieval"] == pytest.approx(sum(rank <= 1 for rank in ranks) / 6)
    assert [tags_read(folder / arm.name) for arm in ARMS[1:]] == [True, False]
    assert SingleStream.from_pretrained(folder / "apart" / "encoder").region_width == store.width


def test_on_real_data(world_folder, text_encoder_folder, image_encoder_folder, tmp_path):
    names = sorted(path.name for path in (world_folder / "images").iterdir())
    (data := tmp_path / "data").mkdir()
    for name, source in {"world": world_folder, "text": text_encoder_folder, "image": image_encoder_folder}.items():
        (data / name).symlink_to(source)
    (data / "lists").mkdir()
    (data / "lists" / "captions.tsv").symlink_to(world_folder / "captions.tsv")
    for split, part in {"train": names[:18], "test": names[18:]}.items():
        (data / "lists" / f"split_{split}.txt").write_text("\n".join(part))
    experiment = RealExperiment(
        arms=tuple(replace(arm, start="encoder") for arm in ARMS), text_encoder="text", image_encoder="image",
        captions="world/captions.tsv", images="world/images", split="lists/split_train.txt", corpus="world/corpus.txt",
        corpus_lines=20, matching=TINY.matching, pretraining=TINY.pretraining, finetuning=TUNING, num_train=16,
        regions={"captions": ("world/images", "world/regions.jsonl")}, tasks={"flickr8k": "lists"},
        pictured={"flickr8k": ("captions", "captions_each=1")}, seeds=(0,),
    )  # fmt: skip
    outcome = experiment.run(tmp_path / "out", data=data, say=lambda _: None)
    assert "apart" in outcome.table
    for arm, tags in zip(ARMS, (True, True, False), strict=True):
        scores = json.loads((tmp_path / "out/scores" / arm.name / "flickr8k" / MANIFEST).read_text())
        assert (scores["config"]["task.tags"], scores["config"]["task.captions_each"]) == (tags, 1)
    for change, message in (
        ({"pictured": {"flickr8k": ("nowhere",)}}, "regions of flickr8k is 'nowhere'"),
        ({"pictured": {"flickr8k": ("captions", "candidate=9")}}, "did you mean 'candidates'"),
        ({"regions": {}, "pictured": {}}, "regions of unpaired arms is 'captions'"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(experiment, **change).check(data)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (replace(ARMS[1], reads=()), "`reads` is for unpaired arms, and they need it"),
        (replace(TEXT_ONLY, name="x", reads=("pairs",)), "`reads` is for unpaired arms"),
        (replace(ARMS[1], reads=("pears",)), "reads is 'pears'.*did you mean 'pairs'"),
    ],
)
def test_what_no_arm_can_read(arm, message):
    with pytest.raises(ConfigError, match=message):
        check_arms([TEXT_ONLY, arm], ["encoder", TEXT_ONLY.name], PretrainingConfig())
