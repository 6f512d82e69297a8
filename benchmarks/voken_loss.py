"""What the voken loss costs at scale, its logits written out or not; prints one table.

    python benchmarks/voken_loss.py

Cross-entropy over 50,000 vokens, forward and backward; then whole training steps (AdamW, dropout) of a fresh BERT of 6
layers × 512 on 8 × 126 tokens, with and without it. One process a line; of steps, the fastest of three.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.modules.linear_cross_entropy  # by hand, as its import takes seconds and would be timed
from measuring import Row, kilobytes, measure, table
from torch import nn
from transformers import BertConfig

from sightread.contracts import IGNORED
from sightread.methods.lm import LmObjective
from sightread.methods.voken import VokenConfig, VokenObjective
from sightread.modules import losses
from sightread.modules.language_model import LanguageModel

VOKENS, WIDTH = 50_000, 64
TOKENS = 8192, 32_768


def write_out(plain: bool) -> None:
    losses.LOGITS_AT_ONCE = 2**62 if plain else losses.LOGITS_AT_ONCE


def loss(tokens: int, plain: bool) -> tuple[float, float]:
    write_out(plain)
    torch.manual_seed(0)
    states, labels = torch.randn(tokens, WIDTH, requires_grad=True), torch.randint(VOKENS, (tokens,))
    head = nn.Linear(WIDTH, VOKENS)
    return measure(lambda: losses.linear_classification(states, head.weight, head.bias, labels).backward())


def step(vokens: bool, plain: bool) -> tuple[float, float]:
    write_out(plain)
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=6, hidden_size=512, num_attention_heads=8, intermediate_size=2048)
    model = LanguageModel.from_config(config)
    objective = (VokenObjective(VokenConfig(), model, VOKENS) if vokens else LmObjective(model)).train()
    optimizer = torch.optim.AdamW(objective.parameters())
    ids = torch.randint(1000, config.vocab_size, (8, 126))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "lm_labels": torch.where(torch.rand(ids.shape) < 0.15, ids, IGNORED),
        "voken_labels": torch.randint(VOKENS, ids.shape),
    }

    def run() -> None:
        optimizer.zero_grad()
        objective(**batch)["loss"].backward()
        optimizer.step()

    return measure(run, repeats=3)


def rows() -> list[Row]:
    """The table; a run that would not leave a fifth of its memory free is left out."""
    kinds = {"logits written out": True, "in chunks": False}
    jobs = {
        f"{tokens} x {VOKENS} x {WIDTH}, {name}": (loss, tokens, kind)
        for tokens in TOKENS
        for name, kind in kinds.items()
    }
    jobs |= {"step, MLM alone": (step, False, False)}
    jobs |= {f"step, MLM + vokens, {name}": (step, True, kind) for name, kind in kinds.items()}
    found = []
    for name, (run, size, plain) in jobs.items():
        needed = 3 * 4 * size * VOKENS / 1024 if plain and run is loss else 0  # logits, their log softmax, a gradient
        if 1.2 * needed > kilobytes("meminfo", "MemAvailable"):
            found.append((name, f"not run: it needs {needed / 1024:,.0f} MB"))
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(run, size, plain).result()
        found.append((name, f"{seconds:.2f} s, peak {megabytes:,.0f} MB beyond what was held before"))
    return found


if __name__ == "__main__":
    table(rows())
