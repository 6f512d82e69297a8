"""The positive control: the whole pipeline on the controlled world, with a known answer.

    sightread demo --out demo          (or: make demo)

For each seed a fresh world is made, and five encoders are compared on the looks of nouns that no label was given for:

    text-only              masked language modelling alone                               must be at chance
    random vokens          voken classification, each token's picture drawn by lot       must be at chance
    voken classification   the paper's objective
    voken regression       the voken's image feature instead of its number
    oracle                 the text-only encoder, looks written into the sentences       shows that the task can be done

All four pre-training runs read the same sentences in the same order with the same masks, from the same initial weights,
for the same number of steps. Every encoder is then fine-tuned to tell the look of 54 nouns and tested on 30 others.
Agreement and word order need no vision; there a linear head on the frozen encoder is trained, for fine-tuning masters
them from any start and would hide the harm. Settings were chosen on the dev nouns (12 others);
docs/results.md tells how, and the one exception.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sightread.compare import Column, Comparison, write_report
from sightread.data.scenes import ATTRIBUTES
from sightread.data.world import WorldConfig
from sightread.finetuning import FinetuningConfig
from sightread.methods.image_words import ImageWordsConfig
from sightread.methods.matching import MatchingConfig
from sightread.methods.voken import VokenConfig
from sightread.pretraining import PretrainingConfig
from sightread.runtime import quiet_progress, worker_pool

ARMS = ("text-only", "random vokens", "voken classification", "voken regression", "oracle")
COLUMNS = (
    Column("color", 1 / 6), Column("shape", 1 / 4), Column("size", 1 / 2), Column("pattern", 1 / 3),
    Column("agreement", 1 / 2), Column("word_order", 1 / 2),
)  # fmt: skip
HEADLINE = "color"
_SAID_OF_STRIPS = (
    "the {noun} is in the garden .",
    "anna has a {noun} .",
    "the red box is large .",
    "a small round cup is in the kitchen .",
)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """All settings of the demo.

    Attributes:
        seeds: Each is a world of its own, with its own encoders.
        world: The world, but for its seed.
        image: The small image encoder.
        matching: The vokenizer.
        num_pictures: V, pictures in the bank.
        encoder: The Hugging Face config of the text encoder.
        pretraining: Settings that all arms share.
        finetuning: Fine-tuning on looks.
        probing: Training of a linear head on the frozen encoder, for tasks that need no vision.
        split: Split of the tasks that is scored; "dev" while settings are chosen.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3)
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
    encoder: dict[str, Any] = field(
        default_factory=lambda: {
            "model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 256, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
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


def demo(config: DemoConfig, out: Path, *, workers: int = 2, say: Callable[[str], None] = print) -> Comparison:
    """Run everything and write `report.html` and `results.json`.

    Args:
        config: Settings.
        out: Folder; steps that are already done in it are not done again.
        workers: Processes that share the cores.
        say: Called with a line at every step.
    """
    started = time.monotonic()
    results: dict[tuple[str, int], dict[str, float]] = {}
    for what, seconds, result in _run_steps(config, out, workers):
        say(f"[{time.monotonic() - started:4.0f} s] {what:<40} {seconds:5.1f} s")
        results |= result
    scores = {
        arm: {c.name: [results[arm, seed][f"{c.name}"] for seed in config.seeds] for c in COLUMNS} for arm in ARMS
    }
    comparison = Comparison(COLUMNS, config.seeds, scores)
    (out / "results.json").write_text(comparison.to_json())
    _report(config, comparison, out, time.monotonic() - started)
    return comparison


def _run_steps(config: DemoConfig, out: Path, workers: int) -> Iterator[tuple[str, float, dict[Any, Any]]]:
    """Prepare every seed, and train its arms as soon as it is prepared; yields (step, seconds, scores)."""
    with worker_pool(workers) as pool:
        waiting: dict[Future[Any], tuple[str, int, str]] = {
            pool.submit(prepare, config, seed, out / f"seed-{seed}"): ("prepare", seed, "") for seed in config.seeds
        }
        while waiting:
            done = next(as_completed(waiting))
            step, seed, arm = waiting.pop(done)
            seconds, scores = done.result()
            if step == "prepare":
                for name in ARMS:
                    job = pool.submit(train_and_score, config, seed, name, out / f"seed-{seed}")
                    waiting[job] = ("arm", seed, name)
                yield f"seed {seed}: world, text-only encoder, vokens", seconds, {}
            else:
                yield f"seed {seed}: {arm}", seconds, {(arm, seed): scores}


def prepare(config: DemoConfig, seed: int, folder: Path) -> tuple[float, None]:
    """A world, a text-only encoder, an image encoder, a vokenizer between them, and the voken corpora of a seed."""
    from sightread.bank import build_bank
    from sightread.data.captions import read_captions
    from sightread.data.corpora import Corpus
    from sightread.data.world import write_world
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder, build_word_tokenizer
    from sightread.methods import image_words, matching, mlm
    from sightread.vokenization.job import random_vokens, tokenize, vokenize

    quiet_progress()
    started = time.monotonic()
    if (folder / "random_vokens" / "manifest.json").is_file():
        return 0.0, None
    write_world(replace(config.world, seed=seed), folder / "world", overwrite=True)
    captions = read_captions(folder / "world" / "captions.tsv")
    corpus = Corpus(folder / "world" / "corpus.txt")
    tokenizer = build_word_tokenizer([*corpus, *captions.texts])
    tokens = tokenize(corpus, tokenizer, folder / "tokens", overwrite=True)
    (folder / "config.json").write_text(json.dumps(config.encoder))
    shared = replace(config.pretraining, seed=seed)
    mlm.train(shared, tokens, folder / "text-only", start=folder / "config.json", overwrite=True)
    image_words.train(replace(config.image, seed=seed), captions, folder / "image_encoder", overwrite=True)

    image_encoder = ImageEncoder.from_pretrained(folder / "image_encoder" / "encoder")
    text_encoder = TextEncoder.from_pretrained(folder / "text-only" / "encoder", config.matching.layers)
    cache = folder / "image_features"
    bank, _ = build_bank(captions.pictures, image_encoder, size=config.num_pictures, seed=seed, cache=cache)
    vokenizer = matching.train(
        replace(config.matching, seed=seed), captions, folder / "vokenizer",
        text_encoder=text_encoder, image_encoder=image_encoder, bank=bank, cache=cache, overwrite=True,
    )  # fmt: skip
    vokens = vokenize(corpus, vokenizer, folder / "vokens", overwrite=True)
    random_vokens(vokens, tokenizer, folder / "random_vokens", seed=seed, overwrite=True)
    return time.monotonic() - started, None


def train_and_score(config: DemoConfig, seed: int, arm: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Pre-train one arm, if it is one that needs it, and score it on every task; scores by task."""
    from sightread.bank import ImageBank
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import voken

    quiet_progress()
    started = time.monotonic()
    results = folder / f"{arm}.json"
    if results.is_file():
        return 0.0, json.loads(results.read_text())
    encoder = folder / ("text-only" if arm == "oracle" else arm)
    if arm not in ("text-only", "oracle"):
        objective = "regression" if arm == "voken regression" else "classification"
        settings = VokenConfig(**{**vars(config.pretraining), "seed": seed}, objective=objective)
        corpus = VokenCorpus(folder / ("random_vokens" if arm == "random vokens" else "vokens"))
        bank = ImageBank.load(folder / "vokenizer" / "bank")
        voken.train(settings, corpus, encoder, start=folder / "config.json", bank=bank, overwrite=True)
    scores = {column.name: _score(config, seed, arm, column.name, folder, encoder) for column in COLUMNS}
    results.write_text(json.dumps(scores))
    return time.monotonic() - started, scores


def _score(config: DemoConfig, seed: int, arm: str, task_name: str, folder: Path, encoder: Path) -> float:
    from sightread.encoders.text import load_model, load_tokenizer
    from sightread.finetuning import finetune
    from sightread.tasks.classification import Classification

    task = Classification("world", folder / "world" / "tasks" / task_name, name=task_name)
    if arm == "oracle":
        task.load = _handing_looks(task.load, folder / "world" / "nouns.tsv")  # type: ignore[method-assign,assignment]
    settings = config.finetuning if task_name in ATTRIBUTES else config.probing
    scores = finetune(
        load_model(encoder / "encoder", "AutoModel"), load_tokenizer(encoder / "encoder"), task,
        config=replace(settings, seed=seed), out=folder / "scores" / arm / task_name, splits=[config.split],
    )  # fmt: skip
    return scores[f"{config.split}_accuracy"]


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


def verdict(comparison: Comparison) -> str:
    """What the headline says, in words, whatever it is."""
    chance = next(column.chance for column in comparison.columns if column.name == HEADLINE)
    control = comparison.summary("text-only", HEADLINE)
    parts = [
        "Asked for the colour of nouns that carried no label, "
        f"text alone scores {control.mean:.2f} (chance is {chance:.2f})"
    ]
    for arm in ("voken classification", "voken regression"):
        apart = (
            "its interval lies above that of text alone"
            if comparison.apart(arm, HEADLINE)
            else "NOT clearly above text alone"
        )
        parts.append(f"{arm} {comparison.summary(arm, HEADLINE).mean:.2f}: {apart}")
    parts.append(f"random vokens {comparison.summary('random vokens', HEADLINE).mean:.2f}")
    return "; ".join(parts) + "."


def _report(config: DemoConfig, comparison: Comparison, out: Path, seconds: float) -> None:
    from sightread.analysis.strips import draw_strip, voken_strip
    from sightread.runtime import machine
    from sightread.vokenizer import Vokenizer

    folder = out / f"seed-{config.seeds[0]}"
    vokenizer = Vokenizer.from_pretrained(folder / "vokenizer")
    nouns = [line.split("\t") for line in (folder / "world" / "nouns.tsv").read_text().splitlines()[1:]]
    known = [noun for noun in nouns if noun[-1] == config.split][:2]
    sentences = [s.format(noun=noun[0]) for s, noun in zip(_SAID_OF_STRIPS, [*known, *known], strict=True)]
    strips = [voken_strip(vokenizer, sentence) for sentence in sentences]
    draw_strip(strips[0]).save(out / "strip.png")
    hidden = " ".join(f"A {noun[0]} is {', '.join(noun[1:-1])}: no text says so." for noun in known)
    write_report(
        out / "report.html",
        comparison,
        title="Does seeing help? The controlled world",
        verdict=verdict(comparison),
        explanation=(
            "Made-up nouns have looks that no text states; pictures show them. Each encoder is fine-tuned to tell the "
            "look of some nouns from text, then asked about others. The oracle reads the look in the sentence. "
            "Agreement and word order need no vision: a linear head on the frozen encoder shows what grounding costs."
        ),
        strips=strips,
        strips_explanation=f"Each token of a sentence, its voken, and the score. {hidden}",
        facts={**machine(), "minutes": f"{seconds / 60:.1f}", "settings": json.dumps(asdict(config), default=str)},
    )
