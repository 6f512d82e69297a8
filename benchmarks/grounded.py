"""What pictures cost an encoder that reads them beside text; prints one table.

    python benchmarks/grounded.py

Training steps (AdamW, the text encoder frozen) of associative grounding with MiniLM's shape, 6 layers × 384 and as many
over text and pictures, on 16 × 128 tokens beside K pictures of one region. One process a line, the fastest of three.
Attention grows with (L + K·N)², all else with L + K·N.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from measuring import Row, measure, table
from transformers import BertConfig

from sightread.contracts import IGNORED
from sightread.grounded import GroundingConfig
from sightread.methods.associative import AssociativeObjective
from sightread.modules.language_model import LanguageModel

IMAGES, FEATURES, BATCH, LENGTH = (0, 1, 4, 8, 16, 24, 144), 1280, 16, 128


class Tokenizer:
    """As far as it is asked."""

    model_max_length = 512


def step(images: int) -> tuple[float, float]:
    """Seconds and megabytes of a step."""
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
    model = LanguageModel.from_config(config)
    features = np.random.default_rng(0).standard_normal((50, 1, FEATURES)).astype(np.float32)
    objective = AssociativeObjective(GroundingConfig(num_images=images), model, features, Tokenizer()).train()
    optimizer = torch.optim.AdamW(p for p in objective.parameters() if p.requires_grad)
    ids = torch.randint(1000, config.vocab_size, (BATCH, LENGTH))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "lm_labels": torch.where(torch.rand(ids.shape) < 0.15, ids, IGNORED),
        "images": torch.randn(BATCH, images, FEATURES),
        "image_mask": torch.ones(BATCH, images, dtype=torch.long),
    }

    def run() -> None:
        optimizer.zero_grad()
        objective(**batch)["loss"].backward()
        optimizer.step()

    return measure(run, repeats=3)


def rows() -> list[Row]:
    """The table."""
    found = []
    for images in IMAGES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(step, images).result()
        found.append((f"step, K = {images}", f"{seconds:.2f} s, peak {megabytes:,.0f} MB beyond what was held before"))
    return found


if __name__ == "__main__":
    table(rows())
