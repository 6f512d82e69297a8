from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from conftest import tiny_bert
from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.encoders.text import TextEncoder, build_word_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.methods import grounded_teacher, lm
from sightread.methods.grounded_teacher import DistillationConfig, DistillationObjective
from sightread.methods.lm import LmObjective
from sightread.pretraining import PretrainingConfig
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import last_checkpoint
from sightread.vokenization.job import tokenize

CONFIG = DistillationConfig(max_length=16, width=8, training=TRAINING)


def teacher_of(seed=1):
    return TextEncoder(tiny_model("bert", seed).encoder, None)


def objective_of(kind="bert", **settings):
    return DistillationObjective(replace(CONFIG, **settings), tiny_model(kind), teacher_of()).double().eval()


def batch_of(seed=0):
    rng = keyed_rng(seed)
    mask = (np.arange(9) < np.array([9, 6])[:, None]).astype(np.int64)
    labelled = (rng.random((2, 9)) < 0.6) & (mask == 1)
    arrays = {
        "input_ids": rng.integers(5, VOCAB, size=(2, 9)),
        "attention_mask": mask,
        "lm_labels": np.where(labelled, rng.integers(VOCAB, size=(2, 9)), IGNORED),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def mlp(head, x):
    first, _, norm, last = head
    x = x @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    x = x * torch.special.ndtr(torch.from_numpy(x)).numpy()
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + norm.eps)
    x = x * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    return x @ last.weight.detach().numpy().T + last.bias.detach().numpy()


def losses_in_numpy(objective, batch, max_pairs):
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        student = objective.encoder(**inputs).last_hidden_state.numpy()
        teacher = teacher_of().model(**inputs).last_hidden_state.numpy()
    discrepancies = []
    for ours, theirs, mask in zip(
        mlp(objective.nst_head, student), teacher, batch["attention_mask"].bool(), strict=True
    ):
        grams = []
        for states in (ours[mask], theirs[mask]):
            neurons = states / np.linalg.norm(states, axis=0)
            grams.append(sum(np.outer(n, n) for n in neurons.T) / states.shape[1])
        discrepancies.append(np.sum((grams[0] - grams[1]) ** 2))
    places = np.argwhere(batch["lm_labels"].numpy() != IGNORED)
    places = places[:: int(np.ceil(len(places) / max_pairs))]
    ours, theirs = mlp(objective.student_head, student), mlp(objective.teacher_head, teacher)
    cosines = [
        [ours[*p] @ theirs[*q] / np.linalg.norm(ours[*p]) / np.linalg.norm(theirs[*q]) for q in places] for p in places
    ]
    exp = np.exp(np.array(cosines) / 0.07)
    own = np.diag(exp)
    contrast = np.mean(-np.log(own / exp.sum(axis=0)) - np.log(own / exp.sum(axis=1)))
    return np.mean(discrepancies), contrast


@pytest.mark.parametrize(("kind", "max_pairs"), [("bert", 1024), ("bert", 4), ("gpt2", 1024)])
def test_losses_equal_numpy(kind, max_pairs):
    objective, batch = objective_of(kind, max_pairs=max_pairs, nst_weight=2.0, crd_weight=0.5), batch_of()
    losses = objective(**batch)
    nst, crd = losses_in_numpy(objective, batch, max_pairs)
    lm_loss = LmObjective(objective.model)(**batch)["loss"].item()
    assert losses["nst_loss"].item() == pytest.approx(nst, rel=1e-9)
    assert losses["crd_loss"].item() == pytest.approx(crd, rel=1e-9)
    assert losses["lm_loss"].item() == lm_loss
    assert losses["loss"].item() == pytest.approx(lm_loss + 2 * nst + 0.5 * crd, rel=1e-6)


def test_gradients_reach_the_student_and_the_heads_but_not_the_teacher():
    objective = objective_of()
    teacher = objective._teacher[0]
    losses = objective.train()(**batch_of())
    (losses["nst_loss"] + losses["crd_loss"]).backward()
    reached = {name.split(".")[0] for name, p in objective.named_parameters() if p.grad is not None}
    assert reached == {"model", "nst_head", "student_head", "teacher_head"}
    assert not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    mine = {p.data_ptr() for p in objective.parameters()}
    assert not any(p.data_ptr() in mine for p in teacher.parameters())


def test_a_batch_without_labels_has_nothing_to_contrast():
    batch = batch_of()
    losses = objective_of()(**batch | {"lm_labels": torch.full_like(batch["lm_labels"], IGNORED)})
    losses["loss"].backward()
    assert losses["crd_loss"].item() == losses["lm_loss"].item() == 0 < losses["nst_loss"].item()


@pytest.mark.parametrize("setting", [{"width": 0}, {"temperature": 0}, {"max_pairs": 0}, {"nst_weight": -1}])
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(ConfigError, match="expected a positive number"):
        replace(CONFIG, **setting)


def test_it_overfits_a_tiny_batch():
    assert overfits(objective_of(), batch_of(), ("lm_loss", "nst_loss", "crd_loss"))


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.fixture(scope="module")
def teacher(tokenizer, tmp_path_factory):
    """A wider one."""
    seed_everything(7)
    folder = tmp_path_factory.mktemp("teacher")
    transformers.BertForMaskedLM(tiny_bert(len(tokenizer), hidden_size=24)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_arm_and_control_read_alike(corpus, teacher, text_encoder_folder, monkeypatch, tmp_path):
    control, arm = recorded(monkeypatch, LmObjective), recorded(monkeypatch, DistillationObjective)
    lm.train(PretrainingConfig(max_length=16, training=TRAINING), corpus, tmp_path / "lm", start=text_encoder_folder)
    out = grounded_teacher.train(CONFIG, corpus, tmp_path / "student", start=text_encoder_folder, teacher=teacher)
    assert arm == control
    kept = transformers.AutoModel.from_pretrained(out / "encoder")
    assert kept.config.hidden_size == 16


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(corpus, teacher, text_encoder_folder, monkeypatch, tmp_path):
    config = replace(CONFIG, training={**TRAINING, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        if options:  # between the two runs: a checkpoint holds student and heads
            with safe_open(last_checkpoint(out / "checkpoints") / "model.safetensors", "pt") as file:
                assert {name.split(".")[0] for name in file.keys()} - {"encoder"} == {  # noqa: SIM118
                    "model", "nst_head", "student_head", "teacher_head"
                }  # fmt: skip
        grounded_teacher.train(config, corpus, out, start=text_encoder_folder, teacher=teacher, **options)

    assert resumes_exactly(monkeypatch, DistillationObjective, train, tmp_path)


def test_a_teacher_that_reads_other_or_fewer_tokens_is_refused(corpus, teacher, text_encoder_folder, tmp_path):
    other = tmp_path / "other"
    transformers.BertModel(tiny_bert(40)).save_pretrained(other)
    build_word_tokenizer(["other words"]).save_pretrained(other)
    with pytest.raises(ArtifactError, match=r"the teacher's tokenizer does not fit"):
        grounded_teacher.train(CONFIG, corpus, tmp_path / "a", start=text_encoder_folder, teacher=other)
    longer = replace(CONFIG, max_length=65)
    with pytest.raises(ConfigError, match=r"the teacher reads at most 64 tokens"):
        grounded_teacher.train(longer, corpus, tmp_path / "b", start=text_encoder_folder, teacher=teacher)
