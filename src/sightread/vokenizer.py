"""The vokenizer: text in, the most relevant picture of every token out.

vokenizer = Vokenizer.from_pretrained("runs/vokenizer")
for token in vokenizer(["a dog jumps"])[0]:
    print(token.piece, token.image_ids[0], token.scores[0])
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sightread.artifacts import Artifact, folder_of
from sightread.bank import ImageBank
from sightread.checks import check_shape
from sightread.config import check_choice
from sightread.data.blocks import special_tokens_around
from sightread.encoders.clip import ClipTowers
from sightread.encoders.features import LEVELS, encode_ids
from sightread.encoders.image import ImageEncoder
from sightread.encoders.packed import can_pack
from sightread.encoders.text import TextEncoder, check_fast, hub_names
from sightread.encoders.windows import Encoded, encode_lines, end_to_end, gathered
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.heads import ProjectionHead
from sightread.runtime import Clock, default_device, keyed_rng, one_thread

KIND = "vokenizer"
TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536}  # tokens in a batch, padding included: few for the caches, many for a GPU
QUERIES = 8192  # tokens searched at a time
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class VokenizerConfig:
    """What a vokenizer's parts need to be put together again.

    Attributes:
        layers: Hidden layers of the text encoder that are concatenated.
        hidden: Hidden width of the heads; 0: they are linear maps, as CLIP's are.
        width: E, width of the joint space.
        pooling: Pooling of the image encoder.
        view: What it sees of a picture.
        max_length: Longest sequence encoded at once, special tokens included; longer text is cut with overlap.
        level: What looks for a picture: "token", each for itself, or "sentence", all of what is encoded at once
            together, so that its tokens share their vokens (Tan & Bansal's baseline of sentence-level retrieval).
    """

    layers: tuple[int, ...] = (-4, -3, -2, -1)
    hidden: int = 256
    width: int = 64
    pooling: str = "pooled"
    view: str = "crop"
    max_length: int = 128
    level: str = "token"

    def __post_init__(self) -> None:
        check_choice("level", self.level, LEVELS)


@dataclass(frozen=True)
class TokenVokens:
    """A token and its pictures, best first.

    Attributes:
        piece: The token as the tokenizer writes it.
        span: The characters it covers, half-open.
        image_ids: Ids of its k pictures.
        rows: Their rows in the bank.
        scores: Their scores, between -1 and 1.
    """

    piece: str
    span: tuple[int, int]
    image_ids: list[str]
    rows: list[int]
    scores: list[float]


class Vokenizer:
    """A frozen text encoder and image encoder with heads into one space, and a bank in that space.

    Args:
        config: How the parts are put together.
        text_encoder: Its tokenizer is the vokenizer's.
        text_head: Token states to the joint space.
        image_encoder: For pictures that are not in the bank.
        image_head: Image features to the joint space.
        bank: The pictures that tokens choose from.
        embedded: Whether the bank's vectors are in the joint space already; else they are computed here.
    """

    def __init__(
        self,
        config: VokenizerConfig,
        text_encoder: TextEncoder,
        text_head: ProjectionHead,
        image_encoder: ImageEncoder,
        image_head: ProjectionHead,
        bank: ImageBank,
        *,
        embedded: bool = False,
    ) -> None:
        self.config, device = config, default_device()
        self.tokenizer = check_fast(text_encoder.tokenizer)
        self.text_encoder, self.text_head = text_encoder.to(device).eval(), text_head.to(device).eval()
        self.image_encoder, self.image_head = image_encoder.to(device).eval(), image_head.to(device).eval()
        expected = image_head.in_width
        if bank.features.shape[1] != expected:
            raise ArtifactError(
                f"the bank's features are {bank.features.shape[1]} wide, "
                f"the vokenizer's image encoder gives {expected}; build the bank with the vokenizer's image encoder"
            )
        bank.check_encoder(self.image_encoder)
        self.room, self.precision = self._room(), "fp32"
        self._check_padding()
        self.packed = can_pack(self.text_encoder, self._samples(1, self.room, self.room, 2))
        if not embedded:
            with one_thread():
                bank = bank.with_vectors(self.image_vectors(bank.features))
        self.bank = bank

    @property
    def device(self) -> torch.device:
        """Where it encodes."""
        return next(self.text_head.parameters()).device

    def reading(self, *, max_length: int | None = None, precision: str = "fp32", index: str = "exact") -> Vokenizer:
        """The same vokenizer, reading otherwise.

        Args:
            max_length: As in its config.
            precision: "fp32", or "bf16": the text encoder's matrix products in bfloat16, all else in single precision.
            index: What searches the bank; see `ImageBank.with_index`.
        """
        check_choice("precision", precision, PRECISIONS)
        other = copy.copy(self)
        if index != self.bank.index:
            other.bank = self.bank.with_index(index)
        if max_length is not None:
            other.config = replace(self.config, max_length=max_length)
            other.room = other._room()
        other.precision = precision
        return other

    @torch.inference_mode()
    def image_vectors(self, features: np.ndarray) -> np.ndarray:
        """Image features (V, F) in the joint space, unit rows float32 (V, E)."""
        return self.image_head(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def __call__(self, sentences: Sequence[str], k: int = 1) -> list[list[TokenVokens]]:
        """The k best pictures of every token of every sentence, special tokens left out.

        Args:
            sentences: Raw text.
            k: Pictures a token, at most the bank's size; `ConfigError` if more.
        """
        if isinstance(sentences, str):
            raise ConfigError(f"{sentences!r} is one string; give a list of sentences")
        if not len(sentences):
            return []
        encoded = self.tokenizer(list(sentences), add_special_tokens=False, return_offsets_mapping=True)
        token_ids, begins = end_to_end(encoded["input_ids"])
        rows, scores = (found.tolist() for found in self.vokens(token_ids, begins, k=k))
        pieces = self.tokenizer.convert_ids_to_tokens(token_ids.tolist())
        spans = itertools.chain.from_iterable(encoded["offset_mapping"])
        tokens = [
            TokenVokens(piece, tuple(span), [self.bank.ids[row] for row in best], best, their_scores)
            for piece, span, best, their_scores in zip(pieces, spans, rows, scores, strict=True)
        ]
        return [tokens[begin:end] for begin, end in itertools.pairwise(begins.tolist())]

    def token_vectors(self, token_ids: Sequence[Sequence[int] | np.ndarray]) -> list[Tensor]:
        """Tokens in the joint space.

        Args:
            token_ids: Sequences of any length, without special tokens, int (L,).

        Returns:
            Unit vectors, float32 (L, E), one tensor a sequence.
        """
        flat, begins = end_to_end(token_ids)
        out = torch.zeros(len(flat), self.config.width)
        for places, counts, vectors in self.encode(flat, begins):
            out[places] = vectors.cpu().repeat_interleave(torch.from_numpy(counts), dim=0)
        return list(out.split(np.diff(begins).tolist()))

    def vokens(
        self, token_ids: np.ndarray, begins: np.ndarray, clock: Clock | None = None, k: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best pictures of every token, best first; lines that are the same are read once.

        Args:
            token_ids: Tokens of all lines, end to end, without special ones, int (T,).
            begins: First token of each line, and after the last the number of all, int64 (lines + 1,).
            clock: Told how long encoding and searching took.
            k: Pictures a token, at most the bank's size; `ConfigError` if more.

        Returns:
            Rows of the bank, int64 (T, k), and their scores, float32 (T, k).
        """
        clock = clock or Clock()
        rows, scores = np.zeros((len(token_ids), k), np.int64), np.zeros((len(token_ids), k), np.float32)
        lines = [token_ids[begin:end] for begin, end in itertools.pairwise(begins.tolist())]
        first: dict[bytes, int] = {}
        same_as = [first.setdefault(line.tobytes(), number) for number, line in enumerate(lines)]
        groups = gathered(self.encode(token_ids, begins, sorted(first.values())), QUERIES)
        for places, counts, vectors in clock.each("encoding", groups):
            with clock("searching"):
                found = (part.cpu().numpy().repeat(counts, axis=0) for part in self.bank.nearest(vectors, k))
                scores[places], rows[places] = found
        for number, (line, original) in enumerate(zip(lines, same_as, strict=True)):
            if original != number:
                for column in (rows, scores):
                    column[begins[number] : begins[number] + len(line)] = column[begins[original] :][: len(line)]
        return rows, scores

    @torch.inference_mode()
    def encode(
        self, token_ids: np.ndarray, begins: np.ndarray, chosen: Sequence[int] | None = None
    ) -> Iterator[Encoded]:
        """Tokens in the joint space, batch by batch; see `encode_lines`.

        Args:
            token_ids: As for `vokens`.
            begins: Likewise.
            chosen: Numbers of the lines to encode, by default all.

        Yields:
            Places in `token_ids`, counts, and unit vectors, (m, E), on the encoder's device.
        """
        batches = encode_lines(
            self.text_encoder, token_ids, begins, room=self.room, level=self.config.level, chosen=chosen,
            budget=TOKEN_BUDGET["cpu" if self.device.type == "cpu" else "cuda"], bf16=self.precision == "bf16",
            packed=self.packed,
        )  # fmt: skip
        for places, counts, states in batches:
            vectors = self.text_head(states)
            check_shape("token vectors", vectors, "N E", E=self.config.width)
            yield places, counts, vectors

    @torch.inference_mode()
    def _check_padding(self) -> None:
        """Raise `ConfigError` if padding beside a text changes its vectors, so that vokens would depend on company."""
        short, long = self._samples(1, min(self.room, 8))
        alone = encode_ids(self.text_encoder, [short])[0, : len(short)]
        gap = (encode_ids(self.text_encoder, [short, long])[0, : len(short)] - alone).abs().max()
        if gap > 1e-3 * alone.abs().max():
            raise ConfigError(
                f"{type(self.text_encoder.model).__name__} does not leave padding out: a text's vectors change by "
                f"{gap:.2g} beside a longer one; use an encoder that heeds the attention mask"
            )

    def _samples(self, *lengths: int) -> list[np.ndarray]:
        """Sequences to try the encoder with: so many rare tokens, between special ones."""
        (prefix, suffix), size = special_tokens_around(self.tokenizer), len(self.tokenizer)
        tokens = keyed_rng(0).integers(size // 2, size, max(lengths))
        return [np.concatenate([prefix, tokens[:n], suffix]) for n in lengths]

    def to(self, device: str) -> Vokenizer:
        """Go to a device, in place."""
        for part in (self.text_encoder, self.text_head, self.image_encoder, self.image_head):
            part.to(device)
        return self

    def _room(self) -> int:
        """Tokens in a window, special ones left out."""
        around = sum(map(len, special_tokens_around(self.tokenizer)))
        room = min(self.config.max_length, self.text_encoder.max_length) - around
        if room < 1:
            raise ConfigError(f"max_length={self.config.max_length} leaves no room beside the special tokens")
        return room

    def save_pretrained(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write everything into a folder that `from_pretrained` reads."""
        return self.save_into(Artifact.begin(folder, KIND, config=self.config, overwrite=overwrite))

    def save_into(self, artifact: Artifact, report: dict[str, Any] | None = None) -> Path:
        """Fill and finish a folder that was begun as a vokenizer; its config holds at least `VokenizerConfig`."""
        artifact.config |= asdict(self.config)
        self.text_encoder.save_pretrained(artifact.path / "text_encoder")
        self.image_encoder.save_pretrained(artifact.path / "image_encoder")
        heads = {f"text.{name}": value for name, value in self.text_head.state_dict().items()}
        heads |= {f"image.{name}": value for name, value in self.image_head.state_dict().items()}
        safetensors.torch.save_file(
            {n: v.contiguous().cpu() for n, v in heads.items()}, artifact.path / "heads.safetensors"
        )
        self.bank.save(artifact.path / "bank", overwrite=(artifact.path / "bank").exists())
        names = hub_names(self.text_encoder.model, self.image_encoder.model)
        return artifact.finish({"base_models": names, **(report or {})})

    @classmethod
    def from_pretrained(cls, name: Path | str, bank: ImageBank | None = None) -> Vokenizer:
        """Load a folder, or a repository of the Hub; raises `ArtifactError` if it cannot be loaded.

        Args:
            name: The folder or repository.
            bank: Another bank, of features of the same image encoder; by default the one it was saved with.
        """
        folder = folder_of(name)
        artifact = Artifact.open(folder, KIND)
        recorded = {"view": "crop", "level": "token"} | artifact.config  # older folders lack them
        known = {field: recorded[field] for field in VokenizerConfig.__dataclass_fields__}
        config = VokenizerConfig(**known | {"layers": tuple(known["layers"])})
        text_encoder = TextEncoder.from_pretrained(folder / "text_encoder", config.layers)
        image_encoder = ImageEncoder.from_pretrained(folder / "image_encoder", config.pooling, config.view)
        embedded, bank = bank is None, bank or ImageBank.load(folder / "bank")
        try:
            weights = safetensors.torch.load_file(folder / "heads.safetensors")
            heads = [_load_head(weights, side, config) for side in ("text", "image")]
        except (OSError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"the heads of {name} are damaged ({error}); train it again") from error
        return cls(config, text_encoder, heads[0], image_encoder, heads[1], bank, embedded=embedded)

    @classmethod
    def from_clip(cls, towers: ClipTowers, bank: ImageBank, level: str = "token") -> Vokenizer:
        """A vokenizer without training, in the space that a model learnt from pictures and their texts.

        towers = ClipTowers.from_pretrained("openai/clip-vit-base-patch32")
        bank, skipped = build_bank(read_pictures("photos"), towers.image_encoder)
        vokenizer = Vokenizer.from_clip(towers, bank)

        Args:
            towers: The model taken apart.
            bank: Pictures with features of its image encoder.
            level: "token", every token's state is projected, though only one a text was trained to be; "sentence",
                that one.
        """
        heads = [ProjectionHead.from_linear(linear) for linear in (towers.text_projection, towers.image_projection)]
        config = VokenizerConfig(
            layers=towers.text_encoder.layers, hidden=0, width=towers.text_projection.out_features,
            max_length=towers.text_encoder.max_length, level=level,
        )  # fmt: skip
        return cls(config, towers.text_encoder, heads[0], towers.image_encoder, heads[1], bank)


def _load_head(weights: dict[str, Tensor], side: str, config: VokenizerConfig) -> ProjectionHead:
    state = {name.removeprefix(f"{side}."): value for name, value in weights.items() if name.startswith(f"{side}.")}
    head = ProjectionHead(state["layers.0.weight"].shape[-1], config.hidden, config.width)
    head.load_state_dict(state)
    return head
