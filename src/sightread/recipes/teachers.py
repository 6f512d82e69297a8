"""Vision through an intermediary, compared: CLIP's text tower as a teacher (Hsu et al. 2022), pictures at the reader's
elbow (Zhang et al. 2020).

    sightread compare recipes.teachers:world --workers 2 --out teachers
    sightread compare recipes.teachers:xdbert --data DATA --set text_encoder=MINILM --out xdbert
    sightread compare recipes.teachers:aware --data DATA --set text_encoder=MINILM --out aware

| recipe | compared |
| --- | --- |
| world | both on the controlled world, each with its controls |
| xdbert | a small CLIP learnt from Flickr8k as the teacher of any encoder, on four tasks of GLUE |
| ablation | the same teacher, with one loss and two of the three (table 3 of Hsu et al.) |
| clip | the first with OpenAI's CLIP |
| aware | an encoder with found pictures, with pictures by chance, and with none, on entailment and names |

Adaptation goes on from an encoder that has read text; more text, for as many steps, is its control, and a CLIP that has
forgotten all the second: is it the vision, or just another encoder?
"""

from __future__ import annotations

from dataclasses import replace

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.presets import PRESETS
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig

TOWER, MORE, ADAPTED = "CLIP's text tower", "more text", "XDBERT"


def _adapted(start: str) -> list[Arm]:
    """A teacher, more text, what is adapted to the teacher, with all of it and with parts, and with CLIP at hand."""
    more = Arm(name=MORE, method="lm", vokens="none", start=start)
    adapted = Arm(name=ADAPTED, method="xdbert", vokens="none", start=start, after=TOWER, control=MORE)
    return [
        Arm(name=TOWER, method="towers"), more, adapted,
        replace(adapted, name=f"{ADAPTED}, untrained CLIP", settings={"fresh_clip": True}),
        replace(adapted, name=f"{ADAPTED}, CLIP left as it is", settings={"freeze_clip": True}),
        replace(adapted, name=f"{ADAPTED}, hidden words from CLIP, too", settings={"clip_reads": "masked"}),
        Arm(name=f"{ADAPTED} with CLIP", method="xbert", after=ADAPTED, control=MORE),
    ]  # fmt: skip


def _aware(start: str, *, num_images: int, control: str) -> list[Arm]:
    """Pictures by chance, whose control reads none, and found pictures, whose control are those by chance."""
    settings = {"num_images": num_images}
    chance = Arm(name="pictures by chance", method="aware", start=start, pictures="random of semantic-visual",
                 control=control, settings=settings)  # fmt: skip
    return [chance, replace(chance, name="found pictures", pictures="semantic-visual", control=chance.name)]


def world() -> WorldExperiment:
    """On the controlled world: does either transfer looks to nouns without labels?"""
    start = TEXT_ONLY.name
    aware = _aware(start, num_images=4, control=start)
    return WorldExperiment(seeds=(0, 1, 2), arms=(TEXT_ONLY, *_adapted(start), *aware))


def xdbert() -> RealExperiment:
    """Towers learnt from Flickr8k teach any encoder on Wikipedia: `--set text_encoder=FOLDER`."""
    tasks = {"rte": "data/glue/RTE", "mrpc": "data/glue/MRPC", "stsb": "data/glue/STS-B", "cola": "data/glue/CoLA"}
    arms = [arm for arm in _adapted("encoder") if "CLIP left" not in arm.name]
    return replace(_on_flickr8k(), arms=(Arm(name="as it is", method="start"), *arms), tasks=tasks)


def ablation() -> RealExperiment:
    """What each loss of the adaptation is good for."""
    recipe = xdbert()
    adapted = next(arm for arm in recipe.arms if arm.name == ADAPTED)
    parts = (("mlm",), ("mlm", "match"), ("mlm", "cliptc"), ("match", "cliptc"))
    some = (replace(adapted, name=f"{ADAPTED}, {' and '.join(part)}", settings={"losses": part}) for part in parts)
    kept = (arm for arm in recipe.arms if arm.name in (TOWER, MORE, ADAPTED))
    return replace(recipe, arms=(recipe.arms[0], *kept, *some))


def clip() -> RealExperiment:
    """The first with OpenAI's CLIP, by its name on the Hub."""
    recipe = xdbert()
    arms = (replace(arm, method="clip", start="clip") if arm.name == TOWER else arm for arm in recipe.arms)
    return replace(recipe, arms=tuple(arms), starts={**recipe.starts, "clip": "openai/clip-vit-base-patch32"})


def aware() -> RealExperiment:
    """Pictures of Flickr8k at the elbow of any encoder: `--set text_encoder=FOLDER`."""
    tasks = {"snli": "data/snli", "conll2003": "data/conll2003"}
    arms = Arm(name="as it is", method="start"), *_aware("encoder", num_images=8, control="")
    return replace(_on_flickr8k(), arms=arms, tasks=tasks, num_train=1000, seeds=(0, 1, 2))


def _on_flickr8k() -> RealExperiment:
    return RealExperiment(
        arms=(), text_encoder="", image_encoder="models/mobilenet-v2-1.0-224", captions="data/flickr8k/captions.tsv",
        images="data/flickr8k/images", split="data/flickr8k/split_train.txt", clip_tokenizer="models/tok-clip",
        corpus="data/corpora/enwiki-sample/train.txt.gz", corpus_lines=12000, matching=MatchingConfig(),
        pretraining=PretrainingConfig(
            max_length=126, packed=True,
            training={"max_steps": 200, "per_device_train_batch_size": 16, "learning_rate": 1e-4, "warmup_steps": 0.1,
                      "weight_decay": 0.01},
        ),
        finetuning=PRESETS["few-rows"].config, tasks={}, num_train=500,
    )  # fmt: skip
