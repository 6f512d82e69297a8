"""Pre-training examples from a voken corpus: tokens, masked or not, their labels, their vokens.

What is drawn for an example (its masks) depends on (seed, epoch, index) alone and never on the vokens, so that a
grounded encoder and its text-only control read the same sentences, in the same order, with the same masks. What a
method reads beside the text is drawn after the masks, which therefore stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from sightread.contracts import IGNORED, Batch
from sightread.data.masking import mask_tokens
from sightread.data.voken_corpus import VokenCorpus
from sightread.errors import ConfigError, DataError

_SOME_TEXTS = ("a", "1", ".", "的", "の", "а", "ا")  # one of them gives a token in most scripts


class Beside(Protocol):
    """What a method draws for each block beside the text: wrong pictures, captions, pictures of what is not masked."""

    def draw(self, rng: np.random.Generator, block: Mapping[str, np.ndarray]) -> Any:
        """What goes with one block, of which `input_ids` and `lm_labels` are known, int64 (L,)."""
        ...

    def collate(self, drawn: Sequence[Any]) -> Batch:
        """What goes with the blocks of a batch, tensors under names of their own."""
        ...


class TokenBlocks:
    """Blocks of tokens from a voken corpus, as `fit` takes them.

    A batch holds, all int64 (B, L): `input_ids` (masked), `attention_mask`, `lm_labels` and `voken_labels`, labels
    being `IGNORED` at positions without one (special and padding tokens always); with `soft`, also `top_ids`, int64
    (B, L, K), `IGNORED` likewise, and `top_scores`, float32 (B, L, K); and what `beside` gives.

    Args:
        corpus: The voken corpus.
        tokenizer: The tokenizer it was made with.
        max_length: Tokens in a block, special ones included.
        packed: Fill blocks across line ends, as the paper does; else a block never holds more than one line.
        probability: Share of tokens that are masked.
        causal: For a decoder: nothing is masked, and the label of a token is the one after it.
        soft: Give each token's best pictures and their scores, too.
        beside: What else goes with each block.
    """

    def __init__(
        self, corpus: VokenCorpus, tokenizer: Any, *, max_length: int, packed: bool = False, probability: float = 0.15,
        causal: bool = False, soft: bool = False, beside: Beside | None = None,
    ) -> None:  # fmt: skip
        if tokenizer.mask_token_id is None and not causal:
            raise ConfigError("this tokenizer has no mask token, which masked language modelling needs")
        self.tokens, self.vokens, line_begins = corpus.flat()
        self.top = dict(zip(("top_ids", "top_scores"), corpus.flat_top(), strict=True)) if soft else {}
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
        self.probability, self.causal, self.beside = probability, causal, beside
        self.special = tokenizer.all_special_ids  # a text may spell them

    def __len__(self) -> int:
        return len(self.begins)

    def example(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One block with its labels, each int64 (L,)."""
        within = slice(self.begins[index], self.ends[index])
        tokens = self.tokens[within].astype(np.int64)
        example = self._foretold(tokens) if self.causal else self._masked(tokens, rng)
        example |= {"voken_labels": self._framed(self.vokens[within])}
        example |= {name: self._framed(part[within]) for name, part in self.top.items()}
        return example | {"beside": self.beside.draw(rng, example)} if self.beside else example

    def _foretold(self, tokens: np.ndarray) -> dict[str, Any]:
        whole = np.concatenate([self.prefix, tokens, self.suffix])
        return {"input_ids": whole, "lm_labels": np.append(whole[1:], IGNORED)}

    def _masked(self, tokens: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        hidden, labels = mask_tokens(
            tokens, rng, mask_id=self.mask_id, vocab_size=self.vocab_size, probability=self.probability,
            maskable=~np.isin(tokens, self.special),
        )  # fmt: skip
        return {"input_ids": np.concatenate([self.prefix, hidden, self.suffix]), "lm_labels": self._framed(labels)}

    def _framed(self, values: np.ndarray) -> np.ndarray:
        """Values of a block's tokens, with `IGNORED` for its special ones."""
        before, after = (np.full((len(special), *values.shape[1:]), IGNORED) for special in (self.prefix, self.suffix))
        return np.concatenate([before, values, after])

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Pad to the longest block."""
        columns = {name: [example[name] for example in examples] for name in examples[0]}
        beside = self.beside.collate(columns.pop("beside")) if self.beside else {}
        mask = pad([np.ones(len(row), np.int64) for row in columns["input_ids"]], 0)
        fill = {"input_ids": self.pad_id}
        return {name: pad(rows, fill.get(name, IGNORED)) for name, rows in columns.items()} | {
            "attention_mask": mask, **beside
        }  # fmt: skip


def pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    """Rows of different lengths as one tensor, filled with `value` on the right: int64 (B, L, ...), or float32."""
    first = np.asarray(rows[0])
    kind = np.float32 if first.dtype.kind == "f" else np.int64
    padded = np.full((len(rows), max(map(len, rows)), *first.shape[1:]), value, dtype=kind)
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


def stands_first(tokenizer: Any) -> bool:
    """Whether a text's first token stands for all of it, being [CLS]; else its last does: the end of CLIP's texts, the
    last word that a decoder reads."""
    return tokenizer.cls_token_id in special_tokens_around(tokenizer)[0].tolist()


def text_of(tokenizer: Any, ids: np.ndarray, visible: np.ndarray | None = None) -> str:
    """What tokens say, special ones left out, and hidden ones: pieces on both sides are not taken for one word.

    Args:
        tokenizer: Whose tokens they are.
        ids: int64 (L,).
        visible: Which are not hidden, bool (L,); by default all but the mask.
    """
    seen = ~np.isin(ids, tokenizer.all_special_ids) & (True if visible is None else visible)
    borders = np.flatnonzero(np.diff(seen)) + 1
    runs = [run for run, here in zip(np.split(ids, borders), np.split(seen, borders), strict=True) if here.any()]
    within_word = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None) or ""
    texts = (text.strip().removeprefix(within_word) for text in tokenizer.batch_decode(runs, skip_special_tokens=True))
    return " ".join(filter(None, texts))


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
