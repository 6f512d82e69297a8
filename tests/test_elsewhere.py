"""What is made here is at home elsewhere: in datasets, pipelines, a Trainer's reports, a shell."""

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, CLIPTextModel, TrainerCallback, pipeline
from typer.testing import CliRunner

from clip_models import POSITIONS, build_model, build_tokenizer, save
from sightread.association.chance import RandomAssociation
from sightread.bank import ImageBank
from sightread.cli import app
from sightread.config import override
from sightread.data.clip_rows import ClipRows
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError
from sightread.grounded import GroundingConfig, GroundingObjective, load_encoder
from sightread.methods.visual_awareness import AwarenessConfig, wrap
from sightread.methods.voken import VokenConfig
from sightread.modules.language_model import LanguageModel
from sightread.modules.two_stream import TwoStream
from sightread.train import fit, training_arguments
from sightread.xbert import XBertEncoder
from test_train import Recorded, Regression

TEXTS = ["the box is red .", "a cup"]


def test_a_voken_corpus_is_a_data_set(voken_corpus_folder, tmp_path):
    shards = f"{voken_corpus_folder}/shard-*.parquet"
    found = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=tmp_path)
    corpus = VokenCorpus(voken_corpus_folder)
    assert len(found) == len(corpus)
    for row, line in zip(found, corpus, strict=True):
        assert row["text"] == line.text
        for column in ("token_ids", "starts", "ends", "voken_ids"):
            assert row[column] == getattr(line, column).tolist()


@pytest.fixture(scope="module")
def checkpoints(text_encoder_folder, tmp_path_factory):
    """An encoder of every kind."""
    folder, tokenizer = tmp_path_factory.mktemp("elsewhere"), load_tokenizer(text_encoder_folder)
    features = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    association = RandomAssociation(ImageBank([str(i) for i in range(5)], features, [""] * 5))
    aware = wrap(AwarenessConfig(num_images=2, heads=2), text_encoder_folder, association, folder / "aware") / "encoder"
    model = LanguageModel.from_pretrained(text_encoder_folder)
    GroundingObjective(GroundingConfig(), model, features[:, None], tokenizer).encoder.save_pretrained(folder / "seen")
    tokenizer.save_pretrained(folder / "seen")
    clip = save(folder / "clip", build_model("clip", build_tokenizer("clip")), build_tokenizer("clip"))
    streams = TwoStream(model.encoder, CLIPTextModel.from_pretrained(clip), None, num_layers=1)
    rows = ClipRows(load_tokenizer(clip), POSITIONS)
    XBertEncoder.of(streams, tokenizer, rows, 2).save_pretrained(folder / "xbert")
    return {"plain": text_encoder_folder, "grounded": folder / "seen", "aware": aware, "xbert": folder / "xbert"}


KINDS = ["plain", "grounded", "aware", "xbert"]


def states(folder):
    """Last states of the texts, one by one, float (L, D)."""
    encoder, tokenizer = load_encoder(folder), load_tokenizer(folder)
    with torch.no_grad():
        return [encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy() for text in TEXTS]


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_gives_its_states_in_a_pipeline(kind, checkpoints):
    folder = str(checkpoints[kind])
    expected = states(folder)  # by which transformers knows our kinds of model
    found = pipeline("feature-extraction", model=folder, device="cpu")(TEXTS)
    for state, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(state, np.array(other)[0], atol=1e-5)


def test_an_encoder_fills_masks_in_a_pipeline(text_encoder_folder):
    fill = pipeline("fill-mask", model=str(text_encoder_folder), device="cpu")
    (best,) = fill("the box is [MASK] .", top_k=1)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(text_encoder_folder), load_tokenizer(text_encoder_folder)
    batch = tokenizer("the box is [MASK] .", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0, batch["input_ids"][0] == tokenizer.mask_token_id][0]
    assert best["token"] == logits.argmax().item()
    assert best["score"] == pytest.approx(logits.softmax(dim=0).max().item(), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_sentence_transformers_take_the_mean_of_its_states(kind, checkpoints):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    expected = np.stack([state.mean(axis=0) for state in states(checkpoints[kind])])
    found = library.SentenceTransformer(str(checkpoints[kind]), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["grounded", "xbert"])
def test_states_come_by_name_or_not_at_all(kind, checkpoints):
    batch = load_tokenizer(checkpoints[kind])(TEXTS[0], return_tensors="pt")
    with pytest.raises(ConfigError, match="return_dict"):
        load_encoder(checkpoints[kind])(**batch, return_dict=False)


class Reporter(TrainerCallback):
    """Stands in for a library that shows training."""

    seen: list = []  # noqa: RUF012
    logging_dir = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append((self.logging_dir, state.global_step, logs))


def test_reports_are_the_trainers_own(tmp_path, monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Reporter)
    monkeypatch.setattr("sightread.train.TensorBoardCallback", Reporter)
    monkeypatch.setattr(Reporter, "seen", [])
    training = override(VokenConfig(), ["report_to=tensorboard"]).training
    assert training_arguments(tmp_path, VokenConfig().training, seed=0).report_to == []
    settings = {**training, "num_train_epochs": 1, "per_device_train_batch_size": 4, "logging_steps": 1}
    args = training_arguments(tmp_path / "run", settings, seed=0)
    assert args.report_to == ["tensorboard"]
    log = fit(Regression(), Recorded(), args=args)
    told = [(step, logs["largest_y"]) for _, step, logs in Reporter.seen if "loss" in logs]
    assert told == [(entry["step"], entry["largest_y"]) for entry in log]
    assert {place for place, *_ in Reporter.seen} == {str(tmp_path / "run" / "tensorboard")}  # checkpoints go


def test_a_reporter_that_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: False)
    for name, message in {"tensorboard": "requires tensorboard", "nonsense": "not supported"}.items():
        with pytest.raises(ConfigError, match=message):
            training_arguments(tmp_path, {"report_to": name}, seed=0)


def test_a_shell_completes_verbs_and_options():
    def complete(words):
        line = {"_SIGHTREAD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], prog_name="sightread", env=line).stdout.split()

    assert complete("sightread voke") == ["vokenize"]
    assert complete("sightread push --pri") == ["--private"]
