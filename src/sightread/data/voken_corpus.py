"""The voken corpus: a text corpus in which every token has its picture.

A folder of Parquet shards, one row a line of the corpus, with the columns

    text        string              the line
    token_ids   list<int32>         its tokens, without special ones
    starts, ends  list<int32>       the characters of `text` that each token covers, half-open
    voken_ids   list<uint8|16|32>   row of the bank for each token; the value V itself means "no voken"
    top_ids, top_scores  list<uint8|16|32>, list<float32>   if asked for: the k best rows of each token, and their
                                    scores, best first, token after token; score 0 where there is no voken

beside `tokenizer/` and a manifest with V and the digests of tokenizer, bank and corpus. A corpus that was only
tokenized is a voken corpus with V = 0. The shards load as they are:

    datasets.load_dataset("parquet", data_files="vokens/shard-*.parquet", split="train")
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sightread.artifacts import Artifact, check_fits, digest
from sightread.contracts import IGNORED
from sightread.errors import ArtifactError, ConfigError

KIND = "voken-corpus"
_COLUMNS, _TOP = ("token_ids", "starts", "ends", "voken_ids"), ("top_ids", "top_scores")


@dataclass(frozen=True)
class Line:
    """One tokenized line.

    Attributes:
        text: The raw text.
        token_ids: int32 (L,).
        starts: First character of each token, int32 (L,).
        ends: One past its last character, int32 (L,).
        voken_ids: Bank rows, int64 (L,); V where a token has none.
    """

    text: str
    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    voken_ids: np.ndarray


@dataclass(frozen=True)
class Shard:
    """Tokenized lines, end to end.

    Attributes:
        texts: The raw lines.
        begins: First token of each line, and after the last the number of all, int64 (lines + 1,).
        token_ids: int32 (T,).
        starts: First character of each token within its line, int32 (T,).
        ends: One past its last character, int32 (T,).
        voken_ids: Bank rows, int64 (T,); V where a token has none.
        top_ids: The best rows of each token, best first, integer (T, K), likewise; None if they are not kept.
        top_scores: Their scores, float32 (T, K); 0 where a token has none.
    """

    texts: list[str]
    begins: np.ndarray
    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    voken_ids: np.ndarray
    top_ids: np.ndarray | None = None
    top_scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[Line]:
        columns = [getattr(self, name) for name in _COLUMNS]
        for text, (begin, end) in zip(self.texts, itertools.pairwise(self.begins.tolist()), strict=True):
            yield Line(text, *(column[begin:end] for column in columns))


def voken_dtype(num_vokens: int) -> np.dtype[Any]:
    """The smallest unsigned integer type that holds V, which stands for "no voken"."""
    return np.min_scalar_type(num_vokens)


class VokenCorpus:
    """A finished voken corpus on disk.

    Attributes:
        path: Its folder.
        num_vokens: V, the number of pictures in the bank; 0 if the corpus was only tokenized.
        top: K, how many best pictures of each token are kept; 0 if only its voken is.
        artifact: Its manifest.
    """

    def __init__(self, path: Path | str) -> None:
        self.artifact = Artifact.open(path, KIND)
        self.path = Path(path)
        self.num_vokens: int = self.artifact.config["num_vokens"]
        self.top: int = self.artifact.config.get("top", 0)
        expected, found = self.artifact.report["shards"], len(list(self.path.glob("shard-*.parquet")))
        if found != expected:
            raise ArtifactError(f"{path} has {found} shards, its manifest says {expected}; make it again")
        self.shards = [shard_path(self.path, index) for index in range(expected)]

    @property
    def num_tokens(self) -> int:
        """Tokens in all lines, special ones not counted."""
        return int(self.artifact.report["tokens"])

    @property
    def digest(self) -> str:
        """Digest of its tokens and vokens, from the manifest."""
        if "digests" not in self.artifact.report:
            raise ArtifactError(f"{self.path} was made by an older version; make it again")
        return digest(str(self.num_vokens), self.artifact.inputs["tokenizer"], *self.artifact.report["digests"])

    def __len__(self) -> int:
        return int(self.artifact.report["lines"])

    def __iter__(self) -> Iterator[Line]:
        for shard in self.shards:
            yield from read_shard(shard)

    def check_tokenizer(self, digest: str) -> None:
        """Raise `ArtifactError` unless the tokenizer is the one the corpus was made with."""
        remedy = f"use the tokenizer in {self.path / 'tokenizer'}, or `sightread revokenize` the corpus to yours"
        check_fits("the tokenizer", digest, self.artifact.inputs["tokenizer"], remedy)

    def check_has_vokens(self) -> None:
        """Raise `ConfigError` if the corpus was only tokenized."""
        if not self.num_vokens:
            raise ConfigError(
                f"{self.path} was only tokenized and has no vokens; run `sightread vokenize` with a vokenizer"
            )

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All lines end to end.

        Returns:
            Token ids int32 (T,); voken ids int32 (T,), `IGNORED` for none; and where each line begins,
            int64 (lines + 1,).
        """
        tokens, vokens, lengths = list[np.ndarray](), list[np.ndarray](), [np.zeros(1, dtype=np.int64)]
        for shard in self.shards:
            table = _read_table(shard, ["token_ids", "voken_ids"])
            tokens.append(_flattened(table["token_ids"]).astype(np.int32))
            vokens.append(_flattened(table["voken_ids"]).astype(np.int32))
            lengths.append(np.diff(_begins(table["token_ids"])))
        flat_vokens = np.concatenate(vokens) if vokens else np.zeros(0, np.int32)
        flat_vokens[flat_vokens == self.num_vokens] = IGNORED
        flat_tokens = np.concatenate(tokens) if tokens else np.zeros(0, np.int32)
        return flat_tokens, flat_vokens, np.cumsum(np.concatenate(lengths))

    def flat_top(self) -> tuple[np.ndarray, np.ndarray]:
        """The best pictures of all tokens, in the order of `flat`.

        Returns:
            Bank rows int32 (T, K), best first, `IGNORED` for none; and their scores float32 (T, K), 0 for none.

        Raises:
            ConfigError: If only one voken a token is kept.
        """
        if not self.top:
            raise ConfigError(f"{self.path} keeps one voken a token; run `sightread vokenize` with --top 2 or more")
        size, begin = (self.num_tokens, self.top), 0
        ids, scores = np.empty(size, np.int32), np.empty(size, np.float32)
        for shard in self.shards:
            table = _read_table(shard, list(_TOP))
            parts = [_flattened(table[name]).reshape(-1, self.top) for name in _TOP]
            end = begin + len(parts[0])
            ids[begin:end], scores[begin:end] = parts
            begin = end
        ids[ids == self.num_vokens] = IGNORED
        return ids, scores


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{index:05d}.parquet"


def shard_bytes(shard: Shard, num_vokens: int) -> bytes:
    """A shard as a Parquet file; the same shard gives the same bytes."""
    dtypes = [np.int32] * 3 + [voken_dtype(num_vokens)] * 2 + [np.float32]
    lists = dict[str, pa.ListArray]()
    for name, dtype in zip(_COLUMNS + _TOP, dtypes, strict=True):
        column = getattr(shard, name)
        if column is not None:
            begins = pa.array(shard.begins * math.prod(column.shape[1:]), pa.int32())
            lists[name] = pa.ListArray.from_arrays(begins, pa.array(column.ravel().astype(dtype, copy=False)))
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(shard.texts, pa.string()), **lists}), out, compression="zstd")
    return out.getvalue().to_pybytes()


def read_shard(path: Path, top: int = 0) -> Shard:
    """One shard, with the best pictures if the corpus keeps `top` a token; raises `ArtifactError` if it is torn."""
    names = _TOP if top else ()
    table = _read_table(path, ["text", *_COLUMNS, *names])
    columns = {name: _flattened(table[name]) for name in _COLUMNS}
    columns["voken_ids"] = columns["voken_ids"].astype(np.int64)
    columns |= {name: _flattened(table[name]).reshape(-1, top) for name in names}
    return Shard(table["text"].to_pylist(), _begins(table["token_ids"]), **columns)


def read_ids(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """How many lines a shard has, its token ids and its voken ids, each int (T,); without the rest, in a tenth of the
    time."""
    table = _read_table(path, ["token_ids", "voken_ids"])
    return len(table), _flattened(table["token_ids"]), _flattened(table["voken_ids"])


def num_lines(path: Path) -> int:
    """How many lines a shard has; raises `ArtifactError` if it is torn."""
    with _reading(path):
        return int(pq.read_metadata(path).num_rows)


def _read_table(path: Path, columns: list[str]) -> pa.Table:
    with _reading(path):
        return pq.read_table(path, columns=columns)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its folder again, or put the file back") from error


def _flattened(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().flatten())


def _begins(column: pa.ChunkedArray) -> np.ndarray:
    lengths = np.asarray(column.combine_chunks().value_lengths(), dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
