"""A language model taken apart: an encoder, and the head on it, applied where there is a label."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightread.contracts import IGNORED
from sightread.encoders.text import load_model
from sightread.errors import ConfigError
from sightread.modules.losses import linear_classification


class LanguageModel(nn.Module):
    """Any `AutoModelForMaskedLM`, or `AutoModelForCausalLM` of a decoder, its head callable on single positions.

    Computing the head at masked positions alone saves 85 % of a (tokens × vocabulary) product. The head is whatever the
    model holds beside its encoder, in order; that this is the whole of it is checked once against the model itself.

    Args:
        model: The model.
        fresh_head: Whether the head comes from no checkpoint.

    Attributes:
        encoder: The encoder, which survives training.
        width: D.
        causal: Whether it reads from left to right and foretells the next token.
        fresh_head: As given.
    """

    def __init__(self, model: Any, *, fresh_head: bool = False) -> None:
        super().__init__()
        self.encoder = model.base_model
        self.head = nn.ModuleList(part for part in model.children() if part is not self.encoder)
        self.width: int = model.config.hidden_size
        self.causal, self.fresh_head = is_causal(model.config), fresh_head
        self._whole = (model,)  # in a tuple, so that its weights do not count twice
        self._check_head(model)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> LanguageModel:
        """Go on from a checkpoint; a head that it lacks begins fresh."""
        from transformers import AutoConfig

        try:
            causal = is_causal(AutoConfig.from_pretrained(str(name)))
        except (OSError, ValueError):  # which load_model words better
            causal = False
        model, found = load_model(name, _auto_class(causal), output_loading_info=True)
        return cls(model, fresh_head=bool(found["missing_keys"]))

    @classmethod
    def from_config(cls, config: Any) -> LanguageModel:
        """Fresh weights."""
        import transformers

        model = getattr(transformers, _auto_class(is_causal(config))).from_config(config)
        return cls(model, fresh_head=True)

    @property
    def output(self) -> nn.Linear:
        """The head's last layer, D' -> vocabulary, often tied to the embeddings."""
        layer: nn.Linear = self._whole[0].get_output_embeddings()
        return layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token states, float (B, L, D)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The states of all layers, float (B, L, D) each, the embeddings first."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.encoder(**inputs, output_hidden_states=True).hidden_states

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits (..., C) of states (..., D)."""
        for part in self.head:
            states = part(states)
        return states

    def transform(self, states: Tensor) -> Tensor:
        """What the head's last layer reads, (..., D'), of states (..., D)."""
        output = self.output
        with _skipped(self.head, output):
            for part in self.head:
                states = states if part is output else part(states)
        return states

    def loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy at the labelled positions of states (B, L, D), labels int64 (B, L); zero if there are none."""
        labelled, output = labels != IGNORED, self.output
        return linear_classification(self.transform(states[labelled]), output.weight, output.bias, labels[labelled])

    def save_pretrained(self, folder: Path, *, with_head: bool = True) -> None:
        """Write an ordinary checkpoint: `AutoModel` finds the encoder in it, its own Auto class the head too."""
        (self._whole[0] if with_head else self.encoder).save_pretrained(folder)

    @torch.no_grad()
    def _check_head(self, model: Any) -> None:
        training = model.training
        model.eval()
        ids = torch.arange(1, 5)[None]
        mask = torch.ones_like(ids)
        try:
            states, expected = self(ids, mask), model(input_ids=ids, attention_mask=mask).logits
            ours = self.logits(states), self.output(self.transform(states))
            fits = all(torch.allclose(logits, expected, atol=1e-4) for logits in ours)
            ahead = self.causal and not torch.allclose(states[:, :3], self(ids.clamp(max=3), mask)[:, :3], atol=1e-4)
        except (TypeError, RuntimeError, AttributeError):
            fits = False
        model.train(training)
        if not fits:
            raise ConfigError(
                f"{type(model).__name__} has a language-model head of a shape unknown here; BERT, RoBERTa, ALBERT, "
                "ELECTRA, DeBERTa, MPNet, ModernBERT and GPT-2 are known to work"
            )
        if ahead:
            raise ConfigError(f"{type(model).__name__} has no masked language model, and is no decoder: it reads ahead")


def is_causal(config: Any) -> bool:
    """Whether models of this kind are decoders, which have no masked language model."""
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    return (
        kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and kind not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def _auto_class(causal: bool) -> str:
    return "AutoModelForCausalLM" if causal else "AutoModelForMaskedLM"


@contextmanager
def _skipped(parts: nn.ModuleList, layer: nn.Module) -> Iterator[None]:
    """A layer inside some modules hands on what it is given."""
    places = [(module, name) for part in parts for module in part.modules() for name, child in module.named_children()
              if child is layer]  # fmt: skip
    for module, name in places:
        setattr(module, name, nn.Identity())
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, layer)
