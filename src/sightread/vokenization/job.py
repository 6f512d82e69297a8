"""From a corpus to a voken corpus: tokenize, assign each token its picture, write shards.

A shard holds a fixed number of lines and depends on the corpus and the settings alone. It appears whole or not at all,
so that a killed job, run again with `resume`, goes on after its last shard and ends with the same folder.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sightread.artifacts import Artifact
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import KIND, Line, TextOf, VokenCorpus, read_shard, shard_path, write_shard
from sightread.encoders.text import check_fast, tokenizer_digest, weights_digest
from sightread.runtime import keyed_rng
from sightread.vokenizer import Vokenizer

LINES_PER_SHARD = 2000
Assign = Callable[[int, Sequence[Line]], list[np.ndarray]]
"""What gives lines their vokens: (number of the first line, lines without vokens) -> one int64 (L,) a line."""


def vokenize(
    corpus: Corpus, vokenizer: Vokenizer, out: Path | str, *, overwrite: bool = False, resume: bool = False
) -> VokenCorpus:
    """Give every token of a corpus its best picture.

    Args:
        corpus: Plain text.
        vokenizer: What assigns the pictures; its tokenizer is the voken corpus's.
        out: Folder of the voken corpus.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished job in `out`.
    """

    def assign(_: int, lines: Sequence[Line]) -> list[np.ndarray]:
        vectors = vokenizer.token_vectors([line.token_ids.astype(np.int64) for line in lines])
        rows = vokenizer.bank.nearest(torch.cat(vectors))[1][:, 0].numpy()
        return np.split(rows, np.cumsum([len(line.token_ids) for line in lines])[:-1])

    bank = vokenizer.bank
    inputs = {
        "bank": bank.digest, "text_encoder": weights_digest(vokenizer.text_encoder),
        "text_head": weights_digest(vokenizer.text_head), "image_head": weights_digest(vokenizer.image_head),
        "max_length": str(vokenizer.config.max_length), "layers": str(vokenizer.config.layers),
    }  # fmt: skip
    return write_corpus(
        corpus,
        vokenizer.tokenizer,
        out,
        num_vokens=len(bank),
        assign=assign,
        inputs=inputs,
        overwrite=overwrite,
        resume=resume,
    )


def tokenize(corpus: Corpus, tokenizer: Any, out: Path | str, **flags: Any) -> VokenCorpus:
    """A voken corpus without vokens (V = 0), for text-only pre-training; flags as for `vokenize`."""
    return write_corpus(
        corpus,
        tokenizer,
        out,
        num_vokens=0,
        assign=lambda _, lines: [np.zeros(len(x.token_ids), np.int64) for x in lines],
        **flags,
    )


def random_vokens(source: VokenCorpus, tokenizer: Any, out: Path | str, *, seed: int, **flags: Any) -> VokenCorpus:
    """The control: the same lines and tokens, each with a picture drawn by lot, keyed by its line."""

    def assign(first: int, lines: Sequence[Line]) -> list[np.ndarray]:
        numbered = enumerate(lines, start=first)
        return [keyed_rng(seed, i).integers(source.num_vokens, size=len(line.token_ids)) for i, line in numbered]

    source.check_has_vokens()
    inputs = {"bank": source.artifact.inputs["bank"], "random": str(seed)}
    return write_corpus(
        TextOf(source), tokenizer, out, num_vokens=source.num_vokens, assign=assign, inputs=inputs, **flags
    )


def write_corpus(
    corpus: Any,
    tokenizer: Any,
    out: Path | str,
    *,
    num_vokens: int,
    assign: Assign,
    inputs: dict[str, str] | None = None,
    lines_per_shard: int = LINES_PER_SHARD,
    overwrite: bool = False,
    resume: bool = False,
) -> VokenCorpus:
    """Tokenize a corpus, assign vokens, write shards; the common part of everything that makes a voken corpus.

    Args:
        corpus: Yields lines; has a `digest`.
        tokenizer: A fast tokenizer.
        out: Folder of the voken corpus.
        num_vokens: V.
        assign: What gives lines their vokens.
        inputs: Digests of what `assign` rests on.
        lines_per_shard: Lines in every shard but the last.
        overwrite: Replace what is in `out`.
        resume: Go on with an unfinished job in `out`.
    """
    check_fast(tokenizer)
    inputs = {"corpus": corpus.digest, "tokenizer": tokenizer_digest(tokenizer), **(inputs or {})}
    config = {"num_vokens": num_vokens, "lines_per_shard": lines_per_shard}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return VokenCorpus(artifact.path)
    started, counts = time.monotonic(), {"shards": 0, "lines": 0, "tokens": 0, "no_voken": 0}
    tokenizer.save_pretrained(artifact.path / "tokenizer")
    with tqdm(desc="tokens", unit=" tokens", disable=not sys.stderr.isatty()) as bar:
        for index, texts in enumerate(_batched(corpus, lines_per_shard)):
            if shard_path(artifact.path, index).exists():
                lines = read_shard(shard_path(artifact.path, index))
            else:
                bare = tokenize_lines(tokenizer, texts)
                vokens = assign(index * lines_per_shard, bare)
                lines = [Line(x.text, x.token_ids, x.starts, x.ends, v) for x, v in zip(bare, vokens, strict=True)]
                write_shard(artifact.path, index, lines, num_vokens)
            counts["shards"] += 1
            counts["lines"] += len(lines)
            counts["tokens"] += sum(len(line.token_ids) for line in lines)
            counts["no_voken"] += sum(int((line.voken_ids == num_vokens).sum()) for line in lines)
            bar.update(sum(len(line.token_ids) for line in lines))
    skipped = corpus.skipped.report() if isinstance(corpus, Corpus) else {}
    artifact.finish({**counts, "skipped": skipped, "seconds": time.monotonic() - started})
    return VokenCorpus(artifact.path)


def tokenize_lines(tokenizer: Any, texts: Sequence[str]) -> list[Line]:
    """Tokens and spans of raw lines, special tokens left out; every voken still missing (an empty array)."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    lines = []
    for text, ids, spans in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        borders = np.array(spans, dtype=np.int32).reshape(-1, 2)
        lines.append(Line(text, np.array(ids, np.int32), borders[:, 0], borders[:, 1], np.zeros(0, np.int64)))
    return lines


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
