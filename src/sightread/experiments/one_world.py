"""One world of a comparison: what its arms share, their training, and what they are asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sightread.artifacts import write_atomic
from sightread.compare import Column
from sightread.data.scenes import ATTRIBUTES
from sightread.data.world import WorldConfig
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.ground import VOKENIZERS, Ground, make_store
from sightread.experiments.needs import associations_of, levels_of, pictures_of, stores_of
from sightread.experiments.stages import find_pictures
from sightread.experiments.trainers import train
from sightread.finetuning import FinetuningConfig
from sightread.methods.image_words import ImageWordsConfig
from sightread.methods.matching import MatchingConfig
from sightread.methods.semantic_visual import EmbeddingConfig
from sightread.methods.towers import TowersConfig
from sightread.pretraining import PretrainingConfig
from sightread.runtime import quiet_progress

ORACLE = "oracle"  # the method of an arm that is its start, asked with the looks written into the sentences
COLUMNS = (
    Column("color", 1 / 6), Column("shape", 1 / 4), Column("size", 1 / 2), Column("pattern", 1 / 3),
    Column("agreement", 1 / 2), Column("word_order", 1 / 2),
)  # fmt: skip
RETRIEVAL = "retrieval"  # the column of held-out pictures
BYTE_PAIRS = 1000  # so that most nouns are one token; of 500, each is two or three


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """All settings of a comparison on worlds.

    Attributes:
        seeds: Each is a world of its own, with its own encoders.
        arms: What is compared; the first is the control. `TEXT_ONLY`, and a vokenizer that reads by it, are always
            trained, since others may start there, and the page shows what the vokenizer sees.
        world: The world, but for its seed.
        image: The small image encoder.
        matching: The vokenizer.
        num_pictures: V, pictures in the bank.
        towers: A small CLIP, which reads the tokens of the text.
        embedding: A semantic-visual embedding.
        encoders: Hugging Face configs that arms start from, by name.
        pretraining: Settings that all arms share.
        finetuning: Fine-tuning on looks.
        probing: Training of a linear head on the frozen encoder, for tasks that need no vision.
        split: Split of the tasks that is scored; "dev" while settings are chosen.
        held_out: Pictures, the last ones, that nothing is trained on, and that captions are to find among each other.
        retrieval: Fine-tuning for that.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    arms: tuple[Arm, ...] = (TEXT_ONLY,)
    world: WorldConfig = field(default_factory=WorldConfig)
    image: ImageWordsConfig = field(default_factory=ImageWordsConfig)
    matching: MatchingConfig = field(
        default_factory=lambda: MatchingConfig(
            layers=(0, -1), hidden=256, width=32, max_length=32, dropout=0.0, input_dropout=0.0,
            training={"num_train_epochs": 8, "per_device_train_batch_size": 64, "learning_rate": 5e-3,
                      "warmup_steps": 0.05, "lr_scheduler_type": "cosine"},
        )
    )  # fmt: skip
    num_pictures: int = 400
    towers: TowersConfig = field(
        default_factory=lambda: TowersConfig(
            hidden_size=128, num_layers=2, width=64, image_hidden=128, max_length=32, dropout=0.0, input_dropout=0.0,
            training={"num_train_epochs": 8, "per_device_train_batch_size": 128, "learning_rate": 2e-3,
                      "warmup_steps": 0.05, "lr_scheduler_type": "cosine"},
        )
    )  # fmt: skip
    embedding: EmbeddingConfig = field(
        default_factory=lambda: EmbeddingConfig(
            width=128, extremes=4, easy_steps=200,
            training={"num_train_epochs": 8, "per_device_train_batch_size": 64, "learning_rate": 2e-3,
                      "warmup_steps": 0.05, "lr_scheduler_type": "cosine", "max_grad_norm": 2.0},
        )
    )  # fmt: skip
    encoders: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "encoder": {
                "model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                "intermediate_size": 256, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            "large": {
                "model_type": "bert", "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 6,
                "intermediate_size": 384, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            "roberta": {
                "model_type": "roberta", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                "intermediate_size": 256, "max_position_embeddings": 66, "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            "decoder": {
                "model_type": "gpt2", "n_embd": 128, "n_layer": 2, "n_head": 4, "n_inner": 256, "n_positions": 64,
                "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
            },
        }
    )  # fmt: skip
    pretraining: PretrainingConfig = field(
        default_factory=lambda: PretrainingConfig(
            max_length=32, packed=False,
            training={"num_train_epochs": 3, "per_device_train_batch_size": 128, "learning_rate": 2e-3,
                      "warmup_steps": 0.05, "weight_decay": 0.01},
        )
    )  # fmt: skip
    finetuning: FinetuningConfig = field(
        default_factory=lambda: FinetuningConfig(
            pooling="mean", max_length=32,
            training={"num_train_epochs": 6, "per_device_train_batch_size": 32, "learning_rate": 1e-3},
        )
    )  # fmt: skip
    probing: FinetuningConfig = field(
        default_factory=lambda: FinetuningConfig(
            pooling="mean", max_length=32, freeze_encoder=True,
            training={"num_train_epochs": 15, "per_device_train_batch_size": 32, "learning_rate": 1e-2},
        )
    )  # fmt: skip
    split: str = "test"
    held_out: int = 0
    retrieval: FinetuningConfig = field(
        default_factory=lambda: FinetuningConfig(
            max_length=32, num_train=2000,
            training={"num_train_epochs": 6, "per_device_train_batch_size": 32, "learning_rate": 1e-3},
        )
    )  # fmt: skip

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is scored."""
        return (*COLUMNS, Column(RETRIEVAL, 1 / self.held_out)) if self.held_out else COLUMNS


def trained(arm: Arm) -> Arm:
    """The arm as it is trained: an oracle is its start."""
    return replace(arm, method="start") if arm.method == ORACLE else arm


def ground_of(experiment: WorldSettings, seed: int, folder: Path) -> Ground:
    """What the arms of a seed share."""
    from sightread.data.captions import read_captions
    from sightread.data.corpora import Corpus

    starts = {arm.start for arm in experiment.arms}
    captions = read_captions(folder / "world" / "captions.tsv")
    if experiment.held_out:
        captions = captions.only(captions.pictures.ids[: -experiment.held_out])
    return Ground(
        folder=folder, corpus=Corpus(folder / "world" / "corpus.txt"), tokenizer=folder / "tokenizer",
        captions=captions, regions=folder / "regions",
        vokenizers={level: folder / VOKENIZERS[level] for level in _levels(experiment)},
        image_encoder=folder / "image_encoder" / "encoder", features=folder / "image_features",
        starts={name: folder / f"{name}.json" for name in experiment.encoders}
        | {TEXT_ONLY.name: folder / TEXT_ONLY.name / "encoder"},
        tokenizers={"roberta": folder / "tokenizer-roberta"} if "roberta" in starts else {},
        pretraining=replace(experiment.pretraining, seed=seed), towers=experiment.towers,
        embedding=experiment.embedding,
    )  # fmt: skip


def _levels(experiment: WorldSettings) -> list[str]:
    return list(dict.fromkeys(["token", *levels_of(map(trained, experiment.arms))]))


def prepare(experiment: WorldSettings, seed: int, folder: Path) -> tuple[float, dict[Any, Any]]:
    """A world, a text-only encoder, an image encoder, vokenizers between them, and the voken corpora of a seed.

    Returns:
        Seconds that it took, perhaps in a former session; and no results.
    """
    from sightread.bank import build_bank
    from sightread.data.world import write_world
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder, build_byte_tokenizer, build_word_tokenizer
    from sightread.methods import image_words, matching

    quiet_progress()
    started, ready = time.monotonic(), folder / "ready.json"
    arms = [trained(arm) for arm in experiment.arms]
    needed = [list(made) for made in [*stores_of(arms), *associations_of(arms), *pictures_of(arms)]]
    with_regions = bool(experiment.held_out) or any(arm.reads for arm in arms)
    needed += [["regions"]] * with_regions
    if ready.is_file() and (done := json.loads(ready.read_text()))["needed"] == needed:
        return done["took"], {}
    write_world(replace(experiment.world, seed=seed), folder / "world", resume=True)
    ground = ground_of(experiment, seed, folder)
    captions = ground.captions
    build_word_tokenizer([*ground.corpus, *captions.texts]).save_pretrained(ground.tokenizer)
    for tokenizer in ground.tokenizers.values():
        build_byte_tokenizer(ground.corpus, BYTE_PAIRS).save_pretrained(tokenizer)
    for name, settings in experiment.encoders.items():
        write_atomic(folder / f"{name}.json", json.dumps(settings))
    make_store(TEXT_ONLY.vokens, ground)
    text_only = train(TEXT_ONLY, ground)
    image_words.train(replace(experiment.image, seed=seed), captions, folder / "image_encoder", resume=True)
    image_encoder = ImageEncoder.from_pretrained(ground.image_encoder)
    size, cache = experiment.num_pictures, ground.features
    bank, _ = build_bank(captions.pictures, image_encoder, size=size, seed=seed, cache=cache)
    for level, vokenizer in ground.vokenizers.items():
        matching.train(
            replace(experiment.matching, seed=seed, level=level), captions, vokenizer, bank=bank, cache=cache,
            text_encoder=TextEncoder.from_pretrained(text_only, experiment.matching.layers),
            image_encoder=image_encoder, resume=True,
        )  # fmt: skip
    for kind, start in stores_of(arms):
        make_store(kind, ground, start)
    find_pictures(arms, ground)
    if with_regions:
        _make_regions(experiment, ground)
    took = time.monotonic() - started
    write_atomic(ready, json.dumps({"needed": needed, "took": took}))
    return took, {}


def _make_regions(experiment: WorldSettings, ground: Ground) -> None:
    """The true boxes and tags of all pictures, their vectors, and lists of those that captions are to find."""
    from sightread.data.images import read_pictures
    from sightread.encoders.detectors import load_detector
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.region_vectors import build_regions

    world, lists = ground.folder / "world", ground.folder / RETRIEVAL
    pictures = read_pictures(world / "images")
    encoder = ImageEncoder.from_pretrained(ground.image_encoder, view="whole")
    build_regions(pictures, load_detector(world / "regions.jsonl"), encoder, ground.regions, resume=True)
    if not experiment.held_out:
        return
    lists.mkdir(exist_ok=True)
    write_atomic(lists / "captions.tsv", (world / "captions.tsv").read_text())
    for split, ids in (
        ("train", ground.captions.pictures.ids), (experiment.split, pictures.ids[-experiment.held_out :])
    ):  # fmt: skip
        write_atomic(lists / f"split_{split}.txt", "\n".join(ids))


def train_and_score(
    experiment: WorldSettings, seed: int, folder: Path, arm: Arm
) -> tuple[float, dict[tuple[str, int], dict[str, Any]]]:
    """Pre-train one arm, if it has not been, and score it on every task.

    Returns:
        Seconds that it took, perhaps in a former session; and, by arm and seed, `scores` by task, the tasks that
        `diverged`, the `seconds` of pre-training, and what all `took`.
    """
    quiet_progress()
    started, results = time.monotonic(), folder / "scores" / f"{arm.name}.json"
    if results.is_file():
        result = json.loads(results.read_text())
        return result["took"], {(arm.name, seed): result}
    run = train(trained(arm), ground_of(experiment, seed, folder)).parent
    found = {
        column.name: (_find if column.name == RETRIEVAL else _score)(
            experiment, seed, arm, column.name, folder, run / "encoder"
        )
        for column in experiment.columns
    }
    report = json.loads((run / "manifest.json").read_text())["report"]
    result = {
        "scores": {
            name: scores[f"{experiment.split}_{'R@1' if name == RETRIEVAL else 'accuracy'}"]
            for name, scores in found.items()
        },
        "diverged": [name for name, scores in found.items() if scores["diverged"]],
        "seconds": report.get("seconds", 0.0),
        "took": time.monotonic() - started,
    }
    write_atomic(results, json.dumps(result))
    return result["took"], {(arm.name, seed): result}


def _score(
    experiment: WorldSettings, seed: int, arm: Arm, task_name: str, folder: Path, encoder: Path
) -> dict[str, float]:
    from sightread.encoders.text import load_tokenizer
    from sightread.finetuning import finetune
    from sightread.grounded import load_encoder
    from sightread.tasks.classification import Classification

    task = Classification("world", folder / "world" / "tasks" / task_name, name=task_name)
    if arm.method == ORACLE:
        task.load = _handing_looks(task.load, folder / "world" / "nouns.tsv")  # type: ignore[method-assign,assignment]
    settings = experiment.finetuning if task_name in ATTRIBUTES else experiment.probing
    return finetune(
        load_encoder(encoder), load_tokenizer(encoder), task,
        config=replace(settings, seed=seed), out=folder / "scores" / arm.name / task_name, splits=[experiment.split],
    )  # fmt: skip


def _find(
    experiment: WorldSettings, seed: int, arm: Arm, task_name: str, folder: Path, encoder: Path
) -> dict[str, float]:
    """Let captions find their pictures, with tags to be read unless the arm reads none."""
    from sightread.encoders.text import load_tokenizer
    from sightread.finetuning import finetune
    from sightread.modules.single_stream import SingleStream
    from sightread.tasks import load_task

    settings = ["captions_each=1", f"tags={arm.settings.get('tags', True)}"]
    task = load_task("flickr8k", folder / task_name, regions=folder / "regions", settings=settings)
    return finetune(
        SingleStream.from_pretrained(encoder, task.regions.width, seed=seed), load_tokenizer(encoder), task,
        config=replace(experiment.retrieval, seed=seed), out=folder / "scores" / arm.name / task_name,
        splits=[experiment.split],
    )  # fmt: skip


def _handing_looks(load: Callable[[str], Sequence[Any]], nouns: Path) -> Callable[[str], list[Any]]:
    """Sentences with each made-up noun's look written before it, in the words of the corpus."""
    looks = {}
    for line in nouns.read_text().splitlines()[1:]:
        noun, *values, _ = line.split("\t")
        look = dict(zip(ATTRIBUTES, values, strict=True))
        looks[noun] = " ".join([look["size"], look["color"], look["pattern"], look["shape"], noun])

    def handed(split: str) -> list[Any]:
        spoken = [" ".join(looks.get(word, word) for word in row.inputs[0].split()) for row in load(split)]
        return [row._replace(inputs=(text,)) for row, text in zip(load(split), spoken, strict=True)]

    return handed
