import shutil
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from unittest import mock

import numpy as np
import pytest
import torch

from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from sightread.artifacts import Artifact
from sightread.association.captions import KeywordAssociation
from sightread.association.folder import load_association
from sightread.association.store import PictureStore
from sightread.bank import ImageBank
from sightread.contracts import IGNORED
from sightread.data.blocks import TokenBlocks
from sightread.data.corpora import Corpus
from sightread.encoders.features import token_features
from sightread.encoders.text import TextEncoder, load_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.finetuning import FinetuningConfig, finetune_seeds
from sightread.grounded import Finder, GroundingConfig, load_encoder
from sightread.methods import associative, lm
from sightread.methods.associative import AssociativeObjective, find
from sightread.methods.lm import LmObjective
from sightread.pretraining import PretrainingConfig
from sightread.probes.encoder import ProbedEncoder
from sightread.runtime import keyed_rng
from sightread.tasks.classification import Classification
from sightread.vokenization.job import tokenize

K, N, F = 3, 2, 4
CONFIG = GroundingConfig(max_length=16, num_images=K, num_regions=N, seed=3, training=TRAINING)


class Tokenizer:
    model_max_length = 64


def test_the_loss_is_the_papers_and_reads_the_pictures():
    features = keyed_rng(0).standard_normal((9, N, F))
    objective = AssociativeObjective(CONFIG, tiny_model("bert"), features, Tokenizer()).double().eval()
    rng = keyed_rng(1)
    batch = {
        "input_ids": torch.from_numpy(rng.integers(5, VOCAB, size=(2, 9))),
        "attention_mask": torch.ones(2, 9, dtype=torch.long),
        "lm_labels": torch.from_numpy(np.where(rng.random((2, 9)) < 0.4, rng.integers(VOCAB, size=(2, 9)), IGNORED)),
        "images": torch.from_numpy(rng.standard_normal((2, K * N, F))),
        "image_mask": torch.tensor([[1] * K * N, [1, 1] + [0] * 4]),
    }
    with torch.no_grad():
        states, _ = objective.model(*(batch[name] for name in batch if name != "lm_labels"))
        logits = objective.model.cross.logits(states).numpy()
    labels = batch["lm_labels"].numpy()
    terms = [np.log(np.exp(logits[i, j]).sum()) - logits[i, j, labels[i, j]] for i, j in np.argwhere(labels != IGNORED)]
    assert objective(**batch)["loss"].item() == pytest.approx(np.mean(terms), rel=1e-9)
    unseen = dict(batch, images=batch["images"] + 9.0 * (1 - batch["image_mask"])[..., None])
    assert objective(**unseen)["loss"].item() == pytest.approx(np.mean(terms), rel=1e-9)
    seen = dict(batch, images=batch["images"] + 1.0)
    assert objective(**seen)["loss"].item() != pytest.approx(np.mean(terms), rel=1e-4)
    assert overfits(objective, batch, ("loss",), steps=30, share=0.7)


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.fixture(scope="module")
def association(captions):
    pictures = captions.pictures
    features = keyed_rng(3).standard_normal((len(pictures), N * F)).astype(np.float32)
    paths = [str(pictures.path(i)) for i in range(len(pictures))]
    bank = ImageBank(pictures.ids, features, paths, num_regions=N)
    return KeywordAssociation.of_captions(bank, captions)


@pytest.fixture(scope="module")
def pictures(corpus, association, tmp_path_factory):
    return PictureStore(find(CONFIG, corpus, association, tmp_path_factory.mktemp("found") / "pictures", count=5))


@pytest.fixture(scope="module")
def run(corpus, association, pictures, text_encoder_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("associative") / "run"
    return associative.train(CONFIG, corpus, out, start=text_encoder_folder, association=association, pictures=pictures)


def test_blocks_come_with_the_pictures_of_their_visible_words(
    corpus, association, pictures, tokenizer, text_encoder_folder, monkeypatch, tmp_path
):
    control, arm = recorded(monkeypatch, LmObjective), recorded(monkeypatch, AssociativeObjective)
    start, options = text_encoder_folder, {"association": association, "pictures": pictures}
    lm.train(PretrainingConfig(max_length=16, seed=3, training=TRAINING), corpus, tmp_path / "lm", start=start)
    associative.train(CONFIG, corpus, tmp_path / "arm", start=start, **options)
    assert [{name: batch[name] for name in control[0]} for batch in arm] == control
    features = association.bank.features.reshape(-1, N, F)
    for batch in arm:
        for ids, labels, images, mask in zip(
            *(np.array(batch[name]) for name in ("input_ids", "lm_labels", "images", "image_mask")), strict=True
        ):
            visible = tokenizer.decode(ids[labels == IGNORED], skip_special_tokens=True)
            rows = association.retrieve([visible], K)[0]
            assert mask.tolist() == np.repeat(rows >= 0, N).tolist()
            expected = features[rows[rows >= 0]].reshape(-1, F)
            np.testing.assert_array_equal(images[mask == 1], expected.astype(np.float32))


def test_what_is_sought_never_holds_a_hidden_word(corpus, tokenizer):
    blocks = TokenBlocks(corpus, tokenizer, max_length=16, probability=0.5)
    shift = np.random.default_rng(0).permutation(len(tokenizer))
    for i in range(30):
        block = blocks.example(i, keyed_rng(0, i))
        hidden = block["lm_labels"] != IGNORED
        other = dict(block, input_ids=np.where(hidden, shift[block["input_ids"]], block["input_ids"]))
        assert associative.query_of(tokenizer, other) == associative.query_of(tokenizer, block)
        told = tokenizer.convert_ids_to_tokens(block["input_ids"][~hidden], skip_special_tokens=True)
        assert associative.query_of(tokenizer, block).replace(" ", "") == "".join(told)


def test_what_comes_out_finds_its_pictures_itself(run, association, tmp_path):
    encoder, tokenizer = load_encoder(run / "encoder"), load_tokenizer(run / "encoder")
    texts = ["the box is red .", "a cup", "xyzzy"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**batch).last_hidden_state
        images = Finder(association, tokenizer, K)(batch["input_ids"], batch["attention_mask"])
        expected, _ = encoder.cross_modal(batch["input_ids"], batch["attention_mask"], **images)
    assert torch.equal(states, expected)
    rows = association.retrieve(tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True), K)
    assert images["image_mask"].tolist() == np.repeat(rows >= 0, N, axis=1).astype(int).tolist()
    assert not images["image_mask"][2].any()
    assert association.digest == load_association(run / "encoder" / "association").digest
    with torch.no_grad():
        blind = encoder.cross_modal(batch["input_ids"], batch["attention_mask"])[0]
    assert not torch.allclose(states[0], blind[0], atol=1e-5)
    assert torch.allclose(states[2], blind[2], atol=1e-5)


def test_probes_and_vokenizers_read_it_as_an_encoder(run):
    encoder = load_encoder(run / "encoder")
    tokenizer, text = load_tokenizer(run / "encoder"), "the box is red ."
    found = ProbedEncoder.from_pretrained(run / "encoder").embed([text])[0]
    with torch.no_grad():
        states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(found, states.mean(dim=0).numpy(), atol=2e-3)
    assert encoder.get_input_embeddings().weight.shape == (len(tokenizer), 16)
    with pytest.raises(ConfigError, match="the states of its last layer alone"):
        token_features(TextEncoder.from_pretrained(run / "encoder", (0, -1)), [text])
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        ForkingPickler.loads(ForkingPickler.dumps(TextEncoder.from_pretrained(run / "encoder")))


def test_without_its_association_it_is_no_encoder(run, tmp_path):
    shutil.copytree(run / "encoder", tmp_path / "encoder")
    shutil.rmtree(tmp_path / "encoder" / "association")
    with pytest.raises(ArtifactError, match="association"):
        load_encoder(tmp_path / "encoder")


def test_every_task_takes_it_as_an_encoder(run, world_folder, tmp_path):
    task = Classification("world", world_folder / "tasks" / "color", name="color")
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    config = FinetuningConfig(max_length=16, num_train=16, training=training)
    scores = finetune_seeds(run / "encoder", task, seeds=(0, 1), config=config, out=tmp_path / "scores")
    assert len(scores["test_accuracy"].scores) == 2


def test_no_pictures_at_all_is_the_control(corpus, association, pictures, text_encoder_folder, tmp_path, monkeypatch):
    options = {"start": text_encoder_folder, "association": association, "pictures": pictures}
    read = {}
    for k in (0, K):
        with monkeypatch.context() as patch:
            read[k] = recorded(patch, AssociativeObjective)
            out = associative.train(replace(CONFIG, num_images=k), corpus, tmp_path / str(k), **options)
    same = ("input_ids", "attention_mask", "lm_labels")
    assert [[batch[name] for name in same] for batch in read[0]] == [
        [batch[name] for name in same] for batch in read[K]
    ]
    assert not any(row for batch in read[0] for row in batch["image_mask"])
    assert any(any(row) for batch in read[K] for row in batch["image_mask"])
    out = tmp_path / "0"
    encoder = load_encoder(out / "encoder")
    assert encoder.finder is None
    assert encoder.cross_modal.num_images == 0
    assert not (out / "encoder" / "association").exists()


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(
    corpus, association, pictures, text_encoder_folder, monkeypatch, tmp_path
):
    config = replace(CONFIG, training={**TRAINING, "save_strategy": "steps", "save_steps": 3})
    options = {"start": text_encoder_folder, "association": association, "pictures": pictures}

    def train(out, **more):
        associative.train(config, corpus, out, **options, **more)

    assert resumes_exactly(monkeypatch, AssociativeObjective, train, tmp_path)


def test_a_run_killed_before_its_manifest_is_resumed(
    corpus, association, pictures, text_encoder_folder, monkeypatch, tmp_path
):
    options = {"start": text_encoder_folder, "association": association, "pictures": pictures}
    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "finish", killed := mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            associative.train(CONFIG, corpus, tmp_path / "run", **options)
    assert killed.called
    out = associative.train(CONFIG, corpus, tmp_path / "run", **options, resume=True)
    encoder = load_encoder(out / "encoder")
    encoder.save_pretrained(out / "encoder")  # once more, over itself
    assert load_encoder(out / "encoder").finder


def test_pictures_found_with_other_settings_are_not_taken_up(corpus, association, pictures):
    folder = pictures.artifact.path
    find(CONFIG, corpus, association, folder, count=5, resume=True)
    with pytest.raises(ArtifactError, match="was begun with another seed"):
        find(replace(CONFIG, seed=9), corpus, association, folder, count=5, resume=True)


def test_pictures_of_other_text_or_too_few_are_refused(
    corpus, association, pictures, captions, text_encoder_folder, tmp_path
):
    options = {"start": text_encoder_folder, "association": association, "pictures": pictures}
    with pytest.raises(ArtifactError, match=r"no pictures for .* sought for other text"):
        associative.train(replace(CONFIG, seed=1), corpus, tmp_path / "other", **options)
    with pytest.raises(ConfigError, match="k=6: expected between 1 and the 5 pictures"):
        associative.train(replace(CONFIG, num_images=6), corpus, tmp_path / "more", **options)
    longer = replace(CONFIG, training={**TRAINING, "num_train_epochs": 2})
    with pytest.raises(ArtifactError, match=r"no pictures for .*number of steps"):
        associative.train(longer, corpus, tmp_path / "longer", **options)
    with pytest.raises(ConfigError, match="num_regions=1, but pictures come as 2 regions"):
        associative.train(replace(CONFIG, num_regions=1), corpus, tmp_path / "regions", **options)
    assert not list(tmp_path.iterdir())
    other = KeywordAssociation.of_captions(association.bank, captions, k_words=1)
    with pytest.raises(ArtifactError, match="the association does not fit"):
        associative.train(CONFIG, corpus, tmp_path / "wrong", **{**options, "association": other})
