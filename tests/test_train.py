import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import TrainingArguments

from sightread.contracts import Objective
from sightread.errors import ConfigError
from sightread.runtime import keyed_rng
from sightread.train import fit, group_by_length, last_checkpoint, reading_order, training_arguments


class Regression(Objective):
    """A small network with dropout that fits a line, and may stop in the middle of training."""

    def __init__(self, dropout=0.0, stop_at=None):
        super().__init__()
        torch.manual_seed(7)
        self.encoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.stop_at, self.calls = stop_at, 0

    def forward(self, x, y):
        self.calls += 1
        if self.calls == self.stop_at:
            raise InterruptedError
        error = self.encoder(x)[:, 0] - y
        return {"loss": (error**2).mean(), "mean_of_y": y.mean(), "largest_y": y.max().detach()}


class Recorded:
    """Examples that note what was asked of them, each drawing its noise from the generator it is given."""

    def __init__(self, count=10):
        self.x = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
        self.asked, self.batches = [], []

    def __len__(self):
        return len(self.x)

    def example(self, index, rng):
        noise = rng.standard_normal()
        self.asked.append((index, noise))
        return self.x[index], np.float32(self.x[index].sum() + 0.1 * noise)

    def collate(self, examples):
        xs, ys = zip(*examples, strict=True)
        self.batches.append(len(xs))
        return {"x": torch.from_numpy(np.stack(xs)), "y": torch.tensor(ys)}


def run(folder, objective=None, *, seed=3, examples=None, resume=False, **settings):
    defaults = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    objective, examples = objective or Regression(), examples or Recorded()
    args = training_arguments(folder, {**defaults, **settings}, seed=seed)
    return objective, examples, fit(objective, examples, args=args, resume=resume)


def weights(objective):
    return torch.cat([parameter.detach().flatten() for parameter in objective.parameters()])


def test_every_epoch_is_another_permutation_with_fresh_draws(tmp_path):
    asked = run(tmp_path)[1].asked
    epochs = [asked[i : i + 10] for i in range(0, 30, 10)]
    assert [sorted(index for index, _ in epoch) for epoch in epochs] == [list(range(10))] * 3
    orders = [[index for index, _ in epoch] for epoch in epochs]
    assert len({*map(tuple, orders)}) == 3
    assert len({noise for _, noise in asked}) == 30


def test_order_and_draws_follow_from_the_seed_alone(tmp_path):
    expected = run(tmp_path / "a")[1].asked
    for i, other in enumerate(
        [{"per_device_train_batch_size": 7}, {"objective": Regression(0.5)}, {"gradient_accumulation_steps": 2}]
    ):
        torch.rand(i + 1)  # a different global state
        assert run(tmp_path / str(i), **other)[1].asked == expected
    assert run(tmp_path / "b", num_train_epochs=2)[1].asked == expected[:20]
    assert run(tmp_path / "c", seed=4)[1].asked != expected


@pytest.mark.parametrize("max_steps", [2, 9])  # less than an epoch of 10, and more than three
def test_max_steps_decides_how_much_is_read(tmp_path, max_steps):
    objective, examples, log = run(tmp_path / "a", max_steps=max_steps)
    assert objective.calls == log[-1]["step"] == max_steps
    assert examples.batches[:max_steps] == [4] * max_steps
    epochs = run(tmp_path / "b", num_train_epochs=4)[1]
    assert examples.asked == epochs.asked[: len(examples.asked)]


def test_the_seed_decides_dropout_whatever_was_drawn_before(tmp_path):
    def train(name, draws, seed):
        objective = Regression(0.3)
        torch.rand(draws)
        return weights(run(tmp_path / name, objective, seed=seed)[0])

    assert torch.equal(train("a", 1, 3), train("b", 2, 3))
    assert not torch.equal(train("a", 1, 3), train("c", 1, 4))


STEPS = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 4}


def spoil(objective):
    """Other weights to begin with, which a resumed run must not go on from."""
    for parameter in objective.parameters():
        parameter.data += 1
    return objective


@pytest.mark.parametrize(("stop_at", "scheduler"), [(3, "linear"), (4, "cosine"), (10, "linear")])
def test_a_stopped_run_resumed_equals_the_uninterrupted_one_bit_for_bit(tmp_path, stop_at, scheduler):
    settings = {**STEPS, "lr_scheduler_type": scheduler, "warmup_steps": 0.2}
    whole, _, log = run(tmp_path / "whole", Regression(0.4), **settings)
    with pytest.raises(InterruptedError):
        run(tmp_path / "stopped", Regression(0.4, stop_at), **settings)
    resumed, _, resumed_log = run(tmp_path / "stopped", spoil(Regression(0.4)), resume=True, **settings)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.calls == whole.calls - (stop_at - 1) // 2 * 2
    losses = [[entry["loss"] for entry in entries] for entries in (log, resumed_log)]
    assert losses[0] == losses[1]


def test_an_objective_with_two_names_for_a_part_can_be_resumed(tmp_path):
    class Named(Regression):
        def __init__(self, stop_at=None):
            super().__init__(0.4, stop_at)
            self.head = self.encoder[3]

    whole = run(tmp_path / "whole", Named(), **STEPS)[0]
    with pytest.raises(InterruptedError):
        run(tmp_path / "stopped", Named(stop_at=4), **STEPS)
    resumed = run(tmp_path / "stopped", spoil(Named()), resume=True, **STEPS)[0]
    assert resumed.calls == whole.calls - 2
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("torn", [None, "", '{"global_step": 4, "epo'])
def test_a_torn_checkpoint_is_passed_over(tmp_path, torn):
    whole = run(tmp_path / "whole", Regression(0.4), **STEPS)[0]
    with pytest.raises(InterruptedError):
        run(tmp_path / "stopped", Regression(0.4, stop_at=6), **STEPS)
    checkpoints = tmp_path / "stopped" / "checkpoints"
    assert last_checkpoint(checkpoints) == checkpoints / "checkpoint-4"
    state = checkpoints / "checkpoint-4" / "trainer_state.json"
    state.unlink() if torn is None else state.write_text(torn)
    assert last_checkpoint(checkpoints) == checkpoints / "checkpoint-2"
    resumed = run(tmp_path / "stopped", spoil(Regression(0.4)), resume=True, **STEPS)[0]
    assert resumed.calls == whole.calls - 2
    assert torch.equal(weights(resumed), weights(whole))


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 100, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-100"


def test_resume_without_a_checkpoint_begins_anew(tmp_path):
    assert torch.equal(weights(run(tmp_path / "a")[0]), weights(run(tmp_path / "b", resume=True)[0]))


def test_gradient_accumulation_equals_the_large_batch(tmp_path):
    settings = {"optim": "sgd", "learning_rate": 0.1, "num_train_epochs": 4, "max_grad_norm": 1e9}
    examples = [Recorded(16), Recorded(16)]
    large = run(tmp_path / "a", examples=examples[0], per_device_train_batch_size=8, **settings)[0]
    halves = run(
        tmp_path / "b", examples=examples[1], per_device_train_batch_size=4, gradient_accumulation_steps=2, **settings
    )[0]
    assert (large.calls, halves.calls) == (8, 16)
    torch.testing.assert_close(weights(halves), weights(large), rtol=1e-5, atol=1e-6)


def test_sgd_steps_equal_numpy(tmp_path):
    class Line(Objective):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(3, 1, bias=False)
            self.encoder.weight.data.zero_()

        def forward(self, x, y):
            return {"loss": ((self.encoder(x)[:, 0] - y) ** 2).mean()}

    settings = {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant", "max_grad_norm": 1e9}
    objective, examples, log = run(tmp_path, Line(), num_train_epochs=2, **settings)
    stream, w, losses = iter(examples.asked), np.zeros(3), []
    while batch := list(itertools.islice(stream, 4)):
        x = examples.x[[index for index, _ in batch]].astype(np.float64)
        error = x @ w - (x.sum(axis=1) + 0.1 * np.array([noise for _, noise in batch]))
        losses.append(np.mean(error**2))
        w -= 0.05 * 2 * x.T @ error / len(x)
    np.testing.assert_allclose(objective.encoder.weight.detach().numpy()[0], w, rtol=1e-5)
    np.testing.assert_allclose([entry["loss"] for entry in log], losses, rtol=1e-3)


def test_the_log_holds_the_mean_of_every_loss_since_the_last_entry(tmp_path):
    _, examples, log = run(tmp_path / "run", num_train_epochs=2, logging_steps=2, gradient_accumulation_steps=1)
    ys = [examples.x[index].sum() + 0.1 * noise for index, noise in examples.asked]
    batches = [ys[i : i + 4] for i in range(0, 20, 4)]
    for entry, window in zip(log, [batches[:2], batches[2:4]], strict=False):
        assert entry["mean_of_y"] == pytest.approx(np.mean([np.mean(batch) for batch in window]), abs=2e-6)
        assert entry["largest_y"] == pytest.approx(np.mean([np.max(batch) for batch in window]), abs=2e-6)
    written = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert written == log
    assert [entry["step"] for entry in log] == [2, 4]


def test_the_objective_comes_back_trained_and_in_evaluation_mode(tmp_path):
    objective, _, log = run(tmp_path, num_train_epochs=40)
    assert not objective.training
    assert log[-1]["loss"] < 0.1 * log[0]["loss"]
    assert not list(tmp_path.rglob("checkpoint-*"))  # nothing is saved unless asked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_epochs": 1.5}, "num_train_epochs=1.5.*max_steps"),
        ({"num_train_epochs": 0}, "num_train_epochs=0"),
        ({"lerning_rate": 1.0}, "lerning_rate"),
        ({"save_strategy": "sometimes"}, "sometimes"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, **settings)


def test_many_gpus_in_one_process_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ConfigError, match="2 GPUs, one process: set CUDA_VISIBLE_DEVICES=0"):
        training_arguments(tmp_path, {}, seed=0)


def batches_of(numbers, batch_size):
    return [numbers[begin : begin + batch_size] for begin in range(0, len(numbers), batch_size)]


@given(st.integers(1, 16), st.integers(1, 50), st.integers(0, 15), st.integers(0, 9))
def test_batches_of_like_lengths_are_those_of_the_sorted_order(batch_size, num_batches, rest, seed):
    rng = np.random.default_rng(seed)
    count = batch_size * num_batches + rest % batch_size
    lengths, order = rng.integers(1, 99, count), rng.permutation(count)
    grouped = group_by_length(order, lengths, batch_size, rng)
    assert sorted(grouped.tolist()) == list(range(count))
    if count <= 50 * batch_size:
        found = sorted(sorted(lengths[batch].tolist()) for batch in batches_of(grouped, batch_size))
        assert found == sorted(batches_of(sorted(lengths.tolist()), batch_size))


def test_grouping_is_that_of_whole_batches_in_every_epoch(tmp_path):
    """Ten examples in batches of four: the batch that bridges two epochs must not shift the grouping of the second."""
    examples = Recorded(10)
    examples.lengths = [1, 50, 1, 50, 1, 50, 1, 50, 1, 50]
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "train_sampling_strategy": "group_by_length"}
    fit(Regression(), examples, args=training_arguments(tmp_path, settings, seed=3))
    asked = [index for index, *_ in examples.asked]
    assert sorted(asked[:10]) == sorted(asked[10:]) == list(range(10))
    alike = [len({examples.lengths[i] for i in batch}) for batch in batches_of(asked, 4)]
    assert alike.count(1) >= 2


class OfKinds(Recorded):
    """Examples that know their kinds; some kinds may be ragged, and none lies in one piece."""

    def __init__(self, counts):
        super().__init__(sum(counts))
        self.kinds = keyed_rng(5).permutation(np.repeat(np.arange(len(counts)), counts))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9))
def test_batches_of_one_kind_come_equally_often_and_lack_nothing(counts, batch_size, epochs, seed):
    examples = OfKinds(counts)
    settings = {"per_device_train_batch_size": batch_size, "num_train_epochs": epochs}
    order = reading_order(examples, training_arguments(Path("unused"), settings, seed=seed))
    for i in range(len(order)):
        order[i]
    batches = batches_of(examples.asked, batch_size)
    kinds = [{int(examples.kinds[index]) for index, _ in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert len(batches[-1]) == batch_size
    flat = [kind.pop() for kind in kinds]
    rounds = batches_of(flat, len(counts))
    assert len(rounds) == -(-epochs * max(counts) // batch_size)
    assert all(sorted(round_) == list(range(len(counts))) for round_ in rounds)
    for kind in range(len(counts)):  # each is read as if it were alone: every example once before any comes again
        own = np.flatnonzero(examples.kinds == kind)
        read = [index for batch, of in zip(batches, flat, strict=True) if of == kind for index, _ in batch]
        passes = batches_of(read, len(own))
        assert all(sorted(part) == own.tolist() for part in passes if len(part) == len(own))
        assert len(read) >= epochs * len(own)
    draws = [noise for _, noise in examples.asked]
    assert len(set(draws)) == len(draws)  # whoever is read again is read with other masks


def test_of_many_kinds_the_first_is_read_as_it_is_alone(tmp_path):
    alone, beside = Recorded(10), OfKinds((10, 7))
    beside.kinds = np.repeat([0, 1], (10, 7))
    run(tmp_path / "a", examples=alone, max_steps=9)
    run(tmp_path / "b", examples=beside, max_steps=18)
    assert [pair for pair in beside.asked if pair[0] < 10] == alone.asked[:36]


def test_a_resumed_run_of_kinds_equals_the_uninterrupted_one(tmp_path):
    settings = {**STEPS, "num_train_epochs": 2}
    whole = run(tmp_path / "whole", Regression(0.4), examples=OfKinds((10, 3)), **settings)[0]
    with pytest.raises(InterruptedError):
        run(tmp_path / "stopped", Regression(0.4, 6), examples=OfKinds((10, 3)), **settings)
    resumed = run(tmp_path / "stopped", spoil(Regression(0.4)), examples=OfKinds((10, 3)), resume=True, **settings)[0]
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.calls < whole.calls


@pytest.mark.parametrize(("accumulation", "world"), [(2, 1), (1, 2), (3, 2)])
def test_kinds_alternate_by_what_is_read_at_once(tmp_path, monkeypatch, accumulation, world):
    monkeypatch.setattr(TrainingArguments, "world_size", world)
    settings = {"gradient_accumulation_steps": accumulation, "max_steps": 4, "per_device_train_batch_size": 3}
    examples = OfKinds((20, 9))
    order = reading_order(examples, training_arguments(tmp_path, settings, seed=1))
    assert len(order) == 4 * 3 * accumulation * world
    read = [examples.kinds[examples.asked[-1][0]] for i in range(len(order)) if order[i]]
    assert all(len(set(batch)) == 1 for batch in batches_of(read, 3 * world))
    assert set(read[: 6 * world]) == {0, 1}


def test_a_loss_that_some_batches_lack_is_the_mean_over_those_that_have_it(tmp_path):
    class Now(Regression):
        def forward(self, x, y):
            losses = super().forward(x, y)
            return {**losses, **({"rare": torch.tensor(float(self.calls))} if self.calls % 3 == 0 else {})}

    log = run(tmp_path, Now(), num_train_epochs=4, logging_steps=5)[2]
    assert [entry.get("rare") for entry in log] == [3.0, 7.5]
