"""XBERT: a language encoder and CLIP's text tower, read together, as an ordinary encoder (Hsu et al. 2022).

    encoder, tokenizer = load_encoder("xdbert/full"), load_tokenizer("xdbert/full")
    encoder(**tokenizer("a dog jumps", return_tensors="pt")).last_hidden_state

CLIP reads what the token ids say, each sentence in rows of its own, and tasks of text take the folder as they take a
checkpoint. It holds weights, tokenizer, and CLIP's tokenizer in `clip/`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, CLIPTextConfig, CLIPTextModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from sightread.artifacts import folder_of
from sightread.data.clip_rows import ClipRows, Rows, unknown
from sightread.encoders.text import load_tokenizer, longest_input
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.language_model import LanguageModel
from sightread.modules.two_stream import TwoStream

WEIGHTS, CLIP = "model.safetensors", "clip"


class XBertConfig(PretrainedConfig):
    """The shape of an XBERT.

    Args:
        text: Config of the language encoder.
        clip: Config of CLIP's text tower.
        projection_size: W, where CLIP's states are read through its projection; 0 where they are not.
        num_cross_layers: Layers of the cross-modal encoder.
        sentence_rows: Rows of CLIP that a sentence has, at most.
    """

    model_type = "sightread-xbert"

    def __init__(
        self,
        text: dict[str, Any] | None = None,
        clip: dict[str, Any] | None = None,
        projection_size: int = 0,
        num_cross_layers: int = 2,
        sentence_rows: int = 2,
        **more: Any,
    ) -> None:
        self.text, self.clip, self.projection_size = text or {}, clip or {}, projection_size
        self.num_cross_layers, self.sentence_rows = num_cross_layers, sentence_rows
        super().__init__(**more)


class XBertEncoder(PreTrainedModel):
    """A `TwoStream` that makes CLIP's rows itself.

    Args:
        config: Its shape.
        two_stream: The model; by default fresh weights of this shape.
        tokenizer: Of the language encoder.
        rows: Makes CLIP's rows.
    """

    config_class = XBertConfig

    def __init__(
        self, config: XBertConfig, two_stream: TwoStream | None = None, tokenizer: Any = None,
        rows: ClipRows | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        if two_stream is None:
            text = LanguageModel.from_config(AutoConfig.for_model(**config.text)).encoder
            clip = CLIPTextModel(CLIPTextConfig(**config.clip))
            size = config.projection_size
            projection = torch.nn.Linear(clip.config.hidden_size, size, bias=False) if size else None
            two_stream = TwoStream(text, clip, projection, num_layers=config.num_cross_layers)
        self.two_stream, self.tokenizer, self.rows, self.cut, self._told = two_stream, tokenizer, rows, 0, False

    @classmethod
    def of(cls, two_stream: TwoStream, tokenizer: Any, rows: ClipRows, sentence_rows: int) -> XBertEncoder:
        """The encoder that a `TwoStream` is."""
        text, projection = two_stream.text.config, two_stream.projection
        config = XBertConfig(
            text=text.to_dict(), clip=two_stream.clip.config.to_dict(), hidden_size=text.hidden_size,
            projection_size=projection.out_features if projection else 0, num_cross_layers=len(two_stream.layers),
            sentence_rows=sentence_rows, num_hidden_layers=text.num_hidden_layers + len(two_stream.layers),
            vocab_size=text.vocab_size, pad_token_id=text.pad_token_id,
            max_position_embeddings=longest_input(two_stream.text, tokenizer),
        )  # fmt: skip
        return cls(config, two_stream, tokenizer, rows)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> BaseModelOutput:
        """States of the tokens, `last_hidden_state` float (B, L, D), of int64 (B, L) inputs.

        Raises:
            ConfigError: If other hidden states are asked for, or a tuple instead of names.
        """
        if not return_dict:
            raise ConfigError("an XBERT gives its states by name: return_dict=True")
        if output_hidden_states:
            raise ConfigError("an XBERT gives the states of its last layer alone: layers=-1")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states, _ = self.two_stream(input_ids, mask, **self.clip_inputs(input_ids, mask), token_type_ids=token_type_ids)
        return BaseModelOutput(last_hidden_state=states)

    def clip_inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """What CLIP reads of some sequences, int64 (B, L), as `TwoStream` takes it; what it cannot, or what
        the language encoder does not know, is counted in `cut`."""
        pairs = zip(input_ids.cpu().numpy(), attention_mask.bool().cpu().numpy(), strict=True)
        found, cut = zip(*(self._rows_of(ids[kept]) for ids, kept in pairs), strict=True)
        most = max(rows.cut for rows in found)
        if most and not self._told:
            self._told = True
            warnings.warn(
                f"a text has {most} tokens more than CLIP reads in {self.config.sentence_rows} rows a sentence, and "
                "they are left out; for more, raise sentence_rows in config.json", stacklevel=3,
            )  # fmt: skip
        self.cut += sum(cut)
        return {name: value.to(input_ids.device) for name, value in self._clip_rows.collate(found).items()}

    def prepare(self, sequences: Mapping[str, Sequence[Sequence[int]]], folder: Path) -> dict[str, Any]:
        """Count what CLIP will not read of sequences of token ids, by split, as `clip_inputs` does; nothing is kept.

        Returns:
            For a report: `clip_cut`, how many tokens of each split are left out, where any are.
        """
        cut = {split: sum(self._rows_of(np.array(ids))[1] for ids in part) for split, part in sequences.items()}
        return {"clip_cut": {split: count for split, count in cut.items() if count}}

    @property
    def _clip_rows(self) -> ClipRows:
        if self.rows is None:
            raise ConfigError("this XBERT was made without tokenizers; load it by load_encoder")
        return self.rows

    def _rows_of(self, ids: np.ndarray) -> tuple[Rows, int]:
        """The rows of the sentences of one sequence, int64 (L,), and how many tokens CLIP does not read."""
        found = self._clip_rows.of(sentences_of(self.tokenizer, ids), self.config.sentence_rows)
        return found, found.cut + unknown(self.tokenizer, ids)

    def get_input_embeddings(self) -> Any:
        """Those of the language encoder."""
        return self.two_stream.text.get_input_embeddings()

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write weights, config and tokenizers."""
        if self.rows is None:
            raise ConfigError("this XBERT was made without tokenizers, and cannot be read again without")
        self.config.save_pretrained(folder)
        safetensors.torch.save_model(self.two_stream, str(Path(folder) / WEIGHTS))
        self.tokenizer.save_pretrained(folder)
        self.rows.tokenizer.save_pretrained(Path(folder) / CLIP)

    @classmethod
    def from_pretrained(cls, name: str | Path | None, *_: Any, **more: Any) -> XBertEncoder:  # type: ignore[override]
        """Load a folder, or a repository of the Hub.

        Raises:
            ArtifactError: If something of it is missing, or the weights are of another shape.
            ConfigError: If it is to be made again from a state, of which tokenizers are no part.
        """
        if name is None:
            raise ConfigError("an XBERT cannot be sent to another process; take one worker")
        folder = folder_of(name)
        encoder = cls(XBertConfig.from_pretrained(folder), tokenizer=load_tokenizer(folder))
        try:
            safetensors.torch.load_model(encoder.two_stream, str(folder / WEIGHTS))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"{folder} cannot be loaded as an XBERT: {error}") from error
        tokenizer = load_tokenizer(folder / CLIP)
        encoder.rows = ClipRows(tokenizer, longest_input(encoder.two_stream.clip, tokenizer))
        return encoder.eval()


def sentences_of(tokenizer: Any, ids: np.ndarray) -> list[str]:
    """The sentences of a sequence, int64 (L,): what stands between special tokens, those that stand for words apart; a
    sequence without words is one empty sentence."""
    borders = set(tokenizer.all_special_ids) - {tokenizer.mask_token_id, tokenizer.unk_token_id}
    is_word = ~np.isin(ids, list(borders))
    begins = np.flatnonzero(np.diff(is_word, prepend=False) & is_word)
    ends = np.flatnonzero(np.diff(is_word, append=False) & is_word) + 1
    parts = [ids[begin:end] for begin, end in zip(begins, ends, strict=True)] or [ids[:0]]
    return [tokenizer.decode(part, skip_special_tokens=True) for part in parts]


AutoConfig.register(XBertConfig.model_type, XBertConfig, exist_ok=True)
AutoModel.register(XBertConfig, XBertEncoder, exist_ok=True)
