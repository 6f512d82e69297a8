"""Pre-training examples from a voken corpus: masked tokens, their labels, their vokens.

What is drawn for an example (its masks) depends on (seed, epoch, index) alone and never on the vokens, so that a
grounded encoder and its text-only control read the same sentences, in the same order, with the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sightread.contracts import IGNORED, Batch
from sightread.data.masking import mask_tokens
from sightread.data.voken_corpus import VokenCorpus
from sightread.errors import ConfigError, DataError

_SOME_TEXTS = ("a", "1", ".", "的", "の", "а", "ا")  # one of them gives a token in most scripts


class TokenBlocks:
    """Blocks of tokens from a voken corpus, as `fit` takes them.

    A batch holds, all int64 (B, L): `input_ids` (masked), `attention_mask`, `mlm_labels` and `voken_labels`, labels
    being `IGNORED` at positions without one (special and padding tokens always).

    Args:
        corpus: The voken corpus.
        tokenizer: The tokenizer it was made with.
        max_length: Tokens in a block, special ones included.
        packed: Fill blocks across line ends, as the paper does; else a block never holds more than one line.
        probability: Share of tokens that are masked.
    """

    def __init__(
        self, corpus: VokenCorpus, tokenizer: Any, *, max_length: int, packed: bool = False, probability: float = 0.15
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ConfigError("this tokenizer has no mask token, which masked language modelling needs")
        self.tokens, self.vokens, line_begins = corpus.flat()
        self.prefix, self.suffix = special_tokens_around(tokenizer)
        room = max_length - len(self.prefix) - len(self.suffix)
        if room < 1:
            raise ConfigError(f"max_length={max_length} leaves no room beside the special tokens")
        self.begins, self.ends = _block_borders(line_begins, room, packed)
        if not len(self.begins):
            raise DataError(f"{corpus.path} holds no tokens")
        self.mask_id, self.vocab_size, self.pad_id = (
            tokenizer.mask_token_id,
            len(tokenizer),
            tokenizer.pad_token_id or 0,
        )
        self.probability = probability

    def __len__(self) -> int:
        return len(self.begins)

    def example(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One block with its labels, each int64 (L,)."""
        within = slice(self.begins[index], self.ends[index])
        tokens = self.tokens[within].astype(np.int64)
        hidden, labels = mask_tokens(
            tokens, rng, mask_id=self.mask_id, vocab_size=self.vocab_size, probability=self.probability
        )
        before, after = np.full(len(self.prefix), IGNORED), np.full(len(self.suffix), IGNORED)
        return {
            "input_ids": np.concatenate([self.prefix, hidden, self.suffix]),
            "mlm_labels": np.concatenate([before, labels, after]),
            "voken_labels": np.concatenate([before, self.vokens[within].astype(np.int64), after]),
        }

    def collate(self, examples: Sequence[dict[str, np.ndarray]]) -> Batch:
        """Pad to the longest block."""
        fill = {"input_ids": self.pad_id, "mlm_labels": IGNORED, "voken_labels": IGNORED}
        batch = {name: pad([example[name] for example in examples], value) for name, value in fill.items()}
        batch["attention_mask"] = pad([np.ones(len(example["input_ids"]), np.int64) for example in examples], 0)
        return batch


def pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    """Rows of different lengths as one int64 tensor (B, L), filled with `value` on the right."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for row, out in zip(rows, padded, strict=True):
        out[: len(row)] = row
    return torch.from_numpy(padded)


def special_tokens_around(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that this tokenizer puts before and after a single sequence, int64."""
    found = ((text, tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _SOME_TEXTS)
    text, bare = next((pair for pair in found if pair[1]), ("", []))
    if not text:
        raise ConfigError(f"this tokenizer makes no token of any of {' '.join(_SOME_TEXTS)}; take another")
    with_special = np.array(tokenizer(text, add_special_tokens=True)["input_ids"], dtype=np.int64)
    before = next(i for i in range(len(with_special)) if with_special[i : i + len(bare)].tolist() == bare)
    return with_special[:before], with_special[before + len(bare) :]


def _block_borders(line_begins: np.ndarray, room: int, packed: bool) -> tuple[np.ndarray, np.ndarray]:
    total = int(line_begins[-1])
    if packed:
        begins = np.arange(0, total, room, dtype=np.int64)
        return begins, np.minimum(begins + room, total)
    begin, end = line_begins[:-1], line_begins[1:]
    pieces = -(-(end - begin) // room)  # a line longer than the room becomes several blocks
    first = np.repeat(begin, pieces)
    nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begins = first + nth * room
    return begins, np.minimum(begins + room, np.repeat(end, pieces))
