from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from regions_fixture import make_regions
from sightread.artifacts import Artifact
from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.data.seen_regions import SeenRegions
from sightread.encoders.text import load_tokenizer, weights_digest
from sightread.errors import ConfigError, DataError
from sightread.grounded import load_encoder
from sightread.methods import unpaired
from sightread.methods.unpaired import UnpairedConfig, UnpairedObjective, weighted_classification
from sightread.modules.single_stream import VISUAL, SingleStream
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize

F, NAMES = 6, 3
CONFIG = UnpairedConfig(max_length=24, region_probability=0.5, training={**TRAINING, "max_steps": 4})


def objective_of(**settings):
    vectors = torch.from_numpy(2 + 3 * keyed_rng(0).standard_normal((50, F)))
    stream = SingleStream(tiny_model("bert"), F)
    return UnpairedObjective(replace(CONFIG, **settings), stream, vectors, NAMES).double().eval()


def batch_of(**more):
    """Three captions beside pictures of up to four regions, the last pair not one; half of all is hidden."""
    rng = keyed_rng(3)
    ids, tags = rng.integers(5, VOCAB, size=(3, 7)), rng.integers(5, VOCAB, size=(3, 4))
    hidden, masked = rng.random((3, 4)) < 0.5, rng.random((3, 4)) < 0.5
    counts = np.arange(4) < np.array([[4], [3], [2]])
    arrays = {
        "input_ids": ids, "attention_mask": np.ones((3, 7), np.int64), "match_labels": np.array([1, 1, 0]),
        "lm_labels": np.where(rng.random((3, 7)) < 0.4, ids, IGNORED), "tag_ids": np.where(masked, 4, tags),
        "tag_regions": np.where(counts, np.arange(4), -1), "tag_labels": np.where(masked & counts, tags, IGNORED),
        "region_vectors": 2 + 3 * rng.standard_normal((3, 4, F)), "region_boxes": rng.random((3, 4, 4)),
        "region_mask": counts.astype(np.int64), "hidden_regions": hidden & counts,
        "foretold_regions": hidden & counts & np.array([[1], [1], [0]], bool),
        "region_names": np.where(rng.random((3, 4)) < 0.3, IGNORED, rng.integers(NAMES, size=(3, 4))),
        "region_scores": rng.random((3, 4)),
    }  # fmt: skip
    return {name: torch.from_numpy(np.asarray(array)) for name, array in {**arrays, **more}.items()}


def entropy(logits, label):
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


@torch.no_grad()
def losses_in_numpy(objective, batch, p):
    """Sums over what is hidden, of the model's own states, in the terms of the file's formulas."""
    read = {name: batch[name] for name in ("tag_ids", "tag_regions", "region_vectors", "region_boxes", "region_mask",
                                           "hidden_regions")}  # fmt: skip
    words, tags, regions = objective.encoder(batch["input_ids"], batch["attention_mask"], **read)
    logits = objective.encoder.language.logits
    of = {}
    for name, states, labels in (
        ("lm_loss", words, batch["lm_labels"].numpy()), ("tag_loss", tags, batch["tag_labels"].numpy()),
    ):  # fmt: skip
        all_ = logits(states).numpy()
        of[name] = [entropy(all_[b, i], labels[b, i]) for b, i in np.argwhere(labels != IGNORED)]

    def head(part, states):
        weight, bias = (parameter.numpy() for parameter in part.parameters())
        return states.numpy() @ weight.T + bias

    targets = (batch["region_vectors"].numpy() - objective.mean.numpy()) / objective.scale.item()
    guesses, classes = head(objective.region_head, regions), head(objective.class_head, regions)
    matches = head(objective.match_head, words[:, 0])
    foretold = np.argwhere(batch["foretold_regions"].numpy())
    region = np.mean([np.mean(np.abs(guesses[b, r] - targets[b, r]) ** p) for b, r in foretold])
    named = [(b, r, int(batch["region_names"][b, r]), batch["region_scores"][b, r].item()) for b, r in foretold]
    named = [row for row in named if row[2] != IGNORED]
    class_ = sum(s * entropy(classes[b, r], c) for b, r, c, s in named) / sum(s for *_, s in named)
    match = np.mean([entropy(x, y) for x, y in zip(matches, batch["match_labels"], strict=True)])
    assert len(of["lm_loss"]) > 2
    assert len(of["tag_loss"]) > 2
    assert 1 < len(named) < len(foretold)
    return {
        "lm_loss": np.mean(of["lm_loss"]), "tag_loss": np.mean(of["tag_loss"]), "region_loss": region,
        "class_loss": class_, "match_loss": match,
    }, np.mean(of["lm_loss"] + of["tag_loss"])  # fmt: skip


@pytest.mark.parametrize(("p", "weights"), [(2.0, (1.0, 1.0)), (1.0, (0.3, 0.7))])
def test_the_losses_are_the_formulas(p, weights):
    objective, batch = objective_of(p=p, region_weight=weights[0], class_weight=weights[1]), batch_of()
    expected, mlm = losses_in_numpy(objective, batch, p)
    found = {name: value.item() for name, value in objective(**batch).items()}
    total = found.pop("loss")
    assert found == {name: pytest.approx(value, rel=1e-9) for name, value in expected.items()}
    regions = weights[0] * expected["region_loss"] + weights[1] * expected["class_loss"]
    assert total == pytest.approx(mlm + regions + expected["match_loss"], rel=1e-9)


def test_the_next_line_is_foretold_of_the_first_token():
    objective = objective_of()
    batch = {name: value for name, value in batch_of().items() if name in ("input_ids", "attention_mask", "lm_labels")}
    batch |= {"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 3), "next_labels": torch.tensor([0, 1, 1])}
    losses = objective(**batch)
    assert set(losses) == {"loss", "lm_loss", "next_loss"}
    first = objective.encoder(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])[0][:, 0]
    logits = objective.next_head(first).detach().numpy()
    expected = np.mean([entropy(row, label) for row, label in zip(logits, [0, 1, 1], strict=True)])
    assert losses["next_loss"].item() == pytest.approx(expected, rel=1e-9)
    assert losses["loss"].item() == pytest.approx(losses["lm_loss"].item() + expected, rel=1e-9)


def test_classes_count_by_their_scores_and_not_without_a_tag():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    labels, scores = torch.tensor([0, 0, IGNORED]), torch.tensor([0.25, 0.75, 0.9])
    expected = 0.25 * np.log(1 + np.exp(-2)) + 0.75 * np.log(1 + np.exp(1))
    assert weighted_classification(logits, labels, scores).item() == pytest.approx(expected, rel=1e-6)
    assert weighted_classification(logits, torch.full((3,), IGNORED), scores).item() == 0


def test_what_is_hidden_stands_nowhere_in_the_input():
    objective, batch = objective_of(), batch_of()
    hidden, masked = batch["hidden_regions"], batch["tag_labels"] != IGNORED
    other = dict(batch, region_vectors=batch["region_vectors"] + 5.0 * hidden[..., None])
    other |= {name: torch.where(batch[name] == IGNORED, IGNORED, (batch[name] + 1) % 3)
              for name in ("tag_labels", "region_names")}  # fmt: skip
    labels = ("lm_labels", "tag_labels", "match_labels", "foretold_regions", "region_names", "region_scores")
    seen = [{k: v for k, v in part.items() if k not in labels} for part in (batch, other)]
    assert all(map(torch.equal, objective.encoder(**seen[0]), objective.encoder(**seen[1])))
    losses = [objective(**part) for part in (batch, other)]
    for name in ("tag_loss", "region_loss", "class_loss"):
        assert losses[0][name] != losses[1][name]
    assert masked.any()


@pytest.mark.parametrize("nothing", [True, False])
def test_batches_without_anything_to_foretell_cost_nothing(nothing):
    batch = batch_of()
    batch |= {name: torch.full_like(batch[name], IGNORED) for name in ("lm_labels", "tag_labels")}
    batch["foretold_regions"] = torch.zeros_like(batch["foretold_regions"])
    del batch["match_labels"]
    if nothing:  # pictures in which the detector found nothing, alone
        short = ("tag_", "region_", "hidden_", "foretold_")
        batch = {name: value[:, :0] if name.startswith(short) else value for name, value in batch.items()}
        del batch["lm_labels"]
    loss = objective_of()(**batch)["loss"]
    assert loss.item() == 0
    loss.backward()


def test_it_overfits_a_tiny_batch():
    names = ("lm_loss", "tag_loss", "region_loss", "class_loss", "match_loss")
    assert overfits(objective_of(), batch_of(), names, steps=50, share=0.5)


@pytest.fixture(scope="module")
def store(captions, tmp_path_factory):
    ids = [*captions.pictures.ids, *(f"other-{i}" for i in range(9))]
    return make_regions(tmp_path_factory.mktemp("regions") / "store", ids, width=F, tags=("red box", "cup", ""))


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.fixture(scope="module")
def sources(captions, corpus, store):
    theirs, others = captions.pictures.ids, store.ids[-9:]
    return {
        "S": {"pairs": captions}, "W": {"texts": captions, "pictures": theirs},
        "W-R": {"texts": corpus, "pictures": theirs}, "H+": {"pairs": captions, "pictures": others},
        "W+": {"texts": captions, "pictures": store.ids},
    }  # fmt: skip


def train(out, start, store, config=CONFIG, **options):
    return unpaired.train(config, out, start=start, regions=store, **options)


READS = {  # which sources' batches: words, words beside regions, regions
    "S": {"pairs"}, "W": {"texts", "pictures"}, "W-R": {"texts", "pictures"}, "H+": {"pairs", "pictures"},
    "W+": {"texts", "pictures"},
}  # fmt: skip


def kind_of(batch):
    return ("pairs" if "lm_labels" in batch else "pictures") if "region_boxes" in batch else "texts"


@pytest.mark.parametrize("name", READS)
def test_the_sources_make_the_configuration(name, sources, store, text_encoder_folder, monkeypatch, tmp_path):
    batches = recorded(monkeypatch, UnpairedObjective)
    out = train(tmp_path / "run", text_encoder_folder, store, **sources[name])
    kinds = [kind_of(batch) for batch in batches][-4:]  # the first are to count what a step costs
    assert set(kinds) == READS[name]
    assert {kinds.count(kind) for kind in kinds} == {4 // len(READS[name])}
    inputs = Artifact.open(out, "encoder").inputs
    assert {"regions", *sources[name]} == set(inputs) & {"regions", "pairs", "texts", "pictures"}
    assert (out / "encoder" / VISUAL).exists()


def test_apart_nothing_is_paired_and_all_is_read(sources, captions, store, text_encoder_folder, monkeypatch, tmp_path):
    batches = recorded(monkeypatch, UnpairedObjective)
    read, of = [], SeenRegions.of
    monkeypatch.setattr(SeenRegions, "of", lambda self, row: (read.append(row), of(self, row))[1])
    train(tmp_path / "run", text_encoder_folder, store, replace(CONFIG, training=TRAINING), **sources["W"])
    tokenizer = load_tokenizer(text_encoder_folder)
    empty, told = tokenizer("")["input_ids"], set()
    for batch in batches:
        if kind_of(batch) == "pictures":
            assert batch["input_ids"] == [empty] * len(batch["input_ids"])  # no word of a caption
            assert not {"lm_labels", "match_labels"} & set(batch)
            continue
        assert not [key for key in batch if key.startswith(("region", "tag"))]
        for ids, labels in zip(batch["input_ids"], batch["lm_labels"], strict=True):
            words = [i if label == IGNORED else label for i, label in zip(ids, labels, strict=True)]
            told.add(tokenizer.decode(words, skip_special_tokens=True))
    assert told == {tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) for text in captions.texts}
    assert set(store.rows(captions.pictures.ids)) <= set(read)


def test_gradients_of_each_kind_reach_what_it_reads(sources, store, text_encoder_folder, monkeypatch, tmp_path):
    seen, forward = {}, UnpairedObjective.forward

    def watched(self, **batch):
        losses = forward(self, **batch)
        if self.training:
            parameters = list(self.encoder.visual.parameters())
            gradients = torch.autograd.grad(losses["loss"], parameters, retain_graph=True, allow_unused=True)
            reached = sum(gradient is not None and bool(gradient.any()) for gradient in gradients)
            seen.setdefault(kind_of(batch), []).append(reached / len(parameters))
        return losses

    monkeypatch.setattr(UnpairedObjective, "forward", watched)
    train(tmp_path / "run", text_encoder_folder, store, **sources["W"])
    assert set(seen["texts"]) == {0.0}
    assert min(seen["pictures"]) == 1.0


def test_paired_or_apart_the_same_words_are_hidden(sources, store, text_encoder_folder, monkeypatch, tmp_path):
    read = {}
    for name in ("S", "W"):
        with monkeypatch.context() as patch:
            batches = recorded(patch, UnpairedObjective)
            training = {**TRAINING, "max_steps": 2 if name == "S" else 4}
            train(tmp_path / name, text_encoder_folder, store, replace(CONFIG, training=training), **sources[name])
        read[name] = [batch["input_ids"] for batch in batches if "lm_labels" in batch][-2:]
    assert read["S"] == read["W"]


def test_settings_change_what_is_read(sources, corpus, store, text_encoder_folder, monkeypatch, tmp_path):
    for settings, given, check in (
        ({"tags": False}, sources["W"], lambda b: "tag_ids" not in b or not any(b["tag_ids"])),
        ({"match": False}, sources["S"], lambda b: "match_labels" not in b),
        ({"next_sentence": True}, {"texts": corpus}, lambda b: "next_labels" in b and "token_type_ids" in b),
        ({"most_regions": 1}, sources["S"], lambda b: max(map(len, b["region_boxes"])) <= 1),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            batches = recorded(patch, UnpairedObjective)
            train(tmp_path / next(iter(settings)), text_encoder_folder, store, replace(CONFIG, **settings), **given)
        assert all(map(check, batches))


def test_what_comes_out_is_a_text_encoder_and_more(sources, store, text_encoder_folder, tmp_path):
    out = train(tmp_path / "run", text_encoder_folder, store, **sources["W"])
    stream, text = SingleStream.from_pretrained(out / "encoder").eval(), load_encoder(out / "encoder").eval()
    batch = load_tokenizer(out / "encoder")(["the box is red .", "a cup"], padding=True, return_tensors="pt")
    batch.pop("token_type_ids")
    assert isinstance(text, AutoModel.from_pretrained(text_encoder_folder).__class__)
    assert torch.equal(stream(**batch).last_hidden_state, text(**batch).last_hidden_state)
    base = SingleStream.from_pretrained(text_encoder_folder, F, seed=CONFIG.seed)
    assert weights_digest(stream.visual) != weights_digest(base.visual)
    on = train(tmp_path / "on", out / "encoder", store, replace(CONFIG, training={**TRAINING, "max_steps": 1,
               "learning_rate": 0.0}), **sources["S"])  # fmt: skip
    assert weights_digest(SingleStream.from_pretrained(on / "encoder")) == weights_digest(
        stream
    )  # it went on from there


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(sources, store, text_encoder_folder, monkeypatch, tmp_path):
    config = replace(CONFIG, training={**TRAINING, "max_steps": 7, "save_strategy": "steps", "save_steps": 3})

    def of(out, **options):
        train(out, text_encoder_folder, store, config, **sources["W"], **options)

    assert resumes_exactly(monkeypatch, UnpairedObjective, of, tmp_path, stop_at=7)  # two count what a step costs
    seen = [(tmp_path / run / "encoder" / VISUAL).read_bytes() for run in ("whole", "stopped")]
    assert seen[0] == seen[1]


def test_what_cannot_be_read_is_refused_before_a_folder_is_begun(
    sources, captions, corpus, store, text_encoder_folder, tmp_path
):
    def refused(error, message, config=CONFIG, start=text_encoder_folder, regions=store, **given):
        with pytest.raises(error, match=message):
            train(tmp_path / "run", start, regions, config, **given)
        assert not (tmp_path / "run").exists()

    refused(ConfigError, "there is nothing to read: give pairs, texts or pictures")
    refused(DataError, r"1 of 1 pictures have no regions .*'unknown'", pictures=["unknown"])
    refused(ConfigError, "captions have no order", replace(CONFIG, next_sentence=True), texts=captions)
    refused(ConfigError, "fresh weights, which take their tokenizer", start="new:bert-1L-64H", texts=captions)
    with pytest.raises(ConfigError, match="region_weight=-1"):
        UnpairedConfig(region_weight=-1)
