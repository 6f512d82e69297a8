"""Captions with words hidden, or regions of their pictures, for joint masked modelling (Sileo 2021, section 3)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sightread.config import check_choice
from sightread.contracts import IGNORED, Batch
from sightread.data.blocks import pad
from sightread.data.captions import Captions
from sightread.data.masking import mask_tokens
from sightread.errors import DataError

HIDDEN = ("words", "regions", "either")


class TokenizedCaptions:
    """Captions as token ids; those in which the tokenizer finds no word are left out.

    Args:
        captions: The captions.
        tokenizer: A fast tokenizer.
        max_length: Tokens of a caption, special ones included; what is longer is cut.

    Attributes:
        ids: Of each that was kept, int64 (L,).
        words: True where no special token is, bool (L,).
        picture_of: Its picture, int64 (N,).
    """

    def __init__(self, captions: Captions, tokenizer: Any, max_length: int) -> None:
        encoded = tokenizer(captions.texts, truncation=True, max_length=max_length, return_special_tokens_mask=True)
        words = [~np.array(special, dtype=bool) for special in encoded["special_tokens_mask"]]
        kept = np.array([row for row, found in enumerate(words) if found.any()], dtype=np.int64)
        if not len(kept):
            raise DataError("the tokenizer finds no word in any caption")
        if lost := len(words) - len(kept):
            warnings.warn(f"{lost} captions are left out: the tokenizer finds no word in them", stacklevel=2)
        self.words, self.ids = [words[i] for i in kept], [np.array(encoded["input_ids"][i]) for i in kept]
        self.picture_of, self.pad_id = captions.picture_of[kept], tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        return len(self.ids)


class MaskedCaptions:
    """Captioned pictures, as `fit` takes them: either words are hidden and the picture is whole, or the reverse.

    A batch holds `input_ids`, `attention_mask`, `lm_labels`, int64 (B, L), `images`, float32 (B, N, F), the regions of
    each caption's picture, and `hidden`, bool (B, N). What is drawn is the same whatever is hidden.

    Args:
        captions: The captions.
        features: Vectors of N regions of each picture, float32 (V, N, F).
        tokenizer: Tokenizer of the text encoder, with a mask token.
        max_length: As of `TokenizedCaptions`.
        hides: "words", "regions", or "either", by lot, half and half.
        probability: Share of words that are hidden.
        region_probability: Share of regions that are hidden; of a picture one at least.
    """

    def __init__(
        self, captions: Captions, features: np.ndarray, tokenizer: Any, *, max_length: int, hides: str = "words",
        probability: float = 0.15, region_probability: float = 0.15,
    ) -> None:  # fmt: skip
        check_choice("hides", hides, HIDDEN)
        if len(features) != len(captions.pictures):
            raise DataError(f"{len(features)} features of {len(captions.pictures)} pictures; give one a picture")
        self.captions, self.features = TokenizedCaptions(captions, tokenizer, max_length), features
        self.mask_id, self.vocab_size = tokenizer.mask_token_id, len(tokenizer)
        self.hides, self.probability, self.region_probability = hides, probability, region_probability

    def __len__(self) -> int:
        return len(self.captions)

    def example(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One caption, and its picture."""
        ids, words = self.captions.ids[index], self.captions.words[index]
        masked, labels = mask_tokens(
            ids, rng, mask_id=self.mask_id, vocab_size=self.vocab_size, probability=self.probability, maskable=words
        )
        by_lot, draws = rng.integers(2) == 1, rng.random((self.features.shape[1],))  # the last depends on N
        example = {"picture": self.captions.picture_of[index]}
        if self.hides == "regions" or (self.hides == "either" and by_lot):
            hidden = (draws < self.region_probability) | (draws == draws.min())
            return {"input_ids": ids, "lm_labels": np.full(len(ids), IGNORED), "hidden": hidden, **example}
        return {"input_ids": masked, "lm_labels": labels, "hidden": np.zeros(len(draws), bool), **example}

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Pad to the longest caption."""
        ids = [example["input_ids"] for example in examples]
        return {
            "input_ids": pad(ids, self.captions.pad_id),
            "attention_mask": pad([np.ones(len(row), np.int64) for row in ids], 0),
            "lm_labels": pad([example["lm_labels"] for example in examples], IGNORED),
            "images": torch.from_numpy(self.features[[example["picture"] for example in examples]]),
            "hidden": torch.from_numpy(np.stack([example["hidden"] for example in examples])),
        }


class DrawnCaptions:
    """Masked captions beside each block of text; see `data.blocks.Beside`. Their batch has names with "caption_".

    Args:
        captions: What is drawn from.
        count: Captions a block.
    """

    def __init__(self, captions: MaskedCaptions, count: int) -> None:
        self.captions, self.count = captions, count

    def draw(self, rng: np.random.Generator, block: Any) -> list[dict[str, Any]]:
        """As many captions."""
        rows = rng.integers(len(self.captions), size=self.count)
        return [self.captions.example(int(row), own) for row, own in zip(rows, rng.spawn(self.count), strict=True)]

    def collate(self, drawn: Sequence[list[dict[str, Any]]]) -> Batch:
        """All of them."""
        batch = self.captions.collate([example for examples in drawn for example in examples])
        return {f"caption_{name}": value for name, value in batch.items()}
