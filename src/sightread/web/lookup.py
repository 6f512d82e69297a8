"""The reverse look-up: which tokens of a voken corpus chose a picture."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sightread.data.voken_corpus import VokenCorpus, read_ids, read_shard

TYPES, EXAMPLES = 24, 8  # kinds of tokens that are listed, and lines
_AROUND = 60  # characters on each side of a token


def choosers(corpus: VokenCorpus, tokenizer: Any, row: int, seconds: float = 2.0) -> dict[str, Any]:
    """The tokens whose voken is a picture.

    Shards are read one after the other, at least one, until the time is up: nothing is held, and nobody waits longer.

    Args:
        corpus: The voken corpus.
        tokenizer: Its tokenizer.
        row: The picture's row in the corpus's bank.
        seconds: How long to read.

    Returns:
        `tokens`, how many chose it, among `read`, a share of the corpus; `types`, pairs of a token and how often, the
        most frequent first; `examples`, what stands before a token, its text, what follows.
    """
    began, counts, examples, read = time.monotonic(), np.zeros(len(tokenizer), np.int64), list[list[str]](), 0
    for shard in corpus.shards:
        _, token_ids, voken_ids = read_ids(shard)
        chose = voken_ids == row
        counts += np.bincount(token_ids[chose], minlength=len(counts))
        if chose.any() and len(examples) < EXAMPLES:
            examples += _examples(shard, row, EXAMPLES - len(examples))
        read += len(token_ids)
        if time.monotonic() - began > seconds:
            break
    most = np.argsort(-counts, kind="stable")[: min(TYPES, np.count_nonzero(counts))].tolist()
    return {
        "tokens": int(counts.sum()), "read": read / max(corpus.num_tokens, 1), "examples": examples,
        "types": [[_written(tokenizer, token), int(counts[token])] for token in most],
    }  # fmt: skip


def _examples(path: Any, row: int, count: int) -> list[list[str]]:
    found, seen = list[list[str]](), set[str]()
    for line in read_shard(path):
        if line.text in seen:
            continue
        seen.add(line.text)
        for place in np.flatnonzero(line.voken_ids == row)[:1]:  # one of a line
            begin, end = int(line.starts[place]), int(line.ends[place])
            before, after = line.text[max(begin - _AROUND, 0) : begin], line.text[end : end + _AROUND]
            cut = "…" * (begin > _AROUND), "…" * (len(line.text) > end + _AROUND)
            found.append([cut[0] + before, line.text[begin:end], after + cut[1]])
        if len(found) == count:
            break
    return found


def _written(tokenizer: Any, token: int) -> str:
    """A token as people write it, or as the tokenizer does if nothing is to be seen of it."""
    return tokenizer.decode([token]).strip() or tokenizer.convert_ids_to_tokens(token)
