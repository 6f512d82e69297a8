from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTextModelWithProjection

from byte_clip import byte_tokenizer
from pretraining_runs import resumes_exactly
from sightread.analysis.retrieval import ranks_of_own, scores_of
from sightread.artifacts import Artifact
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import build_byte_tokenizer, load_tokenizer
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.methods import towers
from sightread.methods.distillation import load_clip_text
from sightread.methods.towers import CaptionedFeatures, TowersConfig, TowersObjective, encode, fresh_towers
from sightread.runtime import keyed_rng, seed_everything

TRAINING = {"max_steps": 5, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "logging_steps": 1}
CONFIG = TowersConfig(hidden_size=16, num_layers=1, width=8, image_hidden=16, max_length=24, training=TRAINING)
CLIP = byte_tokenizer(24)


def made(width=3):
    seed_everything(0)
    return fresh_towers(replace(CONFIG, dropout=0.0, input_dropout=0.0), CLIP, width).double().eval()


def examples_of(pictures, texts, seed=0):
    features = keyed_rng(seed).standard_normal((max(pictures) + 1, 3))
    return CaptionedFeatures(encode(CLIP, texts, 24)[0], features, np.array(pictures), CLIP)


@torch.no_grad()
def test_the_loss_equals_numpy_and_captions_of_a_picture_are_no_rivals():
    model, examples = made(), examples_of([0, 1, 0, 2], ["a cat", "dogs", "the same cat sits", "b"])
    batch = examples.collate([0, 1, 2, 3])
    text = []
    for ids in examples.ids:  # one at a time: the state of its end
        states = model.encoder(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0, -1]
        text.append((model.encoder.text_projection.weight @ states).numpy())
    images = model.image_head(batch["images"]).numpy()
    cos = np.array([[t @ v / np.linalg.norm(t) / np.linalg.norm(v) for v in images] for t in text])
    cos /= model.log_temperature.exp().item()
    losses = []
    for i, picture in enumerate(batch["pictures"].tolist()):
        rivals = [j for j, other in enumerate(batch["pictures"].tolist()) if other != picture or j == i]
        for scores in (cos[i, rivals], cos[rivals, i]):
            losses.append(np.log(np.exp(scores).sum()) - cos[i, i])
    assert model(**batch)["loss"].item() == pytest.approx(np.mean(losses), rel=1e-9)
    assert model(**batch)["temperature"].item() == pytest.approx(0.07)


def test_an_end_that_a_caption_spells_does_not_end_it():
    (ids,), cut = encode(CLIP, [f"a{CLIP.eos_token}b"], 24)
    assert (ids == CLIP.eos_token_id).nonzero()[0].tolist() == [len(ids) - 1]
    assert not cut


def test_towers_learn_which_picture_is_said():
    model = made()
    texts = ["a cat", "two dogs", "red", "nothing at all", "a boat", "x"]
    examples = examples_of(range(6), texts)
    batch, optimizer = examples.collate(range(6)), torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()
    ranks = ranks_of_own(model.text_vectors(CLIP, texts, 4), np.arange(6), model.float().image_vectors(
        examples.features.astype(np.float32)))  # fmt: skip
    assert scores_of(ranks)["R@1"] == 1


@pytest.fixture(scope="module")
def encoder(image_encoder_folder):
    return ImageEncoder.from_pretrained(image_encoder_folder)


def test_what_comes_out_is_a_clip_text_tower_and_a_map_of_images(captions, encoder, tmp_path):
    out = towers.train(CONFIG, captions, tmp_path / "run", tokenizer=CLIP, image_encoder=encoder)
    report = Artifact.open(out, towers.KIND).report
    assert report["captions"] == len(captions.texts)
    assert report["cut"] == sum(len(CLIP(text)["input_ids"]) > 24 for text in captions.texts) > 0
    model = CLIPTextModelWithProjection.from_pretrained(out / "encoder")
    _, projection = load_clip_text(out / "encoder", projected=True)
    assert torch.equal(projection.weight, model.text_projection.weight)
    features, _, _ = image_features(encoder, captions.pictures)
    with pytest.warns(UserWarning, match=f"{report['cut']} of {len(captions.texts)} texts are longer than the tower"):
        texts, pictures = towers.caption_vectors(out / "encoder", captions, features)
    assert texts.shape == (len(captions.texts), 8)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    batch = load_tokenizer(out / "encoder")([captions.texts[0]], truncation=True, max_length=24, return_tensors="pt")
    alone = torch.nn.functional.normalize(model.eval()(**batch).text_embeds, dim=-1)[0].detach().numpy()
    assert np.allclose(texts[0], alone, atol=1e-5)
    head = TowersObjective.load(out / "encoder").image_head
    assert np.allclose(pictures, head(torch.from_numpy(features)).detach().numpy(), atol=1e-6)
    (out / "encoder" / towers.IMAGES).unlink()
    with pytest.raises(ArtifactError, match="holds no map of images"):
        TowersObjective.load(out / "encoder")


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(captions, encoder, monkeypatch, tmp_path):
    config = replace(CONFIG, training={**TRAINING, "max_steps": 6, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        towers.train(config, captions, out, tokenizer=CLIP, image_encoder=encoder, **options)

    assert resumes_exactly(monkeypatch, TowersObjective, train, tmp_path)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="hidden_size=200 is no multiple of 64"):
        TowersConfig(hidden_size=200)
    with pytest.raises(ConfigError, match="num_layers=0"):
        TowersConfig(num_layers=0)
    with pytest.raises(DataError, match="at least two different pictures"):
        examples_of([0, 0], ["a", "b"])
    tokenizer = build_byte_tokenizer(["a cat"], 300)
    with pytest.raises(ConfigError, match="puts no end on a text"):
        fresh_towers(CONFIG, tokenizer, 3)
