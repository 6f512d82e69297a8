"""An encoder as the probes see it: loaded once, asked for vectors of texts and for the odds of masked words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from sightread.encoders.features import token_features
from sightread.encoders.text import TextEncoder, load_tokenizer
from sightread.errors import ConfigError, DataError
from sightread.grounded import load_encoder
from sightread.modules.language_model import LanguageModel

NO_HEAD = "no masked-LM head in the checkpoint"


class ProbedEncoder:
    """A text encoder, and its masked-LM head if it has one.

    Args:
        label: What to call it in tables.
        text_encoder: Gives token vectors.
        masked_lm: The same encoder with its head, or None.
        headless: Why `masked_lm` is None.
    """

    def __init__(
        self, label: str, text_encoder: TextEncoder, masked_lm: LanguageModel | None, headless: str = NO_HEAD
    ) -> None:
        self.label, self.text_encoder, self.masked_lm, self.headless = label, text_encoder, masked_lm, headless
        self.tokenizer = text_encoder.tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path, label: str | None = None) -> ProbedEncoder:
        """Load a folder or Hub name; raises `ArtifactError` if it cannot be loaded."""
        label, tokenizer = label or str(name), load_tokenizer(name)
        model = _masked_lm(name) if tokenizer.mask_token_id is not None else None
        if model is None:
            return cls(label, TextEncoder(load_encoder(name), tokenizer), None)
        text_encoder = TextEncoder(model.base_model, tokenizer)
        try:
            return cls(label, text_encoder, LanguageModel(model))
        except ConfigError as error:
            return cls(label, text_encoder, None, str(error))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The mean vector of each text's tokens, special ones left out, float32 (N, D).

        Raises:
            DataError: If the tokenizer finds nothing in a text.
        """
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}  # equal texts are read once
        tokens = token_features(self.text_encoder, list(number), batch_size=256)
        spans = list(pairwise(tokens.begins.tolist()))
        for text, (begin, end) in zip(number, spans, strict=True):
            if begin == end:
                raise DataError(f"{self.label}: its tokenizer finds no token in {text!r}; leave that text out")
        means = [tokens.vectors[begin:end].mean(axis=0, dtype=np.float32) for begin, end in spans]
        return np.stack(means)[[number[text] for text in texts]]


def _masked_lm(name: str | Path) -> Any:
    """The model with its language-model head, or None where transformers would have to draw one at random."""
    from transformers import AutoModelForMaskedLM

    load = AutoModelForMaskedLM.from_pretrained
    try:
        model, found = load(str(name), use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, SafetensorError):
        return None  # no architecture with a head; if more is wrong than that, `load_model` will say so
    return None if found["missing_keys"] else model
