"""The stages of a comparison on real data that come before its arms, each left as it is if its folder is whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import MANIFEST, write_atomic
from sightread.contracts import Pictures
from sightread.experiments.ground import Ground, association_path, make_association, make_pictures, make_store
from sightread.experiments.needs import associations_of, pictures_of
from sightread.methods.matching import MatchingConfig

if TYPE_CHECKING:
    from sightread.data.captions import Captions
    from sightread.data.corpora import Corpus
    from sightread.experiments.arms import Arm
    from sightread.pretraining import PretrainingConfig

PERPLEXITIES, PASSAGES, BASE = "perplexities.md", "passages", "language-model"
REGIONS = "regions-{}"  # their folder, by name
FOUND_PAGE, SHOWN, K_SHOWN = "found", 6, 8  # what is found for so many captions, so many pictures each


def cut_passages(sources: Iterable[Path | str], path: Path, seed: int) -> None:
    """Cut corpora into passages, split at random."""
    from sightread.data.corpora import Corpus
    from sightread.data.passages import write_passages

    if not (path / MANIFEST).is_file():
        write_passages([Corpus(source) for source in sources], path, seed=seed, overwrite=path.exists())


def train_base(config: PretrainingConfig, ground: Ground) -> None:
    """Teach the text encoder to foretell hidden words."""
    from sightread.methods import lm

    lm.train(config, make_store("none", ground), ground.folder / BASE, start=ground.tokenizer, resume=True)


def make_bank(
    name: str, ground: Ground, pictures: Pictures, *, cache: Path, seed: int, size: int | None = None
) -> None:
    """A bank of these pictures, or of so many of them."""
    from sightread.bank import build_bank
    from sightread.encoders.image import ImageEncoder

    path = ground.folder / name
    if not (path / MANIFEST).is_file():
        encoder = ImageEncoder.from_pretrained(ground.image_encoder, **ground.image_options)
        bank, _ = build_bank(pictures, encoder, size=size, seed=seed, cache=cache)
        bank.save(path, overwrite=path.exists())


def find_regions(sources: Mapping[str, tuple[Path | str, Path | str]], ground: Ground) -> None:
    """The regions of pictures, by name, each with their detector; pictures of which nothing is known are left out."""
    from sightread.data.images import read_pictures
    from sightread.encoders.detectors import load_detector
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.region_vectors import build_regions

    encoder = ImageEncoder.from_pretrained(ground.image_encoder, view="whole")
    for name, (images, detector) in sources.items():
        build_regions(
            read_pictures(images), load_detector(detector), encoder, ground.folder / REGIONS.format(name),
            max_skipped=1.0, resume=True,
        )  # fmt: skip


def find_pictures(arms: Sequence[Arm], ground: Ground) -> None:
    """Associations, and what they find for all text that arms read in training."""
    for kind, start in associations_of(arms):
        make_association(kind, ground, start)
    for kind, start, count in pictures_of(arms):
        make_pictures(kind, ground, start, count)


def match(settings: MatchingConfig, ground: Ground) -> None:
    """Train the vokenizers that arms need."""
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    captions, bank = ground.captions, ground.bank()
    image_encoder = ImageEncoder.from_pretrained(ground.image_encoder, **ground.image_options)
    for level, folder in ground.vokenizers.items():
        matching.train(
            replace(settings, level=level), captions, folder, cache=ground.features, resume=True, bank=bank,
            text_encoder=TextEncoder.from_pretrained(ground.tokenizer, settings.layers), image_encoder=image_encoder,
        )  # fmt: skip


def retrieval(captions: Captions, ground: Ground) -> dict[str, Any]:
    """How often tokens and sentences of these captions find their picture, and a bag of words does."""
    from sightread.analysis.retrieval import bag_of_words_scores, retrieval_scores
    from sightread.encoders.features import image_features
    from sightread.vokenizer import Vokenizer

    caches = ground.features, ground.folder / "features-test"
    parts = [ground.captions, captions]
    vokenizer = Vokenizer.from_pretrained(ground.vokenizers["token"])
    scores = retrieval_scores(vokenizer, parts[1], cache=caches[1])
    features = [
        image_features(vokenizer.image_encoder, part.pictures, cache=cache)[0]
        for part, cache in zip(parts, caches, strict=True)
    ]
    return scores | {"bag_of_words": bag_of_words_scores(parts[0], features[0], parts[1], features[1])}


def perplexities(arms: Sequence[Arm], ground: Ground, text: Corpus, captions: Captions) -> str:
    """The table of perplexities, which is also written, with what is found for some captions (Sileo 2021, figure 4)."""
    from sightread.analysis.found import write_found
    from sightread.association.folder import load_association
    from sightread.experiments.perplexities import as_table
    from sightread.experiments.perplexities import perplexities as measured

    table = as_table(measured(arms, ground, text, captions))
    write_atomic(ground.folder / PERPLEXITIES, table)
    found = {kind: load_association(association_path(kind, ground, start)) for kind, start in associations_of(arms)}
    if found:
        k = min(K_SHOWN, *(len(association.bank) for association in found.values()))
        write_found(found, _apart(captions.texts, SHOWN), ground.folder / FOUND_PAGE, k)
    return table


def _apart(texts: Sequence[str], count: int) -> Sequence[str]:
    """So many of them, as far from each other as can be: those of one picture stand together."""
    return texts[:: max(len(texts) // count, 1)][:count]
