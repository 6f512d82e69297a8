"""The vokenizer: text in, the most relevant picture of every token out.

vokenizer = Vokenizer.from_pretrained("runs/vokenizer")
for token in vokenizer(["a dog jumps"])[0]:
    print(token.piece, token.image_ids[0], token.scores[0])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sightread.artifacts import Artifact
from sightread.bank import ImageBank
from sightread.checks import check_shape
from sightread.data.blocks import special_tokens_around
from sightread.encoders.features import encode_ids
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder, check_fast
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.heads import ProjectionHead
from sightread.runtime import default_device

KIND = "vokenizer"
Window = tuple[int, int, int, int, int]  # sequence, begin, end, keep_from, keep_to
TOKEN_BUDGET = 4096  # padded tokens in one batch of encoding


@dataclass(frozen=True, kw_only=True)
class VokenizerConfig:
    """What a vokenizer's parts need to be put together again.

    Attributes:
        layers: Hidden layers of the text encoder that are concatenated.
        hidden: Hidden width of the heads.
        width: E, width of the joint space.
        pooling: Pooling of the image encoder.
        view: What it sees of a picture.
        max_length: Longest sequence encoded at once, special tokens included; longer text is cut with overlap.
    """

    layers: tuple[int, ...] = (-4, -3, -2, -1)
    hidden: int = 256
    width: int = 64
    pooling: str = "pooled"
    view: str = "crop"
    max_length: int = 128


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
        bank: The pictures that tokens choose from; its vectors are computed here.
    """

    def __init__(
        self,
        config: VokenizerConfig,
        text_encoder: TextEncoder,
        text_head: ProjectionHead,
        image_encoder: ImageEncoder,
        image_head: ProjectionHead,
        bank: ImageBank,
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
        prefix, suffix = special_tokens_around(self.tokenizer)
        self.room = min(config.max_length, self.text_encoder.max_length) - len(prefix) - len(suffix)
        if self.room < 1:
            raise ConfigError(f"max_length={config.max_length} leaves no room beside the special tokens")
        self.bank = bank.with_vectors(self.image_vectors(bank.features))

    @torch.inference_mode()
    def image_vectors(self, features: np.ndarray) -> np.ndarray:
        """Image features (V, F) in the joint space, unit rows float32 (V, E)."""
        tensor = torch.from_numpy(features).to(next(self.image_head.parameters()).device)
        return self.image_head(tensor).cpu().numpy()

    def __call__(self, sentences: Sequence[str], k: int = 1) -> list[list[TokenVokens]]:
        """The k best pictures of every token of every sentence, special tokens left out.

        Args:
            sentences: Raw text.
            k: Pictures a token, at most the bank's size; `ConfigError` if more.
        """
        if not len(sentences):
            return []
        encoded = self.tokenizer(list(sentences), add_special_tokens=False, return_offsets_mapping=True)
        vectors = self.token_vectors([np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]])
        scores, rows = (part.tolist() for part in self.bank.nearest(torch.cat(vectors), k))
        results, at = [], 0
        for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            pieces = self.tokenizer.convert_ids_to_tokens(ids)
            found = zip(pieces, spans, rows[at : at + len(ids)], scores[at : at + len(ids)], strict=True)
            results.append([TokenVokens(p, tuple(s), [self.bank.ids[r] for r in rs], rs, sc) for p, s, rs, sc in found])
            at += len(ids)
        return results

    @torch.inference_mode()
    def token_vectors(self, token_ids: Sequence[np.ndarray]) -> list[Tensor]:
        """Tokens in the joint space.

        Args:
            token_ids: Sequences of any length, without special tokens, int64 (L,). What is longer than
                `config.max_length` is read in windows that overlap by half, and each token is taken from the window
                in which it has the most context.

        Returns:
            Unit vectors, float32 (L, E), one tensor a sequence.
        """
        prefix, suffix = special_tokens_around(self.tokenizer)
        out = [torch.zeros(len(ids), self.config.width) for ids in token_ids]
        windows = [
            (row, *window) for row, ids in enumerate(token_ids) for window in overlapping_windows(len(ids), self.room)
        ]
        windows.sort(key=lambda window: window[2] - window[1])
        for batch in _under_budget(windows, len(prefix) + len(suffix)):
            ids = [np.concatenate([prefix, token_ids[row][begin:end], suffix]) for row, begin, end, _, _ in batch]
            states = encode_ids(self.text_encoder, ids).to(next(self.text_head.parameters()).device)
            vectors = self.text_head(states).cpu()
            check_shape("token vectors", vectors, "B L E", E=self.config.width)
            for (row, begin, _, keep_from, keep_to), vector in zip(batch, vectors, strict=True):
                shift = len(prefix) - begin
                out[row][keep_from:keep_to] = vector[keep_from + shift : keep_to + shift]
        return out

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
        return artifact.finish(report)

    @classmethod
    def from_pretrained(cls, name: Path | str, bank: ImageBank | None = None) -> Vokenizer:
        """Load a folder, or a repository of the Hub; raises `ArtifactError` if it cannot be loaded.

        Args:
            name: The folder or repository.
            bank: Another bank, of features of the same image encoder; by default the one it was saved with.
        """
        folder = Path(name)
        if not folder.is_dir() and str(name).count("/") == 1 and not str(name).startswith((".", "/")):
            from huggingface_hub import snapshot_download

            try:
                folder = Path(snapshot_download(str(name)))
            except Exception as error:  # of the network, or of the name
                raise ArtifactError(f"no folder {name}, and the Hub does not give it: {error}") from error
        artifact = Artifact.open(folder, KIND)
        known = {field: artifact.config[field] for field in VokenizerConfig.__dataclass_fields__}
        config = VokenizerConfig(**known | {"layers": tuple(known["layers"])})
        text_encoder = TextEncoder.from_pretrained(folder / "text_encoder", config.layers)
        image_encoder = ImageEncoder.from_pretrained(folder / "image_encoder", config.pooling, config.view)
        bank = bank or ImageBank.load(folder / "bank")
        try:
            weights = safetensors.torch.load_file(folder / "heads.safetensors")
            heads = [_load_head(weights, side, config) for side in ("text", "image")]
        except (OSError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"the heads of {name} are damaged ({error}); train it again") from error
        return cls(config, text_encoder, heads[0], image_encoder, heads[1], bank)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> None:
        """Upload to the Hub; keyword arguments go to `huggingface_hub.HfApi.create_repo`."""
        import tempfile

        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as folder:
            path = self.save_pretrained(Path(folder) / "vokenizer")
            HfApi().create_repo(repo_id, exist_ok=True, **kwargs)
            HfApi().upload_folder(repo_id=repo_id, folder_path=path)


def overlapping_windows(length: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut `length` tokens into windows of at most `room` that overlap by half.

    Yields:
        (begin, end, keep_from, keep_to): the tokens to read, and those to keep; the kept ranges tile the sequence.
    """
    if length <= room:
        if length:
            yield 0, length, 0, length
        return
    step = max(room - room // 2, 1)
    begins = [*range(0, length - room, step), length - room]  # the last window is as full as the others
    borders = [0, *((begins[i] + room + begins[i + 1]) // 2 for i in range(len(begins) - 1)), length]
    for i, begin in enumerate(begins):
        yield begin, begin + room, borders[i], borders[i + 1]


def _under_budget(windows: list[Window], num_special: int) -> Iterator[list[Window]]:
    """Runs of windows, sorted by length, whose padded size stays under `TOKEN_BUDGET`."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) + 1) * (window[2] - window[1] + num_special) > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _load_head(weights: dict[str, Tensor], side: str, config: VokenizerConfig) -> ProjectionHead:
    state = {name.removeprefix(f"{side}."): value for name, value in weights.items() if name.startswith(f"{side}.")}
    head = ProjectionHead(state["layers.0.weight"].shape[0], config.hidden, config.width)
    head.load_state_dict(state)
    return head
