"""The embedding learns, is resumed exactly, and comes back from disk; what is bad is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sightread.analysis.both_ways import both_ways, scores_both_ways
from sightread.artifacts import MANIFEST, digest_file
from sightread.association.encoders import MeanVectors
from sightread.association.folder import load_association
from sightread.association.semantic_visual import embedding_of
from sightread.association.words import WordVectors
from sightread.data.captions import read_captions
from sightread.data.images import PictureFiles
from sightread.data.words import words_of
from sightread.encoders.feature_maps import FeatureMaps, seeing_maps
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.methods import semantic_visual
from sightread.methods.semantic_visual import EmbeddingConfig, EmbeddingObjective
from sightread.runtime import keyed_rng

TRAINING = {"num_train_epochs": 30, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "logging_steps": 10}
CONFIG = EmbeddingConfig(width=16, extremes=2, easy_steps=30, training=TRAINING)
SHORT = replace(
    CONFIG, easy_steps=4, training={**TRAINING, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3}
)


@pytest.fixture(scope="module")
def words(captions):
    known = sorted({word for text in captions.texts for word in words_of(text)})
    return WordVectors(known, keyed_rng(0).standard_normal((len(known), 12)).astype(np.float32))


@pytest.fixture
def image_encoder(image_encoder_folder):
    return ImageEncoder.from_pretrained(image_encoder_folder)


@pytest.fixture(scope="module")
def run(captions, words, image_encoder_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("embedding") / "run"
    encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    return out, semantic_visual.train(CONFIG, captions, out, words=words, image_encoder=encoder)


def test_captions_and_pictures_find_each_other(run, captions):
    scores = both_ways(run[1].embedding, captions)
    assert scores["chance"]["median_rank"] == 12.5
    assert scores["texts"]["R@5"] > 3 * scores["chance"]["R@5"]
    assert scores["pictures"]["R@5"] > 0.4
    assert (scores["texts"]["queries"], scores["pictures"]["queries"]) == (48, 24)


def test_it_comes_back_from_disk_and_nothing_of_its_training_stays(run, captions):
    out, made = run
    loaded = load_association(out / "association")
    texts = [*captions.texts, "", "xyzzy", " ".join(captions.texts[0].split() * 400)]
    assert len(texts[-1].split()) > 2000
    found = loaded.retrieve(texts, 5)
    assert found.tolist() == made.retrieve(texts, 5).tolist()
    assert (found[[-3, -2]] == -1).all()
    assert (found[-1] >= 0).all()
    assert {path.name for path in out.iterdir()} == {"association", "log.jsonl", MANIFEST}
    assert loaded.digest == made.digest
    assert embedding_of(loaded)([]).shape == (0, 16)
    with pytest.raises(ConfigError, match="k=25: expected between 1 and the 24 pictures"):
        loaded.retrieve(["a box"], 25)


def test_vectors_are_those_of_the_paths_one_by_one(run, captions, words):
    made, text = run[1], captions.texts[0]
    vectors = made.embedding([text, captions.texts[7], text])
    alone = made.embedding([text])[0]
    np.testing.assert_allclose(vectors[[0, 2]], [alone, alone], atol=1e-6)
    image = captions.pictures.load(3)
    places = made.embedding.places(image).flatten(0, 1).sort(dim=0).values.numpy()  # H·W, E
    pooled = places[-2:].mean(axis=0) + places[:2].mean(axis=0)
    np.testing.assert_allclose(made.bank.vectors[3], pooled / np.linalg.norm(pooled), atol=1e-5)
    mean = ImageEncoder(made.embedding.image_encoder.model, made.embedding.image_encoder.processor, "mean", "whole")
    made.bank.check_encoder(mean)
    np.testing.assert_allclose(
        made.bank.features[3], mean(mean.preprocess([image]))[0].detach().numpy(), rtol=1e-3, atol=1e-5
    )


def test_the_first_batches_are_against_all_negatives(monkeypatch):
    seen = []
    monkeypatch.setattr(semantic_visual, "triplet", lambda scores, *_, hardest: seen.append(hardest) or scores.sum())
    objective, batch = EmbeddingObjective(SHORT, 3, 2), {
        "words": torch.ones(2, 1, 3), "lengths": torch.ones(2).long(), "maps": torch.ones(2, 4, 2),
        "pictures": torch.tensor([0, 1]),
    }  # fmt: skip
    for _ in range(6):
        objective(**batch)
    objective.eval()(**batch)
    assert seen == [False] * 4 + [True] * 3
    assert objective.seen == 6


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(captions, words, image_encoder, monkeypatch, tmp_path):
    def train(name, **more):
        return semantic_visual.train(
            SHORT, captions, tmp_path / name, words=words, image_encoder=image_encoder, cache=tmp_path / "maps", **more
        )

    train("whole")
    forward, calls = EmbeddingObjective.forward, []

    def stopping(self, **batch):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingObjective, "forward", stopping)
        with pytest.raises(KeyboardInterrupt):
            train("stopped")
    train("stopped", resume=True)
    files = [tmp_path / name / "association" / "arrays.safetensors" for name in ("whole", "stopped")]
    assert digest_file(files[0]) == digest_file(files[1])
    monkeypatch.setattr(semantic_visual, "fit", None)  # nothing is left to do
    assert train("stopped", resume=True).digest == load_association(tmp_path / "whole" / "association").digest
    with pytest.raises(ArtifactError, match="already holds a finished embedding"):
        train("stopped")


def test_any_encoder_may_read_and_other_pictures_be_found(
    captions, text_encoder_folder, image_encoder, world_folder, tmp_path
):
    source = MeanVectors(TextEncoder.from_pretrained(text_encoder_folder))
    pictures = PictureFiles.from_folder(world_folder / "images").select(range(5))
    config = replace(CONFIG, reader="mean", training={**TRAINING, "max_steps": 2})
    options = {"words": source, "image_encoder": image_encoder, "pictures": pictures}
    made = semantic_visual.train(config, captions, tmp_path / "run", **options)
    assert made.bank.ids == pictures.ids
    texts = ["the red box", ""]
    loaded = load_association(tmp_path / "run" / "association")
    assert loaded.retrieve(texts, 5).tolist() == made.retrieve(texts, 5).tolist()
    tokens = source.tokens(texts)
    assert [len(of) for of in tokens] == [3, 0]
    np.testing.assert_allclose(source(texts[:1])[0], tokens[0].mean(axis=0) / np.linalg.norm(tokens[0].mean(axis=0)),
                               atol=1e-5)  # fmt: skip


def test_feature_maps_are_kept_and_broken_pictures_left_out(captions, image_encoder, tmp_path, monkeypatch):
    folder, encoder = tmp_path / "pictures", seeing_maps(image_encoder, captions.pictures)
    folder.mkdir()
    for i in range(6):
        captions.pictures.load(i).save(folder / f"{i}.png")
    for i in (2, 3):  # a whole part
        (folder / f"{i}.png").write_bytes(b"no picture")
    pictures = PictureFiles.from_folder(folder)
    monkeypatch.setattr("sightread.encoders.feature_maps.AT_ONCE", 2)
    maps = FeatureMaps(encoder, pictures, tmp_path / "maps", max_skipped=0.4)
    assert maps.rows.tolist() == [0, 1, 4, 5]
    assert maps.skipped.count == 2
    for row, map_ in zip(maps.rows, maps, strict=True):
        expected = image_encoder.feature_map(encoder.preprocess([pictures.load(row)]))[0].flatten(1).T.detach()
        np.testing.assert_allclose(map_, expected, rtol=1e-3, atol=1e-5)
    monkeypatch.setattr("sightread.encoders.features._compute_image_features", None)  # they are not made again
    assert np.array_equal(FeatureMaps(encoder, pictures, tmp_path / "maps", max_skipped=0.4)[2], maps[2])
    with pytest.raises(DataError, match="2 of 6 pictures are bad"):
        FeatureMaps(encoder, pictures, tmp_path / "maps")
    monkeypatch.undo()
    with pytest.raises(DataError, match="not one of the pictures can be decoded"):
        FeatureMaps(encoder, pictures.select([2, 3]), tmp_path / "none", max_skipped=1)
    with pytest.raises(DataError, match="not one of the 1 pictures can be decoded"):
        seeing_maps(image_encoder, pictures.select([2]))


def test_captions_of_unknown_words_are_told(captions, image_encoder, tmp_path):
    few = WordVectors(["zzz"], np.ones((1, 3), np.float32))
    options = {"image_encoder": image_encoder, "cache": tmp_path / "maps"}
    with pytest.raises(DataError, match="captions with known words of two pictures"):
        semantic_visual.train(CONFIG, captions, tmp_path / "none", words=few, **options)
    lines = [f"{id_}#0\ta red box" for id_ in captions.pictures.ids[:4]] + [f"{captions.pictures.ids[0]}#1\txyzzy"]
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n")
    pairs = read_captions(tmp_path / "captions.tsv", captions.pictures.path(0).parent)
    config = replace(CONFIG, training={**TRAINING, "max_steps": 1})
    semantic_visual.train(config, pairs, tmp_path / "run", words=WordVectors(["red"], np.ones((1, 3))), **options)
    report = json.loads((tmp_path / "run" / MANIFEST).read_text())["report"]
    assert report["captions"] == 4
    assert report["skipped"]["caption without a known word"] == {"count": 1, "first": ["'xyzzy'"]}


@pytest.mark.parametrize("seed", range(5))
def test_scores_both_ways_are_ranks_counted_by_hand(seed):
    rng = keyed_rng(seed)
    texts, pictures = rng.standard_normal((9, 3)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    own = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])  # picture 3 has no text
    scores = texts.astype(float) @ pictures.T.astype(float)
    of_texts = [1 + sum(scores[i] > scores[i, own[i]]) for i in range(9)]
    of_pictures = [min(1 + sum(scores[:, j] > scores[i, j]) for i in range(9) if own[i] == j) for j in range(3)]
    found = scores_both_ways(texts, pictures, own)
    for name, ranks in (("texts", of_texts), ("pictures", of_pictures)):
        assert found[name]["median_rank"] == np.median(ranks)
        assert found[name]["R@1"] == pytest.approx(np.mean(np.array(ranks) <= 1))
        assert found[name]["queries"] == len(ranks)


def test_an_association_of_another_kind_is_no_embedding():
    class Other:
        kind = "keyword"

    with pytest.raises(ConfigError, match="by keyword; expected one by semantic-visual"):
        embedding_of(Other())


def test_a_map_that_is_not_square_is_refused(image_encoder, tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    with pytest.raises(ConfigError, match="is not square"):
        seeing_maps(image_encoder, PictureFiles.from_folder(tmp_path))
