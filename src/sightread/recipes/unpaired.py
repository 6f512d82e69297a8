"""Pictures and words in one transformer, together or apart (Li et al. 2021), compared.

    sightread compare recipes.unpaired:world --workers 2 --out unpaired
    sightread compare recipes.unpaired:flickr8k --data DATA --set text_encoder=MINILM --out unpaired

Arms read the same captions and pictures, and are named after what they read: both in one sequence, as pairs ("S" in the
paper), each alone ("W"), each alone and no tags of regions ("W-NT"), pictures and other text ("W-R"). One arm is not
the paper's: where a region is hidden, its tag never is, so that regions are foretold from names alone.

Every arm reads as many batches of captions; those that read pictures alone, too, take twice the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.finetuning import FinetuningConfig
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig

APART = ("captions", "pictures")
WORLD = {"num_train_epochs": 12, "region_probability": 0.3}  # of the one or two regions that its pictures have


def _arms(start: str, shared: Mapping[str, Any]) -> list[Arm]:
    captions = Arm(
        name="captions alone", method="unpaired", vokens="none", start=start, reads=("captions",), settings=shared
    )
    others: Sequence[tuple[str, tuple[str, ...], dict[str, Any]]] = (
        ("together", ("pairs",), {}),
        ("together, no match", ("pairs",), {"match": False}),
        ("together, no tags", ("pairs",), {"tags": False}),
        ("apart", APART, {}),
        ("apart, no tags", APART, {"tags": False}),
        ("apart, regions from tags", APART, {"tag_with_region": 0.0}),
        ("apart, other text", ("corpus", "pictures"), {}),
    )
    return [captions, *(
        Arm(name=name, method="unpaired", vokens="none", start=start, reads=reads, settings={**shared, **settings},
            control=captions.name)
        for name, reads, settings in others
    )]  # fmt: skip


def world() -> WorldExperiment:
    """On the controlled world, whose tags are true: looks of nouns from text alone, and pictures that captions find."""
    return WorldExperiment(seeds=(0, 1, 2), arms=(TEXT_ONLY, *_arms(TEXT_ONLY.name, WORLD)), held_out=200)


def flickr8k() -> RealExperiment:
    """On Flickr8k with a detector's tags: pictures that captions find, and questions about COCO's and NLVR's, whose
    boxes are given; any text encoder, `--set text_encoder=FOLDER`. "As it is" has seen nothing before fine-tuning."""
    arms = [
        arm for arm in _arms("encoder", {}) if "match" not in arm.settings and "tag_with_region" not in arm.settings
    ]
    arms = [replace(arm, settings={**arm.settings, "max_steps": 300 * len(arm.reads)}) for arm in arms]
    return RealExperiment(
        arms=(Arm(name="as it is", method="start"), *arms), text_encoder="",
        image_encoder="models/mobilenet-v2-1.0-224", captions="data/flickr8k/captions.tsv",
        images="data/flickr8k/images", split="data/flickr8k/split_train.txt",
        corpus="data/corpora/enwiki-sample/train.txt.gz", corpus_lines=12000, matching=MatchingConfig(),
        pretraining=PretrainingConfig(
            max_length=64, packed=True,
            training={"max_steps": 300, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "warmup_steps": 0.1,
                      "weight_decay": 0.01},
        ),
        finetuning=FinetuningConfig(
            max_length=64,
            training={"num_train_epochs": 3, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64,
                      "learning_rate": 5e-5, "warmup_steps": 0.1, "weight_decay": 0.01},
        ),
        regions={
            "captions": ("data/flickr8k/images", "models/fastestdet-coco"),
            "coco": ("data/coco-small/images", "data/coco-small/coco_small.jsonl"),
            "nlvr": ("data/nlvr1/images", "data/nlvr1/dev.jsonl.gz"),
        },
        tasks={"flickr8k": "data/flickr8k", "vqa2": "data/vqa-v2-subset", "nlvr": "data/nlvr1"},
        pictured={
            "flickr8k": ("captions", "candidates=50", "captions_each=1"), "vqa2": ("coco", "min_answers=3"),
            "nlvr": ("nlvr", "carve=dev"),
        },
        num_train=500, seeds=(0, 1, 2),
    )  # fmt: skip
