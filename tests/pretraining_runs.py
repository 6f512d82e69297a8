"""Tiny language models, and runs of pre-training that are watched or interrupted; several tests share them."""

import functools

import torch
import transformers

from conftest import tiny_bert
from sightread.artifacts import digest_file
from sightread.modules.language_model import LanguageModel
from sightread.runtime import seed_everything

VOCAB = 40
TRAINING = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 1}


def tiny_model(kind, seed=0):
    """A model with its head, without dropout, away from its small beginnings, where all losses are alike."""
    seed_everything(seed)
    if kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 2}
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCAB, **sizes, **dropouts))
    else:
        model = transformers.BertForMaskedLM(tiny_bert(VOCAB, 0.0))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return LanguageModel(model.double()).eval()


def overfits(objective, batch, names, steps=30, share=0.3):
    """Whether training on one batch brings the named losses below a share of what they were."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-2)
    first = {name: objective(**batch)[name].item() for name in names}
    for _ in range(steps):
        optimizer.zero_grad()
        losses = objective(**batch)
        losses["loss"].backward()
        optimizer.step()
    return all(losses[name].item() < share * first[name] for name in names)


def recorded(monkeypatch, objective_class):
    """A list that fills with every batch an objective sees."""
    batches, forward = [], objective_class.forward

    @functools.wraps(forward)
    def recording(self, **batch):
        batches.append({name: value.tolist() for name, value in batch.items()})
        return forward(self, **batch)

    monkeypatch.setattr(objective_class, "forward", recording)
    return batches


def resumes_exactly(monkeypatch, objective_class, train, folder, stop_at=5):
    """Whether a run that stopped before its step `stop_at`, past its first checkpoint, ends as the whole one does."""
    train(folder / "whole")
    calls, forward = [], objective_class.forward

    @functools.wraps(forward)
    def stopping(self, **batch):
        calls.append(batch)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return forward(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(objective_class, "forward", stopping)
        try:
            train(folder / "stopped")
        except KeyboardInterrupt:
            assert not (folder / "stopped" / "encoder").exists()
    assert len(calls) == stop_at
    train(folder / "stopped", resume=True)
    files = [folder / run / "encoder" / "model.safetensors" for run in ("whole", "stopped")]
    return digest_file(files[0]) == digest_file(files[1])
