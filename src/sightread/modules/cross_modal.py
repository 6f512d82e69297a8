"""A cross-modal encoder over the states of a text encoder and a sequence of image vectors (Sileo 2021, section 3)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from sightread.checks import check_shape
from sightread.errors import ConfigError
from sightread.modules.language_model import LanguageModel


class CrossModal(nn.Module):
    """Text, and K images of N regions each, read together.

    The text encoder reads the text alone. Its states, and the projected vectors of the regions with what tells their
    image's rank and their place in it, go through the layers of another encoder, which has the language-model head. A
    trainable placeholder stands where a region is hidden, and, once, where there is no image at all.

    Args:
        text: The text encoder.
        cross: A language model whose layers read the sequence, often a copy of the text encoder; it is changed.
        image_width: F, width of a region's vector.
        num_images: K; 0 for none, so that text is all that is read.
        num_regions: N.

    Attributes:
        width: D, of the text encoder and of the layers.
    """

    def __init__(
        self, text: Any, cross: LanguageModel, *, image_width: int, num_images: int, num_regions: int = 1
    ) -> None:
        super().__init__()
        if cross.causal:
            raise ConfigError("a cross-modal encoder reads what stands after a word, too; a decoder does not")
        self.text: Any = text
        self.cross, self.width = cross, cross.width
        if (found := text.config.hidden_size) != self.width:
            raise ConfigError(f"the text encoder is {found} wide, the cross-modal one {self.width}; they must be alike")
        read_vectors(cross.encoder)
        self.knows_types = "token_type_ids" in inspect.signature(text.forward).parameters
        self.num_images, self.num_regions = num_images, num_regions
        if num_images:
            self.project = nn.Sequential(nn.Linear(image_width, self.width), nn.LayerNorm(self.width))
            self.ranks, self.regions = nn.Embedding(num_images, self.width), nn.Embedding(num_regions, self.width)
            for embedding in (self.ranks, self.regions):
                nn.init.normal_(embedding.weight, std=0.02)
            self.placeholder = nn.Parameter(torch.zeros(self.width))
            self.image_head = nn.Linear(self.width, image_width)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(image_width))
        self.register_buffer("scale", torch.ones(()))

    def standardise_by(self, features: Tensor) -> None:
        """Remember the mean of region vectors (..., F), and the deviation of all their values, which are taken out."""
        self.mean = features.flatten(0, -2).mean(dim=0)
        self.scale = (features - self.mean).std().clamp(min=1e-6)

    def standardised(self, images: Tensor) -> Tensor:
        """Region vectors (..., F) less their mean, at unit deviation."""
        return (images - self.mean) / self.scale

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        images: Tensor | None = None,
        image_mask: Tensor | None = None,
        hidden: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """States of tokens, float (B, L, D), and of regions, (B, R, D).

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            images: Vectors of regions, image by image, as the image encoder gave them, float (B, R, F), R at most K·N;
                None: there is none. Not read if K = 0.
            image_mask: 1 where there is a region, int64 (B, R); all, if not given. What stands elsewhere in `images`
                is not read.
            hidden: True where a region's vector is kept from the model, bool (B, R); nowhere, if not given.
            token_type_ids: Of the text encoder, int64 (B, L); left out where it knows none.
        """
        types = {"token_type_ids": token_type_ids} if self.knows_types and token_type_ids is not None else {}
        states = self.text(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        length = states.shape[1]
        if self.num_images:
            if images is None:
                images = states.new_zeros(len(states), 1, len(self.mean))
                image_mask = images.new_zeros(len(states), 1)
            there = images.new_ones(images.shape[:2]) if image_mask is None else image_mask
            seen, there = self._see(images, there.bool(), hidden)
            states = torch.cat([states, seen], dim=1)
            attention_mask = torch.cat([attention_mask, there.to(attention_mask.dtype)], dim=1)
        states = self.cross.encoder(inputs_embeds=states, attention_mask=attention_mask).last_hidden_state
        return states[:, :length], states[:, length:]

    def _see(self, images: Tensor, there: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the layers read of regions, (B, R, D), and where there is something to be read, bool (B, R)."""
        check_shape("images", images, "B R F", F=len(self.mean))
        at = torch.arange(images.shape[1], device=images.device)
        if len(at) > self.num_images * self.num_regions:
            raise ConfigError(f"{len(at)} regions, and this model reads at most {self.num_images}·{self.num_regions}")
        nothing = ~there.any(dim=1, keepdim=True) & (at == 0)
        stands_in = nothing if hidden is None else nothing | (hidden & there)
        images = images.to(self.mean.dtype)
        vectors = self.project(self.standardised(images.masked_fill((~there | stands_in)[..., None], 0)))
        vectors = torch.where(stands_in[..., None], self.placeholder.to(vectors.dtype), vectors)
        return vectors + self.ranks(at // self.num_regions) + self.regions(at % self.num_regions), there | stands_in


class _AsGiven(nn.Module):
    """Stands where a model had its embeddings, or what widens them: what comes in goes out."""

    def forward(self, *given: Any, inputs_embeds: Tensor | None = None, **_: Any) -> Tensor:
        if inputs_embeds is not None:
            return inputs_embeds
        return next(x for x in given if isinstance(x, Tensor) and x.is_floating_point())


def read_vectors(encoder: Any) -> None:
    """Let the layers of a Hugging Face encoder read `inputs_embeds` of its hidden size as they are.

    Positions and types are in them already. That nothing is done to them on the way is checked, numerically.

    Raises:
        ConfigError: If this encoder does something else with them.
    """
    for module in encoder.modules():
        for name in ("embeddings", "embeddings_project", "embedding_hidden_mapping_in"):
            if hasattr(module, name):
                setattr(module, name, _AsGiven())
    training = encoder.training
    vectors = torch.linspace(-1, 1, 3 * encoder.config.hidden_size, dtype=encoder.dtype).view(1, 3, -1)
    try:
        with torch.no_grad():
            mask = torch.ones(1, 3, dtype=torch.long)
            found = encoder.eval()(inputs_embeds=vectors, attention_mask=mask, output_hidden_states=True)
        untouched = torch.equal(found.hidden_states[0], vectors)
    except (TypeError, RuntimeError, AttributeError, StopIteration):
        untouched = False
    encoder.train(training)
    if not untouched:
        raise ConfigError(
            f"the layers of {type(encoder).__name__} cannot read image vectors; those of BERT, RoBERTa, ALBERT, "
            "ELECTRA, DeBERTa, MPNet and ModernBERT can"
        )
