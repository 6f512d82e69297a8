"""Transferred and associative grounding (Sileo 2021), compared.

    sightread compare recipes.strategies:world --out strategies

| recipe | compared |
| --- | --- |
| world | transferred and associative grounding on the controlled world, each with its control |
| table1 | perplexity of captions beside pictures of so many regions |
| table2 | perplexity of text and captions by each strategy, and by how many pictures |
| table3 | each strategy on tasks |

Those of real data read it below `--data`, and take a text encoder by `--set text_encoder=FOLDER`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.presets import PRESETS
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig

WORLD_CAPTIONS = {"captions_per_block": 4}  # of one a block a world's encoder hardly learns what things look like
ASSOCIATIVE = tuple(
    Arm(name=f"pictures by {kind}" if images else "no pictures of text", method="associative", vokens="none",
        start=TEXT_ONLY.name, pictures=kind, settings={"num_images": images},
        control="no pictures of text" if images else "")
    for kind, images in (("scene", 0), ("scene", 4), ("object", 4), ("keyword", 4), ("dense", 4), ("voken", 4))
)  # fmt: skip


def _joint(settings: Mapping[str, Any], start: str = "encoder") -> list[Arm]:
    """Transferred grounding in all directions, and its control."""
    names = {"none": "no pictures of captions", "t2i": "text to image", "i2t": "image to text", "both": "both ways"}
    return [
        Arm(name=name, method="joint", vokens="none", start=start, settings={"strategy": strategy, **settings},
            control="" if strategy == "none" else names["none"])
        for strategy, name in names.items()
    ]  # fmt: skip


def world() -> WorldExperiment:
    """Transferred and associative grounding on the controlled world."""
    return WorldExperiment(seeds=(0, 1, 2), arms=(TEXT_ONLY, *_joint(WORLD_CAPTIONS, TEXT_ONLY.name), *ASSOCIATIVE))


def table1() -> RealExperiment:
    """Captions beside their pictures: the mean of a picture, or so many regions of it, against none."""
    regions = (1, 8, 16, 36)
    none = Arm(name="no picture", method="joint", vokens="none", settings={"strategy": "none"})
    return _on_flickr8k(none, *(
        Arm(name=f"{n} regions" if n > 1 else "whole picture", method="joint", vokens="none",
            settings={"strategy": "i2t", "num_regions": n}) for n in regions
    ))  # fmt: skip


def table2() -> RealExperiment:
    """Strategies, and how many pictures: on text and on captions."""
    found = (
        Arm(name=f"{kind}, K = {k}", method="associative", vokens="none", pictures=kind, settings={"num_images": k})
        for kind in ("scene", "object", "keyword") for k in (1, 4, 8, 16, 24)
    )  # fmt: skip
    none = Arm(name="no pictures of text", method="associative", vokens="none", pictures="scene",
               settings={"num_images": 0})  # fmt: skip
    return _on_flickr8k(*_joint({}), none, *found)


def table3() -> RealExperiment:
    """Strategies on tasks: the plain encoder, no grounding, transferred, and associative with K = 16."""
    plain = Arm(name="plain encoder", method="start")
    found = (
        Arm(name=f"{kind}, K = {k}" if k else "no pictures of text", method="associative", vokens="none", pictures=kind,
            settings={"num_images": k})
        for kind, k in (("scene", 0), ("scene", 16), ("object", 16))
    )  # fmt: skip
    tasks = {"joci": "data/joci", "rte": "data/glue/RTE", "sick": "data/sick", "vua-verbs": "data/metaphor",
             "vua-nouns": "data/metaphor"}  # fmt: skip
    return replace(_on_flickr8k(plain, *_joint({}), *found), tasks=tasks, test_corpus="", seeds=tuple(range(8)))


def _on_flickr8k(*arms: Arm) -> RealExperiment:
    """Flickr8k, MobileNetV2, Wikipedia, GloVe, and any text encoder: `--set text_encoder=FOLDER`.

    The paper has ALBERT-base-v2, COCO and Visual Genome, regions of a detector, and Wikipedia with books.
    """
    return RealExperiment(
        arms=arms, text_encoder="", image_encoder="models/mobilenet-v2-1.0-224",
        captions="data/flickr8k/captions.tsv", images="data/flickr8k/images", split="data/flickr8k/split_train.txt",
        test_split="data/flickr8k/split_dev.txt", corpus="data/corpora/enwiki-sample/train.txt.gz", corpus_lines=12000,
        test_corpus="data/corpora/enwiki-sample/valid.txt.gz", test_lines=500,
        words="models/glove-twitter-25d-12k/vectors.txt", matching=MatchingConfig(),
        pretraining=PretrainingConfig(
            max_length=64, packed=True,
            training={"max_steps": 200, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "warmup_steps": 0.1,
                      "weight_decay": 0.01},
        ),
        finetuning=PRESETS["grounding-strategies"].config, tasks={}, num_train=500,
    )  # fmt: skip
