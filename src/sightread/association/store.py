"""The pictures of many texts, sought once and kept.

A folder of shards, each with the keys of some texts, uint8 (n, 16), the BLAKE2b digests of what they say, and the rows
of their pictures, int32 (n, K), best first, -1 for none. A text is kept once, in order of its first mention.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from sightread.artifacts import Artifact, check_fits, digest, write_atomic, writing
from sightread.association import Association
from sightread.config import check_positive
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.runtime import Clock

KIND = "pictures"
SHARD_SIZE = 50_000


def associate(
    queries: Iterable[str], association: Association, k: int, out: Path | str, *,
    config: Mapping[str, Any] | None = None, inputs: Mapping[str, str] | None = None, shard_size: int = SHARD_SIZE,
    overwrite: bool = False, resume: bool = False,
) -> Path:  # fmt: skip
    """Seek the k best pictures of each distinct text, and write them; of what is done, only the keys are held.

    Args:
        queries: The texts, in the order and as they will be asked for.
        association: What seeks.
        k: Pictures a text, at most V.
        out: Folder for `PictureStore`. Its report: `queries`, `distinct` ones, their whitespace-separated `words`,
            `texts_per_second` and `words_per_second` of this session's, and the share `without_picture`.
        config: Settings that the queries follow from.
        inputs: Digests of what they were made from.
        shard_size: Texts in a shard.
        overwrite: Replace what is in the folder.
        resume: Go on with an unfinished job in the folder.

    Raises:
        ArtifactError: If the folder cannot be begun or written, or is resumed with other texts.
        ConfigError: If k is not between 1 and V.
        DataError: If there are no texts.
    """
    association.retrieve([], k)  # refuses a wrong k before any work
    check_positive(shard_size=shard_size)
    config = {"kind": association.kind, "k": k, "shard_size": shard_size, **(config or {})}
    config |= {} if association.nested else {"nested": False}
    inputs = {"association": association.digest, "bank": association.bank.digest, **(inputs or {})}
    artifact = Artifact.begin(out, KIND, config=config, inputs=inputs, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return artifact.path
    seen, asked, clock = set[bytes](), itertools.count(), Clock()
    shards = words = without = made_texts = made_words = 0
    distinct = _distinct(queries, seen, asked)
    while texts := list(itertools.islice(distinct, shard_size)):
        keys, path = _keys(texts), shard_path(artifact.path, shards)
        count = sum(len(text.split()) for text in texts)
        if path.exists():
            stored, rows = _read(path)
            if not np.array_equal(stored, keys):
                raise ArtifactError(f"{out} cannot be resumed: it was begun with other texts; give --overwrite")
        else:
            with clock("seeking"):
                rows = association.retrieve(texts, k).astype(np.int32)
            with writing(path):
                write_atomic(path, safetensors.numpy.save({"keys": keys, "rows": rows}))
            made_texts, made_words = made_texts + len(texts), made_words + count
        shards, words, without = shards + 1, words + count, without + int((rows[:, 0] < 0).sum())
    if not seen:
        raise DataError("there is no text to seek pictures for")
    seconds = max(clock.seconds.get("seeking", 0.0), 1e-9)
    return artifact.finish({
        "queries": next(asked), "distinct": len(seen), "shards": shards, "words": words,
        "texts_per_second": made_texts / seconds, "words_per_second": made_words / seconds,
        "without_picture": without / len(seen),
    })  # fmt: skip


class PictureStore:
    """The pictures of texts, as `associate` wrote them.

    Attributes:
        artifact: Its manifest.
        k: How many are kept of each text.
    """

    def __init__(self, path: Path | str) -> None:
        self.artifact = Artifact.open(path, KIND)
        self.k: int = self.artifact.config["k"]
        shards = [_read(shard_path(self.artifact.path, i)) for i in range(self.artifact.report["shards"])]
        keys, rows = (np.concatenate(part) for part in zip(*shards, strict=True))
        keys = _comparable(keys)
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], rows[order]

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def digest(self) -> str:
        """Digest of texts and pictures."""
        return digest(self.artifact.inputs["bank"], self._keys.tobytes(), self._rows.tobytes())

    def check_association(self, association: Association) -> None:
        """Raise `ArtifactError` unless it is this association that sought them."""
        remedy = "give the association that sought these pictures, or make them again"
        check_fits("the association", association.digest, self.artifact.inputs["association"], remedy)

    def rows(self, queries: Sequence[str], k: int) -> np.ndarray:
        """The pictures of each text, int64 (N, K), best first, -1 for none.

        Raises:
            ArtifactError: If a text is not among those that pictures were sought for.
            ConfigError: If k is more than is kept; or fewer, of an association that is not `nested`.
        """
        if not 1 <= k <= self.k:
            raise ConfigError(f"k={k}: expected between 1 and the {self.k} pictures that are kept of each text")
        if k < self.k and not self.artifact.config.get("nested", True):
            raise ConfigError(
                f"k={k}: by {self.artifact.config['kind']} other pictures are found if fewer are asked for than the "
                f"{self.k} that are kept of each text; find {k} of each"
            )
        keys = _comparable(_keys(queries))
        at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        unknown = np.flatnonzero(self._keys[at] != keys)
        if len(unknown):
            raise ArtifactError(
                f"no pictures for {queries[unknown[0]]!r:.80}: these pictures were sought for other text; "
                "make them again for the text, settings and number of steps with which it is read"
            )
        return self._rows[at, :k].astype(np.int64)


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{index:05d}.safetensors"


def _distinct(queries: Iterable[str], seen: set[bytes], asked: Iterator[int]) -> Iterator[str]:
    """Each text once; counts all."""
    for query in queries:
        next(asked)
        if (key := _key(query)) not in seen:
            seen.add(key)
            yield query


def _key(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _keys(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer(b"".join(map(_key, texts)), dtype=np.uint8).reshape(-1, 16)


def _comparable(keys: np.ndarray) -> np.ndarray:
    """Keys that can be sorted, (n,)."""
    return np.ascontiguousarray(keys).view("S16")[:, 0]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        arrays = safetensors.numpy.load_file(path)
        return arrays["keys"], arrays["rows"]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make its folder again") from error
