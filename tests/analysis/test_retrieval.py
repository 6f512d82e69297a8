"""Ranks against brute force, chance against a simulation, the baseline on words that decide everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.analysis.retrieval import bag_of_words_scores, chance, ranks_of_own, retrieval_scores, scores_of
from sightread.data.captions import Captions
from sightread.data.images import PictureFiles
from sightread.data.skipped import Skipped
from sightread.errors import DataError
from sightread.vokenizer import Vokenizer


def brute_force_rank(query, own, pictures):
    scores = [sum(float(a) * float(b) for a, b in zip(query, picture, strict=True)) for picture in pictures]
    return sorted(range(len(pictures)), key=lambda row: (-scores[row], row)).index(own) + 1


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12), st.integers(1, 7))
def test_ranks_equal_brute_force_with_ties(seed, num_queries, num_pictures, block):
    rng = np.random.default_rng(seed)  # small whole numbers: sums are exact, and ties are many
    queries, pictures = (rng.integers(-2, 3, size=(n, 3)).astype(np.float32) for n in (num_queries, num_pictures))
    own = rng.integers(num_pictures, size=num_queries)
    expected = [brute_force_rank(q, o, pictures) for q, o in zip(queries, own, strict=True)]
    assert ranks_of_own(queries, own, pictures, block=block).tolist() == expected


def test_of_equal_pictures_the_lower_row_comes_first():
    pictures = np.ones((4, 2), dtype=np.float32)
    assert ranks_of_own(pictures, np.arange(4), pictures).tolist() == [1, 2, 3, 4]


def test_scores_of_ranks():
    ranks = np.array([1, 1, 2, 5, 6, 10, 11, 100])
    expected = {"R@1": 2 / 8, "R@5": 4 / 8, "R@10": 6 / 8, "median_rank": 5.5, "queries": 8}
    assert scores_of(ranks) == expected


@pytest.mark.parametrize("num_pictures", [1, 4, 24, 101])
def test_chance_is_what_guessing_scores(num_pictures):
    ranks = np.random.default_rng(0).integers(1, num_pictures + 1, size=200_000)
    guessed, computed = scores_of(ranks), chance(num_pictures)
    assert computed.pop("median_rank") == pytest.approx(guessed["median_rank"], abs=0.6)  # between two ranks
    assert computed == pytest.approx({name: guessed[name] for name in ("R@1", "R@5", "R@10")}, abs=0.005)


COLORS = ("red", "green", "blue", "black", "white", "pink")


def worded(num_pictures, seed, extra=""):
    """Captions of two words that decide the picture's feature, with one caption repeated in other words."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation([(i, j) for i in range(6) for j in range(6) if i < j])[:num_pictures]
    features = np.zeros((num_pictures, 6), dtype=np.float32)
    for row, pair in enumerate(pairs):
        features[row, pair] = 1
    texts = [f"a {COLORS[i]} and {COLORS[j]} thing {extra}" for i, j in pairs for _ in range(2)]
    ids = [f"{row}.png" for row in range(num_pictures)]
    pictures = PictureFiles(ids, [None] * num_pictures)
    return Captions(pictures, texts, np.repeat(np.arange(num_pictures), 2), Skipped()), features


def test_bag_of_words_finds_what_words_decide():
    train, test = worded(15, seed=0), worded(12, seed=1, extra="unheard")
    scores = bag_of_words_scores(*train, *test)
    assert scores["sentences"] == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0, "queries": 24}
    assert scores["tokens"]["queries"] == 24 * 5  # a, color, and, color, thing; "unheard" was never learnt
    # a colour alone leaves the pictures that have it, a filler word leaves all
    assert 1 / 12 < scores["tokens"]["R@1"] < 0.5


def test_bag_of_words_finds_nothing_where_words_say_nothing():
    (train, features), (test, test_features) = worded(15, seed=0), worded(12, seed=1)
    shuffled = np.random.default_rng(0).permutation(features)
    assert bag_of_words_scores(train, shuffled, test, test_features)["sentences"]["R@1"] < 0.4


def test_retrieval_scores_equal_a_search_by_hand(vokenizer_folder, captions):
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    scores = retrieval_scores(vokenizer, captions)
    bank = vokenizer.bank  # it holds these very pictures
    rows = [bank.ids.index(captions.pictures.ids[picture]) for picture in captions.picture_of]
    found = vokenizer(captions.texts, k=len(bank))
    token_ranks = [t.rows.index(row) + 1 for tokens, row in zip(found, rows, strict=True) for t in tokens]
    assert scores["tokens"]["queries"] == len(token_ranks) > len(captions.texts)
    for k in (1, 5, 10):
        assert scores["tokens"][f"R@{k}"] == pytest.approx(np.mean(np.array(token_ranks) <= k), abs=0.02)
    relevance = np.zeros((len(rows), len(bank)))  # of a sentence: the mean score of its tokens
    for sentence, tokens in zip(relevance, found, strict=True):
        for token in tokens:
            sentence[token.rows] += np.array(token.scores) / len(tokens)
    ranks = 1 + (relevance > relevance[np.arange(len(rows)), rows][:, None] + 1e-6).sum(axis=1)
    for k in (1, 5, 10):
        assert scores["sentences"][f"R@{k}"] == pytest.approx(np.mean(ranks <= k), abs=0.03)
    assert scores["sentences"]["median_rank"] == pytest.approx(np.median(ranks), abs=0.6)
    assert scores["sentences"]["queries"] == len(captions.texts)
    assert (scores["pictures"], scores["skipped"]) == (24, {})
    assert scores["chance"]["R@5"] == 5 / 24


def test_captions_without_a_token_are_no_queries(vokenizer_folder, captions):
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    hollow = Captions(captions.pictures, ["\u200b", *captions.texts[1:]], captions.picture_of, Skipped())
    assert retrieval_scores(vokenizer, hollow)["sentences"]["queries"] == len(captions.texts) - 1
    empty = Captions(captions.pictures, ["\u200b"] * len(captions.texts), captions.picture_of, Skipped())
    with pytest.raises(DataError, match="not one caption holds a token"):
        retrieval_scores(vokenizer, empty)
