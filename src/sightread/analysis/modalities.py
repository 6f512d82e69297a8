"""Whether the word, the tag and the region of one thing lie together (Li et al. 2021, figure 2).

states = collect(model, seen, tokenizer, texts)
print(nearness(states))
draw(states, Path("modalities"))
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sightread.analysis.figures import COLORS, new_figure, save
from sightread.contracts import to_device
from sightread.data.blocks import special_tokens_around
from sightread.data.seen_regions import SeenRegions
from sightread.errors import DataError
from sightread.modules.single_stream import SingleStream
from sightread.runtime import default_device, keyed_rng

MODALITIES = ("word", "tag", "region")
_MARKERS = ("o", "s", "^")
_PAPER = {"boxstyle": "round", "facecolor": "white", "alpha": 0.7, "linewidth": 0}
_State = tuple[int, str, np.ndarray]  # thing, modality, vector


@dataclass(frozen=True)
class States:
    """States of things in text and pictures.

    Attributes:
        vectors: float32 (N, D).
        classes: Which thing each is, a row of `names`, int64 (N,).
        modalities: A row of `MODALITIES`, int64 (N,).
        names: What the things are called.
    """

    vectors: np.ndarray
    classes: np.ndarray
    modalities: np.ndarray
    names: Sequence[str]


def without_tags(states: States) -> States:
    """Words and regions alone, so that models that read tags and those that do not can be compared."""
    kept = states.modalities != MODALITIES.index("tag")
    return States(states.vectors[kept], states.classes[kept], states.modalities[kept], states.names)


class Nearness(NamedTuple):
    """How near the states of a thing are to each other.

    Attributes:
        purity: Share of tags and regions whose nearest neighbour of another modality, by cosine, is of the same thing.
        chance: What it would be if that neighbour were any state of another modality.
        silhouette: How much nearer states are to their own thing's than to another's, -1 to 1, by cosine.
    """

    purity: float
    chance: float
    silhouette: float


def nearness(states: States) -> Nearness:
    """How near the states of a thing are, whatever they are read from.

    Raises:
        DataError: If there are fewer than two things, or two modalities.
    """
    from sklearn.metrics import silhouette_score

    num_things = len(set(states.classes.tolist()))
    if not 2 <= num_things < len(states.classes) or len(set(states.modalities.tolist())) < 2:
        raise DataError("nearness is of two things at least, each seen in two modalities; give more text or pictures")
    unit = states.vectors / np.linalg.norm(states.vectors, axis=1, keepdims=True).clip(min=1e-12)
    seen = states.modalities != MODALITIES.index("word")
    other = states.modalities[seen, None] != states.modalities
    same = states.classes[seen, None] == states.classes
    nearest = np.where(other, unit[seen] @ unit.T, -np.inf).argmax(axis=1)
    purity = same[np.arange(len(nearest)), nearest].mean()
    chance = ((same & other).sum(axis=1) / other.sum(axis=1)).mean()
    return Nearness(float(purity), float(chance), float(silhouette_score(unit, states.classes, metric="cosine")))


@torch.no_grad()
def collect(
    model: SingleStream, seen: SeenRegions, tokenizer: Any, texts: Sequence[str], *, things: int = 15, each: int = 50,
    max_length: int = 64, batch_size: int = 32, seed: int = 0,
) -> States:  # fmt: skip
    """States of the most frequent tags of a store: of the regions that bear them, the tags there, and words in text.

    Text and pictures are read apart. What is of several subwords is their mean.

    Args:
        model: The model.
        seen: The pictures.
        tokenizer: Its tokenizer.
        texts: Sentences, some of which name the things.
        things: How many tags, the most frequent ones.
        each: States of a thing and modality, at most.
        max_length: Tokens of a text that are read.
        batch_size: Texts, or pictures, read at a time.
        seed: Of the order in which texts and pictures are looked at.

    Raises:
        DataError: If neither shows any of the things.
    """
    rng, store = keyed_rng(seed), seen.store
    names = sorted(store.names, key=lambda name: -store.counts[name])[:things]
    model = model.to(default_device()).eval()
    shuffled = (texts[i] for i in rng.permutation(len(texts)))
    named = ((thing, (text, span)) for text in shuffled for thing, span in _mentions(text, names))
    words = _chosen(named, len(names), each)
    regions = _chosen(_shown(seen, rng.permutation(len(store)), names), len(names), each)
    found = [
        *(state for batch in _batches(words, batch_size) for state in _of_words(model, tokenizer, batch, max_length)),
        *(state for batch in _batches(regions, batch_size) for state in _of_pictures(model, seen, tokenizer, batch)),
    ]
    if not found:
        raise DataError(f"neither text nor pictures show any of {', '.join(names) or 'no tags'}; give others")
    classes, modalities, vectors = zip(*found, strict=True)
    return States(np.stack(vectors), np.array(classes), np.array([MODALITIES.index(m) for m in modalities]), names)


def draw(states: States, out: Path, *, seed: int = 0) -> list[Path]:
    """Draw the states in the plane, by t-SNE, each thing in its colour and each modality with its mark.

    Args:
        states: What to draw.
        out: Where, without a suffix.
        seed: Of t-SNE.

    Returns:
        The files `out`.svg and `out`.png.

    Raises:
        MissingExtra: If Matplotlib is not installed.
    """
    figure = new_figure(8, 8)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(states.classes) - 1) / 3)
    plane = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed).fit_transform(states.vectors)
    axes = figure.add_subplot(xticks=[], yticks=[])
    for thing, name in enumerate(states.names):
        color, hollow = COLORS[thing % len(COLORS)], thing // len(COLORS) % 2
        of_thing = states.classes == thing
        for modality, marker in enumerate(_MARKERS):
            x, y = plane[of_thing & (states.modalities == modality)].T
            axes.scatter(
                x, y, 22, marker=marker, edgecolors=color, facecolors="none" if hollow else color, linewidths=1
            )
        if of_thing.any():
            axes.annotate(name, np.median(plane[of_thing], axis=0), ha="center", weight="bold", bbox=_PAPER)
    for label, marker in zip(MODALITIES, _MARKERS, strict=True):
        axes.scatter([], [], marker=marker, color="#444444", label=label)
    axes.legend(loc="best")
    return save(figure, out, ".svg", ".png")


def _mentions(text: str, names: Sequence[str]) -> Iterator[tuple[int, tuple[int, int]]]:
    """The things that a text names, and the characters of the first mention of each."""
    for thing, name in enumerate(names):
        if match := re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE):
            yield thing, match.span()


def _shown(seen: SeenRegions, rows: np.ndarray, names: Sequence[str]) -> Iterator[tuple[int, tuple[int, int]]]:
    """The things that pictures show, each with the row of the picture and the place of the region."""
    things = {seen.store.names.index(name): thing for thing, name in enumerate(names)}
    for row in rows.tolist():
        for place, tag in enumerate(seen.of(row)["region_names"].tolist()):
            if tag in things:
                yield things[tag], (row, place)


def _chosen(found: Iterable[tuple[int, Any]], things: int, each: int) -> list[tuple[int, Any]]:
    """The first of each of so many things; whoever has enough of all looks no further."""
    taken, chosen = Counter[int](), list[tuple[int, Any]]()
    for thing, where in found:
        if taken[thing] < each:
            taken[thing] += 1
            chosen.append((thing, where))
            if len(chosen) == things * each:
                break
    return chosen


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _of_words(model: SingleStream, tokenizer: Any, batch: Sequence[Any], max_length: int) -> Iterator[_State]:
    encoded = tokenizer(
        [text for _, (text, _) in batch], truncation=True, max_length=max_length, padding=True,
        return_offsets_mapping=True, return_tensors="pt",
    )  # fmt: skip
    offsets = encoded["offset_mapping"].numpy()
    read = to_device({name: encoded[name] for name in ("input_ids", "attention_mask")}, next(model.parameters()).device)
    states = model(**read).last_hidden_state.float().cpu().numpy()
    for (thing, (_, (begin, end))), state, (starts, ends) in zip(batch, states, offsets.swapaxes(1, 2), strict=True):
        within = (starts < end) & (ends > begin) & (ends > starts)
        if within.any():  # not where it was cut off
            yield thing, "word", state[within].mean(axis=0)


def _of_pictures(model: SingleStream, seen: SeenRegions, tokenizer: Any, batch: Sequence[Any]) -> Iterator[_State]:
    pictures = [seen.of(row) for _, (row, _) in batch]
    empty = torch.from_numpy(np.concatenate(special_tokens_around(tokenizer))).expand(len(batch), -1)
    text = {"input_ids": empty, "attention_mask": torch.ones_like(empty)}
    output = model(**to_device(text | dict(seen.collate(pictures)), next(model.parameters()).device))
    regions, tags = (states.float().cpu().numpy() for states in (output.regions, output.tags))
    for (thing, (_, place)), picture, of_regions, of_tags in zip(batch, pictures, regions, tags, strict=True):
        yield thing, "region", of_regions[place]
        its = np.flatnonzero(picture["tag_regions"] == place)
        if len(its):
            yield thing, "tag", of_tags[its].mean(axis=0)
