"""The voken corpus: a text corpus in which every token has its picture.

A folder of Parquet shards, one row a line of the corpus, with the columns

    text        string              the line
    token_ids   list<int32>         its tokens, without special ones
    starts, ends  list<int32>       the characters of `text` that each token covers, half-open
    voken_ids   list<uint8|16|32>   row of the bank for each token; the value V itself means "no voken"

beside `tokenizer/` and a manifest with V and the digests of tokenizer, bank and corpus. A corpus that was only
tokenized is a voken corpus with V = 0. The shards load as they are with `datasets.load_dataset("parquet", …)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
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
    """

    texts: list[str]
    begins: np.ndarray
    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    voken_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[Line]:
        columns = (self.token_ids, self.starts, self.ends, self.voken_ids)
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
        artifact: Its manifest.
    """

    def __init__(self, path: Path | str) -> None:
        self.artifact = Artifact.open(path, KIND)
        self.path = Path(path)
        self.num_vokens: int = self.artifact.config["num_vokens"]
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


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{index:05d}.parquet"


def shard_bytes(shard: Shard, num_vokens: int) -> bytes:
    """A shard as a Parquet file; the same shard gives the same bytes."""
    columns = {name: getattr(shard, name).astype(np.int32, copy=False) for name in ("token_ids", "starts", "ends")}
    columns["voken_ids"] = shard.voken_ids.astype(voken_dtype(num_vokens))
    begins = pa.array(shard.begins.astype(np.int32))
    lists = {name: pa.ListArray.from_arrays(begins, pa.array(column)) for name, column in columns.items()}
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(shard.texts, pa.string()), **lists}), out, compression="zstd")
    return out.getvalue().to_pybytes()


def read_shard(path: Path) -> Shard:
    """One shard; raises `ArtifactError` if it is torn."""
    table = _read_table(path)
    columns = {name: _flattened(table[name]) for name in ("token_ids", "starts", "ends", "voken_ids")}
    columns["voken_ids"] = columns["voken_ids"].astype(np.int64)
    return Shard(table["text"].to_pylist(), _begins(table["token_ids"]), **columns)


def read_ids(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """How many lines a shard has, its token ids and its voken ids, each int (T,); without the rest, in a tenth of the
    time."""
    table = _read_table(path, ["token_ids", "voken_ids"])
    return len(table), _flattened(table["token_ids"]), _flattened(table["voken_ids"])


def num_lines(path: Path) -> int:
    """How many lines a shard has."""
    return int(pq.read_metadata(path).num_rows)


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its folder again, or put the file back") from error


def _flattened(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().flatten())


def _begins(column: pa.ChunkedArray) -> np.ndarray:
    lengths = np.asarray(column.combine_chunks().value_lengths(), dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
