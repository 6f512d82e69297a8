"""Concepts among nouns, their entries, their pictures."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.mixture import GaussianMixture
from small_banks import WORDS, make_bank, make_captions, padded, random_bank, random_texts, random_vectors

from sightread.association.objects import (
    Entry,
    NounIndex,
    ObjectAssociation,
    named_tagger,
    nearest_to_centres,
    nltk_tagger,
    spacy_tagger,
)
from sightread.association.words import WordVectors
from sightread.data.words import stop_words
from sightread.errors import ConfigError, DataError, MissingExtra


def unit(x):
    return x / max(np.linalg.norm(x), 1e-30)


def by_objects(text, index, words, k):
    """The pictures of at most k nouns, noun by noun."""
    lemmas = {lemma for entry in index.entries for lemma in entry.lemmas}
    nouns = list(dict.fromkeys(word for word in text.split() if word in lemmas))
    assert len(nouns) <= k
    taken = []
    for noun in nouns:
        entries = [number for number, entry in enumerate(index.entries) if noun in entry.lemmas]
        best = max(entries, key=lambda number: (round(float(index.keys(words)[number] @ words([noun])[0]), 5), -number))
        taken += [row for row in index.entries[best].rows if row not in taken][:1]
    return padded(taken, k)


@pytest.mark.parametrize("seed", range(15))
def test_at_most_k_nouns_are_each_a_concept(seed):
    rng = np.random.default_rng(seed)
    bank, words = make_bank([str(i) for i in range(8)]), random_vectors(rng)
    index = NounIndex(bank, [
        Entry(tuple(rng.choice([*WORDS, "zyx"], 2)), rng.choice(["", "a red ball"]), (int(row), int(row + 1) % 8))
        for row in rng.integers(8, size=6)
    ])  # fmt: skip
    texts = [text for text in random_texts(rng, 12) if text]
    expected = [by_objects(text, index, words, 8) for text in texts]
    assert ObjectAssociation(index, words).retrieve(texts, 8).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_more_nouns_than_k_are_clustered(seed):
    vectors = np.random.default_rng(seed).standard_normal((7, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mixture = GaussianMixture(3, covariance_type="diag", reg_covar=1e-3, random_state=seed).fit(vectors)
    expected = sorted(set(cdist(mixture.means_, vectors).argmin(axis=1).tolist()))
    assert nearest_to_centres(vectors.astype(np.float32).astype(np.float64), 3, seed).tolist() == expected


def test_the_noun_in_the_middle_of_each_group_is_a_concept_in_order_of_mention():
    animals, waters = {"dog": -0.2, "cat": 0.0, "cow": 0.2}, {"sea": 1.3, "lake": 1.5, "pond": 1.7}
    angles = np.array([*animals.values(), *waters.values()])
    words = WordVectors([*animals, *waters], 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    bank = make_bank([*words.row_of, "zyx"])
    index = NounIndex(bank, [Entry((name,), "", (row,)) for row, name in enumerate(bank.ids)])
    association = ObjectAssociation(index, words)
    text = "a pond, a dog, a zyx, a lake, a cow, the sea, a cat and a dog"
    assert list(association.concepts(text, 2)) == ["lake", "cat"]
    assert association.retrieve([text, "a lake", "nothing"], 2).tolist() == [[4, 1], [4, -1], [-1, -1]]
    assert list(association.concepts(text, 7)) == ["pond", "dog", "zyx", "lake", "cow", "sea", "cat"]
    assert list(association.concepts("zyx dog", 1)) == ["dog"]  # what has no vector gives way


def test_nouns_that_share_a_vector_fill_fewer_places():
    words = WordVectors(["dog", "hound", "cur"], np.ones((3, 2), np.float32))
    index = NounIndex(make_bank(["a", "b", "c"]), [Entry((w,), "", (row,)) for row, w in enumerate(words.row_of)])
    assert ObjectAssociation(index, words).retrieve(["cur hound dog"], 2).tolist() == [[2, -1]]


def test_what_is_taken_gives_way_to_the_next_picture():
    words = WordVectors(["dog", "hound"], np.eye(2, dtype=np.float32))
    index = NounIndex(make_bank(["a", "b", "c"]), [Entry(("dog", "hound"), "", (2, 0))])
    assert ObjectAssociation(index, words).retrieve(["a dog, a hound"], 3).tolist() == [[2, 0, -1]]
    index = NounIndex(make_bank(["a", "b", "c"]), [Entry(("dog", "hound"), "", (2,))])
    assert ObjectAssociation(index, words).retrieve(["a dog, a hound"], 3).tolist() == [[2, -1, -1]]


def test_the_key_is_the_mean_of_lemmas_and_definition():
    words = WordVectors(["dog", "cat", "red"], np.array([[3, 0, 0], [0, 2, 0], [0, 0, 7]], dtype=np.float32))
    entries = [("dog", "cat"), "red"], [("dog", "zyx"), "red"], [("dog",), ""], [("zyx",), "a red"], [("zyx",), ""]
    index = NounIndex(make_bank(["a"]), [Entry(lemmas, text, (0,)) for lemmas, text in entries])
    expected = [unit([0.5**0.5, 0.5**0.5, 1]), unit([1, 0, 1]), [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(index.keys(words), expected, atol=1e-6)


def test_a_stop_word_is_no_noun_even_if_a_lemma_is_spelt_so():
    words = WordVectors(["can", "tin"], np.eye(2, dtype=np.float32))
    index = NounIndex(make_bank(["a"]), [Entry(("can", "tin"), "", (0,))])
    assert ObjectAssociation(index, words).retrieve(["you can", "a tin"], 1).tolist() == [[-1], [0]]


def test_lemmas_of_several_words_and_regular_plurals_are_found():
    lemmas = ["golden retriever", "retriever", "puppy", "box", "day", "cat", "cats", "the who", "who"]
    index = NounIndex(make_bank(["a"]), [Entry((lemma,), "", (0,)) for lemma in lemmas])
    for text, expected in {
        "Two golden retrievers, a retriever and golden boxes": ["golden retriever", "retriever", "box"],
        "puppies in days; cats, a cat": ["puppy", "day", "cats", "cat"],
        "who saw The Who?": ["the who"],
        "retriever golden": ["retriever"],
        "": [],
    }.items():
        assert index.named(text) == expected


def test_a_tagger_decides_and_strangers_go_to_the_nearest_entry():
    words = WordVectors(["dog", "cat", "hound"], np.array([[1, 0], [0, 1], [0.9, 0.1]], dtype=np.float32))
    index = NounIndex(make_bank(["a", "b"]), [Entry(("cat",), "", (1,)), Entry(("dog",), "", (0,))])
    association = ObjectAssociation(index, words, tagger=lambda text: [w for w in text.split() if w != "cat"])
    assert association.retrieve(["cat", "a hound", "hound cat"], 2).tolist() == [[-1, -1], [0, -1], [0, -1]]


@pytest.mark.parametrize("seed", range(10))
def test_an_index_of_captions_counts_the_captions_that_name_a_noun(seed):
    bank, pairs = random_bank(np.random.default_rng(seed))
    index = NounIndex.of_captions(bank, make_captions(pairs), {*WORDS[:4], "the"})
    expected = {}
    for word in sorted(set(WORDS[:4]) - stop_words()):
        counts = [sum(word in c.split() for i, c in pairs if i == id_) for id_ in bank.ids]
        rows = sorted((row for row in range(len(bank)) if counts[row]), key=lambda row: (-counts[row], row))
        if rows:
            expected[(word,)] = tuple(rows)
    assert {entry.lemmas: entry.rows for entry in index.entries} == expected
    everything = NounIndex.of_captions(bank, make_captions(pairs))
    said = {word for id_, text in pairs if id_ in bank.ids for word in text.split()} - stop_words()
    assert set(everything.entries_of) == said


def test_an_index_of_synsets(tmp_path):
    bank = make_bank(["n00000001.jpg", "n00000002/n00000002_7.JPEG", "xn00000001.jpg", "n00000002/n00000002_8.JPEG"])
    (tmp_path / "synsets.tsv").write_text("n00000002\tCrane, Grus grus\tcrane\nn00000009\tnone\nn00000001\tman-eater\n")
    (tmp_path / "words.tsv").write_text(
        "synset\tlemmas\tdefinition\n00000009-n\tcrane|derrick\tlifts\n00000005-n\tcrane|grus grus\twades\n"
        "00000002-n\tox\tlows\n00000001-n\tman-eater|a|b|c\tthis\n00000007-n\tman-eater\tthat\n"
    )
    (tmp_path / "things.tsv").write_text("thing\tmeaning\ncrane\tlifts\n")
    rows = [Entry(("crane", "grus grus"), "wades", (1, 3)), Entry(("man eater",), "this", (0,))]
    assert NounIndex.of_synsets(bank, tmp_path / "synsets.tsv", tmp_path / "words.tsv").entries == rows
    bare = NounIndex.of_synsets(bank, tmp_path / "synsets.tsv")
    assert bare.entries == [entry._replace(definition="") for entry in rows]
    assert bare.entries_of["grus grus"] == [0]
    with pytest.raises(DataError, match="no picture of the bank shows anything"):
        NounIndex.of_synsets(make_bank(["a.jpg"]), tmp_path / "synsets.tsv")
    with pytest.raises(DataError, match=r"has columns.*no definition, lemmas, synset"):
        NounIndex.of_synsets(bank, tmp_path / "synsets.tsv", tmp_path / "things.tsv")
    (tmp_path / "synsets.tsv").write_text("n00000002\tcrane\n\nn00000003 dog\n")
    with pytest.raises(DataError, match=r"synsets.tsv:3: expected a synset's number"):
        NounIndex.of_synsets(bank, tmp_path / "synsets.tsv")


def test_a_stranger_is_like_no_entry_of_which_nothing_is_known():
    words = WordVectors(["cat", "hound"], np.array([[-1, 0], [1, 0]], dtype=np.float32))
    entries = [Entry(("zyx",), "", (0,)), Entry(("cat",), "", (1,))]
    for index, expected in ((entries, [1]), (entries[:1], [-1])):
        association = ObjectAssociation(NounIndex(make_bank(["a", "b"]), index), words, tagger=str.split)
        assert association.retrieve(["hound", "zyx"], 1).tolist() == [expected, [0]]


def test_taggers_go_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda model: lambda text: []))
    assert [named_tagger(name).name for name in ("spacy", "spacy xyz")] == ["spacy en_core_web_sm", "spacy xyz"]
    with pytest.raises(ConfigError, match="tagger is 'spacey', expected one of spacy, nltk; did you mean 'spacy'"):
        named_tagger("spacey")


@pytest.mark.parametrize(("name", "tagger"), [("spacy", spacy_tagger), ("nltk", nltk_tagger)])
def test_a_tagger_that_is_not_installed_is_told(name, tagger, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=f"pip install {name}, then.*or leave the tagger out"):
        tagger()


def test_taggers_give_common_nouns_in_lower_case(monkeypatch):
    tokens = [SimpleNamespace(lemma_="Dog", pos_="NOUN"), SimpleNamespace(lemma_="Rex", pos_="PROPN")]
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda model: lambda text: tokens))
    assert spacy_tagger("a_model")("any") == ["dog"]
    tagged = [("Dogs", "NNS"), ("Rex", "NNP"), ("ball", "NN"), ("runs", "VBZ")]
    nltk = SimpleNamespace(word_tokenize=str.split, pos_tag=lambda words: tagged)
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    assert nltk_tagger()("any") == ["dogs", "ball"]
