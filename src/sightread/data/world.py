"""The controlled world: a known answer.

Made-up nouns each have a look (colour, shape, size, pattern) that **no text ever states**. Pictures show them, captions
name them; the words of the looks do occur in the text, but only of generic things ("the red box") and in every
combination. The tasks ask for a noun's look from text alone; they are trained on some nouns and tested on others.
A text-only encoder is at chance on those by construction, an encoder handed the looks is near 100 %, and a method is
worth something if it lies clearly above chance. Two tasks that need no vision, agreement and word order, show harm.

    sightread world --seed 0 --out world

writes it as ordinary files: `images/`, `captions.tsv` (as Flickr8k's), `corpus.txt`, `regions.jsonl` (boxes and tags),
`tasks/<name>/{train,dev,test}.tsv`, and `nouns.tsv`, the hidden looks, which no training reads.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from sightread.artifacts import Artifact
from sightread.data.scenes import ATTRIBUTES, Look, render
from sightread.errors import ConfigError
from sightread.runtime import keyed_rng

KIND = "world"
SPLITS = ("train", "dev", "test")
_NOUN_SPLIT_SHARES = {"train": 9, "dev": 2, "test": 5}  # of every 16 nouns

PEOPLE = ("anna", "ben", "clara", "david", "emma", "frank")
PLACES = ("garden", "kitchen", "river", "street", "forest", "market", "school", "harbour")
THINGS = {
    "box": "boxes",
    "ball": "balls",
    "cup": "cups",
    "chair": "chairs",
    "lamp": "lamps",
    "bag": "bags",
    "hat": "hats",
    "door": "doors",
    "plate": "plates",
    "key": "keys",
}
NOUN_SENTENCES = (
    "the {n} is in the {place} .",
    "we saw a {n} near the {place} .",
    "{who} put the {n} behind the {thing} .",
    "{who} has a {n} .",
    "there is a {n} by the {place} .",
    "{who} took a {n} and a {other} to the {place} .",
    "the {n} was next to the {other} .",
    "yesterday {who} found the {n} under a {thing} .",
)
LOOK_SENTENCES = (
    "the {color} {thing} is {size} .",
    "a {size} {shape} {thing} is in the {place} .",
    "{who} has a {pattern} {color} {thing} .",
    "the {thing} by the {place} is {shape} and {pattern} .",
    "{who} wants a {color} {shape} {thing} , not a {pattern} one .",
)
AGREEMENT_SENTENCES = (
    "the {one} near the {many} is {color} .",
    "the {many} near the {one} are {color} .",
    "the {one} in the {place} is {size} .",
    "the {many} in the {place} are {size} .",
    "the {one} behind the {many} was {pattern} .",
    "the {many} behind the {one} were {pattern} .",
)
CAPTIONS = {
    1: ("a {0} .", "there is a {0} .", "a picture of a {0} ."),
    2: ("a {0} and a {1} .", "a {0} next to a {1} .", "there is a {0} beside a {1} ."),
}
OTHER_NUMBER = {"is": "are", "are": "is", "was": "were", "were": "was"}


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Settings of a world; everything in it follows from them.

    Attributes:
        seed: Seed of every draw.
        num_nouns: Made-up nouns, a multiple of 96 so that every split holds every colour equally often.
        num_scenes: Pictures.
        num_sentences: Lines of the corpus.
        captions_per_scene: Captions of each picture.
        sentences_per_noun: Examples of each noun in each task about looks.
        harm_examples: Training examples of agreement and word order; dev and test have half as many.
        generic_share: Share of things in pictures that are generic and captioned by their look.
        image_size: Width and height in pixels.
        tag_noise: Share of tags in `regions.jsonl` that name another noun.
    """

    seed: int = 0
    num_nouns: int = 96
    num_scenes: int = 3000
    num_sentences: int = 16000
    captions_per_scene: int = 2
    sentences_per_noun: int = 10
    harm_examples: int = 600
    generic_share: float = 0.25
    image_size: int = 64
    tag_noise: float = 0.0


@dataclass(frozen=True)
class Noun:
    """A made-up noun, its hidden look, and the split of the tasks that it belongs to."""

    word: str
    look: Look
    split: str


@dataclass(frozen=True)
class Scene:
    """One picture to be: the name each thing is captioned by, its tag, its look; and the captions."""

    names: list[str]
    tags: list[str]
    looks: list[Look]
    captions: list[str]


@dataclass(frozen=True)
class World:
    """A world without its pixels, which `write_world` renders.

    Attributes:
        config: What it was made from.
        nouns: All nouns.
        corpus: Lines of plain text.
        scenes: The pictures to be.
        tasks: Rows (sentence, label, noun or "") by task name and split.
    """

    config: WorldConfig
    nouns: list[Noun]
    corpus: list[str]
    scenes: list[Scene]
    tasks: dict[str, dict[str, list[tuple[str, str, str]]]]


def make_world(config: WorldConfig) -> World:
    """Draw a world; raises `ConfigError` if the nouns cannot be split evenly."""
    if config.num_nouns % 96:
        raise ConfigError(f"num_nouns={config.num_nouns}: expected a multiple of 96, so that splits are balanced")
    rng = {name: keyed_rng(config.seed, i) for i, name in enumerate(("nouns", "corpus", "scenes", "tasks"))}
    nouns = _make_nouns(config, rng["nouns"])
    words = [noun.word for noun in nouns]
    corpus = [_sentence(rng["corpus"], words) for _ in range(config.num_sentences)]
    scenes = [_scene(rng["scenes"], nouns, config) for _ in range(config.num_scenes)]
    return World(config, nouns, corpus, scenes, _make_tasks(config, nouns, rng["tasks"]))


def write_world(config: WorldConfig, out: Path | str, *, overwrite: bool = False, resume: bool = False) -> World:
    """Make a world and write it as ordinary files into a folder; see the top of this file."""
    world = make_world(config)
    artifact = Artifact.begin(out, KIND, config=config, overwrite=overwrite, resume=resume)
    if artifact.finished:
        return world
    folder = artifact.path
    _write_lines(folder / "corpus.txt", world.corpus)
    columns = [field.name for field in fields(Look)]
    nouns = ["\t".join([noun.word, *astuple(noun.look), noun.split]) for noun in world.nouns]
    _write_lines(folder / "nouns.tsv", ["\t".join(["noun", *columns, "split"]), *nouns])
    for task, splits in world.tasks.items():
        (folder / "tasks" / task).mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            _write_lines(folder / "tasks" / task / f"{split}.tsv", ["sentence\tlabel\tnoun", *map("\t".join, rows)])
    _write_scenes(folder, world)
    artifact.finish({"pictures": len(world.scenes), "lines": len(world.corpus), "nouns": len(world.nouns)})
    return world


def _make_nouns(config: WorldConfig, rng: np.random.Generator) -> list[Noun]:
    words = _made_up_words(config.num_nouns, rng)
    splits = {split: config.num_nouns * share // 16 for split, share in _NOUN_SPLIT_SHARES.items()}
    nouns, begin = list[Noun](), 0
    for split, count in splits.items():
        drawn = {name: rng.permutation(_repeated(values, count)) for name, values in ATTRIBUTES.items()}
        for i in range(count):
            look = Look(**{name: str(values[i]) for name, values in drawn.items()})
            nouns.append(Noun(words[begin + i], look, split))
        begin += count
    return nouns


def _repeated(values: Sequence[str], count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(values), count))


def _made_up_words(count: int, rng: np.random.Generator) -> list[str]:
    syllables = ["".join(parts) for parts in itertools.product("bdfgklmnprtvz", "aeiou", "xkmpb")]
    endings = ["", "a", "o", "in", "el"]
    pool = [first + end for first in syllables for end in endings]
    return [
        str(word)
        for word in rng.choice(sorted(set(pool) - {*THINGS, *PLACES, *PEOPLE, "bag", "box"}), count, replace=False)
    ]


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def _fill(rng: np.random.Generator, template: str, **fixed: str) -> str:
    """A template with every open slot drawn at random."""
    one = _pick(rng, list(THINGS))
    slots = {name: _pick(rng, values) for name, values in ATTRIBUTES.items()}
    slots |= {"who": _pick(rng, PEOPLE), "place": _pick(rng, PLACES), "thing": one, "one": one}
    return template.format(**slots | {"many": THINGS[_pick(rng, list(THINGS))]} | fixed)


def _noun_sentence(rng: np.random.Generator, noun: str, others: Sequence[str]) -> str:
    return _fill(rng, _pick(rng, NOUN_SENTENCES), n=noun, other=_pick(rng, others))


def _sentence(rng: np.random.Generator, nouns: Sequence[str]) -> str:
    kind = rng.random()
    if kind < 0.6:
        return _noun_sentence(rng, _pick(rng, nouns), nouns)
    return _fill(rng, _pick(rng, LOOK_SENTENCES if kind < 0.8 else AGREEMENT_SENTENCES))


def _scene(rng: np.random.Generator, nouns: Sequence[Noun], config: WorldConfig) -> Scene:
    names, tags, looks = list[str](), list[str](), list[Look]()
    for _ in range(rng.integers(1, 3)):
        if rng.random() < config.generic_share:
            look = Look(**{name: _pick(rng, values) for name, values in ATTRIBUTES.items()})
            said = [value for value in (look.size, look.color, look.pattern, look.shape) if rng.random() < 0.7]
            names.append(" ".join([*said, "thing"]))
            tags.append("thing")
        else:
            noun = nouns[int(rng.integers(len(nouns)))]
            look = noun.look
            names.append(noun.word)
            tags.append(noun.word)
        looks.append(look)
    templates = CAPTIONS[len(names)]
    captions = [_pick(rng, templates).format(*rng.permutation(names)) for _ in range(config.captions_per_scene)]
    return Scene(names, tags, looks, captions)


def _make_tasks(
    config: WorldConfig, nouns: Sequence[Noun], rng: np.random.Generator
) -> dict[str, dict[str, list[tuple[str, str, str]]]]:
    tasks: dict[str, dict[str, list[tuple[str, str, str]]]] = {}
    for name in ATTRIBUTES:
        tasks[name] = {split: [] for split in SPLITS}
        for noun in nouns:
            others = [other.word for other in nouns if other.split == noun.split and other is not noun]
            for _ in range(config.sentences_per_noun):
                template = _pick(rng, [t for t in NOUN_SENTENCES if "{other}" not in t])
                sentence = _fill(rng, template, n=noun.word, other=_pick(rng, others))
                tasks[name][noun.split].append((sentence, getattr(noun.look, name), noun.word))
    for name, spoil in (("agreement", _other_number), ("word_order", _swap_two_words)):
        tasks[name] = {split: _harm_rows(config, rng, split, spoil) for split in SPLITS}
    return tasks


def _harm_rows(
    config: WorldConfig, rng: np.random.Generator, split: str, spoil: Callable[[str, np.random.Generator], str]
) -> list[tuple[str, str, str]]:
    rows = []
    for i in range(config.harm_examples if split == "train" else config.harm_examples // 2):
        sentence = _fill(rng, _pick(rng, AGREEMENT_SENTENCES))
        rows.append((spoil(sentence, rng), "wrong", "") if i % 2 else (sentence, "right", ""))
    return rows


def _other_number(sentence: str, rng: np.random.Generator) -> str:
    return " ".join(OTHER_NUMBER.get(word, word) for word in sentence.split())


def _swap_two_words(sentence: str, rng: np.random.Generator) -> str:
    words = sentence.split()
    i = int(rng.integers(len(words) - 2))  # the full stop stays
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def _noisy(rng: np.random.Generator, tag: str, words: Sequence[str], noise: float) -> str:
    return _pick(rng, [word for word in words if word != tag]) if rng.random() < noise else tag


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_scenes(folder: Path, world: World) -> None:
    (folder / "images").mkdir()
    words = [noun.word for noun in world.nouns]
    captions, regions = list[str](), list[str]()
    for i, scene in enumerate(world.scenes):
        rng = keyed_rng(world.config.seed, 4, i)
        image, boxes = render(scene.looks, rng, world.config.image_size)
        name = f"scene-{i:05d}.png"
        image.save(folder / "images" / name)
        captions += [f"{name}#{k}\t{caption}" for k, caption in enumerate(scene.captions)]
        tags = [_noisy(rng, tag, words, world.config.tag_noise) for tag in scene.tags]
        objects = [{"tag": tag, "box": box} for tag, box in zip(tags, boxes, strict=True)]
        regions.append(json.dumps({"image": name, "width": image.width, "height": image.height, "objects": objects}))
    _write_lines(folder / "captions.tsv", captions)
    _write_lines(folder / "regions.jsonl", regions)
