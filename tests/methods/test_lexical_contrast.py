from dataclasses import replace

import numpy as np
import pytest
import torch

from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from sightread.contracts import IGNORED
from sightread.data.captioned import TokenizedCaptions
from sightread.data.captions import Captions
from sightread.data.corpora import Corpus
from sightread.errors import ConfigError, DataError
from sightread.methods import lexical_contrast, lm
from sightread.methods.lexical_contrast import ContrastConfig, ContrastedCaptions, ContrastObjective
from sightread.methods.lm import LmObjective
from sightread.pretraining import PretrainingConfig
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize

F = 5
CONFIG = ContrastConfig(max_length=16, width=8, captions_per_block=2, training=TRAINING)


def objective_of(kind="bert", **settings):
    model = tiny_model(kind)
    return ContrastObjective(replace(CONFIG, **settings), model, F).double().eval()


def batch_of(seed=0):
    """Two blocks, and four captions of three pictures; the last caption of each is padded."""
    rng = keyed_rng(seed)
    lengths = np.array([6, 5, 4, 3])
    words = (np.arange(6) > 0) & (np.arange(6) < lengths[:, None] - 1)
    pictures = np.array([2, 7, 2, 4])
    features = rng.standard_normal((8, F))
    arrays = {
        "input_ids": rng.integers(5, VOCAB, size=(2, 9)),
        "attention_mask": np.ones((2, 9), dtype=np.int64),
        "lm_labels": np.where(rng.random((2, 9)) < 0.4, rng.integers(VOCAB, size=(2, 9)), IGNORED),
        "caption_ids": rng.integers(5, VOCAB, size=(4, 6)),
        "caption_mask": (np.arange(6) < lengths[:, None]).astype(np.int64),
        "caption_words": words.astype(np.int64),
        "images": features[pictures],
        "pictures": pictures,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def contrast_in_numpy(objective, batch, layer):
    inputs = {"input_ids": batch["caption_ids"], "attention_mask": batch["caption_mask"]}
    with torch.no_grad():
        states = objective.encoder(**inputs, output_hidden_states=True).hidden_states[layer].numpy()
    text_head, image_head = (
        [tensor.detach().numpy() for tensor in head.parameters()]
        for head in (objective.text_head, objective.image_head)
    )
    image = unit(batch["images"].numpy() @ image_head[0].T + image_head[1])
    tokens = [(states[at], at[0]) for at in zip(*np.nonzero(batch["caption_words"].numpy()), strict=True)]
    pictures, total = batch["pictures"].numpy(), 0.0
    score = {}
    for i, (state, _) in enumerate(tokens):
        score[i] = np.exp(image @ unit(state @ text_head[0].T + text_head[1]) / 0.07)
    for i, (_, caption) in enumerate(tokens):
        wrong = sum(score[i][other] for other in range(4) if pictures[other] != pictures[caption])
        strange = sum(score[j][caption] for j, (_, of) in enumerate(tokens) if pictures[of] != pictures[caption])
        own = score[i][caption]
        total += np.log(1 + wrong / own) + np.log(1 + strange / own)
    return total / len(tokens)


@pytest.mark.parametrize(("kind", "layer"), [("bert", 1), ("bert", -1), ("bert", 0), ("gpt2", 1)])
def test_losses_equal_numpy(kind, layer):
    objective, batch = objective_of(kind, layer=layer, contrast_weight=0.3), batch_of()
    losses = objective(**batch)
    names = ("input_ids", "attention_mask", "lm_labels")
    lm_loss = LmObjective(objective.model)(**{name: batch[name] for name in names})["loss"].item()
    contrast = contrast_in_numpy(objective, batch, layer)
    assert losses["contrast_loss"].item() == pytest.approx(contrast, rel=1e-8)  # the temperature is kept in single
    assert losses["loss"].item() == pytest.approx(lm_loss + 0.3 * contrast, rel=1e-6)
    assert losses["lm_loss"].item() == lm_loss


def test_the_gradient_of_the_whole_objective():
    objective, batch = objective_of(), batch_of()
    weight = objective.encoder.get_input_embeddings().weight
    objective.model.loss = lambda *_: torch.zeros((), dtype=torch.float64)  # which is taken in single precision
    objective(**batch)["loss"].backward()
    at = int(batch["caption_ids"][0, 1])
    for column in range(3):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[at, column] += step
                ends.append(objective(**batch)["loss"].item())
                weight[at, column] -= step
        assert weight.grad[at, column].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_an_early_layer_leaves_the_later_ones_alone():
    objective, batch = objective_of(layer=1), batch_of()
    objective(**batch)["contrast_loss"].backward()
    touched = [any(p.grad is not None for p in layer.parameters()) for layer in objective.encoder.encoder.layer]
    assert touched == [True, False]


def test_special_tokens_and_padding_carry_no_contrast():
    objective, batch = objective_of(), batch_of()
    before = objective(**batch)["contrast_loss"].item()
    batch["caption_ids"][3, 3:] = 7  # padding
    assert objective(**batch)["contrast_loss"].item() == pytest.approx(before, rel=1e-12)
    batch["caption_words"][0, 0] = 1
    assert objective(**batch)["contrast_loss"].item() != pytest.approx(before, rel=1e-3)


def test_it_overfits_a_tiny_batch():
    assert overfits(objective_of(layer=-1), batch_of(), ("lm_loss", "contrast_loss"))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"layer=3: this model has hidden states -3 to 2"):
        objective_of(layer=3)
    for name, value in (("captions_per_block", 0), ("width", 0), ("temperature", -1), ("contrast_weight", -0.1)):
        with pytest.raises(ConfigError, match=f"{name}={value}: expected a positive number"):
            replace(CONFIG, **{name: value})


@pytest.fixture(scope="module")
def features(captions):
    return keyed_rng(3).standard_normal((len(captions.pictures), F)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


def test_captions_come_with_their_words_and_their_pictures(captions, features, tokenizer):
    drawn = ContrastedCaptions(TokenizedCaptions(captions, tokenizer, 64), features, 3)
    rows = [drawn.draw(keyed_rng(seed), {}) for seed in (0, 1)]
    assert np.array_equal(rows[0], drawn.draw(keyed_rng(0), {}))
    batch = drawn.collate(rows)
    for at, row in enumerate(np.concatenate(rows)):
        ids = tokenizer(captions.texts[row], add_special_tokens=False)["input_ids"]
        assert batch["caption_ids"][at][batch["caption_words"][at].bool()].tolist() == ids
        assert batch["caption_mask"][at].sum() == len(ids) + 2
        assert batch["pictures"][at] == captions.picture_of[row]
        np.testing.assert_array_equal(batch["images"][at], features[captions.picture_of[row]])


def test_captions_without_words_or_of_one_picture_are_of_no_use(captions, features, tokenizer):
    def of(texts):
        return Captions(captions.pictures, texts, np.arange(len(texts)), captions.skipped)

    def drawn(texts):
        return ContrastedCaptions(TokenizedCaptions(of(texts), tokenizer, 8), features, 50)

    assert set(drawn(["\u200b", "the box", "a cup"]).collate([np.arange(2)])["pictures"].tolist()) == {1, 2}
    with pytest.raises(DataError, match="two different pictures"):
        drawn(["\u200b", "the box"])
    with pytest.raises(DataError, match="no word in any caption"):
        drawn(["\u200b"])


def test_arm_and_control_read_alike(corpus, captions, features, text_encoder_folder, monkeypatch, tmp_path):
    control, arm = recorded(monkeypatch, LmObjective), recorded(monkeypatch, ContrastObjective)
    lm.train(PretrainingConfig(max_length=16, training=TRAINING), corpus, tmp_path / "lm", start=text_encoder_folder)
    inputs = {"start": text_encoder_folder, "captions": captions, "features": features}
    out = lexical_contrast.train(CONFIG, corpus, tmp_path / "contrast", **inputs)
    assert [{name: batch[name] for name in control[0]} for batch in arm] == control
    assert len(arm[0]["pictures"]) == 2 * 8
    counted, *trained = arm  # the operations of the first step are counted beforehand
    assert counted == trained[0]
    assert len({tuple(batch["pictures"]) for batch in trained}) == len(trained)
    seen = np.array([row for batch in arm for row in batch["images"]])
    known = (features - features.mean(axis=0)) / (features - features.mean(axis=0)).std()
    assert all(np.isclose(known, row, atol=1e-5).all(axis=1).any() for row in seen)
    tensors = tmp_path / "contrast" / "encoder" / "model.safetensors"
    assert out == tmp_path / "contrast"
    assert tensors.is_file()


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(
    corpus, captions, features, text_encoder_folder, monkeypatch, tmp_path
):
    config = replace(CONFIG, training={**TRAINING, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        inputs = {"start": text_encoder_folder, "captions": captions, "features": features}
        lexical_contrast.train(config, corpus, out, **inputs, **options)

    assert resumes_exactly(monkeypatch, ContrastObjective, train, tmp_path)


def test_features_must_be_those_of_the_captions(corpus, captions, features, text_encoder_folder, tmp_path):
    with pytest.raises(DataError, match="23 features of 24 pictures"):
        lexical_contrast.train(
            CONFIG, corpus, tmp_path, start=text_encoder_folder, captions=captions, features=features[1:]
        )
