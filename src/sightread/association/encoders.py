"""Pictures by what an encoder makes of the text: those with the nearest keys, the vokens, or one made for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from sightread.artifacts import digest
from sightread.association import Association, State
from sightread.association.words import WordVectors, rows_in
from sightread.bank import ImageBank, unit_rows
from sightread.checks import check_shape
from sightread.data.blocks import special_tokens_around
from sightread.data.captions import Captions
from sightread.data.skipped import Skipped
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder, config_digest, tokenizer_digest, weights_digest
from sightread.encoders.windows import encode_lines, end_to_end
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.modules.search import ExactIndex
from sightread.runtime import default_device
from sightread.vokenizer import TOKEN_BUDGET, Vokenizer

Encoder = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors, float32 (N, E), zeros for a text of which nothing is known."""


class MeanVectors:
    """The mean vector of a text's tokens, unit rows float32 (N, D or E), special tokens left out.

    A batch pads its texts, so that a vector may differ by rounding beside other texts.

    Args:
        model: A text encoder, or a vokenizer, whose joint space is then meant.

    Attributes:
        width: D or E.
    """

    def __init__(self, model: TextEncoder | Vokenizer) -> None:
        self.model = model
        if isinstance(model, Vokenizer):
            self._encode: Any = model.encode
            self.width = model.config.width
        else:
            model.to(device := default_device()).eval()
            room = model.max_length - sum(map(len, special_tokens_around(model.tokenizer)))
            budget = TOKEN_BUDGET["cpu" if device == "cpu" else "cuda"]
            self._encode, self.width = partial(encode_lines, model, room=room, budget=budget), model.width

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts."""
        flat, begins, owners = _tokens(self.model.tokenizer, texts)
        sums = np.zeros((len(texts), self.width))
        for places, counts, vectors in self._encode(flat, begins):
            np.add.at(sums, owners[places], vectors.cpu().numpy().repeat(counts, axis=0))
        return unit_rows(sums)

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The vectors of each text's tokens, float32 (L, D or E)."""
        flat, begins, _ = _tokens(self.model.tokenizer, texts)
        vectors = np.zeros((len(flat), self.width), np.float32)
        for places, counts, found in self._encode(flat, begins):
            vectors[places] = found.float().cpu().numpy().repeat(counts, axis=0)
        return np.split(vectors, begins[1:-1])

    def state(self) -> State:
        """What it is made of."""
        if isinstance(self.model, Vokenizer):
            return _state_of(self.model)
        values = {"layers": list(self.model.layers), "text_encoder": _digest(self.model)}
        return State(values=values, models={"text_encoder": self.model})

    @classmethod
    def from_state(cls, state: State) -> MeanVectors:
        """The encoder that had this state."""
        if "vokenizer" in state.models:
            return cls(Vokenizer.from_pretrained(state.models["vokenizer"]))
        return cls(TextEncoder.from_pretrained(state.models["text_encoder"], state.values["layers"]))


class DenseAssociation(Association):
    """The pictures with the keys that are most like a text: a picture's score is the highest inner product of its keys.

    A text whose vector is zero has none. The search is exact.

    Args:
        bank: The pictures.
        encoder: Texts to vectors, float32 (N, E); `WordVectors`, `MeanVectors` or another function.
        keys: float32 (M, E).
        rows: The picture of each key, int64 (M,).
    """

    kind = "dense"

    def __init__(self, bank: ImageBank, encoder: Encoder, keys: np.ndarray, rows: np.ndarray) -> None:
        order = np.argsort(rows, kind="stable")  # of equal keys that of the lowest row is found first
        self.bank, self.encoder = bank, encoder
        self.keys, self.rows = np.ascontiguousarray(keys[order], dtype=np.float32), rows[order].astype(np.int64)
        self.index = ExactIndex(torch.from_numpy(self.keys))

    @classmethod
    def of_captions(cls, bank: ImageBank, captions: Captions, encoder: Encoder) -> DenseAssociation:
        """Every caption of the bank's pictures is a key, but those of which the encoder knows nothing.

        Raises:
            DataError: If no picture has a caption, or the encoder knows nothing of any.
        """
        rows = rows_in(bank, captions)
        chosen, skipped = np.flatnonzero(rows >= 0), Skipped()
        if isinstance(encoder, WordVectors):
            skipped.merge(encoder.skipped)
        keys = encoder([captions.texts[i] for i in chosen])
        known = keys.any(axis=1)
        for i in chosen[~known]:
            skipped.add("caption without a known word", f"{captions.texts[i]!r} of {bank.ids[rows[i]]}")
        if not known.any():
            raise DataError(f"not one of {len(chosen)} captions holds a known word; give vectors of their words")
        made = cls(bank, encoder, keys[known], rows[chosen[known]])
        made.report = {"keys": len(made.keys), "skipped": skipped.report()}
        return made

    @classmethod
    def of_vokenizer(cls, vokenizer: Vokenizer) -> DenseAssociation:
        """A vokenizer's pictures are the keys, in its space; best of the level "sentence", as CLIP's."""
        bank = vokenizer.bank
        return cls(bank, MeanVectors(vokenizer), bank.vectors, np.arange(len(bank)))

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """Search as many keys as it takes to meet k pictures."""
        queries = torch.from_numpy(np.asarray(self.encoder(texts), dtype=np.float32))
        check_shape("texts' vectors", queries, "N E", N=len(texts), E=self.keys.shape[1])
        found = np.full((len(texts), k), -1, dtype=np.int64)
        asking, count = queries.any(dim=1).nonzero()[:, 0].numpy(), 2 * k
        while len(asking):
            count = min(count, len(self.keys))
            rows = self.rows[self.index.top_k(queries[asking], count)[1].numpy()]
            found[asking] = best_distinct(np.repeat(np.arange(len(asking)), count), rows.ravel(), len(asking), k)
            asking = asking[(found[asking, -1] < 0) & (count < len(self.keys))]
            count *= 2
        return found

    def state(self) -> State:
        """Keys and encoder."""
        if not isinstance(self.encoder, WordVectors | MeanVectors):
            raise ArtifactError("its encoder is a function, which cannot be written; use WordVectors or MeanVectors")
        return State({"keys": self.keys, "rows": self.rows}) | self.encoder.state()

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> DenseAssociation:
        """The association that had this state."""
        kind: type[WordVectors] | type[MeanVectors] = WordVectors if "words" in state.values else MeanVectors
        return cls(bank, kind.from_state(state), state.arrays["keys"], state.arrays["rows"])


class VokenAssociation(Association):
    """The distinct vokens of a text's tokens, each with the score of its best token, best first."""

    kind = "voken"

    def __init__(self, vokenizer: Vokenizer) -> None:
        self.vokenizer, self.bank = vokenizer, vokenizer.bank

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """Vokenize, and keep the k best of each text."""
        flat, begins, owners = _tokens(self.vokenizer.tokenizer, texts)
        rows, scores = (found[:, 0] for found in self.vokenizer.vokens(flat, begins))
        order = np.lexsort((rows, -scores, owners))
        return best_distinct(owners[order], rows[order], len(texts), k)

    def state(self) -> State:
        """The vokenizer."""
        return _state_of(self.vokenizer)

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> VokenAssociation:
        """The association that had this state."""
        return cls(Vokenizer.from_pretrained(state.models["vokenizer"]))


class SynthesisAssociation(Association):
    """A picture made for each text: the bank grows by a row whenever a text is new.

    A row is therefore good in this process only, and nothing is saved.

    Args:
        make: A text to its picture, RGB.
        image_encoder: Pictures to features.
    """

    kind = "synthesis"

    def __init__(self, make: Callable[[str], Image], image_encoder: ImageEncoder) -> None:
        self.make, self.image_encoder = make, image_encoder
        self.bank = ImageBank([], np.zeros((0, 0), np.float32), [])
        self._row_of = dict[str, int]()

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """Features of the pictures made for these texts, float32 (N, F)."""
        return image_features(self.image_encoder, _MadePictures(texts, self.make), max_skipped=0)[0]

    def retrieve(self, texts: Sequence[str], k: int = 1) -> np.ndarray:
        """The row of each text's picture, int64 (N, 1); `ConfigError` if k is not 1."""
        if k != 1:
            raise ConfigError(f"k={k}: one picture is made for a text; expected 1")
        new = [text for text in dict.fromkeys(texts) if text not in self._row_of]
        if new:
            features = self.features(new)
            features = np.concatenate([self.bank.features, features]) if len(self.bank) else features
            ids = [*self.bank.ids, *new]
            self.bank = ImageBank(ids, features, [""] * len(ids), encoder=self.image_encoder.digest)
            self._row_of |= {text: row for row, text in enumerate(ids)}
        return np.array([self._row_of[text] for text in texts], dtype=np.int64).reshape(-1, 1)

    def state(self) -> State:
        """Nothing that can be written."""
        raise ArtifactError("pictures that are made for texts are not saved; make them anew, or build a bank of them")


class _MadePictures:
    """Pictures that are made when they are loaded."""

    def __init__(self, texts: Sequence[str], make: Callable[[str], Image]) -> None:
        self.ids, self.load = list(texts), lambda index: make(texts[index]).convert("RGB")

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, index: int) -> Path | None:
        return None


def best_distinct(owners: np.ndarray, rows: np.ndarray, count: int, k: int) -> np.ndarray:
    """The first k distinct rows of each owner, int64 (count, K), -1 where there are fewer.

    Args:
        owners: Ascending numbers below `count`, int64 (C,).
        rows: A row for each, those of an owner best first, int64 (C,).
        count: How many owners there are.
        k: How many rows.
    """
    _, firsts = np.unique(owners * (rows.max(initial=0) + 1) + rows, return_index=True)
    firsts.sort()
    owners, rows = owners[firsts], rows[firsts]
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    found, kept = np.full((count, k), -1, dtype=np.int64), places < k
    found[owners[kept], places[kept]] = rows[kept]
    return found


def _tokens(tokenizer: Any, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of all texts, where each text begins, and the text of each token."""
    flat, begins = end_to_end(tokenizer(list(texts), add_special_tokens=False)["input_ids"])
    return flat, begins, np.repeat(np.arange(len(texts)), np.diff(begins))


def _digest(encoder: TextEncoder) -> str:
    parts = weights_digest(encoder), config_digest(encoder.model), tokenizer_digest(encoder.tokenizer)
    return digest(*parts, str(encoder.layers))


def _state_of(vokenizer: Vokenizer) -> State:
    settings, vectors = json.dumps(asdict(vokenizer.config)), vokenizer.bank.vectors.tobytes()
    whole = digest(_digest(vokenizer.text_encoder), weights_digest(vokenizer.text_head), settings, vectors)
    return State(values={"vokenizer": whole}, models={"vokenizer": vokenizer})
