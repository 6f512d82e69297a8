"""How well a grounded encoder foretells hidden words (Sileo 2021, tables 1 and 2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from sightread.contracts import IGNORED, Examples, to_device
from sightread.modules.cross_modal import CrossModal
from sightread.runtime import default_device, keyed_rng

READ = ("input_ids", "attention_mask", "images", "image_mask", "hidden")


class Perplexity(NamedTuple):
    """How surprising hidden words are.

    Attributes:
        value: exp of their mean cross-entropy, in nats.
        words: How many there are.
        surprise: The sum of the cross-entropies of each example, and how many words it hides, float64 (N, 2): what
            intervals and paired differences are made of.
    """

    value: float
    words: int
    surprise: np.ndarray


@torch.no_grad()
def perplexity(model: CrossModal, examples: Examples, *, seed: int = 0, batch_size: int = 64) -> Perplexity:
    """Perplexity of the hidden words of masked text, with the pictures that come with it.

    Two models are asked the same words: what is hidden depends on the seed and the number of an example alone.

    Args:
        model: The model.
        examples: `data.captioned.MaskedCaptions`, or `data.blocks.TokenBlocks` with `methods.associative.FoundPictures`
            beside them or nothing.
        seed: Of the masks.
        batch_size: Examples read at a time; neighbours in length.
    """
    device = default_device()
    model = model.to(device).eval()
    made = [examples.example(i, keyed_rng(seed, 0, i)) for i in range(len(examples))]
    surprise = np.zeros((len(made), 2))
    order = np.argsort([len(example["input_ids"]) for example in made], kind="stable")
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        batch = to_device(examples.collate([made[i] for i in rows]), device)
        states, _ = model(**{name: batch[name] for name in READ if name in batch})
        labels = batch["lm_labels"]
        at, _ = (hidden := labels != IGNORED).nonzero().T
        output = model.cross.output
        read = model.cross.transform(states[hidden])
        entropies = torch.nn.functional.cross_entropy(
            torch.nn.functional.linear(read, output.weight, output.bias).double(), labels[hidden], reduction="none"
        )
        np.add.at(surprise, rows[at.cpu().numpy()], np.stack([entropies.cpu().numpy(), np.ones(len(at))], axis=1))
    total, words = surprise.sum(axis=0)
    return Perplexity(math.exp(total / words) if words else math.nan, int(words), surprise)
