"""Tokenized examples of tasks, as `fit` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.contracts import IGNORED, Batch
from sightread.data.blocks import pad


class Encoded:
    """Tokenized sequences with their labels.

    A batch holds, int64: `input_ids`, `attention_mask`, `token_type_ids` (B·W, L), and `labels`: a number an example
    (B,), int64 or float32, or one a token (B, L), int64 with `IGNORED` where there is none.

    Args:
        encoding: What a fast tokenizer returned for the sequences, with `token_type_ids`.
        labels: One an example: a number, or an int64 array (L,).
        pad_id: Id of the padding token.
        row_of: Row of the data set that each example belongs to; by default its own.
        ways: W, sequences in an example: the endings of a multiple choice.
        cut: How many sequences were too long, and lost their ends.

    Attributes:
        lengths: Tokens of the longest sequence of each example.
    """

    def __init__(
        self,
        encoding: Mapping[str, Any],
        labels: Sequence[Any],
        pad_id: int,
        *,
        row_of: Sequence[int] | None = None,
        ways: int = 1,
        cut: int = 0,
    ) -> None:
        self.input_ids, self.types = encoding["input_ids"], encoding["token_type_ids"]
        self.labels, self.pad_id, self.ways, self.cut = labels, pad_id, ways, cut
        self.row_of = range(len(labels)) if row_of is None else row_of
        self.lengths = [max(len(self.input_ids[i]) for i in self._sequences(row)) for row in range(len(labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its number; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """Pad to the longest."""
        sequences = [i for example in examples for i in self._sequences(example)]
        ids = [np.array(self.input_ids[i]) for i in sequences]
        return {
            "input_ids": pad(ids, self.pad_id),
            "attention_mask": pad([np.ones(len(row), np.int64) for row in ids], 0),
            "token_type_ids": pad([np.array(self.types[i]) for i in sequences], 0),
            "labels": self._labels(examples),
        }

    def _labels(self, examples: Sequence[int]) -> Tensor:
        chosen = [self.labels[i] for i in examples]
        return pad(chosen, IGNORED) if isinstance(chosen[0], np.ndarray) else torch.tensor(chosen)

    def _sequences(self, example: int) -> range:
        return range(example * self.ways, (example + 1) * self.ways)


class Part:
    """Some examples of others: a small training set.

    Args:
        examples: All.
        chosen: Numbers of some.
    """

    def __init__(self, examples: Any, chosen: Sequence[int]) -> None:
        self.examples, self.chosen, self.collate = examples, chosen, examples.collate
        self.lengths = [examples.lengths[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def example(self, index: int, rng: np.random.Generator) -> Any:
        """One of them."""
        return self.examples.example(self.chosen[index], rng)


def encode_texts(
    tokenizer: Any, texts: Sequence[tuple[str, ...]], labels: Sequence[Any], max_length: int, *, ways: int = 1
) -> Encoded:
    """Tokenize single texts or pairs, cut at `max_length` tokens; `ways` of them are an example."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoding = tokenizer(*columns, truncation=True, max_length=max_length, return_token_type_ids=True)
    cut = sum(bool(sequence.overflowing) for sequence in encoding.encodings)
    return Encoded(encoding, labels, padding_id(tokenizer), ways=ways, cut=cut)


def padding_id(tokenizer: Any) -> int:
    """Id that pads; what stands at padding is masked, so any will do where a tokenizer has none."""
    return int(tokenizer.pad_token_id or 0)
