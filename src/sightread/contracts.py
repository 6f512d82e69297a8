"""The few types that everything speaks. Read this first.

Shape legend, used in every docstring and trailing shape comment:

    B  examples in a batch        V  pictures in a bank
    L  tokens in a sequence       E  width of the joint token-picture space
    T  tokens, flattened          F  width of an image encoder's features
    D  width of a text encoder    K  results per query
    N  queries, rows              C  classes

A *voken* of a token is the picture of a bank that is most relevant to it: a row number of that bank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""Named tensors that go into an objective."""

Losses = dict[str, Tensor]
"""Named scalars; `"loss"` is differentiated, the others are logged."""

IGNORED = -100
"""Label of a position that carries no loss (PyTorch's `ignore_index`)."""


class Objective(nn.Module):
    """What a method is: a model and its loss.

    Attributes:
        encoder: The module that survives training.

    An objective has no attribute `config`: Trainer would take it for a Hugging Face config and write to it.
    """

    encoder: nn.Module
    _keys_to_ignore_on_save = None  # Trainer looks for it when weights are shared
    accepts_loss_kwargs = False  # so that Trainer averages over gradient accumulation itself

    def forward(self, **batch: Tensor) -> Losses:
        """The losses of one batch, scalars; `"loss"` is the one to minimise."""
        raise NotImplementedError


class Examples(Protocol):
    """What `fit` trains on: examples that are a function of (index, generator) alone."""

    def __len__(self) -> int:
        """Number of examples in one epoch."""
        ...

    def example(self, index: int, rng: np.random.Generator) -> Any:
        """One example; every random choice (masks, negatives) is drawn from `rng`, keyed by seed, epoch and index."""
        ...

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Pad and stack examples into the batch that the objective takes."""
        ...


class Pictures(Protocol):
    """A sequence of pictures with stable ids."""

    ids: list[str]

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def load(self, index: int) -> Image:
        """The picture in RGB; raises `DataError` if it cannot be decoded."""
        ...

    def path(self, index: int) -> Path | None:
        """Where it lies on disk, or None."""
        ...


class Row(NamedTuple):
    """One example of a task.

    Attributes:
        inputs: What is read: one or two sentences, words, a question and its paragraph.
        gold: What is to be said, a JSON value; None where the data set keeps it back.
    """

    inputs: Any
    gold: Any


class Task(Protocol):
    """A downstream task: how to read it, what sits on the encoder, how it is scored.

    Attributes:
        name: Short name, as in tables.
        metric: Its scores, a key of `metrics.METRICS`.
        reads: What its head reads: "sequence", one vector a sequence; "tokens", every token's state; "regions", every
            region's; "pairs", one vector a text beside a picture, of which an example to be scored is a whole batch.

    A task about pictures has `regions`, a `RegionStore`, and `settings`; one whose training examples differ from those
    that are scored also `encode_training`.
    """

    name: str
    metric: str
    reads: str

    def splits(self) -> list[str]:
        """The splits that are there: "train", "dev", "test", or what else the data set has."""
        ...

    def load(self, split: str) -> Sequence[Row]:
        """The rows of a split; raises `DataError` naming file and line."""
        ...

    def head(self, width: int) -> nn.Module:
        """A fresh head: vectors (B, D), or states (B, L, D) or (B, R, D), -> outputs."""
        ...

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Any:
        """Rows as `Examples` with `lengths`, and how many texts were `cut`; a batch holds `labels` beside what the
        encoder takes."""
        ...

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The training loss, a scalar."""
        ...

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Any) -> list[Any]:
        """One prediction a row, in the terms of its gold, from the head's outputs for each example, unpadded."""
        ...


def to_device(batch: Batch, device: torch.device | str) -> dict[str, Tensor]:
    """The batch with every tensor on `device`."""
    return {name: value.to(device) for name, value in batch.items()}
