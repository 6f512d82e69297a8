"""Fine-tuning: it learns, it freezes what it says, seeds decide, unfinished work goes on, divergence is told."""

import json
import math
import multiprocessing
import os
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, GPT2Config, GPT2Model

from sightread import finetuning, runtime
from sightread.artifacts import MANIFEST, RUN, Artifact
from sightread.data.encoded import Part
from sightread.encoders.text import load_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.finetuning import (
    FinetuningConfig,
    TaskData,
    _tune,
    finetune,
    finetune_seeds,
)
from sightread.metrics import METRICS, Metric
from sightread.modules.single_stream import SingleStream
from sightread.task_model import FinetuningObjective, PooledExamples, predict
from sightread.tasks.classification import Classification
from sightread.tasks.token_labels import TokenLabels

TRAINING = {"num_train_epochs": 15, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "logging_steps": 5}
SHORT = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "logging_steps": 1}
LENGTHS = ("{} .", "the {} box is in the garden .", "anna has a {} box , not a small one .")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Is it red or blue? The word itself says so, in sentences of different lengths."""
    folder = tmp_path_factory.mktemp("separable")
    for split, count in (("train", 12), ("dev", 6), ("test", 3)):
        rows = [f"{LENGTHS[i % 3].format(color)}\t{color}" for i in range(count) for color in ("red", "blue")]
        (folder / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return Classification("world", folder, name="colors")


@pytest.fixture(scope="module")
def encoder_folder(text_encoder_folder, tmp_path_factory):
    """The tiny BERT with a pooler, so that no weight is drawn at random when it is loaded."""
    folder = tmp_path_factory.mktemp("encoder")
    AutoModel.from_pretrained(text_encoder_folder).save_pretrained(folder)
    load_tokenizer(text_encoder_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def run(task, encoder_folder, tmp_path):
    """Fine-tune once; returns the encoder, the scores and the folder."""
    numbers = iter(range(99))

    def tune(**settings):
        encoder, out = AutoModel.from_pretrained(encoder_folder), tmp_path / str(next(numbers))
        config = FinetuningConfig(**{"training": SHORT, **settings})
        scores = finetune(encoder, load_tokenizer(encoder_folder), task, config=config, out=out)
        return encoder, scores, out

    return tune


def predictions(folder, split):
    rows = [json.loads(line) for line in (folder / f"predictions-{split}.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(len(rows)))
    return [row["prediction"] for row in rows]


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_it_learns_what_can_be_learnt(pooling, run, task):
    _, scores, out = run(pooling=pooling, training=TRAINING)
    assert scores["diverged"] == 0
    assert scores["dev_accuracy"] == scores["test_accuracy"] == scores["test_macro_f1"] == 1
    assert json.loads((out / "scores.json").read_text()) == scores
    assert predictions(out, "test") == [row.gold for row in task.load("test")]
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.2 * losses[0]


def test_of_a_decoder_the_last_token_stands_for_all(task, encoder_folder, tmp_path):
    """Its first knows nothing of the others."""
    tokenizer = load_tokenizer(encoder_folder)
    end = (tokenizer.sep_token, tokenizer.sep_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
    torch.manual_seed(0)
    decoder = GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=32))
    scores = finetune(decoder, tokenizer, task, config=FinetuningConfig(training=TRAINING), out=tmp_path)
    assert scores["test_accuracy"] == 1


def test_reported_accuracy_is_that_of_the_predictions(run, task):
    _, scores, out = run()
    for split in ("dev", "test"):
        hits = [guess == row.gold for guess, row in zip(predictions(out, split), task.load(split), strict=True)]
        assert scores[f"{split}_accuracy"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("frozen", [True, False])
def test_freezing_leaves_every_weight_as_it_is(frozen, run, encoder_folder):
    encoder, *_ = run(freeze_encoder=frozen, pooling="mean")
    before = AutoModel.from_pretrained(encoder_folder).state_dict()
    equal = {name: torch.equal(value, before[name]) for name, value in encoder.state_dict().items()}
    assert all(equal.values()) == frozen
    assert frozen or not equal["embeddings.word_embeddings.weight"]


def objective_and_examples(task, folder, pooling):
    torch.manual_seed(0)
    encoder = AutoModel.from_pretrained(folder)
    objective = FinetuningObjective(encoder, task, pooling=pooling).train()
    return objective, task.encode(task.load("train"), load_tokenizer(folder), 32)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_pooled_vectors_are_those_of_one_sentence_at_a_time(pooling, task, encoder_folder):
    objective, examples = objective_and_examples(task, encoder_folder, pooling)
    cached = PooledExamples(objective, examples, batch_size=7)  # of different lengths, so padded; and no dropout
    tokenizer = load_tokenizer(encoder_folder)
    for row, pooled in zip(task.load("train"), cached.pooled[:, 0], strict=True):
        with torch.no_grad():
            states = objective.encoder(**tokenizer(row.inputs[0], return_tensors="pt")).last_hidden_state[0]
        expected = {"first": states[0], "last": states[-1], "mean": states.mean(dim=0)}[pooling]
        torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)
    assert cached.labels.tolist() == [task.labels.index(row.gold) for row in task.load("train")]
    assert len(set(map(len, examples.input_ids))) == 3


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_cached_probe_equals_one_that_is_not(pooling, task, encoder_folder):
    objective, examples = objective_and_examples(task, encoder_folder, pooling)
    cached = PooledExamples(objective, examples, batch_size=5)
    rows, objective = [3, 0, 20, 7], objective.eval()
    direct = objective(**examples.collate(rows))["loss"]
    torch.testing.assert_close(objective(**cached.collate(rows))["loss"], direct, atol=1e-5, rtol=1e-4)


def test_padding_does_not_matter(task, encoder_folder):
    objective, examples = objective_and_examples(task, encoder_folder, "mean")
    objective, lengths = objective.eval(), [len(ids) for ids in examples.input_ids]
    short, long = int(np.argmin(lengths)), int(np.argmax(lengths))
    inputs = [{k: v for k, v in examples.collate(rows).items() if k != "labels"} for rows in ([short], [short, long])]
    with torch.no_grad():
        alone, padded = (objective.states(**batch)[0] for batch in inputs)
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_seed_decides(frozen, run):
    (_, first, one), (_, again, two), (_, _, other) = (run(seed=seed, freeze_encoder=frozen) for seed in (5, 5, 6))
    assert first == again
    for name in ("predictions-dev.jsonl", "predictions-test.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    losses = [[json.loads(line)["loss"] for line in (out / "log.jsonl").open()] for out in (one, two, other)]
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]  # another head, and another order


@pytest.fixture
def interrupted(task, encoder_folder, tmp_path, monkeypatch):
    """A run of three seeds that broke off in the third."""
    call = {"seeds": (0, 1, 2), "config": FinetuningConfig(training=SHORT), "out": tmp_path / "scores"}

    def breaks(*args, config, **kwargs):
        if config.seed == 2:
            raise KeyboardInterrupt
        return finetune(*args, config=config, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "finetune", breaks)
        with pytest.raises(KeyboardInterrupt):
            finetune_seeds(encoder_folder, task, **call)
    assert not (tmp_path / "scores" / MANIFEST).exists()
    return lambda **change: finetune_seeds(change.pop("encoder", encoder_folder), task, **{**call, **change})


def test_resuming_leaves_finished_seeds_alone(interrupted, tmp_path, monkeypatch):
    out, tuned = tmp_path / "scores", []
    monkeypatch.setattr(finetuning, "finetune", lambda *a, **k: tuned.append(k["config"].seed) or finetune(*a, **k))
    before = {seed: (out / f"seed-{seed}" / "scores.json").stat().st_mtime_ns for seed in (0, 1)}
    resumed = interrupted(resume=True)
    assert tuned == [2]
    assert before == {seed: (out / f"seed-{seed}" / "scores.json").stat().st_mtime_ns for seed in (0, 1)}
    assert interrupted(resume=True) == resumed
    assert tuned == [2]  # nothing was left to do
    whole = interrupted(out=tmp_path / "whole")
    assert resumed == whole  # as if never interrupted


@pytest.mark.slow
@pytest.mark.usefixtures("kill_when")  # its server of processes that have imported torch
def test_seeds_side_by_side(task, encoder_folder, tmp_path, monkeypatch):
    """All is as on one thread, one after the other; a seed that fails leaves the others done, and can be made up."""
    monkeypatch.setattr(runtime, "get_context", lambda _: multiprocessing.get_context("forkserver"))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    out, config = tmp_path / "out", FinetuningConfig(training=SHORT)
    tune = partial(finetune_seeds, encoder_folder, task, seeds=(0, 1, 2), config=config, out=out)
    one_by_one, contents = tune(), {path: path.read_bytes() for path in out.glob("seed-*/*")}
    (out / MANIFEST).rename(out / RUN)
    for path in contents:
        path.unlink()
    obstacle = out / "seed-1" / "predictions-dev.jsonl"
    obstacle.mkdir()
    with pytest.raises(ArtifactError, match=r"a worker failed, IsADirectoryError: .*; 2 of 3 seeds .* --resume"):
        tune(workers=2, resume=True)
    obstacle.rmdir()
    done = {path: path.stat().st_mtime_ns for path in out.glob("seed-[02]/*")}
    assert tune(resume=True) == one_by_one
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert {path: path.read_bytes() for path in contents} == contents


@pytest.mark.parametrize(("workers", "device"), [(0, "cpu"), (-2, "cpu"), (2, "cuda")])
def test_workers_that_cannot_be(workers, device, task, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "default_device", lambda: device)
    with pytest.raises(ConfigError, match=f"workers={workers} on {device}: expected 1, or more of them on a CPU"):
        finetune_seeds("nowhere", task, seeds=[0], config=FinetuningConfig(), out=tmp_path, workers=workers)


def test_texts_that_are_cut_are_counted(task, encoder_folder, tmp_path):
    """By words, of which each is a token: a sentence of the three kinds is cut at seven, with two special tokens."""
    config = FinetuningConfig(training=SHORT, max_length=7, freeze_encoder=True)
    finetune_seeds(encoder_folder, task, seeds=[0], config=config, out=tmp_path / "out", also={"more": task})
    expected = {split: sum(len(row.inputs[0].split()) > 5 for row in task.load(split)) for split in task.splits()}
    assert Artifact.open(tmp_path / "out", "scores").report["cut"] == expected | {"more": expected["dev"]}
    tokenizer, rows = load_tokenizer(encoder_folder), task.load("train")
    assert min(expected.values()) > 0
    assert task.encode(rows, tokenizer, 7).lengths[::2][:3] == [4, 7, 7]
    assert TaskData(task, tokenizer, 64).cut == {}


def test_summaries_are_those_of_the_seeds(interrupted, tmp_path):
    summaries = interrupted(resume=True)
    folders = [tmp_path / "scores" / f"seed-{seed}" for seed in (0, 1, 2)]
    runs = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    assert (
        set(summaries)
        == set(runs[0])
        == {"diverged", *(f"{s}_{m}" for s in ("dev", "test") for m in ("accuracy", "macro_f1"))}
    )
    for name, summary in summaries.items():
        values = [run[name] for run in runs]
        assert summary.scores == tuple(values)
        assert (summary.mean, summary.median) == pytest.approx((np.mean(values), np.median(values)))
    report = Artifact.open(tmp_path / "scores", "scores").report
    assert report["main_score"] == "accuracy"
    assert report["summary"]["test_accuracy"]["mean"] == summaries["test_accuracy"].mean
    assert not (tmp_path / "scores" / RUN).exists()


def test_scores_of_other_settings_are_not_resumed(interrupted, task, tmp_path):
    with pytest.raises(ArtifactError, match="cannot be resumed"):
        interrupted(resume=True, config=FinetuningConfig(training=SHORT, pooling="mean"))


def test_seeds_are_added(interrupted, tmp_path, monkeypatch):
    """To what is done, finished or not; what is not asked for again stays in the manifest."""
    folder, tuned = tmp_path / "scores", []
    fewer = interrupted(resume=True, seeds=(1, 0))
    told = Artifact.open(folder, "scores").report
    assert told["seeds"] == [0, 1]
    monkeypatch.setattr(finetuning, "finetune", lambda *a, **k: tuned.append(k["config"].seed) or finetune(*a, **k))
    more = interrupted(resume=True, seeds=(4, 1))
    assert tuned == [4]
    assert fewer["test_accuracy"].scores[0] == more["test_accuracy"].scores[1]
    report = Artifact.open(folder, "scores").report
    assert report["seeds"] == [0, 1, 4]
    assert report["summary"]["test_accuracy"]["scores"] == [
        *reversed(fewer["test_accuracy"].scores), more["test_accuracy"].scores[0],
    ]  # fmt: skip
    assert report["seconds"] > told["seconds"]
    assert interrupted(resume=True, seeds=(4, 1)) == more
    assert tuned == [4]


def test_a_folder_that_more_seeds_are_added_to_is_unfinished(interrupted, tmp_path, monkeypatch):
    interrupted(resume=True, seeds=(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "finetune", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            interrupted(resume=True)
    with pytest.raises(ArtifactError, match="unfinished"):
        Artifact.open(tmp_path / "scores", "scores")
    assert interrupted(resume=True) == interrupted(out=tmp_path / "whole")


def test_an_encoder_without_a_pooler_is_resumed_too(task, text_encoder_folder, tmp_path):
    """Masked language models, and what `sightread pretrain` writes, have none: loading draws one at random."""
    call = {"seeds": (0,), "config": FinetuningConfig(training=SHORT), "out": tmp_path / "scores"}
    assert finetune_seeds(text_encoder_folder, task, **call) == finetune_seeds(
        text_encoder_folder, task, **call, resume=True
    )


def test_scores_of_other_rows_are_not_resumed(task, encoder_folder, tmp_path):
    call = {"seeds": (0,), "config": FinetuningConfig(training=SHORT), "out": tmp_path / "scores"}
    finetune_seeds(encoder_folder, task, **call)
    other, rows = tmp_path / "rows", (task.source / "train.tsv").read_text().splitlines(keepends=True)
    other.mkdir()
    for split in ("train", "dev", "test"):
        (other / f"{split}.tsv").write_text("".join(rows[:9]))
    with pytest.raises(ArtifactError, match="cannot be resumed"):
        finetune_seeds(encoder_folder, Classification("world", other, name=task.name), **call, resume=True)


@pytest.mark.parametrize("logging_steps", [1, 50])  # 50 is the default, and more than there are here
@pytest.mark.parametrize(("factor", "diverged"), [(1.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_divergence_is_told(factor, diverged, logging_steps, run, task, monkeypatch):
    loss = type(task).loss
    monkeypatch.setattr(task, "loss", lambda outputs, labels: loss(task, outputs, labels) * factor)
    training = {**(TRAINING if factor == 1 else SHORT), "logging_steps": logging_steps}
    assert run(training=training)[1]["diverged"] == diverged


def test_the_same_answer_everywhere_is_told(run, task, tmp_path):
    """Also by the table of seeds, where the run stays among the others."""
    head = type(task).head
    stuck = lambda width: torch.nn.Sequential(head(task, width), torch.nn.Threshold(9, 0.5))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "head", stuck)
        _, scores, _ = run()
    assert scores["diverged"] == 2
    assert scores["dev_accuracy"] == 0.5


def test_an_absurd_learning_rate_diverges(run):
    training = {**SHORT, "max_steps": 12, "learning_rate": 1e36, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    assert run(training=training)[1]["diverged"] == 1


def test_unknown_pooling(run):
    with pytest.raises(ConfigError, match="'fist', expected one of first, mean; did you mean 'first'"):
        run(pooling="fist")


def test_no_seeds_are_refused(task, encoder_folder, tmp_path):
    with pytest.raises(ConfigError, match="seed"):
        finetune_seeds(encoder_folder, task, seeds=(), config=FinetuningConfig(training=SHORT), out=tmp_path / "x")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_small_training_set_is_drawn_by_the_seed(frozen, task, encoder_folder):
    tokenizer, rows = load_tokenizer(encoder_folder), task.load("train")
    data = TaskData(task, tokenizer, 32)
    if frozen:
        data.pool(FinetuningObjective(AutoModel.from_pretrained(encoder_folder), task), 8)
    parts = [data.training_part(5, seed) for seed in (0, 0, 1)]
    chosen = [part.chosen for part in parts]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(parts[0]) == len(parts[0].lengths) == 5
    batch = parts[0].collate([parts[0].example(i, np.random.default_rng(0)) for i in range(5)])
    assert batch["labels"].tolist() == [task.labels.index(rows[i].gold) for i in chosen[0]]
    assert data.training_part(None, 0) is data.training_part(99, 0) is data.examples["train"]


def test_the_best_epoch_is_kept(run, monkeypatch):
    """Dev is best after the second of five epochs: training stops after the fourth, and the second's weights stay."""
    scores, seen = iter([0.2, 0.9, 0.5, 0.4, 0.3]), []

    def score(predictions, gold):
        seen.append(list(predictions))
        return {"accuracy": next(scores, 0.0)}

    metric = Metric(main="accuracy", compute=score)
    with monkeypatch.context() as patch:
        patch.setitem(METRICS, "classification", metric)
        settings = {**TRAINING, "num_train_epochs": 5, "logging_steps": 1}
        _, _, out = run(patience=2, training=settings)
    assert len(seen) == 4 + 2  # four epochs on dev, then dev and test
    assert predictions(out, "dev") == seen[1]


@pytest.mark.parametrize("better", [1, -1])
def test_errors_get_better_by_getting_smaller(better, run, monkeypatch):
    scores = iter([0.9, 0.5, 0.2])
    metric = Metric(main="x", compute=lambda p, g: {"x": better * next(scores, 0.0)}, lower_is_better=True)
    monkeypatch.setitem(METRICS, "classification", metric)
    *_, out = run(patience=1, training={**TRAINING, "num_train_epochs": 3, "logging_steps": 1})
    epochs = len((out / "log.jsonl").read_text().splitlines()) / 3
    assert epochs == (3 if better == 1 else 2)


def test_patience_needs_a_dev_split(task, encoder_folder, tmp_path):
    config = FinetuningConfig(training=SHORT, patience=1)
    encoder, tokenizer = AutoModel.from_pretrained(encoder_folder), load_tokenizer(encoder_folder)
    with pytest.raises(ConfigError, match="patience=1 needs a labelled dev split, which colors lacks here"):
        finetune(encoder, tokenizer, task, config=config, out=tmp_path, splits=["test"])
    data = TaskData(task, tokenizer, 32)
    data.rows["dev"] = [row._replace(gold=None) for row in data.rows["dev"]]
    with pytest.raises(ConfigError, match="patience=1 needs a labelled dev split"):
        finetune(encoder, tokenizer, task, config=config, out=tmp_path, data=data)


def test_other_data_sets_are_scored_too(task, encoder_folder, tmp_path):
    call = {"seeds": (0,), "config": FinetuningConfig(training=SHORT)}
    other = Classification("world", task.source, name="other")
    scores = finetune_seeds(encoder_folder, task, **call, out=tmp_path / "a", also={"attacked": other})
    assert scores["attacked_accuracy"] == scores["dev_accuracy"]
    assert (tmp_path / "a" / "seed-0" / "predictions-attacked.jsonl").is_file()
    other.labels = ("blue", "green", "red")
    with pytest.raises(ConfigError, match="attacked has labels blue, green, red; colors has blue, red"):
        finetune_seeds(encoder_folder, task, **call, out=tmp_path / "b", also={"attacked": other})


def test_predictions_are_in_the_order_of_the_rows(task, encoder_folder):
    objective, examples = objective_and_examples(task, encoder_folder, "mean")
    together = predict(objective, examples, 7)
    alone = [predict(objective, Part(examples, [i]), 1)[0] for i in range(len(examples))]
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-5)


CONLL = "Anna NNP x I-PER\nsaw VBD x O\nthe DT x O\nred JJ x O\nbox NN x O\n\nBen NNP x I-PER\nsings VBZ x O\n\n"


@pytest.mark.parametrize("frozen", [True, False])
def test_a_task_that_reads_tokens_learns_too(frozen, encoder_folder, tmp_path):
    for name in ("eng.train", "eng.testa"):
        (tmp_path / name).write_text(CONLL)
    work = TokenLabels("conll2003", tmp_path)
    encoder, tokenizer = AutoModel.from_pretrained(encoder_folder), load_tokenizer(encoder_folder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    config = FinetuningConfig(freeze_encoder=frozen, training={**TRAINING, "num_train_epochs": 40})
    scores = finetune(encoder, tokenizer, work, config=config, out=tmp_path / "scores")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "scores" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]
    assert frozen or scores["dev_f1"] == 1
    assert frozen == all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    rows = [json.loads(line) for line in (tmp_path / "scores" / "predictions-dev.jsonl").read_text().splitlines()]
    assert [row["gold"] for row in rows] == [row.gold for row in work.load("dev")]
    found = METRICS["entities"].scores([row["prediction"] for row in rows], [row["gold"] for row in rows])
    assert found["f1"] == scores["dev_f1"]


def test_what_has_seen_no_picture_begins_anew_with_each_seed(text_encoder_folder, monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr("sightread.finetuning.finetune", lambda encoder, *_, **__: begun.append(encoder))
    data = SimpleNamespace(task=None)
    runs = {tmp_path / str(seed): FinetuningConfig(seed=seed) for seed in (0, 1, 1)}
    for fresh in (True, False):
        stream = SingleStream.from_pretrained(text_encoder_folder, region_width=4)
        stream.fresh = fresh
        for folder, config in [*runs.items(), (tmp_path / "again", FinetuningConfig(seed=1))]:
            _tune(stream, None, data, {folder: config})
    boxes = [encoder.visual["box"].weight for encoder in begun]
    assert not torch.equal(boxes[0], boxes[1])
    assert torch.equal(boxes[1], boxes[2])
    assert torch.equal(boxes[3], boxes[4])
