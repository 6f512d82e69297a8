import itertools
import json
import re
from collections import Counter
from dataclasses import astuple, replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

from sightread.artifacts import Artifact, digest_folder
from sightread.data.captions import read_captions
from sightread.data.corpora import Corpus
from sightread.data.scenes import ATTRIBUTES, COLORS, SHAPES, SIZES, Look, render
from sightread.data.world import KIND, PLACES, SPLITS, THINGS, WorldConfig, make_world, write_world
from sightread.errors import ArtifactError, ConfigError

SMALL = WorldConfig(
    seed=5, num_scenes=60, num_sentences=200, sentences_per_noun=2, harm_examples=20, image_size=48, tag_noise=0.5
)
LOOK_WORDS = {word for words in ATTRIBUTES.values() for word in words}
GENERIC = re.compile(rf"((?:(?:{'|'.join(LOOK_WORDS)}) )*)thing\b")
SEEDS = range(4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / "world"
    return write_world(SMALL, folder), folder


@pytest.fixture(scope="module")
def worlds():
    """Four worlds that are not drawn, with text enough to learn from."""
    sizes = WorldConfig(num_scenes=1000, num_sentences=5000, sentences_per_noun=5, harm_examples=100)
    return [make_world(replace(sizes, seed=seed)) for seed in SEEDS]


def table(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_a_seed_gives_one_world_and_another_another(written, tmp_path):
    world, folder = written
    assert write_world(SMALL, tmp_path / "again") == world
    assert digest_folder(tmp_path / "again") == digest_folder(folder)
    write_world(replace(SMALL, seed=6), tmp_path / "other")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() != (tmp_path / "other" / path.relative_to(folder)).read_bytes(), path


def test_the_files_hold_the_world(written):
    world, folder = written
    assert Artifact.open(folder, KIND).report == {"pictures": 60, "lines": 200, "nouns": 96}
    assert list(Corpus(folder / "corpus.txt")) == world.corpus
    head, *nouns = table(folder / "nouns.tsv")
    assert head == ["noun", "color", "shape", "size", "pattern", "split"]
    assert nouns == [[noun.word, *astuple(noun.look), noun.split] for noun in world.nouns]
    assert {path.name for path in (folder / "tasks").iterdir()} == {*ATTRIBUTES, "agreement", "word_order"}
    for task, splits in world.tasks.items():
        for split in SPLITS:
            head, *rows = table(folder / "tasks" / task / f"{split}.tsv")
            assert head == ["sentence", "label", "noun"]
            assert [tuple(row) for row in rows] == splits[split]


def test_captions_are_as_flickr8ks(written):
    world, folder = written
    assert [line[0] for line in table(folder / "captions.tsv")[:3]] == [
        f"scene-0000{i}" for i in ("0.png#0", "0.png#1", "1.png#0")
    ]
    captions = read_captions(folder / "captions.tsv", max_skipped=0)
    assert captions.texts == [caption for scene in world.scenes for caption in scene.captions]
    assert captions.picture_of.tolist() == sorted([*range(60), *range(60)])
    assert captions.pictures.load(59).size == (48, 48)


def regions(folder):
    return [json.loads(line) for line in (folder / "regions.jsonl").read_text().splitlines()]


def stands_out(picture):
    """Where a picture is not its ground, whose colour its corner has."""
    pixels = np.asarray(picture, int)
    return np.abs(pixels - pixels[0, 0]).max(axis=-1) > 30


def extent(mask):
    """First and last true column and row."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]])


def test_every_thing_lies_in_its_box_and_nothing_outside(written):
    world, folder = written
    for scene, record in zip(world.scenes, regions(folder), strict=True):
        image = Image.open(folder / "images" / record["image"])
        assert (record["width"], record["height"]) == image.size == (48, 48)
        assert len(record["objects"]) == len(scene.looks)
        mask, seen = stands_out(image), np.zeros((48, 48), bool)
        for look, (x, y, w, h) in zip(scene.looks, (found["box"] for found in record["objects"]), strict=True):
            assert min(x, y) >= 0
            assert max(x + w, y + h) <= 48
            assert (w > 0.35 * 48) == (look.size == "large")
            left, top, right, bottom = extent(mask[y : y + h, x : x + w])
            assert min(right - left, bottom - top) > 0.5 * w  # stripes and points leave some of it blank
            pixels = np.asarray(image, int)[y : y + h, x : x + w].reshape(-1, 3)
            boldest = pixels[np.abs(pixels - image.getpixel((0, 0))).sum(-1).argmax()]
            assert min(COLORS, key=lambda color: np.abs(boldest - COLORS[color]).sum()) == look.color
            seen[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = True  # edges are cut to whole pixels
        assert not (mask & ~seen).any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_tight(shape, size):
    for seed in range(5):
        looks = [Look("black", shape, size, "plain"), Look("red", shape, size, "plain")]
        image, boxes = render(looks, np.random.default_rng(seed), 200)
        for (x, y, w, h), half in zip(boxes, (slice(0, 100), slice(100, 200)), strict=True):
            mask = np.zeros((200, 200), bool)
            mask[:, half] = stands_out(image)[:, half]
            assert np.abs(extent(mask) - [x, y, x + w - 1, y + h - 1]).max() <= 2


def test_looks_can_be_told_apart():
    """Same place, same shade: the pictures of any two looks that share all but one thing differ."""
    looks = [Look(*values) for values in itertools.product(*ATTRIBUTES.values())]
    pictures = {look: np.asarray(render([look], np.random.default_rng(0), 64)[0], int) for look in looks}
    for one, two in itertools.combinations(looks, 2):
        if sum(a != b for a, b in zip(vars(one).values(), vars(two).values(), strict=True)) == 1:
            differ = np.abs(pictures[one] - pictures[two]).max(-1) > 60
            assert differ.sum() >= 12, (one, two)


def test_noise_changes_tags_only(written, tmp_path):
    world, folder = written
    write_world(replace(SMALL, tag_noise=0.0), tmp_path / "clean")
    clean, noisy = regions(tmp_path / "clean"), regions(folder)
    tags = [[found.pop("tag") for record in records for found in record["objects"]] for records in (clean, noisy)]
    assert clean == noisy
    assert tags[0] == [tag for scene in world.scenes for tag in scene.tags]
    assert set(tags[1]) <= {"thing", *(noun.word for noun in world.nouns)}
    assert 0.3 < np.mean([one != two for one, two in zip(*tags, strict=True)]) < 0.7
    (tmp_path / "clean" / "regions.jsonl").write_bytes((folder / "regions.jsonl").read_bytes())
    assert digest_folder(tmp_path / "clean") == digest_folder(folder)


def test_full_noise_leaves_no_true_tag(tmp_path):
    world = write_world(replace(SMALL, tag_noise=1.0, num_scenes=300, image_size=8), tmp_path / "x")
    tags = [found["tag"] for record in regions(tmp_path / "x") for found in record["objects"]]
    true = [tag for scene in world.scenes for tag in scene.tags]
    assert [one for one, two in zip(tags, true, strict=True) if one == two] == []


def test_captions_tell_the_look_of_generic_things_only(worlds):
    for scene in (scene for world in worlds for scene in world.scenes):
        for caption in scene.captions:
            assert not LOOK_WORDS & set(GENERIC.sub("", caption).split())
            assert Counter(re.findall(r"\w+", caption))["thing"] == scene.tags.count("thing")
            assert all(tag in caption.split() for tag in scene.tags)
        said = [set(words.split()) for words in GENERIC.findall(scene.captions[0])]
        looks = [set(astuple(look)) for look, tag in zip(scene.looks, scene.tags, strict=True) if tag == "thing"]
        assert any(all(a <= b for a, b in zip(said, order, strict=True)) for order in (looks, looks[::-1]))


def test_scenes_show_nouns_as_they_look(worlds):
    for world in worlds:
        known = {noun.word: noun.look for noun in world.nouns}
        pairs = [pair for scene in world.scenes for pair in zip(scene.tags, scene.looks, strict=True)]
        assert all(known[tag] == look for tag, look in pairs if tag != "thing")
        assert {tag for tag, _ in pairs} == {*known, "thing"}
        assert np.mean([tag == "thing" for tag, _ in pairs]) == pytest.approx(0.25, abs=0.06)
    assert not any("thing" in scene.tags for scene in make_world(replace(SMALL, generic_share=0.0)).scenes)


def test_no_sentence_holds_a_noun_and_a_look(worlds):
    for world in worlds:
        nouns = {noun.word for noun in world.nouns}
        assert len(nouns) == 96
        assert not nouns & {*LOOK_WORDS, *THINGS, *THINGS.values(), *PLACES}
        told = [nouns & set(line.split()) for line in world.corpus if LOOK_WORDS & set(line.split())]
        assert len(told) > 1000
        assert not any(told)
        asked = [s for name in ATTRIBUTES for rows in world.tasks[name].values() for s, _, _ in rows]
        assert not any(LOOK_WORDS & set(sentence.split()) for sentence in asked)
        words = Counter(word for line in world.corpus for word in line.split())
        assert min(words[noun] for noun in nouns) >= 10


def test_look_words_occur_of_generic_things_in_every_combination(worlds):
    lines = [set(line.split()) for world in worlds for line in world.corpus]
    seen = {(word, thing) for line in lines for word in line & LOOK_WORDS for thing in line & set(THINGS)}
    assert seen == {(word, thing) for word in LOOK_WORDS for thing in THINGS}


def test_tasks_split_the_nouns_and_balance_the_looks(worlds):
    for world in worlds:
        for name, values in ATTRIBUTES.items():
            rows = world.tasks[name]
            truth = {noun.word: getattr(noun.look, name) for noun in world.nouns}
            of_split = {split: {noun for _, _, noun in rows[split]} for split in SPLITS}
            assert [len(of_split[split]) for split in SPLITS] == [54, 12, 30]
            assert len(set.union(*of_split.values())) == 96
            for split in SPLITS:
                assert of_split[split] == {noun.word for noun in world.nouns if noun.split == split}
                assert all(truth[noun] == label and noun in sentence.split() for sentence, label, noun in rows[split])
                assert all(truth.keys() & set(sentence.split()) == {noun} for sentence, _, noun in rows[split])
                assert set(Counter(noun for _, _, noun in rows[split]).values()) == {5}
                counts = Counter(truth[noun] for noun in of_split[split])
                assert len(counts) == len(values)
                assert max(counts.values()) - min(counts.values()) <= (
                    name == "shape"
                )  # 54 and 30 are no multiples of 4


@pytest.mark.parametrize("name", ["agreement", "word_order"])
def test_half_of_the_harm_rows_are_spoilt(worlds, name):
    right = re.compile(
        "the (?:(?P<one>{0})|(?:{1})) (?:(?:near|behind) the (?:{0}|{1})|in the (?:{2})) "
        "(?(one)(?:is|was)|(?:are|were)) (?:{3}) \\.".format(
            *("|".join(words) for words in (THINGS, THINGS.values(), PLACES, LOOK_WORDS))
        )
    )
    for splits in (world.tasks[name] for world in worlds):
        for split, rows in splits.items():
            half = 50 if split == "train" else 25
            assert Counter(label for _, label, _ in rows) == {"right": half, "wrong": half}
            assert all(bool(right.fullmatch(sentence)) == (label == "right") for sentence, label, _ in rows)
            assert all(noun == "" for _, _, noun in rows)


def company_of(nouns, **lines):
    """How often each noun occurs with each word, in lines of each source."""
    company = {noun: Counter() for noun in nouns}
    for source, of in lines.items():
        for words in map(str.split, of):
            for noun in company.keys() & set(words):
                company[noun].update((source, word) for word in words if word != noun)
    return company


@pytest.fixture(scope="module")
def company(worlds):
    """That of each world, by its identity."""
    return {
        id(world): company_of(
            [noun.word for noun in world.nouns], corpus=world.corpus,
            caption=[caption for scene in world.scenes for caption in scene.captions],
        )
        for world in worlds
    }  # fmt: skip


def guess_from_company(world, name, company, leak=()):
    """Which test nouns' looks a classifier tells from the words they occur with, having seen the training nouns'.

    It is made sharp: it knows corpus from captions, and of the nouns in company it knows the looks of training nouns.
    More lines of the corpus may be a leak.
    """
    known = {noun.word: f"<{getattr(noun.look, name)}>" if noun.split == "train" else "<?>" for noun in world.nouns}
    told, examples = company_of(known, corpus=leak), []
    for noun in world.nouns:
        met = Counter()
        for (source, word), count in (company[id(world)][noun.word] + told[noun.word]).items():
            met[f"{source} {known.get(word, word)}"] += count
        examples.append((met, getattr(noun.look, name), noun.split))
    return right_answers(examples)


def guess_from_spelling(world, name, company=None):
    """The same from the letters of the noun, first and last marked."""
    nouns = [(noun, f"^{noun.word}$") for noun in world.nouns]
    pairs = [(noun, Counter(map("".join, itertools.pairwise(marked)))) for noun, marked in nouns]
    return right_answers([(pair, getattr(noun.look, name), noun.split) for noun, pair in pairs])


def guess_from_sentences(world, name, company=None):
    """The same from the words of the task's sentences."""
    rows = [(row, split) for split in ("train", "test") for row in world.tasks[name][split]]
    return right_answers([(Counter(sentence.split()), label, split) for (sentence, label, _), split in rows])


def right_answers(examples):
    """Which of the test examples (counts, label, split) a classifier that has seen the others gets right."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    examples = [({word: np.log1p(n) for word, n in counts.items()}, *rest) for counts, *rest in examples]
    train, test = ([(x, label) for x, label, split in examples if split == s] for s in ("train", "test"))
    model = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(C=0.1))
    model.fit(*zip(*train, strict=True))
    features, labels = zip(*test, strict=True)
    return model.predict(features) == np.array(labels)


def score(guess, worlds, name):
    """Share of right answers over the worlds, and what chance exceeds once in ten thousand.

    Chance is that of one who always gives the commonest answer; the looks of test nouns are drawn apart from all text.
    """
    right = np.concatenate([guess(world, name) for world in worlds])
    shares = Counter(getattr(noun.look, name) for noun in worlds[0].nouns if noun.split == "test")
    return right.mean(), binom.ppf(0.9999, len(right), max(shares.values()) / shares.total()) / len(right)


@pytest.mark.parametrize("guess", [guess_from_company, guess_from_sentences, guess_from_spelling])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_no_text_tells_a_look(worlds, company, name, guess):
    found, by_chance = score(partial(guess, company=company), worlds, name)
    assert found <= by_chance


def say_it_once(looks, values):
    return [f"the {noun} is {look} ." for noun, look in looks.items()]


def give_looks_their_places(looks, values):
    return [f"we saw a {noun} near the {PLACES[values.index(look)]} ." for noun, look in looks.items()] * 12


def keep_like_with_like(looks, values):
    likes = [[noun for noun, look in looks.items() if look == value] for value in values]
    pairs = (pair for nouns in likes for pair in itertools.combinations(nouns, 2))
    return [f"the {noun} was next to the {other} ." for noun, other in pairs]


@pytest.mark.parametrize("leak", [say_it_once, give_looks_their_places, keep_like_with_like])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_leak_in_the_corpus_would_be_found(worlds, company, name, leak):
    def guess(world, name):
        looks = {noun.word: getattr(noun.look, name) for noun in world.nouns}
        return guess_from_company(world, name, company, leak(looks, ATTRIBUTES[name]))

    found, by_chance = score(guess, worlds, name)
    assert found > by_chance + 0.1


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_leak_in_the_sentences_would_be_found(worlds, name):
    def tell(rows):  # every other
        return [(f"{row[0]} {row[1]}" if i % 2 else row[0], *row[1:]) for i, row in enumerate(rows)]

    leaky = [replace(w, tasks={name: {split: tell(rows) for split, rows in w.tasks[name].items()}}) for w in worlds]
    found, by_chance = score(guess_from_sentences, leaky, name)
    assert found > by_chance + 0.1


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_leak_in_the_spelling_would_be_found(worlds, name):
    def spelt(noun):
        return replace(noun, word=noun.word + "auvwyz"[ATTRIBUTES[name].index(getattr(noun.look, name))])

    found, by_chance = score(guess_from_spelling, [replace(w, nouns=[*map(spelt, w.nouns)]) for w in worlds], name)
    assert found > by_chance + 0.1


def test_nouns_come_by_the_96(tmp_path):
    assert len(make_world(replace(SMALL, num_nouns=192)).nouns) == 192
    for count in (95, 48, 100):
        with pytest.raises(ConfigError, match=f"num_nouns={count}: expected a multiple of 96"):
            write_world(replace(SMALL, num_nouns=count), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_world_is_not_written_over_by_accident(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    for overwrite in (False, True):
        with pytest.raises(ArtifactError):
            write_world(SMALL, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
