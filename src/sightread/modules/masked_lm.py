"""A masked language model taken apart: an encoder, and the head on it, applied where there is a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightread.encoders.text import load_model
from sightread.errors import ConfigError


class MaskedLanguageModel(nn.Module):
    """Any `AutoModelForMaskedLM`, its head callable on single positions.

    Computing the head at masked positions alone saves 85 % of a (tokens × vocabulary) product. The head is whatever the
    model holds beside its encoder, in order; that this is the whole of it is checked once against the model itself.

    Args:
        model: The model.

    Attributes:
        encoder: The encoder, which survives training.
        width: D.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.base_model
        self.head = nn.ModuleList(part for part in model.children() if part is not self.encoder)
        self.width: int = model.config.hidden_size
        self._whole = (model,)  # in a tuple, so that its weights do not count twice
        self._check_head(model)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> MaskedLanguageModel:
        """Go on from a checkpoint; a head that it lacks begins fresh."""
        return cls(load_model(name, "AutoModelForMaskedLM"))

    @classmethod
    def from_config(cls, config: Any) -> MaskedLanguageModel:
        """Fresh weights."""
        from transformers import AutoModelForMaskedLM

        return cls(AutoModelForMaskedLM.from_config(config))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token states, float (B, L, D)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits (..., C) of states (..., D)."""
        for part in self.head:
            states = part(states)
        return states

    def save_pretrained(self, folder: Path) -> None:
        """Write an ordinary checkpoint: `AutoModel` finds the encoder in it, `AutoModelForMaskedLM` the head too."""
        self._whole[0].save_pretrained(folder)

    @torch.no_grad()
    def _check_head(self, model: Any) -> None:
        training = model.training
        model.eval()
        ids = torch.arange(1, 5)[None]
        mask = torch.ones_like(ids)
        try:
            ours = self.logits(self(ids, mask))
            fits = torch.allclose(ours, model(input_ids=ids, attention_mask=mask).logits, atol=1e-4)
        except (TypeError, RuntimeError, AttributeError):
            fits = False
        model.train(training)
        if not fits:
            raise ConfigError(
                f"{type(model).__name__} has a language-model head of a shape unknown here; BERT, RoBERTa, ALBERT, "
                "ELECTRA, DeBERTa, MPNet and ModernBERT are known to work"
            )
