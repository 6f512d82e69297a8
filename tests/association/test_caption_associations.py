"""Scenes and keywords against loops over every caption."""

import math

import numpy as np
import pytest
from small_banks import make_bank, make_captions, padded, random_bank, random_texts, random_vectors

from sightread.association.captions import KeywordAssociation, SceneAssociation
from sightread.association.words import WordVectors
from sightread.bank import ImageBank
from sightread.data.captions import Captions, read_captions, read_ids
from sightread.data.words import stop_words
from sightread.errors import ConfigError, DataError
from sightread.runtime import data_root

SEEDS = range(20)


def by_scene(text, bank, pairs, words, k):
    """The best pictures by the cosine of the best caption, picture by picture."""
    query = words([text])[0].astype(np.float64)
    scores = {}
    for id_, caption in pairs:
        if id_ in bank.ids and words([caption]).any() and query.any():
            row = bank.ids.index(id_)
            scores[row] = max(scores.get(row, -2), round(float(words([caption])[0] @ query), 6))
    return padded(sorted(scores, key=lambda row: (-scores[row], row)), k)


def by_keywords(text, bank, pairs, k, k_words):
    """The best pictures by how many keywords they hold."""
    said = {row: {w for i, c in pairs if i == id_ for w in c.split()} for row, id_ in enumerate(bank.ids)}
    pictures_of = {word: [row for row in said if word in said[row]] for word in text.split()}
    known = [word for word in pictures_of if pictures_of[word] and word not in stop_words()]
    idf = {word: round(math.log(len(bank) / len(pictures_of[word])) * 2**20) for word in known}
    keywords = sorted(known, key=lambda word: -text.split().count(word) * idf[word])[:k_words]
    held = {row: [idf[word] for word in keywords if word in said[row]] for row in said}
    rows = [row for row in held if held[row]]
    return padded(sorted(rows, key=lambda row: (-len(held[row]), -sum(held[row]), row)), k)


@pytest.mark.parametrize("seed", SEEDS)
def test_scenes_and_keywords_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    (bank, pairs), words, texts = random_bank(rng), random_vectors(rng), random_texts(rng, 8)
    captions, k_words = make_captions(pairs), int(rng.integers(1, 5))
    scenes = SceneAssociation.of_captions(bank, captions, words)
    keywords = KeywordAssociation.of_captions(bank, captions, k_words)
    for k in {1, 2, len(bank)}:
        assert scenes.retrieve(texts, k).tolist() == [by_scene(text, bank, pairs, words, k) for text in texts]
        expected = [by_keywords(text, bank, pairs, k, k_words) for text in texts]
        assert keywords.retrieve(texts, k).tolist() == expected


def test_many_captions_of_one_picture_hide_no_other():
    pairs = [("a", "dog"), *[("b", "dog dog")] * 50, ("c", "cat"), ("d", "")]
    words = WordVectors(["dog", "cat"], np.array([[1, 0], [0.5, 0.5]], dtype=np.float32))
    scenes = SceneAssociation.of_captions(make_bank(["d", "c", "b", "a"]), make_captions(pairs), words)
    assert scenes.retrieve(["a dog", "cats", "a cat"], 4).tolist() == [[2, 3, 1, -1], [-1] * 4, [1, 2, 3, -1]]
    assert scenes.report["keys"] == 52
    assert scenes.report["skipped"]["caption without a known word"]["count"] == 1


@pytest.mark.parametrize("make", [SceneAssociation.of_captions, lambda b, c, _: KeywordAssociation.of_captions(b, c)])
def test_what_does_not_fit_is_refused(make):
    bank, words = make_bank(["a", "b"]), WordVectors(["dog"], np.ones((1, 2), np.float32))
    association = make(bank, make_captions([("a", "dog")]), words)
    with pytest.raises(ConfigError, match=r"k=3.*the 2 pictures"):
        association.retrieve(["dog"], 3)
    with pytest.raises(ConfigError, match="one string; give a list"):
        association.retrieve("dog", 1)
    assert association.retrieve([], 2).shape == (0, 2)
    with pytest.raises(DataError, match="give the captions of the bank's pictures"):
        make(bank, make_captions([("c", "dog")]), words)


def test_captions_of_unknown_words_make_no_scenes_and_no_keywords():
    bank, captions = make_bank(["a", "b"]), make_captions([("a", "of the")])
    with pytest.raises(DataError, match="not one of 1 captions holds a known word"):
        SceneAssociation.of_captions(bank, captions, WordVectors(["dog"], np.ones((1, 2), np.float32)))
    with pytest.raises(DataError, match="stop words alone"):
        KeywordAssociation.of_captions(bank, captions)
    dogs = make_captions([("a", "dogs")])
    assert KeywordAssociation.of_captions(bank, dogs).retrieve(["of the cat"], 2).tolist() == [[-1, -1]]
    with pytest.raises(ConfigError, match="k_words=0"):
        KeywordAssociation.of_captions(bank, dogs, k_words=0)


@pytest.mark.realdata
def test_another_caption_finds_its_picture():
    data = data_root() / "data/flickr8k"
    captions = read_captions(data).only(read_ids(data / "split_dev.txt"))
    last = np.diff(captions.picture_of, append=-1) != 0
    texts = np.array(captions.texts)
    keys = Captions(captions.pictures, texts[~last].tolist(), captions.picture_of[~last], captions.skipped)
    features = np.random.default_rng(0).standard_normal((1000, 4))
    bank = ImageBank(captions.pictures.ids, features, [""] * 1000)
    words = WordVectors.read(data_root() / "models/glove-twitter-25d-12k/vectors.txt")
    for association, least in (
        (SceneAssociation.of_captions(bank, keys, words), 0.3), (KeywordAssociation.of_captions(bank, keys), 0.7)
    ):  # fmt: skip
        found = association.retrieve(texts[last].tolist(), 10)
        assert (found == captions.picture_of[last][:, None]).any(axis=1).mean() > least  # by chance 0.01
