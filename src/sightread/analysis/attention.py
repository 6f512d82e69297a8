"""Where an encoder that reads text beside something else looks: CLIP's words, or pictures (Hsu et al. 2022, table 9).

The map of a layer is the mean over its heads, and what is drawn is the mean over layers. For an XBERT, columns are
CLIP's words; for a grounded or an aware encoder they are the pictures that it finds, or the placeholder, each with the
weight of all its regions. In a grounded encoder words are read, too, so that a row sums to less than one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.analysis.figures import FAINT, new_figure, save
from sightread.aware import AwareEncoder
from sightread.data.blocks import text_of
from sightread.encoders.text import load_tokenizer, longest_input
from sightread.errors import ConfigError
from sightread.grounded import GroundedEncoder, load_encoder
from sightread.modules.two_stream import attention_maps
from sightread.xbert import XBertEncoder

PLACEHOLDER = "(no picture)"
_TELLING = {"output_attentions": True}


@dataclass(frozen=True)
class AttentionMap:
    """What each token of a text reads.

    Attributes:
        rows: The tokens.
        columns: What is read: words of CLIP, or ids of pictures.
        layers: Attention, float32 (layers, rows, columns).
    """

    rows: list[str]
    columns: list[str]
    layers: np.ndarray


@torch.no_grad()
def attention_of(name: str | Path, text: str) -> AttentionMap:
    """The map of a text.

    Args:
        name: Folder or Hub name of an XBERT, a grounded or an aware encoder.
        text: What it reads.

    Raises:
        ConfigError: If this encoder reads text alone.
    """
    encoder, tokenizer = load_encoder(name), load_tokenizer(name)
    longest = longest_input(encoder, tokenizer)
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest, return_token_type_ids=False)
    if inputs.encodings[0].overflowing:
        warnings.warn(f"the text is longer than the {longest} tokens that the encoder reads; it is cut", stacklevel=2)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if isinstance(encoder, XBertEncoder):
        columns, layers = _of_clip(encoder, ids, mask)
    elif isinstance(encoder, GroundedEncoder):
        columns, layers = _of_pictures(encoder, ids, mask)
    else:
        raise ConfigError(f"{name} reads text alone; give an encoder of xdbert, associative, joint or aware")
    return AttentionMap(tokenizer.convert_ids_to_tokens(ids[0].tolist()), columns, layers.numpy().astype(np.float32))


def _of_clip(encoder: XBertEncoder, ids: Tensor, mask: Tensor) -> tuple[list[str], Tensor]:
    inputs = encoder.clip_inputs(ids, mask)
    maps = attention_maps(encoder.two_stream, input_ids=ids, attention_mask=mask, **inputs)
    words = inputs["clip_words"][0].flatten().bool()
    read = inputs["clip_ids"][0].flatten()[words].tolist()
    names = encoder.rows.tokenizer.convert_ids_to_tokens(read) if encoder.rows else []
    layers = torch.stack([to_clip[0].mean(dim=0) for to_clip, _ in maps])
    return [name.removesuffix("</w>") for name in names], layers[:, :, words]


def _of_pictures(encoder: GroundedEncoder, ids: Tensor, mask: Tensor) -> tuple[list[str], Tensor]:
    images: dict[str, Any] = encoder.finder(ids, mask) if encoder.finder else {}
    if isinstance(encoder, AwareEncoder):
        layers = _looks(encoder, ids, mask, images)[None]
    elif encoder.cross_modal.num_images:
        length = ids.shape[1]
        maps = _self_attention(encoder, ids, mask, images)
        layers = torch.stack([of_layer[0].mean(dim=0)[:length, length:] for of_layer in maps])
    else:
        raise ConfigError("this grounded encoder reads no pictures: it was made with num_images=0")
    names = _pictures(encoder, ids, mask)
    return names, layers.unflatten(2, (len(names), -1)).sum(dim=3)


def _pictures(encoder: GroundedEncoder, ids: Tensor, mask: Tensor) -> list[str]:
    finder = encoder.finder
    if finder is None:
        return [PLACEHOLDER]
    (rows,) = finder.rows([text_of(finder.tokenizer, ids[0][mask[0].bool()].numpy())])
    return [finder.association.bank.ids[row] if row >= 0 else PLACEHOLDER for row in rows]


def _self_attention(encoder: GroundedEncoder, ids: Tensor, mask: Tensor, images: dict[str, Any]) -> list[Tensor]:
    """Of each layer, over tokens and regions, (1, heads, L + R, L + R)."""
    found, cross = list[Tensor](), encoder.cross_modal.cross.encoder
    cross.set_attn_implementation("eager")  # others do not say what they look at
    hooks = (
        cross.register_forward_pre_hook(lambda _, args, named: (args, named | _TELLING), with_kwargs=True),
        cross.register_forward_hook(lambda _, __, output: found.extend(output.attentions)),
    )
    try:
        encoder.cross_modal(ids, mask, **images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _looks(encoder: AwareEncoder, ids: Tensor, mask: Tensor, images: dict[str, Any]) -> Tensor:
    """From tokens to regions, (L, R)."""
    layer = encoder.cross_modal.attention
    states = encoder.cross_modal.text(input_ids=ids, attention_mask=mask).last_hidden_state
    seen = layer.project(torch.nn.functional.normalize(images["images"].to(states.dtype), dim=-1))
    hidden = images["image_mask"] == 0
    if hidden.all():
        return torch.zeros(states.shape[1], hidden.shape[1])
    _, weights = layer.attention(states, seen, seen, key_padding_mask=hidden, need_weights=True)
    return weights[0]


def draw(found: AttentionMap, out: Path, *, most: int = 40) -> list[Path]:
    """The mean over layers: a row a token, a column for each thing it reads.

    Args:
        found: What to draw.
        out: Where, without a suffix.
        most: Columns at most, the most looked at.

    Returns:
        The files `out`.svg and `out`.pdf.
    """
    cells = found.layers.mean(axis=0)
    kept = np.sort(np.argsort(-cells.sum(axis=0), kind="stable")[:most])
    figure = new_figure(2.2 + 0.36 * len(kept), 1.6 + 0.26 * len(found.rows))
    axes = figure.add_subplot(xticks=range(len(kept)), yticks=range(len(found.rows)))
    axes.set_xticklabels([found.columns[column] for column in kept], rotation=60, ha="right", fontsize=8)
    axes.set_yticklabels(found.rows, fontsize=8)
    image = axes.imshow(cells[:, kept], cmap="cividis", vmin=0, aspect="auto")
    figure.colorbar(image, ax=axes, label="attention", fraction=0.05)
    axes.set_title(f"mean over {len(found.layers)} layers and their heads", fontsize=9, color=FAINT)
    return save(figure, out)
