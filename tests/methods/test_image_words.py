import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sightread.data.captions import read_captions
from sightread.encoders.image import ImageEncoder, build_small_image_encoder
from sightread.errors import ArtifactError, DataError
from sightread.methods import image_words
from sightread.methods.image_words import ImageWordsConfig, ImageWordsExamples, ImageWordsObjective

TRAINING = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 3}
CONFIG = ImageWordsConfig(widths=(8, 12), min_count=3, training=TRAINING)


@pytest.fixture(scope="module")
def examples(captions):
    return ImageWordsExamples(captions, build_small_image_encoder(32, (8, 12)), min_count=3)


def test_shares_count_the_words_of_a_pictures_captions(captions, examples):
    said = [[text.lower().replace(".", "").split() for text in captions.texts]][0]
    in_captions = {word: sum(word in caption for caption in said) for caption in said for word in caption}
    assert examples.words == sorted(word for word, count in in_captions.items() if count >= 3)
    assert "." not in examples.words
    for picture in range(len(captions.pictures)):
        words = [w for of, caption in zip(captions.picture_of, said, strict=True) if of == picture for w in caption]
        kept = [word for word in words if in_captions[word] >= 3]
        expected = [kept.count(word) / len(kept) for word in examples.words]
        np.testing.assert_allclose(examples.shares[picture], expected, atol=1e-6)


def test_a_batch_holds_pixels_and_shares_of_its_rows(captions, examples):
    assert len(examples) == 24
    rows = [examples.example(i, np.random.default_rng(0)) for i in (5, 0)]
    batch = examples.collate(rows)
    pixels = np.stack([np.asarray(captions.pictures.load(i)).transpose(2, 0, 1) / 127.5 - 1 for i in (5, 0)])
    np.testing.assert_allclose(batch["pixel_values"], pixels, atol=1e-5)
    np.testing.assert_array_equal(batch["words"], examples.shares[[5, 0]])


def test_the_loss_equals_numpy(examples):
    torch.manual_seed(0)
    encoder = build_small_image_encoder(32, (8, 12))
    objective = ImageWordsObjective(encoder, len(examples.words), 12).eval()
    batch = examples.collate([0, 3, 7])
    with torch.no_grad():
        features = encoder(batch["pixel_values"]).double().numpy()
    weight, bias = (p.detach().double().numpy() for p in objective.classifier.parameters())
    losses = []
    for feature, shares in zip(features, examples.shares[[0, 3, 7]], strict=True):
        logits = feature @ weight.T + bias
        losses.append(
            sum(share * (np.log(np.exp(logits).sum()) - logit) for share, logit in zip(shares, logits, strict=True))
        )
    assert objective(**batch)["loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_training_writes_an_encoder_that_has_learnt(captions, tmp_path):
    training = {**TRAINING, "num_train_epochs": 12}
    out = image_words.train(replace(CONFIG, training=training), captions, tmp_path / "run")
    encoder = ImageEncoder.from_pretrained(out / "encoder")
    assert encoder(encoder.preprocess([captions.pictures.load(0)])).shape == (1, 12)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] - 0.2
    assert json.loads((out / "manifest.json").read_text())["kind"] == "image-encoder"


def trained(config, captions, out):
    return (image_words.train(config, captions, out) / "encoder" / "model.safetensors").read_bytes()


def test_the_seed_decides_the_weights_whatever_was_drawn_before(captions, tmp_path):
    first = trained(CONFIG, captions, tmp_path / "a")
    torch.rand(7)
    assert trained(CONFIG, captions, tmp_path / "b") == first
    assert trained(replace(CONFIG, seed=1), captions, tmp_path / "c") != first
    with pytest.raises(ArtifactError, match="already holds a finished image-encoder"):
        image_words.train(CONFIG, captions, tmp_path / "a")


def test_a_broken_picture_is_an_error_that_names_it(world_folder, tmp_path):
    captions = read_captions(world_folder / "captions.tsv")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    captions.pictures.paths[3] = tmp_path / "broken.png"
    with pytest.raises(DataError, match=r"broken picture.*scene-00003|scene-00003.*broken picture|broken\.png"):
        image_words.train(CONFIG, captions, tmp_path / "run")


def test_captions_without_a_frequent_word_are_refused(captions, tmp_path):
    with pytest.raises(DataError, match="min_count"):
        image_words.train(replace(CONFIG, min_count=1000), captions, tmp_path / "run")
