"""Pre-training on pictures and text that need not belong together (Li et al. 2021, U-VisualBERT, sections 3 and 4).

One transformer reads words, tags of regions and regions; see `modules.single_stream`. A detector's tags are words, too:
where there are no captions beside pictures, they are what ties one to the other. Of what is hidden,

    L = L_MLM + λ_r L_region + λ_c L_class + L_match + L_next

    L_MLM     mean over the hidden words and subwords of tags of -log p(w), one softmax for both
    L_region  mean over the hidden regions of |g(h) - f|^p, mean over features, f at unit deviation      g: D -> F
    L_class   Σ s_r H(tag_r, c(h_r)) / Σ s_r over the hidden regions that have a tag, s_r its score      c: D -> C
    L_match   H(whether the picture is the caption's own, m(h_[CLS])), half of the pictures being others  m: D -> 2
    L_next    H(whether one line follows the other, n(h_[CLS])), half of them being others                n: D -> 2

15 % of words are hidden as BERT does, and 15 % of regions, whose vector is zero then. A tag is hidden whole, by the
mask: 90 % of those of hidden regions, 15 % of the others. Beside another picture, L_match is all that is taken.

What is read is what is given; every kind of batch comes equally often, and none holds two:

| configuration | pairs | texts | pictures | |
| --- | --- | --- | --- | --- |
| S | captions | | | supervised: words, tags and regions in one sequence |
| W | | captions | theirs | the same data, never a caption beside its picture |
| W-R | | another corpus | pictures | text and pictures that have nothing to do with each other |
| H+ | captions | | others | pairs, and pictures without a caption |
| W+ | | captions | theirs and others | |

`tags=false` leaves tags out of what is read, `match=false` other pictures. Without any training there is the base arm:
`SingleStream.from_pretrained(text_encoder, region_width)`.

    sightread unpaired --start bert-base-uncased --regions regions --captions captions.tsv --out unpaired
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightread.artifacts import digest
from sightread.config import check_positive, check_share
from sightread.contracts import IGNORED, Losses, Objective
from sightread.data.blocks import TokenBlocks
from sightread.data.captioned import TokenizedCaptions
from sightread.data.captions import Captions
from sightread.data.regions import RegionStore
from sightread.data.seen_regions import SeenRegions
from sightread.data.unpaired import Kinds, MaskedPairs, MaskedPictures, MaskedTexts, SentencePairs
from sightread.data.voken_corpus import VokenCorpus
from sightread.errors import ConfigError, DataError
from sightread.modules.losses import lp_regression, token_classification
from sightread.modules.single_stream import SingleStream, SingleStreamOutput
from sightread.pretraining import PretrainingConfig, begin, is_fresh, train_encoder

SAMPLE = 1000  # pictures whose regions tell the mean and deviation of vectors


@dataclass(frozen=True, kw_only=True)
class UnpairedConfig(PretrainingConfig):
    """Settings, beside those of all pre-training.

    Attributes:
        most_regions: Regions of a picture, at most.
        tags: Whether tags are read.
        match: Whether pairs are told from captions beside another picture.
        next_sentence: Whether a corpus is read as pairs of lines, its next or another one.
        region_probability: Share of regions, and of tags whose region is seen, that are hidden.
        tag_with_region: Share of tags of hidden regions that are.
        p: Of the distance between regions.
        region_weight: λ_r.
        class_weight: λ_c.
    """

    most_regions: int = 36
    tags: bool = True
    match: bool = True
    next_sentence: bool = False
    region_probability: float = 0.15
    tag_with_region: float = 0.9
    p: float = 2.0
    region_weight: float = 1.0
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(most_regions=self.most_regions, p=self.p)
        check_share(region_probability=self.region_probability, tag_with_region=self.tag_with_region)
        check_positive(or_zero=True, region_weight=self.region_weight, class_weight=self.class_weight)


class UnpairedObjective(Objective):
    """A `SingleStream` and its losses.

    Args:
        config: Settings.
        stream: The model.
        vectors: Vectors of some regions, which tell their mean and deviation, float (N, F).
        num_names: C, tags that a region may have.
    """

    encoder: SingleStream

    def __init__(self, config: UnpairedConfig, stream: SingleStream, vectors: Tensor, num_names: int) -> None:
        super().__init__()
        self.settings, self.encoder = config, stream
        width = stream.language.width
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", vectors.mean(dim=0))
        self.register_buffer("scale", (vectors - self.mean).std().clamp(min=1e-6))
        self.region_head, self.class_head = nn.Linear(width, stream.region_width), nn.Linear(width, max(num_names, 1))
        self.match_head, self.next_head = nn.Linear(width, 2), nn.Linear(width, 2)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        next_labels: Tensor | None = None,
        match_labels: Tensor | None = None,
        tag_labels: Tensor | None = None,
        foretold_regions: Tensor | None = None,
        region_names: Tensor | None = None,
        region_scores: Tensor | None = None,
        voken_labels: Tensor | None = None,
        **seen: Tensor,
    ) -> Losses:
        """The losses of one batch: "loss", and of "lm_loss", "tag_loss", "region_loss", "class_loss", "match_loss" and
        "next_loss" those that it has labels for.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            token_type_ids: int64 (B, L).
            next_labels: int64 (B,).
            match_labels: int64 (B,).
            tag_labels: int64 (B, G).
            foretold_regions: bool (B, R).
            region_names: int64 (B, R).
            region_scores: float32 (B, R).
            voken_labels: Ignored.
            **seen: What `SingleStream` reads of pictures.
        """
        states = self.encoder(input_ids, attention_mask, token_type_ids, **seen)
        loss, losses = self._hidden_words(states, lm_labels, tag_labels)
        first = states.last_hidden_state[:, 0]
        for name, head, labels in (
            ("match_loss", self.match_head, match_labels), ("next_loss", self.next_head, next_labels),
        ):  # fmt: skip
            if labels is not None:
                losses[name] = token_classification(head(first), labels)
                loss = loss + losses[name]
        if foretold_regions is not None and region_names is not None and region_scores is not None:
            read = states.regions[foretold_regions]
            targets = ((seen["region_vectors"] - self.mean) / self.scale)[foretold_regions]
            losses["region_loss"] = lp_regression(self.region_head(read), targets, self.settings.p)
            names, scores = region_names[foretold_regions], region_scores[foretold_regions]
            losses["class_loss"] = weighted_classification(self.class_head(read), names, scores)
            loss = loss + self.settings.region_weight * losses["region_loss"]
            loss = loss + self.settings.class_weight * losses["class_loss"]
        return {"loss": loss, **losses}

    def _hidden_words(self, states: SingleStreamOutput, lm_labels: Any, tag_labels: Any) -> tuple[Tensor, Losses]:
        """L_MLM, and what it is of words and of tags."""
        parts = {"lm_loss": (states.last_hidden_state, lm_labels), "tag_loss": (states.tags, tag_labels)}
        parts = {name: part for name, part in parts.items() if part[1] is not None and part[1].shape[1]}
        losses = {name: self.encoder.language.loss(*part) for name, part in parts.items()}
        counts = {name: (labels != IGNORED).sum() for name, (_, labels) in parts.items()}
        none = states.last_hidden_state.new_zeros(())
        total = sum((counts[name] * loss for name, loss in losses.items()), none)
        return total / sum(counts.values(), none).clamp(min=1), losses


def weighted_classification(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Σ w H(label, softmax(logits)) / Σ w over the rows that have a label; zero if there are none.

    Args:
        logits: float (T, C).
        labels: Classes, int64 (T,), or `IGNORED`.
        weights: w, float (T,).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entropies = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    weights = weights * (labels != IGNORED)
    return (weights * entropies).sum() / weights.sum().clamp(min=1e-6)


def train(
    config: UnpairedConfig,
    out: Path | str,
    *,
    start: str | Path,
    regions: RegionStore,
    pairs: Captions | None = None,
    texts: Captions | VokenCorpus | None = None,
    pictures: Sequence[str] = (),
    **options: Any,
) -> Path:
    """Train a text encoder to read regions and words, together or apart; see the table at the top of this file.

    Args:
        config: Settings.
        out: Folder of the run; `encoder/` is a `SingleStream`, and a text encoder as any.
        start: The text encoder, or a `SingleStream` to go on from; see `pretraining.start_model`.
        regions: The regions of all pictures.
        pairs: Captions that are read beside their pictures.
        texts: Captions, or a corpus, that are read alone.
        pictures: Ids of pictures that are read alone.
        **options: As for `pretraining.train_encoder`.
    """
    corpus = texts if isinstance(texts, VokenCorpus) else None
    tokenizer, model = begin(start, corpus, config)
    width, seed = regions.width, config.seed
    stream = SingleStream(model, width) if is_fresh(start) else SingleStream.beside(model, start, width, seed=seed)
    seen = SeenRegions(regions, tokenizer, most=config.most_regions, tags=config.tags)
    if seen.skipped_tags:
        warnings.warn(f"{seen.skipped_tags} tags of many subwords are not read; their regions are", stacklevel=2)
    examples = _examples(config, seen, tokenizer, pairs, texts, pictures)
    objective = UnpairedObjective(config, stream, _some_vectors(regions), len(regions.names))
    sources = {"pairs": pairs, "texts": texts, "pictures": pictures}
    inputs = {name: _digest(source) for name, source in sources.items() if source} | {"regions": regions.digest}
    return train_encoder(objective, model, examples, tokenizer, out, config=config, inputs=inputs, **options)


def _examples(
    config: UnpairedConfig, seen: SeenRegions, tokenizer: Any, pairs: Captions | None,
    texts: Captions | VokenCorpus | None, pictures: Sequence[str],
) -> Kinds:  # fmt: skip
    """All that is read, a kind a source."""

    def of_texts(captions: Captions) -> MaskedTexts:
        tokenized = TokenizedCaptions(captions, tokenizer, config.max_length)
        return MaskedTexts(tokenized, tokenizer, config.mask_probability)

    def of_pictures(ids: Sequence[str]) -> MaskedPictures:
        return MaskedPictures(
            seen, seen.store.rows(ids), tokenizer, probability=config.region_probability,
            tag_with_region=config.tag_with_region,
        )  # fmt: skip

    if config.next_sentence and not isinstance(texts, VokenCorpus):
        raise ConfigError("next_sentence=true: captions have no order; give a corpus")
    parts = list[Any]()
    if pairs:
        parts.append(MaskedPairs(of_texts(pairs), of_pictures(pairs.pictures.ids), match=config.match))
    if isinstance(texts, VokenCorpus):
        size: dict[str, Any] = {"max_length": config.max_length, "probability": config.mask_probability}
        parts.append(
            SentencePairs(texts, tokenizer, **size)
            if config.next_sentence
            else TokenBlocks(texts, tokenizer, packed=config.packed, **size)
        )
    elif texts:
        parts.append(of_texts(texts))
    if pictures:
        parts.append(of_pictures(pictures))
    if not parts:
        raise ConfigError("there is nothing to read: give pairs, texts or pictures")
    return Kinds(parts)


def _digest(source: Captions | VokenCorpus | Sequence[str]) -> str:
    if isinstance(source, VokenCorpus):
        return source.artifact.inputs["corpus"]
    if isinstance(source, Captions):
        return digest(*source.texts, *source.pictures.ids, source.picture_of.tobytes())
    return digest(*source)


def _some_vectors(regions: RegionStore) -> Tensor:
    """Vectors of the regions of some pictures, the same ones always, float32 (N, F)."""
    rows = np.linspace(0, len(regions) - 1, min(len(regions), SAMPLE)).astype(int)
    vectors = np.concatenate([regions[row].vectors for row in rows])
    if not len(vectors):
        raise DataError(f"{regions.path} has no regions; make them with a lower threshold")
    return torch.from_numpy(vectors)
