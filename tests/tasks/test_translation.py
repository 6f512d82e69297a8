"""Translation: the loss is NumPy's, checkpoints are averaged, it learns, unfinished work goes on, failure is told."""

import json
import math
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from sightread.artifacts import Artifact, digest_file
from sightread.contracts import Row
from sightread.data.parallel import ParallelText
from sightread.encoders import seq2seq
from sightread.encoders.seq2seq import build_transformer, learn_vocabulary, translate
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.metrics import METRICS
from sightread.runtime import seed_everything
from sightread.tasks import translation
from sightread.tasks.translation import (
    PRESETS,
    TranslationConfig,
    TranslationExamples,
    TranslationObjective,
    average_checkpoints,
    train,
)
from sightread.train import last_checkpoint

WORDS = {"red": "rot", "blue": "blau", "big": "groß", "cup": "Tasse", "box": "Kiste", "dog": "Hund", "sees": "sieht"}
SIZES = {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64}
LEARNS = TranslationConfig(
    **SIZES, dropout=0.0, vocab_size=320, averaged=2,
    training={
        "num_train_epochs": 16, "per_device_train_batch_size": 32, "learning_rate": 1e-2, "warmup_steps": 20,
        "train_sampling_strategy": "group_by_length", "save_strategy": "steps", "save_steps": 0.1,
    },
)  # fmt: skip
SHORT = replace(
    LEARNS, dropout=0.3, num_beams=1,
    training={**LEARNS.training, "num_train_epochs": 2, "per_device_train_batch_size": 64, "save_steps": 5,
              "logging_steps": 5},
)  # fmt: skip
STEPS = 13  # of it


@pytest.fixture(scope="module", autouse=True)
def _no_translation_is_long():
    """What has learnt little does not come to an end by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seq2seq, "EXTRA_LENGTH", 8)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sentences of two to five words, each translated word by word."""
    folder, draw = tmp_path_factory.mktemp("words"), random.Random(0)
    for split, count in (("train", 400), ("val", 12), ("test_2016_flickr", 8)):
        rows = [draw.choices([*WORDS], k=draw.randint(2, 5)) for _ in range(count)]
        (folder / f"{split}.en").write_text("".join(" ".join(row) + ".\n" for row in rows))
        (folder / f"{split}.de").write_text("".join(" ".join(WORDS[word] for word in row) + ".\n" for row in rows))
    return ParallelText("multi30k", folder)


@pytest.fixture(scope="module")
def tokenizer(data):
    return learn_vocabulary((text for pair in data.load("train") for text in pair), 300)


@pytest.fixture(scope="module")
def examples(data, tokenizer):
    return TranslationExamples(data.load("train"), tokenizer, 64)


@pytest.fixture
def objective(tokenizer):
    seed_everything(0)
    model = build_transformer(tokenizer, **SIZES, dropout=0.1, num_beams=2, length_penalty=0.6)
    return TranslationObjective(model, label_smoothing=0.1).eval()


def smoothed_losses(model, source, target, smoothing):
    """The loss of every token of one pair, alone and unpadded, in double precision: two cross-entropies, in NumPy."""
    shifted = torch.tensor([[model.config.decoder_start_token_id, *target[:-1]]])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=shifted).logits[0].double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = np.full_like(log_p, smoothing / log_p.shape[1])
    wanted[np.arange(len(target)), target] += 1 - smoothing
    return -(wanted * log_p).sum(axis=1), -log_p[np.arange(len(target)), target]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_loss_equals_numpy_over_the_real_tokens(smoothing, objective, examples):
    chosen = [examples.pairs[i] for i in (int(np.argmin(examples.lengths)), int(np.argmax(examples.lengths)), 5)]
    objective.label_smoothing = smoothing
    losses = objective(**examples.collate(chosen))
    each = [smoothed_losses(objective.encoder, *(side.tolist() for side in pair), smoothing) for pair in chosen]
    assert len({len(pair[1]) for pair in chosen}) > 1  # so that there is padding
    assert losses["loss"].item() == pytest.approx(np.concatenate([loss for loss, _ in each]).mean(), rel=1e-5)
    assert losses["nll"].item() == pytest.approx(np.concatenate([nll for _, nll in each]).mean(), rel=1e-5)


def test_what_a_batch_holds_beside_labels_goes_to_the_model(objective, examples, monkeypatch):
    model, asked = objective.encoder, {}
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda pictures, **text: asked.update(seen=pictures) or forward(**text))
    objective(**examples.collate(examples.pairs[:2]), pictures=torch.ones(2, 3))
    assert torch.equal(asked["seen"], torch.ones(2, 3))


def test_a_tiny_batch_is_learnt_by_heart(objective, examples):
    batch, optimizer = examples.collate(examples.pairs[:4]), torch.optim.Adam(objective.parameters(), 1e-2)
    objective.label_smoothing = 0.0  # which would hold the likelihood down
    for _ in range(40):
        optimizer.zero_grad()
        losses = objective(**batch)
        losses["loss"].backward()
        optimizer.step()
    assert losses["nll"].item() < 0.1


def test_a_batch_is_its_pairs_padded(tokenizer):
    pairs = [Row("red cup", "rot"), Row("dog", "Hund sieht Hund")]
    examples = TranslationExamples(pairs, tokenizer, 64)
    batch = examples.collate([examples.example(i, None) for i in (0, 1)])
    ids = [[tokenizer(text)["input_ids"] for text in pair] for pair in pairs]
    for row, (source, target) in enumerate(ids):
        assert batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist() == source
        assert batch["labels"][row][batch["labels"][row] != -100].tolist() == target
        assert target[-1] == tokenizer.eos_token_id
    assert examples.lengths == [len(source) + len(target) for source, target in ids]


def test_pairs_that_are_too_long_are_left_out_and_counted(tokenizer):
    pairs = [Row("red", "rot"), Row("red " * 9, "rot"), Row("red", "rot " * 9), Row("cup", "Tasse")]
    examples = TranslationExamples(pairs, tokenizer, 8)
    assert len(examples) == len(examples.lengths) == 2
    assert examples.skipped.report() == {
        "longer than 8 tokens": {"count": 2, "first": ["training pair 2", "training pair 3"]}
    }


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_last_checkpoints_are_averaged(count, tmp_path):
    rng, steps = np.random.default_rng(0), (90, 200, 1000, 30)  # which sort otherwise as text
    weights = {step: {"a": rng.normal(size=(3, 2)), "b.c": rng.normal(size=4)} for step in steps}
    for step in steps:
        (tmp_path / f"checkpoint-{step}").mkdir()
        arrays = {name: value.astype(np.float32) for name, value in weights[step].items()}
        safetensors.numpy.save_file(arrays, tmp_path / f"checkpoint-{step}" / "model.safetensors")
    means = average_checkpoints(tmp_path, count)
    for name in ("a", "b.c"):
        expected = np.mean([weights[step][name] for step in sorted(steps)[-count:]], axis=0)
        np.testing.assert_allclose(means[name], expected, atol=1e-6)
    assert average_checkpoints(tmp_path / "none", count) == {}


@pytest.fixture(scope="module")
def learnt(data, tmp_path_factory):
    """A folder of scores of one seed that has learnt the words, with its model."""
    out = tmp_path_factory.mktemp("learnt") / "scores"
    return out, train(LEARNS, data, out, seeds=[3], keep_models=True)


def predictions(folder, split):
    rows = [json.loads(line) for line in (folder / f"predictions-{split}.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(len(rows)))
    return [row["prediction"] for row in rows], [row["gold"] for row in rows]


def test_it_learns_to_translate(learnt, data):
    out, summaries = learnt
    scores = json.loads((out / "seed-3" / "scores.json").read_text())
    assert set(scores) == set(summaries) == {"diverged", "dev_bleu", "dev_chrf", "test_bleu", "test_chrf"}
    assert scores["test_bleu"] > 60
    for split in ("dev", "test"):
        texts, gold = predictions(out / "seed-3", split)
        assert gold == [row.gold for row in data.load(split)]
        again = METRICS["translation"].scores(texts, gold)
        assert again == {name: scores[f"{split}_{name}"] for name in ("bleu", "chrf")}
    assert all(summary.scores == (scores[name],) for name, summary in summaries.items())


def test_the_manifest_says_what_the_numbers_are(learnt):
    report = Artifact.open(learnt[0], "scores").report
    assert (report["task"], report["metric"], report["main_score"]) == ("multi30k-en-de", "translation", "bleu")
    assert (report["seeds"], report["diverged"], report["skipped"]) == ([3], {}, {})
    assert "tok:13a" in report["signatures"]["bleu"]
    assert "nc:6" in report["signatures"]["chrf"]
    assert report["summary"]["test_bleu"]["mean"] == learnt[1]["test_bleu"].mean
    assert {path.name for path in (learnt[0] / "seed-3").iterdir()} == {
        "log.jsonl", "model", "predictions-dev.jsonl", "predictions-test.jsonl", "scores.json"
    }  # fmt: skip


def test_the_kept_model_translates_as_its_predictions_say(learnt, data):
    folder = learnt[0] / "seed-3" / "model"
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sentences = [row.inputs for row in data.load("test")]
    assert translate(model, tokenizer, sentences) == predictions(learnt[0] / "seed-3", "test")[0]


def test_the_kept_model_is_the_mean_of_the_last_checkpoints(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # keep the checkpoints
    train(SHORT, data, tmp_path / "scores", seeds=[0], keep_models=True)
    folder = tmp_path / "scores" / "seed-0"
    kept = safetensors.numpy.load_file(folder / "model" / "model.safetensors")
    files = [folder / "checkpoints" / f"checkpoint-{step}" / "model.safetensors" for step in (10, STEPS)]
    saved = [safetensors.numpy.load_file(file) for file in files]
    shared = next(name for name, value in saved[0].items() if value.shape == kept["model.shared.weight"].shape)
    names = {name: shared if name == "model.shared.weight" else f"encoder.{name}" for name in kept}
    assert len(names) > 40
    for name, value in kept.items():
        one, two = (weights[names[name]] for weights in saved)
        np.testing.assert_allclose(value, (one + two) / 2, atol=1e-7)
    assert not np.allclose(saved[0][shared], saved[1][shared], atol=1e-5)


def weights_and_predictions(out, seed=0):
    folder = out / f"seed-{seed}"
    return [digest_file(folder / name) for name in ("model/model.safetensors", "predictions-test.jsonl", "scores.json")]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Two seeds, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "scores"
    train(SHORT, data, out, seeds=[0, 1], keep_models=True)
    return out


def breaks_at(monkeypatch, call):
    """Stop the training of any seed at its so-many-th forward pass."""
    forward, calls = TranslationObjective.forward, []

    def counted(self, **batch):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return forward(self, **batch)

    monkeypatch.setattr(TranslationObjective, "forward", counted)


@pytest.mark.parametrize("call", [3, 8, STEPS + 8])  # before the first checkpoint, in seed 0, in seed 1
def test_a_stopped_run_resumed_equals_the_uninterrupted_one(call, data, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        breaks_at(patch, call)
        with pytest.raises(KeyboardInterrupt):
            train(SHORT, data, tmp_path / "scores", seeds=[0, 1], keep_models=True)
    assert (last_checkpoint(tmp_path / "scores" / f"seed-{call // STEPS}" / "checkpoints") is None) == (call == 3)
    train(SHORT, data, tmp_path / "scores", seeds=[0, 1], keep_models=True, resume=True)
    for seed in (0, 1):
        assert weights_and_predictions(tmp_path / "scores", seed) == weights_and_predictions(whole, seed)


def test_a_run_stopped_while_it_translates_is_not_trained_again(data, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(translation, "translate", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(SHORT, data, tmp_path / "scores", seeds=[0, 1], keep_models=True)
    breaks_at(monkeypatch, STEPS + 1)  # only seed 1 may be trained
    train(SHORT, data, tmp_path / "scores", seeds=[0, 1], keep_models=True, resume=True)
    assert weights_and_predictions(tmp_path / "scores") == weights_and_predictions(whole)


@pytest.mark.slow
def test_a_killed_run_resumed_equals_the_uninterrupted_one(data, whole, tmp_path, kill_when):
    killed = tmp_path / "scores"
    kill_when(
        lambda: last_checkpoint(killed / "seed-1" / "checkpoints"),
        train_here, data.source, killed, {"keep_models": True},
    )  # fmt: skip
    before = (killed / "seed-0" / "scores.json").stat().st_mtime_ns
    train_here(data.source, killed, {"keep_models": True, "resume": True})
    assert (killed / "seed-0" / "scores.json").stat().st_mtime_ns == before
    for seed in (0, 1):
        assert weights_and_predictions(killed, seed) == weights_and_predictions(whole, seed)


def train_here(source, out, options):
    train(SHORT, ParallelText("multi30k", source), out, seeds=[0, 1], **options)


def test_seeds_differ_and_a_finished_folder_is_read_not_made_again(data, whole, monkeypatch):
    assert weights_and_predictions(whole, 0)[0] != weights_and_predictions(whole, 1)[0]
    monkeypatch.setattr(translation, "fit", None)
    summaries = train(SHORT, data, whole, seeds=[0, 1], keep_models=True, resume=True)
    assert summaries["dev_bleu"].scores == tuple(
        json.loads((whole / f"seed-{seed}" / "scores.json").read_text())["dev_bleu"] for seed in (0, 1)
    )
    fewer = train(SHORT, data, whole, seeds=[0], keep_models=True, resume=True)
    assert fewer["dev_bleu"].scores == summaries["dev_bleu"].scores[:1]
    for change in ({"config": replace(SHORT, dropout=0.1)}, {"data": half(data)}):
        call = {"config": SHORT, "data": data, "seeds": [0, 1], "keep_models": True, **change}
        with pytest.raises(ArtifactError, match="cannot be resumed"):
            train(**call, out=whole, resume=True)


def half(data):
    return ParallelText("multi30k", data.source, max_train=200)


@pytest.mark.parametrize(("factor", "code"), [(math.nan, 1.0), (0.0, 3.0)])  # a loss that is broken, one that is void
def test_divergence_is_told(factor, code, data, tmp_path, monkeypatch):
    forward = TranslationObjective.forward
    monkeypatch.setattr(
        TranslationObjective, "forward", lambda self, **batch: {"loss": forward(self, **batch)["loss"] * factor}
    )
    config = replace(SHORT, training={**SHORT.training, "max_steps": 2})
    summaries = train(config, half(data), tmp_path / "scores", seeds=[0])
    assert summaries["diverged"].scores == (code,)
    reason = {1.0: "the training loss was not finite", 3.0: "a BLEU below 1"}[code]
    assert Artifact.open(tmp_path / "scores", "scores").report["diverged"] == {"0": reason}
    assert summaries["dev_bleu"].mean < 1  # scored and kept all the same


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match="averaged=5 needs checkpoints: set save_strategy=steps, or averaged=1"):
        TranslationConfig(training={"max_steps": 3})
    assert TranslationConfig(training={"max_steps": 3}, averaged=1).averaged == 1
    with pytest.raises(ConfigError, match="width=30 is no multiple of heads=4"):
        TranslationConfig(width=30)


def test_the_base_preset_is_the_papers(tokenizer):
    base = PRESETS["base"]
    assert (base.layers, base.width, base.heads, base.feed_forward) == (6, 512, 8, 2048)
    assert base.training["learning_rate"] == pytest.approx(
        (512 * 4000) ** -0.5, rel=0.01
    )  # the peak of their equation 3


def test_a_sentence_that_is_too_long_to_be_scored_is_told_before_training(data, tmp_path, monkeypatch):
    for file in data.source.iterdir():
        shutil.copy(file, tmp_path)
    sources = next(path for path in sorted(tmp_path.glob("*.en")) if not path.name.startswith("train"))
    lines = sources.read_text().splitlines()
    sources.write_text("\n".join([*lines[:-1], "word " * 2000]))
    monkeypatch.setattr("sightread.tasks.translation.fit", None)  # whoever calls it fails
    with pytest.raises(DataError, match=rf"sentence {len(lines)} has \d+ tokens, and this model reads at most"):
        train(SHORT, ParallelText("multi30k", tmp_path), tmp_path / "out", seeds=[0])


def test_nothing_to_train_or_score_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="0 seeds"):
        train(SHORT, data, tmp_path / "a", seeds=[])
    for language in ("en", "de"):
        shutil.copy(data.source / f"train.{language}", tmp_path)
    with pytest.raises(ConfigError, match="1 seeds, splits train: expected a seed, and a split to score"):
        train(SHORT, ParallelText("multi30k", tmp_path), tmp_path / "b", seeds=[0])
