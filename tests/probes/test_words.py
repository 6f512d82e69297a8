"""A planted signal is found, noise is not; each score against scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import THINGS, PlantedEncoder, write_lines, write_norms, write_probe_data
from scipy import stats
from sklearn.metrics import r2_score

from sightread.errors import DataError
from sightread.probes.results import ProbeConfig
from sightread.probes.words import (
    WORD_PAIRS,
    cross_validated,
    probe_concreteness,
    probe_similarity,
    r_squared,
    read_word_pairs,
    spearman,
)
from sightread.runtime import data_root

CONFIG = ProbeConfig(num_resamples=50)


@pytest.fixture
def data(tmp_path):
    return write_probe_data(tmp_path)


def write_many_norms(data, num=300):
    """Words of equal length whose concreteness and frequency have nothing to do with each other."""
    rng = np.random.default_rng(0)
    ratings = {f"w{i:03}": rating for i, rating in enumerate(rng.uniform(1, 5, size=num))}
    rows = [f"{word}\t0\t{rating:.6f}\t{rng.integers(1, 9999)}" for word, rating in ratings.items()]
    write_lines(data / "lexicons/brysbaert_concreteness.tsv", "Word\tBigram\tConc.M\tSUBTLEX", *rows, "unseen\t0\t3\t0")
    return ratings


def test_concreteness_in_the_vectors_is_found(data):
    ratings = write_many_norms(data)
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(2, 12))
    encoder = PlantedEncoder(lambda text: np.array([ratings[text.strip()], rng.normal()]) @ mixing)
    r2, rank = probe_concreteness(encoder, data, CONFIG)
    assert (r2.score, rank.score) == ("r2", "spearman")
    assert r2.value > 0.99
    assert rank.low > 0.99
    assert abs(r2.references["frequency and length"]) < 0.05
    assert r2.items == 300  # the word that films never say is left out
    assert r2.answers[0]["gold"] == pytest.approx(ratings[r2.answers[0]["item"]], abs=1e-6)


def test_in_noise_no_concreteness_is_found(data):
    write_many_norms(data)
    rng = np.random.default_rng(1)
    r2, rank = probe_concreteness(PlantedEncoder(lambda text: rng.normal(size=12)), data, CONFIG)
    assert r2.value == pytest.approx(0, abs=0.1)
    assert rank.low < 0.1
    assert abs(rank.value) < 0.2


def test_words_are_drawn_by_seed(data):
    write_many_norms(data)
    encoder = PlantedEncoder(lambda text: np.random.default_rng(int(text[2:])).normal(size=3))

    def drawn(seed):
        config = ProbeConfig(num_resamples=2, num_words=40, seed=seed)
        return [answer["item"] for answer in probe_concreteness(encoder, data, config)[0].answers]

    assert len(drawn(0)) == 40
    assert drawn(0) == drawn(0) != drawn(1)


def test_no_row_is_predicted_by_a_model_that_saw_it():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(40, 3)), rng.normal(size=40)
    before = cross_validated(inputs, targets, CONFIG)
    for row in (0, 17):
        changed = targets.copy()
        changed[row] += 100
        after = cross_validated(inputs, changed, CONFIG)
        assert after[row] == pytest.approx(before[row])
        assert not np.allclose(after, before)


@given(st.integers(0, 10_000))
def test_scores_equal_those_of_the_libraries(seed):
    pairs = np.random.default_rng(seed).integers(-4, 5, size=(12, 2)).astype(float)
    pairs[0] = 9.0  # so that neither side is constant
    assert r_squared(pairs) == pytest.approx(r2_score(pairs[:, 1], pairs[:, 0]))
    ranks = stats.rankdata(pairs, axis=0)
    assert spearman(pairs) == pytest.approx(np.corrcoef(ranks.T)[0, 1])


def test_what_is_constant_agrees_with_nothing():
    assert spearman(np.array([[1.0, 2.0], [1.0, 3.0]])) == 0.0


def test_vectors_that_know_likeness_score_1(data):
    words = [*THINGS, "black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow"]
    angle = dict(zip(words, np.linspace(0, 1, len(words)), strict=True))  # of the file, a pair's rating is a distance
    encoder = PlantedEncoder(lambda text: [np.cos(angle[text.strip()]), np.sin(angle[text.strip()])])
    whole, concrete, abstract = probe_similarity(encoder, data, CONFIG, name="simlex")
    assert whole.value == pytest.approx(-1.0, abs=5e-3)  # equal distances differ by rounding
    assert (whole.score, concrete.score, abstract.score) == ("spearman", "spearman concrete", "spearman abstract")
    assert whole.items == 17 * 16 / 2
    assert (concrete.value, concrete.note) == (None, "10 pairs, fewer than 20")  # 5 words are rated 4 or more
    assert abstract.items == 12 * 11 / 2


def test_equally_frequent_words_are_the_reference(data):
    write_norms(data / "lexicons/brysbaert_concreteness.tsv", [f"w{i}" for i in range(10)])
    pairs = [(f"w{i}", f"W{j}") for i in range(10) for j in range(i)]  # in capitals they are the same words
    write_lines(data / f"lexicons/word-sim/{WORD_PAIRS['men']}", *(f"{a} {b} {i}" for i, (a, b) in enumerate(pairs)))
    counts = {f"w{i}": 10 * i + 1 for i in range(10)}
    apart = [abs(np.log1p(counts[a]) - np.log1p(counts[b.lower()])) for a, b in pairs]
    encoder = PlantedEncoder(lambda text: [1.0, float(text[2:]) ** 2])
    whole = probe_similarity(encoder, data, CONFIG, name="men")[0]
    assert whole.references["frequency"] == pytest.approx(-stats.spearmanr(apart, range(len(pairs))).statistic)


def test_words_are_read_after_a_blank(data):
    texts = []
    encoder = PlantedEncoder(lambda text: texts.append(text) or [1.0, float(len(text))])
    probe_similarity(encoder, data, CONFIG, name="simverb")
    assert all(text.startswith(" ") for text in texts)


@pytest.mark.parametrize(
    ("line", "message"), [("a b", "pairs.txt:2 has 2 columns"), ("a b c", "pairs.txt:2 has 'c' where a number")]
)
def test_a_broken_line_is_named(tmp_path, line, message):
    write_lines(tmp_path / "pairs.txt", "a b 1.5", line)
    with pytest.raises(DataError, match=message):
        read_word_pairs(tmp_path / "pairs.txt")


def test_an_empty_file_is_named(tmp_path):
    write_lines(tmp_path / "pairs.txt", "")
    with pytest.raises(DataError, match=r"pairs.txt is empty"):
        read_word_pairs(tmp_path / "pairs.txt")


@pytest.mark.realdata
def test_official_files():
    sizes = {"simlex": 999, "men": 3000, "ws353_similarity": 203, "ws353_relatedness": 252, "simverb": 3500}
    for name, size in sizes.items():
        pairs, ratings = read_word_pairs(data_root() / f"data/lexicons/word-sim/{WORD_PAIRS[name]}")
        assert len(pairs) == len(ratings) == size
