"""One transformer that reads words, tags and regions in one sequence (Li et al. 2019, section 3; Li et al. 2021, 3.1).

The layers of a text encoder read text | tags | regions. With LN a layer normalisation each,

    word       what the encoder's own embeddings make of it: word, position, segment
    tag        LN(e(t)) + LN(W_b b)     a subword t of a region's tag; e: the encoder's table of words
    region     LN(W_f f) + LN(W_b b)    f: its vector, zero where it is hidden; b: its box, always seen

W_b and its LN are one for tags and regions. Neither has a position or a segment, so that their order is of no matter,
and text alone is read exactly as the text encoder reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sightread.checks import check_shape
from sightread.encoders.text import model_type
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.language_model import LanguageModel

VISUAL = "visual.safetensors"
_WIDENING = ("embeddings_project", "embedding_hidden_mapping_in")  # ELECTRA's and ALBERT's, of narrow tables of words


class SingleStreamOutput(NamedTuple):
    """States of the last layer: `last_hidden_state` of text, float (B, L, D), `tags` (B, G, D), `regions` (B, R, D)."""

    last_hidden_state: Tensor
    tags: Tensor
    regions: Tensor


class SingleStream(nn.Module):
    """A text encoder whose layers also read the tags and regions of pictures.

    Args:
        language: A masked language model. Its encoder is not changed.
        region_width: F.

    Attributes:
        config: Of the text encoder.
        language: As given.
        region_width: F.
        visual: What makes vectors of tags and regions.
        fresh: Whether that comes from no checkpoint.

    Raises:
        ConfigError: If the layers of this encoder cannot read vectors beside text, or give them places.
    """

    def __init__(self, language: LanguageModel, region_width: int) -> None:
        super().__init__()
        self.language, self.region_width, self.config = language, region_width, language.encoder.config
        if not region_width:
            raise ConfigError("these regions have no vectors; make them with --image-encoder")
        self.fresh = True
        encoder, width = language.encoder, language.width
        self.knows_types = "token_type_ids" in inspect.signature(encoder.forward).parameters
        self.visual = nn.ModuleDict({
            "vector": nn.Linear(region_width, width), "vector_norm": nn.LayerNorm(width),
            "box": nn.Linear(4, width), "box_norm": nn.LayerNorm(width), "tag_norm": nn.LayerNorm(width),
        }).to(encoder.dtype)  # fmt: skip
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.0))
        self._check_layers()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        *,
        tag_ids: Tensor | None = None,
        tag_regions: Tensor | None = None,
        region_vectors: Tensor | None = None,
        region_boxes: Tensor | None = None,
        region_mask: Tensor | None = None,
        hidden_regions: Tensor | None = None,
    ) -> SingleStreamOutput:
        """States of words, tags and regions.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            token_type_ids: int64 (B, L); left out where the encoder knows none.
            tag_ids: Subwords of tags, int64 (B, G); none, if not given.
            tag_regions: The region that each belongs to, -1 where there is none, int64 (B, G).
            region_vectors: float (B, R, F); without them text is all that is read.
            region_boxes: (x1, y1, x2, y2) as shares of width and height, float (B, R, 4).
            region_mask: 1 where there is a region, int64 (B, R); all, if not given.
            hidden_regions: True where a region's vector is kept from the model, bool (B, R); nowhere, if not given.
        """
        given: dict[str, Any] = {"input_ids": input_ids}
        if self.knows_types and token_type_ids is not None:
            given["token_type_ids"] = token_type_ids
        if region_vectors is None or region_boxes is None:
            states = self.language.encoder(attention_mask=attention_mask, **given).last_hidden_state
            return SingleStreamOutput(states, states[:, :0], states[:, :0])
        check_shape("region_vectors", region_vectors, "B R F", B=len(input_ids), F=self.region_width)
        check_shape("region_boxes", region_boxes, "B R 4", B=len(input_ids), R=region_vectors.shape[1])
        if tag_ids is None or tag_regions is None:
            tag_ids = tag_regions = input_ids.new_zeros(len(input_ids), 0)
        if region_mask is None:
            region_mask = attention_mask.new_ones(region_vectors.shape[:2])
        unseen = region_mask == 0 if hidden_regions is None else hidden_regions | (region_mask == 0)
        seen = self._see(tag_ids, tag_regions, region_vectors.masked_fill(unseen[..., None], 0), region_boxes)
        mask = torch.cat([attention_mask, (tag_regions >= 0).to(attention_mask), region_mask.to(attention_mask)], dim=1)
        with _read_beside(self.language.encoder, seen):
            states = self.language.encoder(attention_mask=mask, **given).last_hidden_state
        return SingleStreamOutput(*states.split([input_ids.shape[1], tag_ids.shape[1], unseen.shape[1]], dim=1))

    def _see(self, tag_ids: Tensor, tag_regions: Tensor, vectors: Tensor, boxes: Tensor) -> Tensor:
        """What the layers read of tags and regions, (B, G + R, D)."""
        visual, encoder = self.visual, self.language.encoder
        places = visual["box_norm"](visual["box"](boxes.to(encoder.dtype)))  # (B, R, D)
        words = encoder.get_input_embeddings()(tag_ids)
        if (widening := _widening(encoder)) is not None:
            words = widening(words)
        of_tags = places[torch.arange(len(places), device=places.device)[:, None], tag_regions.clamp(min=0)]
        tags = visual["tag_norm"](words) + of_tags
        regions = visual["vector_norm"](visual["vector"](vectors.to(encoder.dtype))) + places
        return self.dropout(torch.cat([tags, regions], dim=1))

    @torch.no_grad()
    def _check_layers(self) -> None:
        """That what stands beside text reaches the layers as it is, has no place, and, masked, is not there."""
        encoder, width = self.language.encoder, self.language.width
        training = encoder.training
        encoder.eval()
        ids = torch.arange(1, 5, device=encoder.device)[None]
        vectors = torch.linspace(-1, 1, 2 * width, device=encoder.device, dtype=encoder.dtype).sin().view(1, 2, width)
        mask = ids.new_ones(1, 6)

        def read(beside: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            with _read_beside(encoder, beside):
                out = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            return out.hidden_states[0], out.last_hidden_state

        try:
            alone = encoder(input_ids=ids, attention_mask=mask[:, :4], output_hidden_states=True)
            first, last = read(vectors, mask)
            untouched = torch.equal(first, torch.cat([alone.hidden_states[0], vectors], dim=1))
            turned, absent = read(vectors.flip(1), mask)[1], read(vectors, mask * (mask.cumsum(1) < 5))[1]
            pairs = (turned[:, [0, 1, 2, 3, 5, 4]], last), (absent[:, :4], alone.last_hidden_state)
            fits = untouched and all(torch.allclose(x, y, atol=1e-4) for x, y in pairs) and not self.language.causal
        except (TypeError, RuntimeError, AttributeError, IndexError):
            fits = False
        encoder.train(training)
        if not fits:
            raise ConfigError(
                f"the layers of {type(encoder).__name__} cannot read regions beside text, or would give them places in "
                "a row; those of BERT, RoBERTa, ELECTRA and ALBERT can"
            )

    def save_pretrained(self, folder: Path | str) -> None:
        """Write an ordinary checkpoint of the text encoder, with its masked-LM head, and beside it what sees."""
        self.language.save_pretrained(Path(folder))
        safetensors.torch.save_model(self.visual, str(Path(folder) / VISUAL))

    def begin_anew(self) -> None:
        """Draw what has seen nothing again, which is to be another with each seed."""
        for part in self.visual.children() if self.fresh else ():
            cast(Any, part).reset_parameters()

    @classmethod
    def from_pretrained(cls, name: str | Path, region_width: int | None = None, *, seed: int = 0) -> SingleStream:
        """Load a folder or a repository of the Hub; in a checkpoint of text alone, what sees begins fresh.

        Args:
            name: The folder or Hub name.
            region_width: F; needed where nothing there has seen a region.
            seed: Of fresh weights.

        Raises:
            ArtifactError: If nothing of the kind is there, or the checkpoint is of text alone and no width is given.
            ConfigError: If its regions are of another width, or it reads pictures in a way of its own.
        """
        if model_type(name).startswith("sightread-"):
            raise ConfigError(
                f"{name} reads what it finds beside text, and no pictures that it is given; take an encoder of text "
                "alone, or one that `unpaired` has made"
            )
        return cls.beside(LanguageModel.from_pretrained(name), name, region_width, seed=seed)

    @classmethod
    def beside(
        cls, language: LanguageModel, name: str | Path, region_width: int | None, *, seed: int = 0
    ) -> SingleStream:
        """A language model, with what sees from a checkpoint, or fresh; else as `from_pretrained`."""
        weights = _visual_weights(name)
        width = weights["vector.weight"].shape[1] if weights else region_width
        if width is None:
            raise ArtifactError(f"{name} has seen no regions: there is no {VISUAL}; take one that has, or give regions")
        if region_width not in (None, width):
            raise ConfigError(
                f"{name} reads regions {width} wide, and these are {region_width}; take regions like its own"
            )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = cls(language, width)
        model.fresh = not weights
        if weights:
            try:
                model.visual.load_state_dict(weights)
            except RuntimeError as error:
                raise ArtifactError(f"{VISUAL} of {name} does not fit its encoder: {error}") from error
        return model


def _visual_weights(name: str | Path) -> dict[str, Tensor]:
    """What a folder or repository has seen regions with; empty if it has not."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(str(name), VISUAL, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise ArtifactError(f"whether {name} has seen regions cannot be told: {error}; give a folder") from error
    if path is None:
        return {}
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be loaded ({error}); make {name} again") from error


def _widening(encoder: Any) -> Any:
    """What makes vectors of the hidden size of an encoder's narrower embeddings, or None."""
    return next((part for name, part in encoder.named_modules() if name.endswith(_WIDENING)), None)


@contextmanager
def _read_beside(encoder: Any, vectors: Tensor) -> Iterator[None]:
    """Within, the layers of an encoder read some vectors (B, N, D) after what they are given."""
    count = vectors.shape[1]

    def append(_: Any, __: Any, out: Tensor) -> Tensor:
        return torch.cat(
            [out, vectors.to(out) if widening is None else out.new_zeros(*vectors.shape[:2], out.shape[2])], 1
        )

    def overwrite(_: Any, __: Any, out: Tensor) -> Tensor:
        return torch.cat([out[:, : out.shape[1] - count], vectors.to(out)], dim=1)

    widening = _widening(encoder)
    hooks = [encoder.embeddings.register_forward_hook(append)]
    if widening is not None:
        hooks.append(widening.register_forward_hook(overwrite))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
