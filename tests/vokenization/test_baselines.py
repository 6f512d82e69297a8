import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
import transformers
from scipy.special import softmax

from sightread.bank import ImageBank
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import Shard, VokenCorpus, shard_bytes, shard_path
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.runtime import Clock, keyed_rng
from sightread.vokenization.baselines import (
    BASELINES,
    DrawByFrequency,
    ShuffleVokens,
    frequency_vokens,
    random_vokens,
    shuffled_vokens,
    term_frequencies,
    token_vokens,
)
from sightread.vokenization.engines import here, in_processes
from sightread.vokenization.job import tokenize, vokenize
from sightread.vokenizer import Vokenizer


@pytest.fixture(scope="module")
def source(world_folder, vokenizer_folder, tmp_path_factory):
    """A voken corpus of several shards that keeps the three best pictures of each token, V = 24."""
    corpus, out = Corpus(world_folder / "corpus.txt"), tmp_path_factory.mktemp("source") / "vokens"
    made = vokenize(corpus, Vokenizer.from_pretrained(vokenizer_folder), out, shard_size=300, top=3)
    assert len(made.shards) > 5
    return made


@pytest.fixture(scope="module")
def bank(vokenizer_folder):
    """The world's pictures in another order than their captions', and one that has none; V = 25."""
    bank = ImageBank.load(vokenizer_folder / "bank").select(np.random.default_rng(0).permutation(24))
    features = np.concatenate([bank.features[:9], bank.features[:1], bank.features[9:]])
    return ImageBank([*bank.ids[:9], "without", *bank.ids[9:]], features, [""] * 25)


@pytest.fixture(scope="module")
def makers(source, tokenizer, captions, bank):
    """What makes each baseline of the source, but for the folder."""
    settings = {"random": {"seed": 3}, "shuffle": {"seed": 3, "group": 20}, "tokens": {},
                "term-frequency": {"seed": 3, "captions": captions, "bank": bank}}  # fmt: skip
    return {kind: partial(make, source, tokenizer, **settings[kind]) for kind, make in BASELINES.items()}


@pytest.fixture(scope="module", params=BASELINES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def whole(kind, makers, tmp_path_factory):
    """A baseline that nothing disturbed."""
    return makers[kind](tmp_path_factory.mktemp(kind) / "whole")


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*"))}


def vokens_of(made):
    return [line.voken_ids.tolist() for line in made]


def test_only_the_vokens_are_others(kind, whole, source, bank, tokenizer):
    for line, former in zip(whole, source, strict=True):
        assert line.text == former.text
        for name in ("token_ids", "starts", "ends"):
            assert np.array_equal(getattr(line, name), getattr(former, name))
    assert sum(a != b for a, b in zip(vokens_of(whole), vokens_of(source), strict=True)) > 70  # of 80
    tokens, vokens, begins = whole.flat()
    num_vokens, expected_bank = {
        "tokens": (len(tokenizer), "no bank"), "term-frequency": (25, bank.digest)
    }.get(kind, (24, source.artifact.inputs["bank"]))  # fmt: skip
    assert (whole.num_vokens, whole.artifact.inputs["bank"]) == (num_vokens, expected_bank)
    assert whole.top == (3 if kind == "shuffle" else 0)
    assert 0 <= vokens.min() <= vokens.max() < num_vokens  # each has one
    assert len(tokens) == begins[-1] == whole.num_tokens == source.num_tokens
    assert whole.artifact.report["pictures_used"] == len(np.unique(vokens))


def test_resumed_or_by_two_workers_its_bytes_are_the_same(kind, whole, makers, tmp_path):
    def three_shards(work, tasks):
        yield from itertools.islice(here(work, tasks), 3)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        makers[kind](tmp_path / "stopped", engine=three_shards)
    shard_path(tmp_path / "stopped", 1).unlink()
    if kind != "tokens":
        with pytest.raises(ArtifactError, match="cannot be resumed: it was begun with another"):
            makers[kind](tmp_path / "stopped", seed=4, resume=True)
    makers[kind](tmp_path / "stopped", engine=partial(in_processes, workers=2), resume=True)
    assert shards(tmp_path / "stopped") == shards(whole.path)


def test_what_cannot_be_is_refused_before_anything_is_written(kind, makers, source, built_tokenizers, tmp_path):
    with pytest.raises(ArtifactError, match="the tokenizer does not fit"):
        BASELINES[kind](source, built_tokenizers["unigram"], tmp_path / "out", **makers[kind].keywords)
    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        BASELINES[kind](source, transformers.ByT5Tokenizer(), tmp_path / "out", **makers[kind].keywords)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("drawn", ["random", "term-frequency"])
def test_draws_depend_on_seed_and_line_alone(drawn, makers, tokenizer, voken_corpus_folder, tmp_path):
    expected, others = (vokens_of(makers[drawn](tmp_path / str(seed), seed=seed)) for seed in (3, 4))
    in_one_shard, settings = VokenCorpus(voken_corpus_folder), makers[drawn].keywords
    assert vokens_of(BASELINES[drawn](in_one_shard, tokenizer, tmp_path / "one", **settings)) == expected
    assert sum(a == b for a, b in zip(expected, others, strict=True)) <= 1
    assert len({tuple(line[:5]) for line in expected}) == 80  # a draw of its own for every line


def test_random_vokens_are_spread_over_the_bank(makers, tmp_path):
    counts = np.bincount(makers["random"](tmp_path / "random").flat()[1], minlength=24)
    assert counts.min() > 8  # of 27 expected


def test_shuffled_vokens_move_whole_and_within_their_group(tmp_path):
    rng, group = keyed_rng(0), 16
    rows = rng.integers(0, 6, size=(40, 2))  # of V = 5: some have none
    zeros = np.zeros(40, np.int32)
    shard = Shard(["", ""], np.array([0, 25, 40]), zeros, zeros, zeros, rows[:, 0], rows, rows.astype(np.float32) / 8)
    (tmp_path / "shard").write_bytes(shard_bytes(shard, 5))
    made, other = (ShuffleVokens(5, 2, 0, group)(index, (tmp_path / "shard", 0), Clock()) for index in (7, 8))
    assert made.top_ids[:, 0].tolist() == made.voken_ids.tolist() != other.voken_ids.tolist()
    assert (made.top_scores * 8).tolist() == made.top_ids.tolist()
    for begin in (0, 16, 32):
        before, after = (sorted(map(tuple, part[begin : begin + group].tolist())) for part in (rows, made.top_ids))
        assert before == after
        assert rows[begin : begin + group].tolist() != made.top_ids[begin : begin + group].tolist()


def test_each_token_is_its_own_voken_even_without_a_bank(world_folder, tokenizer, tmp_path):
    bare = tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path / "tokens")
    tokens, vokens, _ = token_vokens(bare, tokenizer, tmp_path / "own").flat()
    assert vokens.tolist() == tokens.tolist()


def slow_frequencies(captions, tokenizer, ids):
    """tf(w, x), types × V, counted one by one."""
    named = [Counter() for _ in ids]
    for text, row in zip(captions.texts, captions.picture_of, strict=True):
        if (id_ := captions.pictures.ids[row]) in ids:
            named[ids.index(id_)].update(tokenizer(text, add_special_tokens=False)["input_ids"])
    return np.array([[count[w] / max(count.total(), 1) for count in named] for w in range(len(tokenizer))])


def test_term_frequencies_are_counts_over_all_tokens_of_the_captions(captions, tokenizer, bank):
    ids = bank.ids[3:]  # some captions are of no picture of the bank, and one picture has no caption
    expected = slow_frequencies(captions, tokenizer, ids)
    types, rows, found = term_frequencies(captions, tokenizer, ids)
    dense = np.zeros_like(expected)
    dense[types, rows] = found
    assert np.array_equal(dense, expected)
    assert np.allclose(dense.sum(axis=0), [id_ != "without" for id_ in ids])


class Grid:
    """Instead of chance: every part of the unit interval once; and no picture, where any would do."""

    def random(self, size):
        return (np.arange(size) + 0.5) / size

    def integers(self, high, size):
        return np.full(size, -1)


@pytest.mark.parametrize("temperature", [1e-5, 0.01, 0.1, 3.0])
def test_pictures_are_drawn_by_the_boltzmann_distribution(captions, tokenizer, bank, temperature):
    work = DrawByFrequency(25, 0, term_frequencies(captions, tokenizer, bank.ids), temperature)
    expected = softmax(slow_frequencies(captions, tokenizer, bank.ids) / temperature, axis=1)  # (types, 25)
    assert np.isclose(expected, 1 / 25).all(axis=1).any()  # tokens in no caption
    for token, probabilities in enumerate(expected):
        counts = np.bincount(work.draw(Grid(), np.full(9000, token)) + 1, minlength=26)
        assert np.abs((counts[1:] + counts[0] / 25) / 9000 - probabilities).max() < 3 / 9000
    for token in (0, expected.std(axis=1).argmax()):  # by lot indeed
        drawn = np.bincount(work.draw(keyed_rng(0), np.full(9000, token)), minlength=25)
        assert np.abs(drawn / 9000 - expected[token]).max() < 0.02


def test_in_the_cold_only_the_pictures_that_name_a_token_most_are_drawn(captions, tokenizer, bank, makers, tmp_path):
    tf = slow_frequencies(captions, tokenizer, bank.ids)
    tokens, vokens, _ = makers["term-frequency"](tmp_path / "cold", temperature=1e-6).flat()
    assert np.array_equal(tf[tokens, vokens], tf[tokens].max(axis=1))
    assert 0 < (tf[tokens, vokens] > 0).sum() < len(tokens)


def test_settings_without_meaning_are_refused(source, tokenizer, captions, bank, world_folder, tmp_path):
    draw = partial(frequency_vokens, source, tokenizer, tmp_path / "out", captions=captions, seed=0)
    with pytest.raises(DataError, match="none of the bank's 1 pictures is among the 24 captioned ones"):
        draw(bank=bank.select([9]))
    for temperature in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"temperature=.*expected a positive number"):
            draw(bank=bank, temperature=temperature)
    with pytest.raises(ConfigError, match="group=1"):
        shuffled_vokens(source, tokenizer, tmp_path / "out", seed=0, group=1)
    bare = tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path / "tokens")
    for make in (random_vokens, shuffled_vokens):
        with pytest.raises(ConfigError, match="only tokenized"):
            make(bare, tokenizer, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
