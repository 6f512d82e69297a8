"""Transferred and associative grounding (Sileo 2021), compared.

    sightread compare recipes.strategies:world --out strategies

| recipe | compared | paper-sized |
| --- | --- | --- |
| world | transferred and associative grounding on the controlled world, each with its control | |
| table1 | perplexity of captions beside pictures of so many regions | `paper_table1` |
| table2 | perplexity of text and captions by each strategy, and by how many pictures | `paper_table2` |
| table3 | each strategy on tasks | `paper_table3` |

Those of real data read it below `--data`; the small ones take a text encoder by `--set text_encoder=FOLDER`. The tables
have arms of one name in common: with one `--out` and `--resume` these are trained once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.presets import PRESETS
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig

CAPTIONS = {"captions_per_block": 4}  # as many words as a block has; of one a world's encoder hardly learns looks


def _joint(settings: Mapping[str, Any], start: str = "encoder") -> list[Arm]:
    """Transferred grounding in all directions, and its control."""
    names = {"none": "no pictures of captions", "t2i": "text to image", "i2t": "image to text", "both": "both ways"}
    return [
        Arm(name=name, method="joint", vokens="none", start=start, settings={"strategy": strategy, **settings},
            control="" if strategy == "none" else names["none"])
        for strategy, name in names.items()
    ]  # fmt: skip


def _found(images: Mapping[str, Sequence[int]], start: str = "encoder") -> list[Arm]:
    """Associative grounding by so many pictures, each way of finding them; K = 0 is the control."""
    none = "no pictures of text"
    return [
        Arm(name=f"pictures by {kind}, K = {k}" if k else none, method="associative", vokens="none", start=start,
            pictures=kind, settings={"num_images": k}, control=none if k else "")
        for kind, counts in images.items() for k in counts
    ]  # fmt: skip


def world() -> WorldExperiment:
    """Transferred and associative grounding on the controlled world."""
    found = {"scene": (0, 4), "object": (4,), "keyword": (4,), "dense": (4,), "voken": (4,)}
    joint = _joint(CAPTIONS, TEXT_ONLY.name)
    return WorldExperiment(seeds=(0, 1, 2), arms=(TEXT_ONLY, *joint, *_found(found, TEXT_ONLY.name)))


def table1() -> RealExperiment:
    """Captions beside their pictures: the whole picture, or so many regions of it, against none."""
    return _on_flickr8k(*_regions(CAPTIONS))


def table2() -> RealExperiment:
    """Each strategy, and how many pictures: perplexity of text, and of captions."""
    return _on_flickr8k(*_joint(CAPTIONS), *_found({"scene": (0, 4, 16), "object": (16,)}))


def table3() -> RealExperiment:
    """Each strategy on tasks; the plain encoder is the control."""
    tasks = {"rte": "data/glue/RTE", "sick": "data/sick", "vua-nouns": "data/metaphor"}
    return replace(_on_flickr8k(*_on_tasks(CAPTIONS)), tasks=tasks, test_split="", seeds=(0, 1, 2))


def paper_table1() -> RealExperiment:
    """The same, regions being of a feature map, and not of a detector."""
    return _paper(*_regions({}))


def paper_table2() -> RealExperiment:
    """All strategies, K = 0, 1, 4, 8, 16, 24."""
    images = (1, 4, 8, 16, 24)
    return _paper(*_joint({}), *_found({"scene": (0, *images), "object": images, "keyword": images}))


def paper_table3() -> RealExperiment:
    """All tasks, eight runs each; PDTB as the LDC gives it."""
    tasks = {"joci": "joci", "pdtb": "pdtb", "rte": "glue/RTE", "sick": "sick", "vua-verbs": "vua", "vua-nouns": "vua"}
    return replace(_paper(*_on_tasks({})), tasks=tasks, num_train=None, seeds=tuple(range(8)), test_split="")


def _regions(settings: Mapping[str, Any]) -> list[Arm]:
    """Captions beside the whole picture, or so many regions of it."""
    none, _, whole, _ = _joint(settings)
    parts = (
        replace(whole, name=f"{whole.name}, {n} regions", settings={**whole.settings, "num_regions": n})
        for n in (8, 16, 36)
    )
    return [none, whole, *parts]


def _on_tasks(settings: Mapping[str, Any]) -> list[Arm]:
    plain = Arm(name="plain encoder", method="start")
    return [plain, *_joint(settings), *_found({"scene": (0, 16), "object": (16,)})]


def _on_flickr8k(*arms: Arm) -> RealExperiment:
    """Flickr8k, ImageNet's synsets, MobileNetV2, Wikipedia and novels, GloVe, and any text encoder, which is taught to
    foretell hidden words first: `--set text_encoder=FOLDER`."""
    return RealExperiment(
        arms=arms, text_encoder="", image_encoder="models/mobilenet-v2-1.0-224",
        captions="data/flickr8k/captions.tsv", images="data/flickr8k/images", split="data/flickr8k/split_train.txt",
        test_split="data/flickr8k/split_dev.txt", corpus_lines=30000, test_lines=250,
        passages=("data/corpora/enwiki-sample/train.txt.gz", "data/corpora/novels/train.txt.gz"),
        synsets="data/imagenet-sample/synsets.tsv", synset_images="data/imagenet-sample/images",
        definitions="data/lexicons/oewn_nouns.tsv.gz", words="models/glove-twitter-25d-12k/vectors.txt",
        base=_short(1000, 32), pretraining=_short(100, 16), matching=MatchingConfig(),
        finetuning=PRESETS["few-rows"].config, tasks={}, num_train=500,
    )  # fmt: skip


def _short(steps: int, batch: int) -> PretrainingConfig:
    return PretrainingConfig(
        max_length=64, packed=True,
        training={"max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 2e-4, "warmup_steps": 0.1,
                  "weight_decay": 0.01},
    )  # fmt: skip


def _paper(*arms: Arm) -> RealExperiment:
    """The same with ALBERT, COCO, ImageNet, ResNet-50, and Wikipedia with books, laid out as `experiments/real.py`
    says."""
    return replace(
        _on_flickr8k(*arms), text_encoder="albert/albert-base-v2", base=None, image_encoder="microsoft/resnet-50",
        captions="coco/captions_train2017.json", images="coco/train2017", split="", test_split="coco/test.txt",
        corpus_lines=None, test_lines=None, passages=("wikipedia.txt.gz", "books"), synsets="imagenet/synsets.tsv",
        synset_images="imagenet/train", definitions="wordnet/nouns.tsv.gz", words="glove.txt",
        finetuning=PRESETS["grounding-strategies"].config,
        pretraining=PretrainingConfig(
            max_length=128, packed=True,
            training={"num_train_epochs": 1, "per_device_train_batch_size": 128, "learning_rate": 5e-5,
                      "warmup_steps": 0.1, "weight_decay": 0.01},
        ),
    )  # fmt: skip
