"""Vokens by simple rules, to tell what the vokenizer's choice is worth (the retrieval methods of Tan & Bansal 2020).

| baseline | the voken of a token | what it controls for |
| --- | --- | --- |
| `random_vokens` | any picture, by lot | the mere presence of a second loss |
| `shuffled_vokens` | that of another token near by | how often each picture is chosen |
| `token_vokens` | the token itself, V = size of the vocabulary | predicting the word that is read |
| `frequency_vokens` | x by lot, p(x \\| w) ∝ exp(tf(w, x) / γ) | words that captions and text share |

tf(w, x) is how often the captions of picture x name the token w, divided by all their tokens.

Each makes a voken corpus of a voken corpus, with the same lines and tokens, so that pre-training knows no difference.
Lots are drawn once and stay; the authors' code draws them anew whenever a sentence is read, and shuffles within one
block of 126 tokens, so that theirs cannot be learnt by heart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightread.artifacts import digest
from sightread.bank import ImageBank
from sightread.data.captions import Captions
from sightread.data.voken_corpus import Shard, VokenCorpus, read_shard
from sightread.encoders.text import check_fast, tokenizer_digest
from sightread.errors import ConfigError, DataError
from sightread.runtime import Clock, keyed_rng
from sightread.vokenization.job import write_corpus
from sightread.vokenization.work import Work, tokenize_lines


class Rule(Work):
    """A shard and the number of its first line -> the same with other vokens."""

    def __call__(self, index: int, task: tuple[Path, int], clock: Clock) -> Shard:
        """The shard at that path with vokens by the rule."""
        path, first = task
        with clock("reading"):
            shard = read_shard(path, self.top)
        with clock("choosing"):
            return self.choose(shard, index, first)

    def choose(self, shard: Shard, index: int, first: int) -> Shard:
        """The shard of this number and first line with other vokens."""
        raise NotImplementedError


class DrawVokens(Rule):
    """Pictures by lot, keyed by the line."""

    def __init__(self, num_vokens: int, seed: int) -> None:
        self.num_vokens, self.seed = num_vokens, seed

    def choose(self, shard: Shard, index: int, first: int) -> Shard:
        """The shard with pictures drawn line by line."""
        lines = enumerate(shard, start=first)
        drawn = [self.draw(keyed_rng(self.seed, number), line.token_ids) for number, line in lines]
        return replace(shard, voken_ids=np.concatenate(drawn))

    def draw(self, rng: np.random.Generator, token_ids: np.ndarray) -> np.ndarray:
        """Pictures int64 (L,) of the tokens of a line."""
        return rng.integers(self.num_vokens, size=len(token_ids))


class DrawByFrequency(DrawVokens):
    """Pictures by lot, the likelier the more their captions name the token.

    As exp(tf/γ) = 1 + (exp(tf/γ) - 1), the picture comes from the whole bank, all alike, or else from the few whose
    captions name the token: what is kept is as large as the captions, and not the vocabulary times the bank.

    Args:
        num_vokens: V.
        seed: Of the draw.
        frequencies: As from `term_frequencies`.
        temperature: γ.
    """

    def __init__(
        self, num_vokens: int, seed: int, frequencies: tuple[np.ndarray, np.ndarray, np.ndarray], temperature: float
    ) -> None:
        super().__init__(num_vokens, seed)
        types, rows, tf = frequencies
        is_first = np.diff(types, prepend=-1) > 0
        firsts, which = np.flatnonzero(is_first), np.cumsum(is_first) - 1  # of each type; each one's type
        highest = np.maximum.reduceat(tf, firsts)  # subtracted, so that nothing overflows
        one = np.exp(-highest / temperature)
        excess = np.exp((tf - highest[which]) / temperature) - one[which]
        shares = excess / (np.add.reduceat(excess, firsts) + num_vokens * one)[which]
        sums = np.cumsum(shares)
        # Sums within each type lie between its number and the next, so that one search finds them all
        self.bounds = types + np.minimum(sums - (sums - shares)[firsts][which], 1)
        self.types, self.rows = (np.append(part, -1).astype(np.int32) for part in (types, rows))

    def draw(self, rng: np.random.Generator, token_ids: np.ndarray) -> np.ndarray:
        """Pictures int64 (L,) of the tokens of a line."""
        anything = super().draw(rng, token_ids)
        at = np.searchsorted(self.bounds, token_ids + rng.random(len(token_ids)), side="right")
        return np.where(self.types[at] == token_ids, self.rows[at], anything)


class ShuffleVokens(Rule):
    """Vokens, and best pictures, permuted among so many consecutive tokens."""

    def __init__(self, num_vokens: int, top: int, seed: int, group: int) -> None:
        self.num_vokens, self.top, self.seed, self.group = num_vokens, top, seed, group

    def choose(self, shard: Shard, index: int, first: int) -> Shard:
        """The shard with its vokens in another order."""
        rng, order = keyed_rng(self.seed, index), np.arange(len(shard.token_ids))
        for begin in range(0, len(order), self.group):
            rng.shuffle(order[begin : begin + self.group])
        columns = ("voken_ids", "top_ids", "top_scores") if self.top else ("voken_ids",)
        return replace(shard, **{name: getattr(shard, name)[order] for name in columns})


class TokensAsVokens(Rule):
    """Each token for its own voken."""

    def __init__(self, num_types: int) -> None:
        self.num_vokens = num_types

    def choose(self, shard: Shard, index: int, first: int) -> Shard:
        """The shard with tokens for vokens."""
        return replace(shard, voken_ids=shard.token_ids)


def random_vokens(source: VokenCorpus, tokenizer: Any, out: Path | str, *, seed: int, **options: Any) -> VokenCorpus:
    """Each token with a picture drawn by lot, keyed by its line.

    Args:
        source: The voken corpus.
        tokenizer: Its tokenizer.
        out: Folder of the new voken corpus.
        seed: Of the draw.
        **options: See `job.Options`.
    """
    source.check_has_vokens()
    inputs = {"bank": source.artifact.inputs["bank"], "random": str(seed)}
    return _write(DrawVokens(source.num_vokens, seed), source, tokenizer, out, inputs, options)


def shuffled_vokens(
    source: VokenCorpus, tokenizer: Any, out: Path | str, *, seed: int, group: int = 4096, **options: Any
) -> VokenCorpus:
    """Each token with the voken of another one, which may be none, of the same consecutive tokens of a shard.

    Args:
        source: The voken corpus.
        tokenizer: Its tokenizer.
        out: Folder of the new voken corpus.
        seed: Of the permutations, with the shard's number.
        group: Tokens whose vokens are permuted, some 32 sequences of the paper.
        **options: See `job.Options`.
    """
    source.check_has_vokens()
    if group < 2:
        raise ConfigError(f"group={group}: vokens are permuted among 2 tokens at least")
    inputs = {"bank": source.artifact.inputs["bank"], "shuffle": f"{seed}, {group} tokens"}
    work = ShuffleVokens(source.num_vokens, source.top, seed, group)
    return _write(work, source, tokenizer, out, inputs, options)


def token_vokens(source: VokenCorpus, tokenizer: Any, out: Path | str, **options: Any) -> VokenCorpus:
    """Each token for its own voken; arguments as for `random_vokens`, of a corpus that may be only tokenized."""
    return _write(TokensAsVokens(len(tokenizer)), source, tokenizer, out, {"bank": "no bank"}, options)


def frequency_vokens(
    source: VokenCorpus, tokenizer: Any, out: Path | str, *, captions: Captions, bank: ImageBank, seed: int,
    temperature: float = 0.01, **options: Any,
) -> VokenCorpus:  # fmt: skip
    """Each token with a picture drawn by how often the pictures' captions name it, keyed by its line.

    Args:
        source: The voken corpus, which may be only tokenized.
        tokenizer: Its tokenizer.
        out: Folder of the new voken corpus.
        captions: Of pictures of the bank, known by their ids; those without a caption are as likely as those whose
            captions do not name the token.
        bank: The pictures.
        seed: Of the draw.
        temperature: γ.
        **options: See `job.Options`.

    Raises:
        ConfigError: If the temperature is not positive.
        DataError: If no picture of the bank has a caption.
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature={temperature}: expected a positive number")
    frequencies = term_frequencies(captions, check_fast(tokenizer), bank.ids)
    inputs = {
        "bank": bank.digest, "captions": digest(*(part.tobytes() for part in frequencies)),
        "frequency": f"{seed}, temperature {temperature}",
    }  # fmt: skip
    work = DrawByFrequency(len(bank), seed, frequencies, temperature)
    return _write(work, source, tokenizer, out, inputs, options)


def term_frequencies(
    captions: Captions, tokenizer: Any, ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often the captions of each picture name each token, as a share of all tokens of its captions.

    Args:
        captions: Captioned pictures.
        tokenizer: A fast tokenizer.
        ids: Those of the V pictures that count.

    Returns:
        Of every token and picture that go together, in order: the token id, int64 (M,); the place of the picture among
        `ids`, int64 (M,); its term frequency, float64 (M,).

    Raises:
        DataError: If none of these pictures has a caption.
    """
    row_of = {id_: row for row, id_ in enumerate(ids)}
    rows = np.array([row_of.get(id_, -1) for id_ in captions.pictures.ids], dtype=np.int64)[captions.picture_of]
    if rows.max(initial=-1) < 0:
        raise DataError(
            f"none of the bank's {len(ids)} pictures is among the {len(captions.pictures)} captioned ones "
            "(they are known by their ids); give the captions of the bank's pictures"
        )
    shard = tokenize_lines(tokenizer, captions.texts)
    owners = np.repeat(rows, np.diff(shard.begins))
    tokens, owners = shard.token_ids[owners >= 0].astype(np.int64), owners[owners >= 0]
    pairs, counts = np.unique(tokens * len(ids) + owners, return_counts=True)
    types, pictures = np.divmod(pairs, len(ids))
    return types, pictures, counts / np.bincount(owners)[pictures]


BASELINES: dict[str, Callable[..., VokenCorpus]] = {
    "random": random_vokens, "shuffle": shuffled_vokens, "tokens": token_vokens, "term-frequency": frequency_vokens
}  # fmt: skip


def _write(
    work: Work, source: VokenCorpus, tokenizer: Any, out: Path | str, inputs: dict[str, str], options: dict[str, Any]
) -> VokenCorpus:
    source.check_tokenizer(tokenizer_digest(check_fast(tokenizer)))
    return write_corpus(work, source, tokenizer, out, inputs=inputs, **options)
