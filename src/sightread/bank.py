"""ImageBank: V pictures with stable ids, their vectors, and exact search among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from sightread.artifacts import Artifact, check_fits, digest, write_atomic
from sightread.config import check_choice
from sightread.contracts import Pictures
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.approximate import KINDS, FaissIndex, import_faiss
from sightread.modules.search import ExactIndex
from sightread.runtime import keyed_rng

KIND = "bank"
CHOICES = ("random", "diverse")
INDEXES = ("exact", *KINDS)


class ImageBank:
    """A bank of pictures.

    Attributes:
        ids: Stable ids, (V,).
        vectors: Unit rows that are searched, float32 (V, E): the joint space's, or the normalised features.
        features: What the image encoder gave, float32 (V, F).
        paths: Where each picture is, "" if it is in no file, (V,).
        encoder: Digest of the image encoder that gave the features, "" if it is not known.
        num_regions: Of how many regions' vectors, end to end, a feature is made.
        index: What `nearest` searches with, "exact" or a kind of `FaissIndex`; of this process, not saved.
    """

    def __init__(
        self,
        ids: Sequence[str],
        features: np.ndarray,
        paths: Sequence[str],
        vectors: np.ndarray | None = None,
        *,
        encoder: str = "",
        num_regions: int = 1,
        index: str = "exact",
    ) -> None:
        check_choice("index", index, INDEXES)
        self.num_regions = num_regions
        self.ids, self.paths, self.encoder, self.index = list(ids), list(paths), encoder, index
        self._built: dict[torch.device, ExactIndex | FaissIndex] = {}
        self.features = np.ascontiguousarray(features, dtype=np.float32)
        self.vectors = unit_rows(features) if vectors is None else np.ascontiguousarray(vectors, dtype=np.float32)
        if not len(self.ids) == len(self.paths) == len(self.features) == len(self.vectors):
            raise ArtifactError(f"a bank of {len(self.ids)} ids has {len(self.features)} features; make it again")
        if not np.allclose(np.linalg.norm(self.vectors, axis=1), 1, atol=1e-3):
            raise ArtifactError("the vectors of the bank are no unit rows; normalise them, or leave out zero features")
        if len(set(self.ids)) != len(self.ids):
            raise ConfigError("two pictures of the bank have the same id; ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """Digest of what a voken stands for: which pictures, in which order, with which features."""
        return digest(*self.ids, self.features.tobytes())

    def nearest(self, queries: Tensor | np.ndarray, k: int = 1) -> tuple[Tensor, Tensor]:
        """The k best pictures for each query, exactly unless another index was chosen, ties to the lowest row.

        The index is built at the first call.

        Args:
            queries: float32 (N, E).
            k: How many, at most V; `ConfigError` if more.

        Returns:
            Scores float32 (N, K) and rows int64 (N, K).
        """
        queries = torch.as_tensor(queries, dtype=torch.float32)
        if queries.device not in self._built:
            keys = torch.from_numpy(self.vectors).to(queries.device)
            self._built[queries.device] = ExactIndex(keys) if self.index == "exact" else FaissIndex(keys, self.index)
        return self._built[queries.device].top_k(queries, k)

    def with_index(self, index: str) -> ImageBank:
        """The same pictures, searched with one of `INDEXES`; measure one that is not exact by `recall`.

        Raises `MissingExtra` if it needs FAISS, and that is not installed.
        """
        if index in KINDS:
            import_faiss()  # now, and not in the middle of a job
        return self._with(index=index)

    def with_vectors(self, vectors: np.ndarray) -> ImageBank:
        """The same pictures in another space, float (V, E)."""
        return self._with(vectors=vectors)

    def select(self, rows: Sequence[int] | np.ndarray) -> ImageBank:
        """The given rows, in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        ids, paths = ([column[i] for i in index] for column in (self.ids, self.paths))
        return self._with(ids=ids, features=self.features[index], paths=paths, vectors=self.vectors[index])

    def check_encoder(self, encoder: ImageEncoder) -> None:
        """Raise `ArtifactError` if it is known that another image encoder gave the features."""
        if self.encoder:
            remedy = "build the bank with the vokenizer's image encoder, pooling and view"
            check_fits("the bank's image encoder", self.encoder, encoder.digest, remedy)

    def _with(self, **changes: Any) -> ImageBank:
        names = ("ids", "features", "paths", "vectors", "encoder", "num_regions", "index")
        return ImageBank(**{name: getattr(self, name) for name in names} | changes)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_built": {}}  # another process builds its own

    def save(self, out: Path | str, *, overwrite: bool = False) -> Path:
        """Write the bank into a folder."""
        return self.save_into(Artifact.begin(out, KIND, overwrite=overwrite))

    def save_into(self, artifact: Artifact, report: Mapping[str, Any] | None = None) -> Path:
        """Fill and finish a folder that was begun as a bank."""
        arrays = {"vectors": self.vectors, "features": self.features}
        write_atomic(artifact.path / "bank.safetensors", safetensors.numpy.save(arrays))
        rows = [json.dumps({"id": i, "path": p}) for i, p in zip(self.ids, self.paths, strict=True)]
        write_atomic(artifact.path / "pictures.jsonl", "\n".join(rows) + "\n")
        artifact.inputs["image_encoder"] = self.encoder
        artifact.config["num_regions"] = self.num_regions
        return artifact.finish({"pictures": len(self), **(report or {})})

    @classmethod
    def load(cls, folder: Path | str) -> ImageBank:
        """Read a bank; raises `ArtifactError` if it is none or damaged."""
        artifact = Artifact.open(folder, KIND)
        path = artifact.path
        try:
            arrays = safetensors.numpy.load_file(path / "bank.safetensors")
            rows = [json.loads(line) for line in (path / "pictures.jsonl").read_text().split("\n") if line]
            columns = [row["id"] for row in rows], arrays["features"], [row["path"] for row in rows], arrays["vectors"]
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"the bank {folder} is damaged ({error}); make it again") from error
        regions = artifact.config.get("num_regions", 1)  # older folders lack it
        return cls(*columns, encoder=artifact.inputs.get("image_encoder", ""), num_regions=regions)


def build_bank(
    pictures: Pictures,
    encoder: ImageEncoder,
    *,
    size: int | None = None,
    choose: str = "random",
    seed: int = 0,
    cache: Path | None = None,
    max_skipped: float = 0.1,
) -> tuple[ImageBank, dict[str, Any]]:
    """A bank from pictures.

    Args:
        pictures: Where they come from.
        encoder: What turns them into features.
        size: V; all pictures if None.
        choose: "random" or "diverse" (see `choose_rows`) when `size` is given.
        seed: Seed of the choice.
        cache: Folder that keeps the features of all the pictures.
        max_skipped: Share of pictures that may be broken.

    Returns:
        The bank, and a report of what was skipped.
    """
    features, rows, skipped = image_features(encoder, pictures, cache=cache, max_skipped=max_skipped)
    paths = [str(path.resolve()) if (path := pictures.path(row)) else "" for row in rows]
    ids = [pictures.ids[row] for row in rows]
    bank = ImageBank(ids, features, paths, encoder=encoder.digest, num_regions=encoder.num_regions)
    if size is not None:
        bank = bank.select(choose_rows(bank.vectors, size, choose, seed))
    return bank, {"skipped": skipped.report()}


def choose_rows(vectors: np.ndarray, size: int, choose: str, seed: int) -> np.ndarray:
    """Choose pictures for a bank.

    Args:
        vectors: Unit rows, float32 (N, E).
        size: How many, at most N.
        choose: "random": uniformly; "diverse": k-center, greedily the picture furthest from all chosen so far
            (Gonzalez 1985), beginning with a random one.
        seed: Seed of the draw.

    Returns:
        Sorted rows, int64 (size,).

    Raises:
        ConfigError: If there are not that many.
    """
    check_choice("choose", choose, CHOICES)
    if not 1 <= size <= len(vectors):
        raise ConfigError(f"a bank of {size} pictures was asked for; there are {len(vectors)}")
    rng = keyed_rng(seed)
    if choose == "random":
        return np.sort(rng.choice(len(vectors), size, replace=False))
    chosen = [int(rng.integers(len(vectors)))]
    closest = vectors @ vectors[chosen[0]]
    while len(chosen) < size:
        closest[chosen[-1]] = np.inf
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, vectors @ vectors[chosen[-1]])
    return np.sort(np.array(chosen, dtype=np.int64))


def recall(bank: ImageBank, queries: Tensor | np.ndarray) -> float:
    """Share of queries, float32 (N, E), for which the bank's index finds the very picture that exact search finds."""
    exact, found = (some.nearest(queries)[1] for some in (bank.with_index("exact"), bank))
    return (found == exact).float().mean().item()


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; rows of zeros stay."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
