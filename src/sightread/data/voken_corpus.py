"""The voken corpus: a text corpus in which every token has its picture.

A folder of Parquet shards, one row a line of the corpus, with the columns

    text        string              the raw line
    token_ids   list<int32>         its tokens, without special ones
    starts, ends  list<int32>       the characters of `text` that each token covers, half-open
    voken_ids   list<uint8|16|32>   row of the bank for each token; the value V itself means "no voken"

beside `tokenizer/` and a manifest with V and the digests of tokenizer, bank and corpus. A corpus that was only
tokenized is a voken corpus with V = 0. The shards load as they are with `datasets.load_dataset("parquet", …)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sightread.artifacts import Artifact, check_fits
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
        self.shards = sorted(self.path.glob("shard-*.parquet"))
        expected = self.artifact.report["shards"]
        if len(self.shards) != expected:
            raise ArtifactError(f"{path} has {len(self.shards)} shards, its manifest says {expected}; make it again")

    @property
    def num_tokens(self) -> int:
        """Tokens in all lines, special ones not counted."""
        return int(self.artifact.report["tokens"])

    @property
    def lines_per_shard(self) -> int:
        """Lines in every shard but the last."""
        return int(self.artifact.config["lines_per_shard"])

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
            lengths.append(np.diff(_offsets(table["token_ids"])))
        flat_vokens = np.concatenate(vokens) if vokens else np.zeros(0, np.int32)
        flat_vokens[flat_vokens == self.num_vokens] = IGNORED
        flat_tokens = np.concatenate(tokens) if tokens else np.zeros(0, np.int32)
        return flat_tokens, flat_vokens, np.cumsum(np.concatenate(lengths))


class TextOf:
    """The raw lines of a voken corpus, as a corpus to be tokenized anew.

    Attributes:
        digest: Digest of the text they came from.
    """

    def __init__(self, source: VokenCorpus) -> None:
        self.source, self.digest = source, source.artifact.inputs["corpus"]

    def __iter__(self) -> Iterator[str]:
        return (line.text for line in self.source)


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{index:05d}.parquet"


def write_shard(folder: Path, index: int, lines: Sequence[Line], num_vokens: int) -> None:
    """Write one shard, whole or not at all."""
    dtype = voken_dtype(num_vokens)
    table = pa.table(
        {
            "text": pa.array([line.text for line in lines], pa.string()),
            **{
                name: _list_array([getattr(line, name) for line in lines], np.dtype(np.int32))
                for name in ("token_ids", "starts", "ends")
            },
            "voken_ids": _list_array([line.voken_ids for line in lines], dtype),
        }
    )
    path = shard_path(folder, index)
    aside = path.with_suffix(".tmp")
    pq.write_table(table, aside, compression="zstd")
    aside.replace(path)


def read_shard(path: Path) -> list[Line]:
    """All lines of one shard; raises `ArtifactError` if it is torn."""
    table = _read_table(path)
    offsets = _offsets(table["token_ids"])
    columns = {name: _flattened(table[name]) for name in ("token_ids", "starts", "ends", "voken_ids")}
    columns["voken_ids"] = columns["voken_ids"].astype(np.int64)
    return [
        Line(text, **{name: column[begin:end] for name, column in columns.items()})
        for text, begin, end in zip(table["text"].to_pylist(), offsets[:-1], offsets[1:], strict=True)
    ]


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again with --resume") from error


def _list_array(rows: Sequence[np.ndarray], dtype: np.dtype[Any]) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = np.concatenate(rows).astype(dtype) if rows else np.zeros(0, dtype)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.from_numpy_dtype(dtype)))


def _flattened(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().flatten())


def _offsets(column: pa.ChunkedArray) -> np.ndarray:
    lengths = np.asarray(column.combine_chunks().value_lengths(), dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
