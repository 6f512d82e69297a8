from dataclasses import replace

import numpy as np
import pytest
import torch

from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.encoders.text import load_tokenizer, weights_digest
from sightread.errors import ConfigError
from sightread.grounded import load_encoder
from sightread.methods import joint_masked, lm
from sightread.methods.joint_masked import JointConfig, JointObjective
from sightread.methods.lm import LmObjective
from sightread.pretraining import PretrainingConfig
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize

N, F = 2, 3
CONFIG = JointConfig(max_length=16, num_regions=N, training=TRAINING)


class Tokenizer:
    model_max_length = 64


def objective_of(**settings):
    features = keyed_rng(0).standard_normal((9, N, F))
    config = replace(CONFIG, **settings)
    return JointObjective(config, tiny_model("bert"), features, Tokenizer()).double().eval()


def batch_of(seed=0):
    """Two blocks, and four captions, two with hidden words and two with hidden regions."""
    rng = keyed_rng(seed)
    lengths = np.array([6, 5, 4, 3])
    ids = rng.integers(5, VOCAB, size=(4, 6))
    of_words = (np.arange(4) < 2)[:, None]
    arrays = {
        "input_ids": rng.integers(5, VOCAB, size=(2, 9)),
        "attention_mask": np.ones((2, 9), dtype=np.int64),
        "lm_labels": np.where(rng.random((2, 9)) < 0.4, rng.integers(VOCAB, size=(2, 9)), IGNORED),
        "caption_input_ids": ids,
        "caption_attention_mask": (np.arange(6) < lengths[:, None]).astype(np.int64),
        "caption_lm_labels": np.where(of_words & (rng.random((4, 6)) < 0.4), ids, IGNORED),
        "caption_images": 1 + 2 * rng.standard_normal((4, N, F)),
        "caption_hidden": ~of_words & np.array([[True, False], [True, True], [False, True], [True, True]]),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@torch.no_grad()
def losses_in_numpy(objective, batch, p):
    """Sums over what is hidden, of the model's own states."""
    model, of_captions = objective.model, {name: batch[f"caption_{name}"] for name in ("images", "hidden")}
    text, _ = model(batch["input_ids"], batch["attention_mask"])
    words, regions = model(batch["caption_input_ids"], batch["caption_attention_mask"], **of_captions)

    def entropies(states, labels):
        logits = model.cross.logits(states).numpy()
        log_z = np.log(np.exp(logits).sum(axis=-1))
        chosen = np.argwhere(labels.numpy() != IGNORED)
        return [log_z[b, i] - logits[b, i, labels[b, i]] for b, i in chosen]

    of_text, of_words = entropies(text, batch["lm_labels"]), entropies(words, batch["caption_lm_labels"])
    weight, bias = (part.numpy() for part in model.image_head.parameters())
    guesses = regions.numpy() @ weight.T + bias
    targets = (batch["caption_images"].numpy() - model.mean.numpy()) / model.scale.item()
    hidden = batch["caption_hidden"].numpy()
    of_regions = [(np.abs(guesses[b, n] - targets[b, n]) ** p).mean() for b, n in np.argwhere(hidden)]
    return np.mean(of_text + of_words), np.mean(of_text), np.mean(of_words), np.mean(of_regions)


@pytest.mark.parametrize(("p", "weight"), [(1.0, 1.0), (2.0, 0.3)])
def test_the_losses_are_the_papers(p, weight):
    objective, batch = objective_of(p=p, region_weight=weight), batch_of()
    jmlm, text, words, regions = losses_in_numpy(objective, batch, p)
    found = {name: value.item() for name, value in objective(**batch).items()}
    assert found["lm_loss"] == pytest.approx(text, rel=1e-9)
    assert found["caption_loss"] == pytest.approx(words, rel=1e-9)
    assert found["region_loss"] == pytest.approx(regions, rel=1e-9)
    assert found["loss"] == pytest.approx(jmlm + weight * regions, rel=1e-9)


def test_what_is_hidden_stands_nowhere_in_the_input():
    objective, batch = objective_of(), batch_of()
    before = objective(**batch)
    changed = dict(batch, caption_images=batch["caption_images"] + 5.0 * batch["caption_hidden"][..., None])
    after = objective(**changed)
    assert torch.equal(before["caption_loss"], after["caption_loss"])
    assert torch.equal(before["lm_loss"], after["lm_loss"])
    assert not torch.equal(before["region_loss"], after["region_loss"])  # the label has changed
    told = objective.model(batch["caption_input_ids"], batch["caption_attention_mask"], batch["caption_images"],
                           hidden=batch["caption_hidden"])  # fmt: skip
    again = objective.model(batch["caption_input_ids"], batch["caption_attention_mask"], changed["caption_images"],
                            hidden=batch["caption_hidden"])  # fmt: skip
    assert all(torch.equal(x, y) for x, y in zip(told, again, strict=True))


def test_batches_without_anything_hidden_cost_nothing():
    objective, batch = objective_of(), batch_of()
    batch |= {name: torch.full_like(batch[name], IGNORED) for name in ("lm_labels", "caption_lm_labels")}
    batch["caption_hidden"] = torch.zeros_like(batch["caption_hidden"])
    assert objective(**batch)["loss"].item() == 0


def test_it_overfits_a_tiny_batch_and_leaves_the_text_encoder_as_it_is():
    objective = objective_of()
    before = weights_digest(objective.model.text)
    assert overfits(objective, batch_of(), ("lm_loss", "caption_loss", "region_loss"), steps=40, share=0.75)
    assert weights_digest(objective.model.text) == before
    assert not objective.train().model.text.training
    free = objective_of(freeze_text=False)
    assert free.train().model.text.training
    free(**batch_of())["loss"].backward()
    assert all(parameter.grad is not None for parameter in free.model.text.encoder.parameters())


def test_settings_that_cannot_be_are_refused():
    for settings, message in (
        ({"strategy": "i2i"}, "strategy is 'i2i'"), ({"p": 0.0}, "p=0.0: expected a positive number"),
        ({"num_regions": 3}, "num_regions=3, but pictures come as 2 regions"),
        ({"num_images": 2}, "num_images=2: a caption has one picture"),
        ({"num_images": 0, "strategy": "t2i"}, "num_images=0: a caption has one picture; set strategy=none"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            objective_of(**settings)


def test_what_would_read_ahead_or_other_tokens_is_refused(tokenizer):
    features = keyed_rng(0).standard_normal((9, N, F))
    with pytest.raises(ConfigError, match="a decoder masks nothing"):
        JointObjective(CONFIG, tiny_model("gpt2"), features, Tokenizer())
    other = replace(CONFIG, cross="new:bert-1L-64H")
    with pytest.raises(ConfigError, match=f"knows {len(tokenizer)} tokens, the text encoder {VOCAB}"):
        JointObjective(other, tiny_model("bert"), features, tokenizer)


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.fixture(scope="module")
def seen(captions, text_encoder_folder):
    features = keyed_rng(3).standard_normal((len(captions.pictures), N, F)).astype(np.float32)
    return {"start": text_encoder_folder, "captions": captions, "features": features}


def test_all_strategies_and_controls_read_alike(corpus, seen, text_encoder_folder, monkeypatch, tmp_path):
    control = recorded(monkeypatch, LmObjective)
    lm.train(PretrainingConfig(max_length=16, training=TRAINING), corpus, tmp_path / "lm", start=text_encoder_folder)
    read = {}
    for strategy in joint_masked.STRATEGIES:
        with monkeypatch.context() as patch:
            read[strategy] = recorded(patch, JointObjective)
            joint_masked.train(replace(CONFIG, strategy=strategy), corpus, tmp_path / strategy, **seen)
    for batches in read.values():
        assert [{name: batch[name] for name in control[0]} for batch in batches] == control
        assert [batch["caption_images"] for batch in batches] == [batch["caption_images"] for batch in read["t2i"]]
    assert read["i2t"] == read["none"]
    assert not any(np.any(batch["caption_hidden"]) for batch in read["i2t"])
    assert all(np.all(np.array(batch["caption_lm_labels"]) == IGNORED) for batch in read["t2i"])
    lots = [bool(np.any(row)) for batch in read["both"] for row in batch["caption_hidden"]]
    assert 0.3 < np.mean(lots) < 0.7


@pytest.mark.parametrize("strategy", ["both", "none"])
def test_what_comes_out_is_an_encoder(corpus, seen, strategy, tmp_path):
    out = joint_masked.train(replace(CONFIG, strategy=strategy), corpus, tmp_path / "run", **seen)
    encoder, tokenizer = load_encoder(out / "encoder"), load_tokenizer(out / "encoder")
    start = load_encoder(seen["start"])
    assert weights_digest(encoder.cross_modal.text.encoder) == weights_digest(start.encoder)
    batch = tokenizer(["the box is red .", "a cup"], padding=True, return_tensors="pt")
    states = encoder(**batch).last_hidden_state
    assert states.shape == (*batch["input_ids"].shape, 16)
    again = load_encoder(out / "encoder")
    again.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    assert torch.equal(load_encoder(tmp_path / "again")(**batch).last_hidden_state, states)
    assert encoder.cross_modal.num_images == (strategy == "both")


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(corpus, seen, monkeypatch, tmp_path):
    config = replace(CONFIG, training={**TRAINING, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        joint_masked.train(config, corpus, out, **seen, **options)

    assert resumes_exactly(monkeypatch, JointObjective, train, tmp_path)
