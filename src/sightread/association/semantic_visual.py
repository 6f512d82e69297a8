"""Pictures by a semantic-visual embedding, one space for whole texts and whole pictures (Engilberge et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sightread.artifacts import digest
from sightread.association import Association, State
from sightread.association.encoders import DenseAssociation, MeanVectors
from sightread.association.words import WordVectors
from sightread.bank import ImageBank
from sightread.encoders.feature_maps import FeatureMaps
from sightread.encoders.image import ImageEncoder
from sightread.errors import ConfigError
from sightread.modules.semantic_visual import ImagePath, TextPath
from sightread.runtime import default_device

Words = WordVectors | MeanVectors
"""What gives the vectors of a text's words, or tokens."""
_AT_ONCE = 32  # texts, or feature maps: a text of 2,000 words fills its batch up to its length


class JointEmbedding:
    """Texts and pictures in one space of width E.

    Args:
        words: The vectors of words.
        text_path: From these to the space.
        image_encoder: Whose regions are the places of its last feature map; see `encoders.feature_maps.seeing_maps`.
        image_path: From these to the space.
    """

    def __init__(self, words: Words, text_path: TextPath, image_encoder: ImageEncoder, image_path: ImagePath) -> None:
        device = default_device()
        self.words, self.text_path, self.image_path = words, text_path.to(device).eval(), image_path.to(device).eval()
        self.image_encoder = image_encoder.to(device).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float32 (N, E); zeros where no word is known. A rounding may differ by company."""
        words = self.words.tokens(texts) if len(texts) else []
        vectors = np.zeros((len(texts), self.image_path.out), np.float32)
        rows = [row for row in np.argsort([len(of) for of in words], kind="stable") if len(words[row])]
        for at in range(0, len(rows), _AT_ONCE):
            chosen = rows[at : at + _AT_ONCE]
            vectors[chosen] = self.text_path(**padded_words([words[row] for row in chosen], default_device())).cpu()
        return vectors

    @torch.no_grad()
    def places(self, image: Image) -> Tensor:
        """Every place of a picture's feature map in the space, before they are pooled, float (H, W, E)."""
        pixels = self.image_encoder.preprocess([image]).to(default_device())
        side = int(self.image_encoder.num_parts**0.5)
        regions = self.image_encoder(pixels).view(side, side, -1)
        return self.image_path.places(regions).cpu()

    @torch.no_grad()
    def image_vectors(self, maps: FeatureMaps) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of pictures, float32 (V, E), and the means of their feature maps, (V, F)."""
        vectors, means = list[np.ndarray](), list[np.ndarray]()
        for begin in range(0, len(maps), _AT_ONCE):
            some = np.stack([maps[row] for row in range(begin, min(begin + _AT_ONCE, len(maps)))])
            vectors.append(self.image_path(torch.from_numpy(some).to(default_device())).cpu().numpy())
            means.append(some.mean(axis=1))
        return np.concatenate(vectors), np.concatenate(means)

    def bank(self, pictures: Any, maps: FeatureMaps) -> ImageBank:
        """A bank of the pictures whose maps are given: `features` are the means of these."""
        vectors, means = self.image_vectors(maps)
        paths = [str(path.resolve()) if (path := pictures.path(row)) else "" for row in maps.rows]
        seeing = ImageEncoder(self.image_encoder.model, self.image_encoder.processor, "mean", "whole")
        return ImageBank([pictures.ids[row] for row in maps.rows], means, paths, vectors, encoder=seeing.digest)

    def state(self) -> State:
        """What it is made of."""
        paths = {"text_path": self.text_path, "image_path": self.image_path}
        arrays = {
            f"{path}.{name}": value.cpu().numpy()
            for path, module in paths.items()
            for name, value in module.state_dict().items()
        }
        values = {
            "reader": self.text_path.reader, "extremes": self.image_path.extremes,
            "pooling": self.image_encoder.pooling, "image_encoder": self.image_encoder.digest,
        }  # fmt: skip
        return self.words.state() | State(arrays, values, {"image_encoder": self.image_encoder})

    @classmethod
    def from_state(cls, state: State) -> JointEmbedding:
        """The embedding that had this state."""
        kind: type[WordVectors] | type[MeanVectors] = WordVectors if "words" in state.values else MeanVectors
        words, values = kind.from_state(state), state.values
        out, image_width = state.arrays["image_path.places.1.weight"].shape
        text_path = TextPath(words.width, out, values["reader"])
        image_path = ImagePath(image_width, out, values["extremes"])
        for name, path in (("text_path", text_path), ("image_path", image_path)):
            path.load_state_dict({key: torch.from_numpy(state.arrays[f"{name}.{key}"]) for key in path.state_dict()})
        encoder = ImageEncoder.from_pretrained(state.models["image_encoder"], values["pooling"], "whole")
        return cls(words, text_path, encoder, image_path)


class SemanticVisualAssociation(DenseAssociation):
    """The pictures nearest to a text in a joint embedding, which is kept within."""

    kind = "semantic-visual"

    def __init__(self, bank: ImageBank, embedding: JointEmbedding) -> None:
        super().__init__(bank, embedding, bank.vectors, np.arange(len(bank)))
        self.embedding = embedding

    def state(self) -> State:
        """The embedding; the bank has the vectors."""
        return self.embedding.state() | State(values={"vectors": digest(self.bank.vectors.tobytes())})

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> SemanticVisualAssociation:
        """The association that had this state."""
        return cls(bank, JointEmbedding.from_state(state))


def embedding_of(association: Association) -> JointEmbedding:
    """The embedding within an association; raises `ConfigError` if it has none."""
    if not isinstance(association, SemanticVisualAssociation):
        raise ConfigError(f"this is an association by {association.kind}; expected one by semantic-visual, see `embed`")
    return association.embedding


def padded_words(words: Sequence[np.ndarray], device: str = "cpu") -> dict[str, Tensor]:
    """`words`, float32 (B, L, D), and `lengths`, int64 (B,), as `TextPath` takes them, of vectors (L, D)."""
    tensors = [torch.from_numpy(of.astype(np.float32)).to(device) for of in words]
    return {
        "words": pad_sequence(tensors, batch_first=True),
        "lengths": torch.tensor([len(of) for of in words]).to(device),
    }
