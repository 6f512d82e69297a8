import functools
import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from conftest import tiny_bert
from pretraining_runs import resumes_exactly
from sightread.artifacts import digest_file
from sightread.bank import ImageBank
from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import build_word_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.methods import lm, voken
from sightread.methods.lm import LmObjective
from sightread.methods.voken import KINDS, VokenConfig, VokenObjective
from sightread.modules import losses
from sightread.modules.language_model import LanguageModel
from sightread.pretraining import PretrainingConfig
from sightread.probes.encoder import NO_HEAD, ProbedEncoder
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import last_checkpoint
from sightread.vokenization.job import tokenize, vokenize
from sightread.vokenization.revokenize import revokenize
from sightread.vokenizer import Vokenizer

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
    lm_labels = np.where((rng.random((2, 9)) < 0.4) & (mask == 1), rng.integers(VOCAB, size=(2, 9)), IGNORED)
    vokens = np.where((rng.random((2, 9)) < labelled) & (mask == 1), rng.integers(V, size=(2, 9)), IGNORED)
    tops = np.stack([rng.permutation(V)[:3] for _ in range(18)]).reshape(2, 9, 3)
    scores = np.sort(rng.random((2, 9, 3)).astype(np.float32))[..., ::-1].copy()
    arrays = {"input_ids": ids, "attention_mask": mask, "lm_labels": lm_labels, "voken_labels": vokens,
              "top_ids": tops, "top_scores": scores, "negatives": rng.integers(V, size=3)}  # fmt: skip
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def objective_of(kind="classification", **settings):
    features = torch.from_numpy(keyed_rng(1).standard_normal((V, F)).astype(np.float32))
    return VokenObjective(config_of(kind, **settings), LanguageModel(tiny_model()), V, features).eval()


def config_of(kind="classification", **settings):
    packed = settings.get("labelled") != "sentence"
    return VokenConfig(objective=kind, packed=packed, **settings)


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


def lm_loss_in_numpy(model, batch):
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double().numpy()
    labels = batch["lm_labels"].numpy()
    losses = [cross_entropy(logits[at], labels[at]) for at in zip(*np.nonzero(labels != IGNORED), strict=True)]
    return np.mean(losses) if losses else 0.0


def labelled_positions(batch, labelled):
    """Position of each state that predicts a voken, and where that voken's label stands."""
    labels, masked = batch["voken_labels"].numpy(), batch["lm_labels"].numpy() != IGNORED
    places = list(zip(*np.nonzero(labels != IGNORED), strict=True))
    if labelled == "sentence":
        return [((row, 0), min(place for place in places if place[0] == row)) for row in sorted({p[0] for p in places})]
    return [(p, p) for p in places if labelled == "all" or masked[p] == (labelled == "masked")]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def voken_loss_in_numpy(model, objective, batch):
    settings = objective.settings
    with torch.no_grad():
        states = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        if settings.head == "shared":
            states = model.cls.predictions.transform(states)
    states, targets = states.double().numpy(), objective.targets.double().numpy()
    positions = labelled_positions(batch, settings.labelled)
    guesses = [head_in_numpy(objective.head, states[at]) for at, _ in positions]
    vokens = [int(batch["voken_labels"][label]) for _, label in positions]
    if settings.objective == "classification":
        losses = [cross_entropy(guess, voken) for guess, voken in zip(guesses, vokens, strict=True)]
    elif settings.objective == "regression" and settings.distance == "cosine":
        losses = [1 - unit(guess) @ unit(targets[voken]) for guess, voken in zip(guesses, vokens, strict=True)]
    elif settings.objective == "regression":
        away = np.abs(np.array(guesses) - targets[vokens])
        losses = np.where(away < 1, away**2 / 2, away - 0.5).sum(axis=1)
    elif settings.objective == "contrastive":
        pictures = sorted({*vokens, *batch["negatives"].tolist()})
        scores = [unit(targets[pictures]) @ unit(guess) / settings.temperature for guess in guesses]
        losses = [cross_entropy(row, pictures.index(voken)) for row, voken in zip(scores, vokens, strict=True)]
    else:
        losses = []
        for guess, (_, at) in zip(guesses, positions, strict=True):
            shares = np.exp(batch["top_scores"][at].double().numpy() / settings.temperature)
            shares /= shares.sum()
            crosses = [np.log(p) + cross_entropy(guess, c) for p, c in zip(shares, batch["top_ids"][at], strict=True)]
            losses.append(shares @ crosses)
    return np.mean(losses) if np.size(losses) else 0.0


LABELLED = ["all", "masked", "unmasked", "sentence"]
CASES = [
    *itertools.product(["classification", "regression", "contrastive"], LABELLED, ["linear", "dense", "shared"]),
    *itertools.product(["soft"], LABELLED[:3], ["linear", "dense", "shared"]),
]


@pytest.mark.parametrize(("kind", "labelled", "head"), CASES)
def test_losses_equal_numpy(kind, labelled, head):
    for seed, distance in enumerate(["cosine", "smooth_l1"] if kind == "regression" else ["cosine"]):
        objective = objective_of(
            kind, labelled=labelled, head=head, distance=distance, lm_weight=0.3, voken_weight=0.7, temperature=0.5
        )
        model, batch = tiny_model().eval(), random_batch(seed)
        losses = objective(**batch)
        lm_loss, voken_loss = lm_loss_in_numpy(model, batch), voken_loss_in_numpy(model, objective, batch)
        assert losses["lm_loss"].item() == pytest.approx(lm_loss, rel=1e-4)
        assert losses["voken_loss"].item() == pytest.approx(voken_loss, rel=1e-4)
        assert losses["loss"].item() == pytest.approx(0.7 * voken_loss + 0.3 * lm_loss, rel=1e-4)


def test_the_contrast_under_autocast_is_that_of_single_precision():
    gradients = []
    for half in (False, True):
        objective = objective_of("contrastive", temperature=0.01)
        objective.head = torch.nn.Identity()
        read = torch.from_numpy(keyed_rng(2).standard_normal((20, F)).astype(np.float32)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = objective._contrastive_loss(read, torch.arange(20) % V, None)
        loss.backward()
        gradients.append(read.grad)
    torch.testing.assert_close(*gradients)


def test_vokens_alone_leave_the_head_of_words_untouched():
    objective, batch = objective_of(lm_weight=0.0), random_batch()
    losses = objective(**batch)
    losses["loss"].backward()
    assert losses["loss"] == losses["voken_loss"]
    assert losses["lm_loss"].item() == pytest.approx(lm_loss_in_numpy(tiny_model().eval(), batch), rel=1e-4)
    assert objective.model.head[0].predictions.transform.dense.weight.grad is None


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
    objective, batch = LmObjective(LanguageModel(tiny_model())).eval(), random_batch(seed)
    batch = {name: batch[name] for name in ("input_ids", "attention_mask", "lm_labels", "voken_labels")}
    loss = objective(**batch)["loss"].item()
    assert loss == pytest.approx(lm_loss_in_numpy(tiny_model().eval(), batch), rel=1e-4)
    assert objective(**batch | {"voken_labels": torch.zeros_like(batch["voken_labels"])})["loss"].item() == loss


@pytest.mark.parametrize("kind", [*KINDS, "contrastive, none drawn"])
def test_a_batch_without_labels_costs_nothing(kind):
    batch = random_batch()
    if kind not in KINDS:
        kind, batch["negatives"] = "contrastive", batch["negatives"][:0]
    nothing = torch.full_like(batch["lm_labels"], IGNORED)
    losses = objective_of(kind)(**batch | {"lm_labels": nothing, "voken_labels": nothing})
    losses["loss"].backward()
    assert {value.item() for value in losses.values()} == {0}


@pytest.mark.parametrize("kind", KINDS)
def test_it_overfits_a_tiny_batch(kind):
    objective, batch = objective_of(kind), random_batch(labelled=1.0)
    batch["input_ids"][batch["lm_labels"] != IGNORED] = 4
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
        ({"kind": "regression"}, "all 7 pictures; give --bank"),
        ({"kind": "contrastive", "features": torch.zeros(V - 1, F)}, "all 7 pictures"),
        ({"kind": "regresion"}, "did you mean 'regression'"),
        ({"labelled": "mask"}, "did you mean 'masked'"),
        ({"head": "lineal"}, "did you mean 'linear'"),
        ({"distance": "cosin"}, "did you mean 'cosine'"),
        ({"labelled": "sentence", "packed": True}, "packed=false"),
        ({"labelled": "sentence", "packed": False, "kind": "soft"}, "choose one"),
        ({"temperature": 0.0}, "temperature=0.0: expected a positive number"),
        ({"num_negatives": -1}, "num_negatives=-1: expected a positive number or zero"),
        ({"voken_weight": -1.0}, "voken_weight=-1.0"),
        ({"lm_weight": float("nan")}, "lm_weight=nan"),
        ({"lm_weight": 0.0, "voken_weight": 0.0}, "nothing would be learnt"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(arguments, message):
    settings = {"objective" if name == "kind" else name: value for name, value in arguments.items()}
    features = settings.pop("features", None)
    with pytest.raises(ConfigError, match=message):
        VokenObjective(VokenConfig(**settings), LanguageModel(tiny_model()), V, features)


TRAINING = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 1}
CONFIG = VokenConfig(max_length=16, training=TRAINING)
CONTROL = PretrainingConfig(max_length=16, training=TRAINING)


@pytest.fixture(scope="module")
def corpus(voken_corpus_folder):
    return VokenCorpus(voken_corpus_folder)


@pytest.fixture(scope="module")
def top(world_folder, vokenizer_folder, tmp_path_factory):
    """The same corpus with the three best pictures of each token."""
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    return vokenize(Corpus(world_folder / "corpus.txt"), vokenizer, tmp_path_factory.mktemp("top") / "top", top=3)


@pytest.fixture(scope="module")
def sentences(world_folder, vokenizer_folder, tmp_path_factory):
    """The same corpus with one picture a line."""
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    vokenizer.config = replace(vokenizer.config, level="sentence")
    return vokenize(Corpus(world_folder / "corpus.txt"), vokenizer, tmp_path_factory.mktemp("level") / "sentences")


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


EXTRA = {  # what each objective reads beside what its control reads
    "classification": set(), "soft": {"top_ids", "top_scores"}, "regression": set(), "contrastive": {"negatives"}
}  # fmt: skip


def test_arm_and_control_begin_alike_and_read_alike(corpus, top, bank, fresh, record, tmp_path):
    control, arm = record(LmObjective), record(VokenObjective)
    lm.train(CONTROL, corpus, tmp_path / "lm", start=fresh)
    logs = [json.loads((tmp_path / "lm" / "log.jsonl").read_text().splitlines()[0])["loss"]]
    for kind, extra in EXTRA.items():
        arm["batches"], arm["weights"] = [], None
        torch.rand(3)  # another state of the global generator
        config, vokens = replace(CONFIG, objective=kind, head="dense"), top if kind == "soft" else corpus
        voken.train(config, vokens, tmp_path / kind, start=fresh, bank=bank)
        assert arm["weights"].keys() == control["weights"].keys()
        assert all(torch.equal(value, control["weights"][key]) for key, value in arm["weights"].items())
        assert all(set(batch) == {*control["batches"][0], *extra} for batch in arm["batches"])
        assert [{name: batch[name] for name in control["batches"][0]} for batch in arm["batches"]] == control["batches"]
        logs.append(json.loads((tmp_path / kind / "log.jsonl").read_text().splitlines()[0])["lm_loss"])
    assert len(set(logs[1:])) == 1
    assert logs[1] == pytest.approx(logs[0], abs=1e-5)  # the same dropout, too
    tokens = {token for batch in control["batches"] for line in batch["input_ids"] for token in line}
    assert 4 in tokens  # the mask
    other, batches = record(LmObjective), control["batches"].copy()
    lm.train(replace(CONTROL, seed=1), corpus, tmp_path / "other", start=fresh)
    assert other["batches"] != batches
    assert any(not torch.equal(value, control["weights"][key]) for key, value in other["weights"].items())


def saved_equals_trained(folder, objective):
    loaded = transformers.AutoModel.from_pretrained(folder / "encoder").state_dict()
    trained = {name: value for name, value in objective.encoder.state_dict().items() if "pooler" not in name}
    assert len(trained) > 20
    return all(torch.equal(loaded[name], value) for name, value in trained.items())


@pytest.mark.parametrize("kind", ["lm", "classification", "regression"])
def test_the_result_is_an_ordinary_checkpoint_of_the_trained_encoder(corpus, bank, fresh, record, tmp_path, kind):
    seen = record(LmObjective if kind == "lm" else VokenObjective)
    if kind == "lm":
        out = lm.train(CONTROL, corpus, tmp_path / "run", start=fresh)
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
    assert report["steps"] == len(seen["batches"]) - 1  # one was only counted, beforehand


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


def test_regression_targets_are_the_features_without_their_mean_and_of_unit_variance(
    corpus, bank, fresh, record, tmp_path
):
    seen = record(VokenObjective)
    config = replace(CONFIG, objective="regression", training={**TRAINING, "max_steps": 1})
    voken.train(config, corpus, tmp_path / "run", start=fresh, bank=bank)
    exact = bank.features.astype(np.float64)
    centred = exact - exact.sum(axis=0) / len(bank)
    np.testing.assert_allclose(seen["objective"].targets, centred / centred.std(), atol=1e-4)


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
    assert lm.train(CONTROL, tokens, tmp_path / "lm", start=fresh).is_dir()


RESUMABLE = {**TRAINING, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3}


def train_here(corpus_folder, out, start, resume, seconds_per_batch):
    """Train as the tests above do, dropout on; in a process that is to be killed, slowly."""
    forward = LanguageModel.forward

    def slowly(self, input_ids, attention_mask):
        time.sleep(seconds_per_batch)
        return forward(self, input_ids, attention_mask)

    LanguageModel.forward = slowly
    try:
        voken.train(replace(CONFIG, training=RESUMABLE), VokenCorpus(corpus_folder), out, start=start, resume=resume)
    finally:
        LanguageModel.forward = forward


def test_a_killed_run_resumed_equals_the_uninterrupted_one(voken_corpus_folder, fresh, tmp_path, kill_when):
    train_here(voken_corpus_folder, tmp_path / "whole", fresh, False, 0)
    killed = tmp_path / "killed"
    kill_when(
        lambda: last_checkpoint(killed / "checkpoints"), train_here, voken_corpus_folder, killed, fresh, False, 0.1
    )
    assert not (killed / "encoder").exists()
    train_here(voken_corpus_folder, killed, fresh, True, 0)
    weights = [digest_file(out / "encoder" / "model.safetensors") for out in (tmp_path / "whole", killed)]
    assert weights[0] == weights[1]
    logs = [(out / "log.jsonl").read_text().splitlines() for out in (tmp_path / "whole", killed)]
    assert [json.loads(line)["loss"] for line in logs[0]] == [json.loads(line)["loss"] for line in logs[1]]


DECODER = "new:gpt2-1L-64H"
INTERRUPTED = {  # settings, and where it starts
    "lm": (None, None), "soft": ({"objective": "soft"}, None), "regression": ({"objective": "regression"}, None),
    "contrastive": ({"objective": "contrastive", "num_negatives": 2}, None),
    "sentence": ({"labelled": "sentence", "packed": False}, None), "decoder": ({}, DECODER),
    "decoder, lm": (None, DECODER),
}  # fmt: skip


@pytest.mark.parametrize("arm", INTERRUPTED)
def test_an_interrupted_run_resumed_equals_the_whole_one(
    arm, corpus, top, sentences, bank, fresh, monkeypatch, tmp_path
):
    (settings, start), training = (
        INTERRUPTED[arm],
        {**TRAINING, "max_steps": 6, "save_strategy": "steps", "save_steps": 3},
    )
    options = {"start": start or fresh}

    def train(out, **resume):
        if settings is None:
            lm.train(replace(CONTROL, training=training), corpus, out, **options, **resume)
        else:
            config = replace(CONFIG, training=training, **settings)
            vokens = {"soft": top, "sentence": sentences}.get(arm, corpus)
            voken.train(config, vokens, out, bank=bank, **options, **resume)

    assert resumes_exactly(monkeypatch, LmObjective if settings is None else VokenObjective, train, tmp_path)


def test_a_run_with_other_settings_or_vokens_is_not_resumed(corpus, fresh, tmp_path):
    voken.train(CONFIG, corpus, tmp_path / "run", start=fresh)
    with pytest.raises(ArtifactError, match=r"another labelled \(all, now masked\)"):
        voken.train(replace(CONFIG, labelled="masked"), corpus, tmp_path / "run", start=fresh, resume=True)
    with pytest.raises(ArtifactError, match="already holds a finished encoder"):
        voken.train(CONFIG, corpus, tmp_path / "run", start=fresh)


def test_one_voken_a_sentence_needs_the_vokens_of_sentences(corpus, sentences, tokenizer, fresh, tmp_path):
    config = replace(CONFIG, labelled="sentence", packed=False, training={**TRAINING, "max_steps": 1})
    with pytest.raises(ConfigError, match=r"labelled=sentence: .* the vokens of tokens"):
        voken.train(config, corpus, tmp_path / "a", start=fresh)
    with pytest.raises(ConfigError, match="a decoder reads nothing before its first token"):
        voken.train(config, sentences, tmp_path / "b", start=DECODER)
    carried = revokenize(sentences, tokenizer, tmp_path / "carried")
    assert voken.train(config, carried, tmp_path / "c", start=fresh).is_dir()


@pytest.mark.parametrize(("lm_weight", "has_head", "keeps"), [(0, False, False), (0, True, True), (1, False, True)])
def test_a_head_that_was_never_trained_is_not_kept(
    lm_weight, has_head, keeps, corpus, fresh, text_encoder_folder, tmp_path
):
    config = replace(CONFIG, lm_weight=lm_weight, training={**TRAINING, "max_steps": 1})
    out = voken.train(config, corpus, tmp_path / "run", start=text_encoder_folder if has_head else fresh)
    probed = ProbedEncoder.from_pretrained(out / "encoder")
    assert (probed.masked_lm is not None) == keeps
    assert keeps or probed.headless == NO_HEAD
