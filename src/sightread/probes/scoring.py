"""How probable a masked language model finds a word in its place, or a sentence.

The score of an answer of n pieces w_1 … w_n in a context c is the log-probability of the answer given its length,

    log P(w | c) = Σ_k log P(w_k | c, w_1 … w_{k-1}, [MASK] at k … n),

summed over its pieces, not averaged. This is the pseudo-log-likelihood of Salazar et al. (2020) with the correction of
Kauf & Ivanova (2023, "PLL-word-l2r"): the later pieces of a word are masked too. Without it a word of several pieces
scores too high, since its other pieces give each piece away; averaging over pieces would bring that fault back.

The score of a sentence sums the same over its words, each given all other words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from sightread.data.blocks import pad
from sightread.encoders.features import progress
from sightread.errors import ConfigError, DataError
from sightread.modules.language_model import LanguageModel
from sightread.probes.encoder import ProbedEncoder
from sightread.runtime import default_device

SLOT = "[Y]"
TOKENS_AT_A_TIME = 4096

Masked = tuple[tuple[int, ...], int]
"""A sequence of token ids, masks among them, and the position that is asked for."""


def pseudo_log_likelihoods(encoder: ProbedEncoder, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Log-probability of each answer in the slot `[Y]` of its prompt, float64 (N,).

    An answer of several words is one unit: it is filled in from left to right.

    Raises:
        ConfigError: If the encoder has no masked-LM head.
        DataError: If a prompt has not one slot, or the tokenizer finds nothing of an answer.
    """
    texts, spans = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        if prompt.count(SLOT) != 1:
            raise DataError(f"prompt {prompt!r} has {prompt.count(SLOT)} slots {SLOT}; expected one")
        begin = prompt.index(SLOT)
        texts.append(prompt.replace(SLOT, answer))
        spans.append((begin, begin + len(answer)))
    encoded = _tokenize(encoder, texts, return_offsets_mapping=True)
    units = []
    for text, offsets, (begin, end) in zip(texts, encoded["offset_mapping"], spans, strict=True):
        pieces = [i for i, (first, last) in enumerate(offsets) if first < end and last > begin]
        if not pieces:
            raise DataError(f"{encoder.label}: its tokenizer finds no token of {text[begin:end]!r} in {text!r}")
        units.append([pieces])
    return _score(encoder, encoded["input_ids"], units)


def sentence_scores(encoder: ProbedEncoder, sentences: Sequence[str]) -> np.ndarray:
    """Pseudo-log-likelihood of whole sentences, float64 (N,): the sum over words, each masked in turn.

    Raises:
        ConfigError: If the encoder has no masked-LM head.
    """
    encoded = _tokenize(encoder, sentences)
    words = [_positions_by_word(encoded.word_ids(i)) for i in range(len(sentences))]
    return _score(encoder, encoded["input_ids"], words)


def _tokenize(encoder: ProbedEncoder, texts: Sequence[str], **options: bool) -> Any:
    longest = encoder.text_encoder.max_length
    return encoder.tokenizer(list(texts), truncation=True, max_length=longest, **options)


def _positions_by_word(word_ids: Sequence[int | None]) -> list[list[int]]:
    words = defaultdict[int, list[int]](list)
    for position, word in enumerate(word_ids):
        if word is not None:  # as special tokens have none
            words[word].append(position)
    return list(words.values())


def _score(encoder: ProbedEncoder, sequences: Sequence[list[int]], units: Sequence[list[list[int]]]) -> np.ndarray:
    """For each sequence the sum over its units, each filled in from left to right; equal questions are asked once."""
    if encoder.masked_lm is None:
        raise ConfigError(f"{encoder.label} cannot fill in masks: {encoder.headless}")
    wanted = defaultdict[Masked, list[tuple[int, int]]](list)  # who asks, and for which token
    for number, (ids, groups) in enumerate(zip(sequences, units, strict=True)):
        for group in groups:
            hidden = list(ids)
            for position in reversed(group):  # so that what stands to the right is masked already
                hidden[position] = encoder.tokenizer.mask_token_id
                wanted[tuple(hidden), position].append((number, ids[position]))
    scores = np.zeros(len(sequences))
    for batch in progress(list(_batches(list(wanted))), "masked words"):
        asked = [(row, number, token) for row, masked in enumerate(batch) for number, token in wanted[masked]]
        rows, numbers, tokens = np.array(asked).T
        found = _log_probabilities(encoder.masked_lm, batch, encoder.tokenizer.pad_token_id or 0, rows, tokens)
        np.add.at(scores, numbers, found)
    return scores


def _batches(questions: list[Masked]) -> Iterator[list[Masked]]:
    """Questions of like length together, so that little is padded."""
    batch = list[Masked]()
    for masked in sorted(questions, key=lambda masked: len(masked[0])):
        if batch and (len(batch) + 1) * len(masked[0]) > TOKENS_AT_A_TIME:
            yield batch
            batch = []
        batch.append(masked)
    if batch:
        yield batch


@torch.no_grad()
def _log_probabilities(
    model: LanguageModel, batch: list[Masked], pad_id: int, rows: np.ndarray, tokens: np.ndarray
) -> np.ndarray:
    """Log-probabilities of tokens, each at the asked position of its row of the batch, float32 (len(rows),)."""
    model = model.to(default_device()).eval()
    device = next(model.parameters()).device
    ids = [np.array(ids) for ids, _ in batch]
    mask = pad([np.ones(len(row), np.int64) for row in ids], 0)
    states = model(pad(ids, pad_id).to(device), mask.to(device))
    logits = model.logits(states[range(len(batch)), [position for _, position in batch]]).float()  # (B, C)
    return (logits[rows, tokens] - logits.logsumexp(dim=-1)[rows]).cpu().numpy()
