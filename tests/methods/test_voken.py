import functools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from conftest import tiny_bert
from sightread.artifacts import digest_file
from sightread.bank import ImageBank
from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import build_word_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.methods import mlm, voken
from sightread.methods.mlm import MlmObjective
from sightread.methods.voken import VokenConfig, VokenObjective
from sightread.modules import losses
from sightread.modules.masked_lm import MaskedLanguageModel
from sightread.pretraining import PretrainingConfig
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import last_checkpoint
from sightread.vokenization.job import tokenize

V, F, VOCAB = 7, 5, 40


def tiny_model(dropout=0.0):
    seed_everything(0)
    model = transformers.BertForMaskedLM(tiny_bert(VOCAB, dropout))
    for parameter in model.parameters():  # away from its small beginnings, where every loss is log C
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def random_batch(seed=0, labelled=0.6):
    """Two sequences, the second padded; some tokens masked, some without a voken."""
    rng = keyed_rng(seed)
    ids = rng.integers(5, VOCAB, size=(2, 9))
    mask = np.ones((2, 9), dtype=np.int64)
    mask[1, 6:] = 0
    mlm_labels = np.where((rng.random((2, 9)) < 0.4) & (mask == 1), rng.integers(VOCAB, size=(2, 9)), IGNORED)
    vokens = np.where((rng.random((2, 9)) < labelled) & (mask == 1), rng.integers(V, size=(2, 9)), IGNORED)
    arrays = {"input_ids": ids, "attention_mask": mask, "mlm_labels": mlm_labels, "voken_labels": vokens}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def objective_of(kind="classification", **settings):
    features = torch.from_numpy(keyed_rng(1).standard_normal((V, F)).astype(np.float32))
    return VokenObjective(MaskedLanguageModel(tiny_model()), V, kind=kind, features=features, **settings).eval()


def cross_entropy(logits, label):
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


def gelu(x):
    return x * torch.special.ndtr(torch.from_numpy(x)).numpy()


def head_in_numpy(head, x):
    weights = [tensor.detach().double().numpy() for tensor in head.state_dict().values()]
    if len(weights) == 2:
        return x @ weights[0].T + weights[1]
    x = gelu(x @ weights[0].T + weights[1])
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x * weights[2] + weights[3]) @ weights[4].T + weights[5]


def mlm_loss_in_numpy(model, batch):
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double().numpy()
    labels = batch["mlm_labels"].numpy()
    losses = [cross_entropy(logits[at], labels[at]) for at in zip(*np.nonzero(labels != IGNORED), strict=True)]
    return np.mean(losses) if losses else 0.0


def voken_loss_in_numpy(model, objective, batch):
    with torch.no_grad():
        output = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    states, targets = output.last_hidden_state.double().numpy(), objective.targets.double().numpy()
    labels, masked = batch["voken_labels"].numpy(), batch["mlm_labels"].numpy() != IGNORED
    losses = []
    for at in zip(*np.nonzero(labels != IGNORED), strict=True):
        if objective.labelled == "all" or masked[at] == (objective.labelled == "masked"):
            guess, label = head_in_numpy(objective.head, states[at]), labels[at]
            if objective.kind == "classification":
                losses.append(cross_entropy(guess, label))
            else:
                losses.append(1 - guess @ targets[label] / np.linalg.norm(guess) / np.linalg.norm(targets[label]))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("head", ["linear", "dense"])
@pytest.mark.parametrize("labelled", ["all", "masked", "unmasked"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_losses_equal_numpy(kind, labelled, head, seed):
    objective = objective_of(kind, labelled=labelled, head=head, mlm_weight=0.3)
    model, batch = tiny_model().eval(), random_batch(seed)
    losses = objective(**batch)
    mlm_loss, voken_loss = mlm_loss_in_numpy(model, batch), voken_loss_in_numpy(model, objective, batch)
    assert losses["mlm_loss"].item() == pytest.approx(mlm_loss, rel=1e-4)
    assert losses["voken_loss"].item() == pytest.approx(voken_loss, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(voken_loss + 0.3 * mlm_loss, rel=1e-4)


@pytest.mark.parametrize("head", ["linear", "dense"])
def test_the_voken_loss_in_chunks_is_plain_cross_entropy(monkeypatch, head):
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 3 * V)
    batch, results = random_batch(), []
    for plain in (False, True):
        objective = objective_of(head=head)
        loss = objective(**batch)["voken_loss"]
        if plain:
            logits = objective.head(objective.model(batch["input_ids"], batch["attention_mask"]))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["voken_labels"].flatten())
        loss.backward()
        gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
        results.append({"loss": loss.detach(), **gradients})
    assert {name.split(".")[0] for name in results[0]} == {"loss", "model", "head"}
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_controls_loss_equals_numpy_and_ignores_vokens(seed):
    objective, batch = MlmObjective(MaskedLanguageModel(tiny_model())).eval(), random_batch(seed)
    loss = objective(**batch)["loss"].item()
    assert loss == pytest.approx(mlm_loss_in_numpy(tiny_model().eval(), batch), rel=1e-4)
    assert objective(**batch | {"voken_labels": torch.zeros_like(batch["voken_labels"])})["loss"].item() == loss


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_batch_without_labels_costs_nothing(kind):
    batch = random_batch()
    nothing = torch.full_like(batch["mlm_labels"], IGNORED)
    losses = objective_of(kind)(**batch | {"mlm_labels": nothing, "voken_labels": nothing})
    losses["loss"].backward()
    assert {value.item() for value in losses.values()} == {0}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_it_overfits_a_tiny_batch(kind):
    objective, batch = objective_of(kind), random_batch(labelled=1.0)
    batch["input_ids"][batch["mlm_labels"] != IGNORED] = 4
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-2)
    first = {name: value.item() for name, value in objective(**batch).items()}
    for _ in range(50):
        optimizer.zero_grad()
        losses = objective(**batch)
        losses["loss"].backward()
        optimizer.step()
    assert all(losses[name].item() < 0.1 * first[name] for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_vokens": 0}, "only tokenized"),
        ({"num_vokens": V, "kind": "regression"}, "all 7 pictures; give --bank"),
        ({"num_vokens": V, "kind": "regression", "features": torch.zeros(V - 1, F)}, "all 7 pictures"),
        ({"num_vokens": V, "kind": "regresion"}, "did you mean 'regression'"),
        ({"num_vokens": V, "labelled": "mask"}, "did you mean 'masked'"),
        ({"num_vokens": V, "head": "lineal"}, "did you mean 'linear'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        VokenObjective(MaskedLanguageModel(tiny_model()), **arguments)


TRAINING = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 1}
CONFIG = VokenConfig(max_length=16, training=TRAINING)
CONTROL = PretrainingConfig(max_length=16, training=TRAINING)


@pytest.fixture(scope="module")
def corpus(voken_corpus_folder):
    return VokenCorpus(voken_corpus_folder)


@pytest.fixture(scope="module")
def bank(vokenizer_folder):
    return ImageBank.load(vokenizer_folder / "bank")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A config file, to begin with fresh weights."""
    path = tmp_path_factory.mktemp("start") / "tiny.json"
    path.write_text(json.dumps({"model_type": "bert", **tiny_bert(1).to_diff_dict(), "vocab_size": 1}))
    return path


@pytest.fixture
def record(monkeypatch):
    """Every batch that an objective sees, and the encoder's weights before the first."""

    def watch(kind):
        seen, forward = {"batches": [], "weights": None, "objective": None}, kind.forward

        @functools.wraps(forward)
        def recording(self, **batch):
            if seen["weights"] is None:
                seen["weights"] = {name: value.clone() for name, value in self.encoder.state_dict().items()}
            seen["objective"] = self
            seen["batches"].append({name: value.tolist() for name, value in batch.items()})
            return forward(self, **batch)

        monkeypatch.setattr(kind, "forward", recording)
        return seen

    return watch


def test_arm_and_control_begin_alike_and_read_alike(corpus, bank, fresh, record, tmp_path):
    control, arm = record(MlmObjective), record(VokenObjective)
    mlm.train(CONTROL, corpus, tmp_path / "mlm", start=fresh)
    runs = {"mlm": control["batches"]}
    for name, settings in (("classification", {}), ("regression", {"objective": "regression", "head": "dense"})):
        arm["batches"], arm["weights"] = [], None
        torch.rand(3)  # another state of the global generator
        voken.train(replace(CONFIG, **settings), corpus, tmp_path / name, start=fresh, bank=bank)
        runs[name] = arm["batches"]
        assert arm["weights"].keys() == control["weights"].keys()
        assert all(torch.equal(value, control["weights"][key]) for key, value in arm["weights"].items())
    assert runs["mlm"] == runs["classification"] == runs["regression"]
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in runs]
    first = [log[0].get("mlm_loss", log[0]["loss"]) for log in logs]
    assert first[1] == first[2] == pytest.approx(first[0], abs=1e-5)  # the same dropout, too
    tokens = {token for batch in runs["mlm"] for line in batch["input_ids"] for token in line}
    assert 4 in tokens  # the mask
    other = record(MlmObjective)
    mlm.train(replace(CONTROL, seed=1), corpus, tmp_path / "other", start=fresh)
    assert other["batches"] != runs["mlm"]
    assert any(not torch.equal(value, control["weights"][key]) for key, value in other["weights"].items())


def saved_equals_trained(folder, objective):
    loaded = transformers.AutoModel.from_pretrained(folder / "encoder").state_dict()
    trained = {name: value for name, value in objective.encoder.state_dict().items() if "pooler" not in name}
    assert len(trained) > 20
    return all(torch.equal(loaded[name], value) for name, value in trained.items())


@pytest.mark.parametrize("kind", ["mlm", "classification", "regression"])
def test_the_result_is_an_ordinary_checkpoint_of_the_trained_encoder(corpus, bank, fresh, record, tmp_path, kind):
    seen = record(MlmObjective if kind == "mlm" else VokenObjective)
    if kind == "mlm":
        out = mlm.train(CONTROL, corpus, tmp_path / "run", start=fresh)
    else:
        out = voken.train(replace(CONFIG, objective=kind), corpus, tmp_path / "run", start=fresh, bank=bank)
    assert saved_equals_trained(out, seen["objective"])
    head, found = transformers.AutoModelForMaskedLM.from_pretrained(out / "encoder", output_loading_info=True)
    assert not found["missing_keys"]
    states = torch.randn(5, head.config.hidden_size)
    torch.testing.assert_close(head.eval().cls(states), seen["objective"].eval().model.logits(states))
    trained = seen["objective"].encoder.state_dict()
    assert any(not torch.equal(value, trained[name]) for name, value in seen["weights"].items())
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "encoder")
    line = next(iter(corpus))
    assert tokenizer(line.text, add_special_tokens=False)["input_ids"] == line.token_ids.tolist()
    report = json.loads((out / "manifest.json").read_text())["report"]
    assert report["steps"] == len(seen["batches"])


def test_it_goes_on_from_a_checkpoint(corpus, text_encoder_folder, record, tmp_path):
    seen = record(VokenObjective)
    voken.train(CONFIG, corpus, tmp_path / "run", start=text_encoder_folder)
    start = transformers.AutoModelForMaskedLM.from_pretrained(text_encoder_folder).base_model.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in seen["weights"].items())


def test_regression_needs_the_bank_and_the_right_one(corpus, bank, fresh, tmp_path):
    config = replace(CONFIG, objective="regression")
    with pytest.raises(ConfigError, match="--bank"):
        voken.train(config, corpus, tmp_path / "a", start=fresh)
    for other in (bank.select(range(23)), bank.select([1, 0, *range(2, 24)])):
        with pytest.raises(ArtifactError, match="the bank does not fit"):
            voken.train(config, corpus, tmp_path / "b", start=fresh, bank=other)


def test_regression_targets_are_the_features_without_their_mean(corpus, bank, fresh, record, tmp_path):
    seen = record(VokenObjective)
    config = replace(CONFIG, objective="regression", training={**TRAINING, "max_steps": 1})
    voken.train(config, corpus, tmp_path / "run", start=fresh, bank=bank)
    exact = bank.features.astype(np.float64)
    np.testing.assert_allclose(seen["objective"].targets, exact - exact.sum(axis=0) / len(bank), atol=1e-5)


def test_a_tokenizer_that_does_not_fit_is_refused(corpus, text_encoder_folder, tmp_path):
    other = tmp_path / "start"
    transformers.BertForMaskedLM.from_pretrained(text_encoder_folder).save_pretrained(other)
    build_word_tokenizer(["other words"]).save_pretrained(other)
    with pytest.raises(ArtifactError, match=r"the tokenizer does not fit.*revokenize"):
        voken.train(CONFIG, corpus, tmp_path / "out", start=other)


@pytest.mark.parametrize("with_bank", [False, True])
def test_a_corpus_that_was_only_tokenized_has_nothing_to_predict(
    world_folder, tokenizer, bank, fresh, tmp_path, with_bank
):
    tokens = tokenize(Corpus(world_folder / "corpus.txt", max_lines=30), tokenizer, tmp_path / "tokens")
    with pytest.raises(ConfigError, match="only tokenized"):
        voken.train(CONFIG, tokens, tmp_path / "out", start=fresh, bank=bank if with_bank else None)
    assert mlm.train(CONTROL, tokens, tmp_path / "mlm", start=fresh).is_dir()


RESUMABLE = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3}
ARMS = {
    "mlm": lambda corpus, out, **options: mlm.train(
        replace(CONTROL, training={**TRAINING, **RESUMABLE}), corpus, out, **options
    ),
    "classification": lambda corpus, out, **options: voken.train(
        replace(CONFIG, training={**TRAINING, **RESUMABLE}), corpus, out, **options
    ),
}


def train_here(arm, corpus_folder, out, start, resume, seconds_per_batch):
    """Train as the tests above do, dropout on; in a process that is to be killed, slowly."""
    forward = MaskedLanguageModel.forward

    def slowly(self, input_ids, attention_mask):
        time.sleep(seconds_per_batch)
        return forward(self, input_ids, attention_mask)

    MaskedLanguageModel.forward = slowly
    try:
        ARMS[arm](VokenCorpus(corpus_folder), out, start=start, resume=resume)
    finally:
        MaskedLanguageModel.forward = forward


@pytest.mark.parametrize("arm", ARMS)
def test_a_killed_run_resumed_equals_the_uninterrupted_one(arm, voken_corpus_folder, fresh, tmp_path, kill_when):
    train_here(arm, voken_corpus_folder, tmp_path / "whole", fresh, False, 0)
    killed = tmp_path / "killed"
    kill_when(
        lambda: last_checkpoint(killed / "checkpoints"),
        train_here, arm, voken_corpus_folder, killed, fresh, False, 0.1,
    )  # fmt: skip
    assert not (killed / "encoder").exists()
    train_here(arm, voken_corpus_folder, killed, fresh, True, 0)
    weights = [digest_file(out / "encoder" / "model.safetensors") for out in (tmp_path / "whole", killed)]
    assert weights[0] == weights[1]
    logs = [(out / "log.jsonl").read_text().splitlines() for out in (tmp_path / "whole", killed)]
    assert [json.loads(line)["loss"] for line in logs[0]] == [json.loads(line)["loss"] for line in logs[1]]


def test_a_run_with_other_settings_or_vokens_is_not_resumed(corpus, fresh, tmp_path):
    voken.train(CONFIG, corpus, tmp_path / "run", start=fresh)
    with pytest.raises(ArtifactError, match=r"another labelled \(all, now masked\)"):
        voken.train(replace(CONFIG, labelled="masked"), corpus, tmp_path / "run", start=fresh, resume=True)
    with pytest.raises(ArtifactError, match="already holds a finished encoder"):
        voken.train(CONFIG, corpus, tmp_path / "run", start=fresh)
