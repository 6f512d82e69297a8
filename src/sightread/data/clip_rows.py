"""Text as rows that CLIP's text tower can read: it takes at most 77 tokens, and most texts have more.

A text is cut into rows after every 75th token, and each row begins and ends as a text of its own. Sentences never share
a row, and one without any token is a row, too. Rows beyond the number asked for are left out, and what was in them is
counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sightread.config import check_choice, check_positive
from sightread.contracts import IGNORED, Batch
from sightread.data.blocks import TokenBlocks, pad, special_tokens_around, text_of
from sightread.errors import ConfigError, DataError

READS = ("whole", "masked")


class Rows(NamedTuple):
    """What CLIP reads of an example.

    Attributes:
        ids: Rows, int64 (M,) each, special tokens included.
        cut: Tokens that found no place, or that say nothing.
    """

    ids: list[np.ndarray]
    cut: int


class ClipRows:
    """Makes rows.

    Args:
        tokenizer: CLIP's.
        length: Tokens of a row at most, special ones included.
    """

    def __init__(self, tokenizer: Any, length: int = 77) -> None:
        self.tokenizer, self.pad_id = tokenizer, tokenizer.pad_token_id or 0
        self.prefix, self.suffix = special_tokens_around(tokenizer)
        self.room = length - len(self.prefix) - len(self.suffix)
        if self.room < 1:
            raise ConfigError(f"rows of {length} tokens leave no room beside CLIP's special ones; it reads too few")

    def of(self, sentences: Sequence[str], most: int) -> Rows:
        """Rows of some sentences, at most so many of each."""
        rows, cut = list[np.ndarray](), 0
        for sentence in sentences:
            encoded = self.tokenizer(
                sentence, add_special_tokens=False, verbose=False,
                split_special_tokens=True,  # what a text spells "<|endoftext|>" is no end of it
            )  # fmt: skip
            ids = np.array(encoded["input_ids"], np.int64)
            kept = ids[: most * self.room]
            pieces = np.split(kept, range(self.room, len(kept), self.room))
            rows += [np.concatenate([self.prefix, piece, self.suffix]) for piece in pieces]
            cut += len(ids) - len(kept)
        return Rows(rows, cut)

    def words(self, row: np.ndarray) -> np.ndarray:
        """Where the words of a row are, bool (M,)."""
        at = np.arange(len(row))
        return (at >= len(self.prefix)) & (at < len(row) - len(self.suffix))

    def collate(self, examples: Sequence[Rows]) -> Batch:
        """`clip_ids`, `clip_attention_mask` and `clip_words`, int64 (B, R, M), as `modules.two_stream` takes them."""
        ids = [example.ids for example in examples]
        return {
            "clip_ids": pad_rows(ids, self.pad_id),
            "clip_attention_mask": pad_rows([[np.ones_like(row) for row in rows] for rows in ids], 0),
            "clip_words": pad_rows([[self.words(row) for row in rows] for rows in ids], 0),
        }


def unknown(tokenizer: Any, ids: np.ndarray) -> int:
    """How many tokens, int64 (L,), stand for what the tokenizer does not know, so that CLIP cannot read it either."""
    return 0 if tokenizer.unk_token_id is None else int((ids == tokenizer.unk_token_id).sum())


def pad_rows(examples: Sequence[Sequence[np.ndarray]], value: int) -> Tensor:
    """Rows of some examples as one tensor, filled with `value`, int64 (B, R, M)."""
    rows = pad([row for example in examples for row in example], value)
    counts = torch.tensor([len(example) for example in examples])
    there = torch.arange(int(counts.max())) < counts[:, None]
    padded = rows.new_full((*there.shape, rows.shape[1]), value)
    padded[there] = rows
    return padded


class ClipSide:
    """What CLIP reads beside each block; see `data.blocks.Beside`.

    It reads what the block's tokens say, or, half of the time where `matches`, what another block's do. A share of its
    own words is to be told again (`clip_labels`): they stay, since CLIP has no mask; not where it reads another block,
    of which the text knows nothing.

    Args:
        rows: Makes rows.
        blocks: All blocks.
        tokenizer: Of the blocks.
        most: Rows of a block, at most.
        reads: "whole", all words of the block, hidden or not, so that CLIP can tell them; or "masked", without its
            hidden words, and without as large a share of another's.
        probability: Share of CLIP's words that are to be told again.
        matches: Whether other blocks are read, too.
    """

    def __init__(
        self, rows: ClipRows, blocks: TokenBlocks, tokenizer: Any, *, most: int, reads: str = "whole",
        probability: float = 0.15, matches: bool = True,
    ) -> None:  # fmt: skip
        check_choice("clip_reads", reads, READS)
        check_positive(clip_rows=most)
        self.rows, self.blocks, self.tokenizer = rows, blocks, tokenizer
        self.most, self.reads, self.probability, self.matches = most, reads, probability, matches

    def draw(self, rng: np.random.Generator, block: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The rows of one block, `labels` of their tokens, and whether they are the block's own."""
        hidden = block["lm_labels"] != IGNORED
        tokens = np.where(hidden, block["lm_labels"], block["input_ids"])
        tokens, hidden = (x[len(self.blocks.prefix) : len(x) - len(self.blocks.suffix)] for x in (tokens, hidden))
        own = not self.matches or rng.random() < 0.5
        if not own:
            tokens = self._other(tokens, rng)
            hidden = rng.random(len(tokens)) < self.blocks.probability
        seen = ~hidden | (self.reads == "whole")
        rows = self.rows.of([text_of(self.tokenizer, tokens, seen)], self.most)
        rows = rows._replace(cut=rows.cut + unknown(self.tokenizer, tokens[seen]))
        chosen = [own & self.rows.words(row) & (rng.random(len(row)) < self.probability) for row in rows.ids]
        labels = [np.where(picked, row, IGNORED) for picked, row in zip(chosen, rows.ids, strict=True)]
        return {"rows": rows, "labels": labels, "own": own}

    def _other(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The tokens of a block that says something else."""
        first = int(rng.integers(len(self.blocks)))
        for index in range(first, first + len(self.blocks)):
            within = slice(self.blocks.begins[index % len(self.blocks)], self.blocks.ends[index % len(self.blocks)])
            if not np.array_equal(other := self.blocks.tokens[within], tokens):
                return other
        raise DataError("all blocks are alike, and CLIP can read no other: leave 'match' out of the losses")

    def collate(self, drawn: Sequence[dict[str, Any]]) -> Batch:
        """What `ClipRows.collate` gives, `clip_labels` (B, R, M), and of each block `matched` and `clip_cut`, all
        int64."""
        return {
            **self.rows.collate([example["rows"] for example in drawn]),
            "clip_labels": pad_rows([example["labels"] for example in drawn], IGNORED),
            "matched": torch.tensor([int(example["own"]) for example in drawn]),
            "clip_cut": torch.tensor([example["rows"].cut for example in drawn]),
        }
