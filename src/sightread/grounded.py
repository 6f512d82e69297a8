"""An encoder that reads text beside pictures, as an ordinary one: text in, vectors out.

    encoder, tokenizer = load_encoder("grounded/encoder"), load_tokenizer("grounded/encoder")
    encoder(**tokenizer("a dog jumps", return_tensors="pt")).last_hidden_state

What it sees is its own affair: the placeholder, or the pictures that its association finds for what it is given. Its
folder holds weights, tokenizer and association, and every task of text and probe takes it as a checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from sightread.artifacts import folder_of
from sightread.association import Association
from sightread.association.store import PictureStore, associate
from sightread.config import check_positive
from sightread.contracts import Objective
from sightread.data.blocks import text_of
from sightread.encoders.text import load_model, load_tokenizer, longest_input
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.cross_modal import CrossModal
from sightread.modules.language_model import LanguageModel
from sightread.pretraining import PretrainingConfig, start_model

WEIGHTS, ASSOCIATION = "model.safetensors", "association"


@dataclass(frozen=True, kw_only=True)
class GroundingConfig(PretrainingConfig):
    """Settings of a cross-modal encoder, beside those of pre-training.

    Attributes:
        num_images: K.
        num_regions: N.
        cross: What reads text and pictures: "" for a copy of the text encoder; or see `pretraining.start_model`.
        freeze_text: Leave the text encoder as it is, as the paper does.
    """

    num_images: int = 1
    num_regions: int = 1
    cross: str = ""
    freeze_text: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(or_zero=True, num_images=self.num_images)
        check_positive(num_regions=self.num_regions)


class GroundingObjective(Objective):
    """A cross-modal encoder in training.

    Args:
        config: Settings.
        model: The text encoder, and what the cross-modal encoder is a copy of.
        features: Vectors of regions of pictures like those that it is to read, float32 (V, N, F).
        tokenizer: The tokenizer.
        finder: What finds pictures once it is trained; None: it sees the placeholder.
    """

    def __init__(
        self, config: GroundingConfig, model: LanguageModel, features: np.ndarray, tokenizer: Any,
        finder: Finder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if features.shape[1] != config.num_regions:
            raise ConfigError(
                f"num_regions={config.num_regions}, but pictures come as {features.shape[1]} regions; give as many"
            )
        if model.causal:
            raise ConfigError("a decoder masks nothing, and the cross-modal encoder would read what it is to foretell")
        self.settings, self.frozen = config, config.freeze_text
        cross = start_model(config.cross, tokenizer) if config.cross else copy.deepcopy(model)
        if (words := cross.output.out_features) != model.output.out_features:
            raise ConfigError(
                f"cross={config.cross} knows {words} tokens, the text encoder {model.output.out_features}; "
                "take one with its tokenizer"
            )
        self.model = CrossModal(
            model.encoder, cross, image_width=features.shape[2], num_images=config.num_images,
            num_regions=config.num_regions,
        )  # fmt: skip
        self.model.standardise_by(torch.from_numpy(features))
        self.model.text.requires_grad_(not config.freeze_text)
        self.encoder = GroundedEncoder.of(self.model, tokenizer, finder)

    def train(self, mode: bool = True) -> GroundingObjective:
        """Training mode; a frozen text encoder stays without dropout."""
        super().train(mode)
        if self.frozen:
            self.model.text.eval()
        return self


class GroundedConfig(PretrainedConfig):
    """The shape of a grounded encoder.

    Args:
        text: Config of the text encoder.
        cross: Config of the language model whose layers read text and pictures.
        image_width: F.
        num_images: K.
        num_regions: N.
        associative: Whether it finds pictures for what it reads.
    """

    model_type = "sightread-grounded"

    def __init__(
        self,
        text: dict[str, Any] | None = None,
        cross: dict[str, Any] | None = None,
        image_width: int = 1,
        num_images: int = 0,
        num_regions: int = 1,
        associative: bool = False,
        **more: Any,
    ) -> None:
        self.text, self.cross, self.associative = text or {}, cross or {}, associative
        self.image_width, self.num_images, self.num_regions = image_width, num_images, num_regions
        super().__init__(**more)


class GroundedEncoder(PreTrainedModel):
    """A `CrossModal` that looks for its pictures itself.

    Args:
        config: Its shape.
        cross_modal: The model; by default fresh weights of this shape.
        finder: What finds pictures for text; None: it sees the placeholder.
    """

    config_class: Any = GroundedConfig

    def __init__(self, config: GroundedConfig, cross_modal: Any = None, finder: Finder | None = None) -> None:
        super().__init__(config)
        self.cross_modal, self.finder = cross_modal or self.fresh(config), finder

    @staticmethod
    def fresh(config: Any) -> Any:
        """Fresh weights of this shape."""
        text, cross = (LanguageModel.from_config(AutoConfig.for_model(**of)) for of in (config.text, config.cross))
        shape = {name: getattr(config, name) for name in ("image_width", "num_images", "num_regions")}
        return CrossModal(text.encoder, cross, **shape)

    @classmethod
    def of(cls, cross_modal: CrossModal, tokenizer: Any, finder: Finder | None = None) -> GroundedEncoder:
        """The encoder that a `CrossModal` is."""
        text = cross_modal.text.config
        config = GroundedConfig(
            text=text.to_dict(), cross=cross_modal.cross.encoder.config.to_dict(), image_width=len(cross_modal.mean),
            num_images=cross_modal.num_images, num_regions=cross_modal.num_regions, hidden_size=cross_modal.width,
            num_hidden_layers=cross_modal.cross.encoder.config.num_hidden_layers, vocab_size=text.vocab_size,
            pad_token_id=text.pad_token_id, max_position_embeddings=longest_input(cross_modal.text, tokenizer),
            associative=finder is not None,
        )  # fmt: skip
        return cls(config, cross_modal, finder)

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
            raise ConfigError("a grounded encoder gives its states by name: return_dict=True")
        if output_hidden_states:
            raise ConfigError("a grounded encoder gives the states of its last layer alone: layers=-1")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        images = self.finder(input_ids, mask) if self.finder else {}
        states, _ = self.cross_modal(input_ids, mask, **images, token_type_ids=token_type_ids)
        return BaseModelOutput(last_hidden_state=states)

    def prepare(self, sequences: Mapping[str, Sequence[Sequence[int]]], folder: Path) -> dict[str, Any]:
        """Find the pictures of all sequences of token ids, by split, before any is read; see `Finder.prepare`.

        Returns:
            For a report: of its `pictures` how many `distinct` texts were sought, `texts_per_second`, and the share
            `without_picture`.
        """
        if not self.finder:
            return {}
        ids = (np.array(sequence) for part in sequences.values() for sequence in part)
        return self.finder.prepare([text_of(self.finder.tokenizer, sequence) for sequence in ids], folder)

    def get_input_embeddings(self) -> Any:
        """Those of the text encoder."""
        return self.cross_modal.text.get_input_embeddings()

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write weights, config, and the association if there is one; the tokenizer is the caller's to add."""
        self.config.save_pretrained(folder)
        write_finding(Path(folder), self.cross_modal, self.finder)

    @classmethod
    def from_pretrained(cls, name: str | Path | None, *_: Any, **more: Any) -> GroundedEncoder:  # type: ignore[override]
        """Load a folder, or a repository of the Hub.

        Raises:
            ArtifactError: If something of it is missing, or the weights are of another shape.
            ConfigError: If it is to be made again from a state, and finds pictures, which are no part of that.
        """
        if name is None:  # made again in another process
            encoder = cls(more["config"])
            encoder.load_state_dict(more["state_dict"])
            if encoder.config.associative:
                raise ConfigError("an encoder that finds pictures cannot be sent to another process; take one worker")
            return encoder.eval()
        folder = folder_of(name)
        encoder = cls(cls.config_class.from_pretrained(folder))
        encoder.finder = read_finding(folder, encoder.cross_modal, encoder.config)
        return encoder.eval()


class Finder:
    """The pictures that an association finds for token ids, each text's sought once.

    Args:
        association: What finds them.
        tokenizer: Tells the text.
        count: K.
    """

    def __init__(self, association: Association, tokenizer: Any, count: int) -> None:
        if not len(association.bank):
            raise ConfigError(f"an association by {association.kind} has no bank to read pictures from")
        self.association, self.tokenizer, self.count = association, tokenizer, count
        self.found: dict[str, np.ndarray] = {}

    @property
    def features(self) -> Tensor:
        """Regions of the bank's pictures, float32 (V, N, F); a bank may grow with what is sought."""
        bank = self.association.bank
        return torch.from_numpy(bank.features).unflatten(1, (bank.num_regions, -1))

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """`images` and `image_mask` of some sequences, as `CrossModal` takes them."""
        pairs = zip(input_ids.cpu().numpy(), attention_mask.bool().cpu().numpy(), strict=True)
        texts = [text_of(self.tokenizer, ids[kept]) for ids, kept in pairs]
        rows = self.rows(texts)
        images = seen_images(self.features, rows)
        return {name: value.to(input_ids.device) for name, value in images.items()}

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """The pictures of some texts, int64 (N, K), -1 for none."""
        if new := list(dict.fromkeys(text for text in texts if text not in self.found)):
            self.found |= dict(zip(new, self.association.retrieve(new, self.count), strict=True))
        return np.stack([self.found[text] for text in texts])

    def prepare(self, texts: Sequence[str], folder: Path) -> dict[str, Any]:
        """Find the pictures of all these texts now, and keep them in a folder, where they are found if asked again;
        returns what a report tells of `pictures`."""
        if not texts:
            return {}
        texts = list(dict.fromkeys(texts))
        store = PictureStore(associate(texts, self.association, self.count, folder, resume=True))
        self.found |= dict(zip(texts, store.rows(texts, self.count), strict=True))
        told = ("distinct", "texts_per_second", "without_picture")
        return {"pictures": {name: store.artifact.report[name] for name in told}}

    def __deepcopy__(self, memo: Any) -> Finder:
        return self  # what was found once need not be found again by a copy


def write_finding(folder: Path, model: nn.Module, finder: Finder | None) -> None:
    """Write the weights of what reads pictures, and what finds them, if there is any."""
    safetensors.torch.save_model(model, str(folder / WEIGHTS))
    if finder:
        finder.association.save(folder / ASSOCIATION, overwrite=(folder / ASSOCIATION).exists())


def read_finding(folder: Path, model: nn.Module, config: Any) -> Finder | None:
    """Read what `write_finding` wrote: the weights into the model, and the finder if the config is `associative`.

    Raises:
        ArtifactError: If something of it is missing, or the weights are of another shape.
    """
    try:
        safetensors.torch.load_model(model, str(folder / WEIGHTS))
    except (OSError, RuntimeError) as error:
        raise ArtifactError(f"{folder} cannot be loaded as a grounded encoder: {error}") from error
    if not config.associative:
        return None
    from sightread.association.folder import load_association

    return Finder(load_association(folder / ASSOCIATION), load_tokenizer(folder), config.num_images)


def seen_images(features: Tensor, rows: np.ndarray) -> dict[str, Tensor]:
    """Pictures as `CrossModal` takes them.

    Args:
        features: Vectors of N regions of each picture of a bank, float32 (V, N, F).
        rows: Pictures, int64 (B, K); -1: none.

    Returns:
        `images`, float32 (B, K·N, F), and `image_mask`, int64 (B, K·N).
    """
    chosen, there = torch.from_numpy(rows.clip(min=0)), torch.from_numpy(rows >= 0).long()
    mask = there.repeat_interleave(features.shape[1], dim=1)
    return {"images": features[chosen].flatten(1, 2), "image_mask": mask}


def load_encoder(name: str | Path) -> Any:
    """An encoder by folder or Hub name, grounded or any that `AutoModel` loads; raises `ArtifactError` if there is
    none."""
    return load_model(name, "AutoModel")


AutoConfig.register(GroundedConfig.model_type, GroundedConfig, exist_ok=True)
AutoModel.register(GroundedConfig, GroundedEncoder, exist_ok=True)
