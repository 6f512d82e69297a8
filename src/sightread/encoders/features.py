"""Features of frozen encoders, computed once and kept on disk."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from tqdm import tqdm

from sightread.artifacts import Artifact, digest
from sightread.contracts import Pictures
from sightread.data.blocks import pad, stands_first
from sightread.data.skipped import Skipped
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder
from sightread.errors import DataError
from sightread.runtime import default_device

LEVELS = ("token", "sentence")


def image_features(
    encoder: ImageEncoder,
    pictures: Pictures,
    *,
    cache: Path | None = None,
    batch_size: int = 32,
    max_skipped: float = 0.1,
    or_none: bool = False,
) -> tuple[np.ndarray, np.ndarray, Skipped]:
    """Features of every picture that can be decoded.

    Args:
        encoder: The frozen encoder.
        pictures: The pictures.
        cache: A folder to keep the features in; found there, they are not computed again unless encoder or
            pictures changed.
        batch_size: Pictures at a time.
        max_skipped: Share of pictures that may be broken.
        or_none: Whether that may be all; then there are no features, float32 (0, 0).

    Returns:
        Features float32 (N, F), the rows of `pictures` they belong to int64 (N,), and what was skipped.

    Raises:
        DataError: If too many pictures are broken, or all.
    """
    inputs = {"encoder": encoder.digest, "pictures": _pictures_digest(pictures)}
    if cache is None:
        return _compute_image_features(encoder, pictures, batch_size, max_skipped, or_none)
    artifact = Artifact.begin_cache(cache, "image-features", inputs)
    if not artifact.finished:
        features, rows, skipped = _compute_image_features(encoder, pictures, batch_size, max_skipped, or_none)
        np.save(artifact.path / "features.npy", features)
        np.save(artifact.path / "rows.npy", rows)
        artifact.finish({"skipped": skipped.report()})
    skipped = Skipped.from_report(artifact.report["skipped"])
    return np.load(artifact.path / "features.npy"), np.load(artifact.path / "rows.npy"), skipped


def centred(features: np.ndarray) -> np.ndarray:
    """Features (V, F) less their mean, which tells no picture from another, and scaled to unit variance over all."""
    features = features - features.mean(axis=0)
    return features / max(features.std(), 1e-6)


def _pictures_digest(pictures: Pictures) -> str:
    parts = list[str]()
    for index, id_ in enumerate(pictures.ids):
        path = pictures.path(index)
        stat = path.stat() if path and path.exists() else None
        parts += [id_, f"{stat.st_size} {stat.st_mtime_ns}" if stat else "-"]
    return digest(*parts)


@torch.no_grad()  # inference mode would leave weights that cannot be trained
def _compute_image_features(
    encoder: ImageEncoder, pictures: Pictures, batch_size: int, max_skipped: float, or_none: bool
) -> tuple[np.ndarray, np.ndarray, Skipped]:
    device = default_device()
    encoder = encoder.to(device).eval()
    layout = torch.channels_last if device == "cpu" else torch.contiguous_format  # CNNs are three times as fast
    encoder.to(memory_format=layout)  # type: ignore[call-overload]
    skipped, rows, features = Skipped(), list[int](), list[np.ndarray]()
    for indices, images in _decoded_batches(pictures, batch_size, skipped):
        pixels = encoder.preprocess(images).to(device).contiguous(memory_format=layout)
        vectors = encoder(pixels)
        features.append(vectors.float().cpu().numpy())
        rows += indices
    encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    skipped.check(len(pictures), max_skipped, "pictures")
    if not rows and not or_none:
        raise DataError("not one of the pictures can be decoded")
    return np.concatenate(features or [np.zeros((0, 0), np.float32)]), np.array(rows, dtype=np.int64), skipped


def _decoded_batches(pictures: Pictures, batch_size: int, skipped: Skipped) -> Iterator[tuple[list[int], list[Image]]]:
    indices, images = list[int](), list[Image]()
    for index in progress(range(len(pictures)), "picture features"):
        try:
            images.append(pictures.load(index))
            indices.append(index)
        except DataError as error:
            skipped.add(str(error), pictures.ids[index])
        if len(images) == batch_size or (images and index == len(pictures) - 1):
            yield indices, images
            indices, images = [], []
    if images:  # the last picture was skipped
        yield indices, images


@dataclass(frozen=True)
class TokenFeatures:
    """Vectors of every token of some sentences, end to end, special tokens left out; or one vector a sentence.

    Attributes:
        vectors: float16 (T, D).
        begins: Where each sentence begins, int64 (sentences + 1,).
        sentence_of: Sentence of each token, int64 (T,).
    """

    vectors: np.ndarray
    begins: np.ndarray
    sentence_of: np.ndarray


@torch.no_grad()
def token_features(
    encoder: TextEncoder, sentences: Sequence[str], *, level: str = "token", batch_size: int = 64
) -> TokenFeatures:
    """Encode sentences once, for training on frozen features; at the level "sentence" by their `sentence_states`.

    Half precision halves the memory; the heads trained on it see differences of 1e-3, less than dropout makes.
    Sentences longer than the model reads are cut at its length, with a warning.
    """
    device = default_device()
    encoder = encoder.to(device).eval()
    encoded = encoder.tokenizer(
        list(sentences), truncation=True, max_length=encoder.max_length, return_special_tokens_mask=True
    )
    if cut := sum(bool(part.overflowing) for part in encoded.encodings):
        warnings.warn(
            f"{cut} of {len(sentences)} sentences are longer than the {encoder.max_length} tokens read, and are cut",
            stacklevel=2,
        )  # fmt: skip
    kept = [~np.array(mask, dtype=bool) for mask in encoded["special_tokens_mask"]]
    lengths = np.array([1 if level == "sentence" else mask.sum() for mask in kept])
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    vectors = np.zeros((int(begins[-1]), encoder.width), dtype=np.float16)
    order = np.argsort([len(mask) for mask in kept], kind="stable")
    for at in progress(range(0, len(order), batch_size), f"{level} features"):
        rows = order[at : at + batch_size]
        ids = [np.array(encoded["input_ids"][i]) for i in rows]
        if level == "sentence":
            vectors[rows] = sentence_states(encoder, ids).cpu().numpy()
            continue
        states = encode_ids(encoder, ids).cpu().numpy()
        for row, state in zip(rows, states, strict=True):
            vectors[begins[row] : begins[row + 1]] = state[: len(kept[row])][kept[row]]
    return TokenFeatures(vectors, begins, np.repeat(np.arange(len(lengths)), lengths))


def encode_ids(encoder: TextEncoder, ids: Sequence[np.ndarray]) -> torch.Tensor:
    """Token vectors of sequences of different lengths, special tokens included, float32 (B, L, D)."""
    device, fill = next(encoder.parameters()).device, encoder.tokenizer.pad_token_id or 0
    if encoder.fixed_length:
        ids = [np.pad(row, (0, encoder.fixed_length - len(row)), constant_values=fill) for row in ids]
    input_ids = pad(ids, fill).to(device)
    mask = pad([np.ones(len(row), np.int64) for row in ids], 0).to(device)
    return encoder(input_ids, mask).float()


def sentence_states(encoder: TextEncoder, ids: Sequence[np.ndarray]) -> torch.Tensor:
    """The state of each sequence that stands for all of it, float32 (B, D).

    It is that of the first token, or of the last, which of SigLIP is the last position that it reads; see
    `stands_first`.
    """
    states = encode_ids(encoder, ids)
    if stands_first(encoder.tokenizer):
        return states[:, 0]
    return states[torch.arange(len(ids)), [(encoder.fixed_length or len(row)) - 1 for row in ids]]


def progress(items: Any, what: str) -> Any:
    """A progress bar on a terminal, nothing elsewhere."""
    return tqdm(items, desc=what, leave=False, disable=not sys.stderr.isatty())
