import itertools
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sightread.contracts import IGNORED
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import VokenCorpus, num_lines
from sightread.encoders.text import load_tokenizer
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.runtime import data_root
from sightread.vokenization import engines
from sightread.vokenization.baselines import random_vokens
from sightread.vokenization.job import tokenize, vokenize
from sightread.vokenization.revokenize import NO_MATCH, align, carry_over, revokenize
from sightread.vokenization.work import tokenize_lines
from sightread.vokenizer import Vokenizer
from voken_shards import line_of, shard_of


def brute_force(sources, targets):
    """Best source of each target by exact intersection over union, the earlier of equals."""
    best = []
    for begin, end in targets:
        found, highest = NO_MATCH, Fraction(0)
        for i, (source_begin, source_end) in enumerate(sources):
            shared = len(set(range(begin, end)) & set(range(source_begin, source_end)))
            if shared:
                iou = Fraction(shared, len(set(range(begin, end)) | set(range(source_begin, source_end))))
                found, highest = (i, iou) if iou > highest else (found, highest)
        best.append(found)
    return best


def aligned(sources, targets):
    columns = [
        np.array([span[side] for span in spans], dtype=np.int32) for spans in (sources, targets) for side in (0, 1)
    ]
    result = align(*columns)
    assert result.dtype == np.int64
    return result.tolist()


spans = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)).map(lambda s: (s[0], s[0] + s[1])), max_size=8)
"""Any spans: in any order, empty, overlapping, equal."""


@given(spans, spans)
def test_any_spans(sources, targets):
    assert aligned(sources, targets) == brute_force(sources, targets)


@given(spans.map(sorted), spans.map(sorted))
def test_spans_in_order(sources, targets):
    assert aligned(sources, targets) == brute_force(sources, targets)


@given(st.sets(st.integers(0, 60), max_size=20).map(sorted), st.sets(st.integers(0, 60), max_size=20).map(sorted))
def test_two_cuts_of_the_same_text(source_cuts, target_cuts):
    sources, targets = (list(itertools.pairwise(cuts)) for cuts in (source_cuts, target_cuts))
    assert aligned(sources, targets) == brute_force(sources, targets)


@pytest.mark.parametrize(
    ("sources", "targets", "expected"),
    [
        ([(0, 4), (4, 9)], [(0, 9)], [1]),  # 5/9 beats 4/9
        ([(0, 4), (4, 8)], [(0, 8)], [0]),  # a tie stays with the earlier
        ([(0, 4), (4, 8)], [(2, 6), (3, 8)], [0, 1]),
        ([(0, 4), (5, 8)], [(4, 5)], [NO_MATCH]),  # beside both, over neither
        ([(0, 4), (5, 8)], [(4, 4), (6, 6)], [NO_MATCH, NO_MATCH]),  # nothing to overlap with
        ([(0, 9), (2, 4)], [(2, 4)], [1]),  # one within the other
        ([(3, 4), (3, 4)], [(3, 4), (3, 4)], [0, 0]),  # the bytes of one character
        ([(0, 10), (0, 2), (20, 30)], [(0, 2)], [1]),
        ([], [(0, 3)], [NO_MATCH]),
        ([(0, 3)], [], []),
    ],
)
def test_cases_by_hand(sources, targets, expected):
    assert aligned(sources, targets) == expected == brute_force(sources, targets)


def test_ties_of_large_spans_are_exact():
    length = 3_000_001
    assert aligned([(0, length), (length, 2 * length)], [(0, 2 * length)]) == [0]
    assert aligned([(0, length), (length, 2 * length + 1)], [(0, 2 * length + 1)]) == [1]


ODD = [
    "the red box", "👩‍👩‍👧‍👦 family", "e\u0301\u0323 \u0915\u094d\u0937", "漢字かな交じり文", "שלום עולם مرحبا",
    "a\x00b\x1fc\x7f\u200b\u200d\ufeff", "\u202eabc\u202c", "ﬁﬀ ½ ㎏ İ ß", "naïve\u00a0café", "\t x  \u3000 y",
    "𝔘𝔫𝔦 🇩🇪🏳️‍🌈",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=25),
    st.lists(st.sampled_from([*"abz .,'", *(c for text in ODD for c in text)]), max_size=25).map("".join),
    st.lists(st.sampled_from(ODD), min_size=1, max_size=3).map(" ".join),
)


def spans_agree(tokenizers, text):
    lines = [next(iter(tokenize_lines(tokenizer, [text]))) for tokenizer in tokenizers]
    all_spans = [[*zip(line.starts.tolist(), line.ends.tolist(), strict=True)] for line in lines]
    for line, spans_of_line in zip(lines, all_spans, strict=True):
        assert len(line.token_ids) == len(spans_of_line)
        assert all(0 <= begin <= end <= len(text) for begin, end in spans_of_line)
    for sources in all_spans:
        for targets in all_spans:
            assert aligned(sources, targets) == brute_force(sources, targets)


@given(texts)
def test_spans_of_a_wordpiece_a_byte_level_and_a_unigram_tokenizer(built_tokenizers, text):
    spans_agree(built_tokenizers.values(), text)


@pytest.fixture(scope="module")
def published_tokenizers():
    names = ("tok-bert-base-uncased", "tok-roberta-base", "tok-clip", "tok-albert-base-v2")
    return [load_tokenizer(data_root() / "models" / name) for name in names]


@pytest.mark.realdata
@settings(max_examples=300)
@given(texts)
@example("The café's naïve façade costs £42 — 👩‍👩‍👧‍👦!")
def test_spans_of_published_tokenizers(published_tokenizers, text):
    spans_agree(published_tokenizers, text)


@given(st.lists(st.tuples(spans, spans), max_size=4), st.randoms(use_true_random=False))
def test_tokens_that_overlap_nothing_in_their_line_get_no_voken(lines, random):
    old, new, expected = [], [], []
    for sources, targets in lines:
        vokens = [random.randrange(6) for _ in sources]  # of V = 5: some sources have none themselves
        old.append(line_of("x" * 18, [0] * len(sources), sources, vokens))  # spans reach 18 at most
        new.append(line_of("x" * 18, [0] * len(targets), targets, [0] * len(targets)))
        expected += [5 if i == NO_MATCH else vokens[i] for i in brute_force(sources, targets)]
    source = shard_of(old)
    made = carry_over(source, shard_of(new), 5)
    assert made.voken_ids.tolist() == expected
    assert made.top_ids is None
    best = np.stack([source.voken_ids, (source.voken_ids + 1) % 6], axis=1).astype(np.uint8)
    made = carry_over(replace(source, top_ids=best, top_scores=best / np.float32(8)), shard_of(new), 5)
    overlaps = [i for sources, targets in lines for i in brute_force(sources, targets)]
    assert [pair[0] for pair in made.top_ids.tolist()] == made.voken_ids.tolist() == expected
    for pair, scores, i in zip(made.top_ids.tolist(), made.top_scores.tolist(), overlaps, strict=True):
        assert pair == ([5, 5] if i == NO_MATCH else [pair[0], (pair[0] + 1) % 6])
        assert scores == ([0, 0] if i == NO_MATCH else [pair[0] / 8, pair[1] / 8])


def test_best_pictures_go_with_the_voken(vokenizer_folder, world_folder, built_tokenizers, tmp_path):
    corpus, vokenizer = Corpus(world_folder / "corpus.txt", max_lines=20), Vokenizer.from_pretrained(vokenizer_folder)
    source = vokenize(corpus, vokenizer, tmp_path / "vokens", shard_size=300, top=3)
    made = revokenize(source, built_tokenizers["byte-level"], tmp_path / "other")
    (ids, scores), (their_ids, their_scores) = made.flat_top(), source.flat_top()
    assert made.top == 3
    assert ids[:, 0].tolist() == made.flat()[1].tolist()
    assert len(ids) == made.num_tokens > source.num_tokens
    found = {(*row, *their) for row, their in zip(their_ids.tolist(), their_scores.tolist(), strict=True)}
    without = ids[:, 0] == IGNORED
    assert found >= {(*row, *best) for row, best in zip(ids[~without].tolist(), scores[~without].tolist(), strict=True)}
    assert (ids[without] == IGNORED).all()
    assert not scores[without].any()


def columns(corpus):
    return [
        (line.text, *(getattr(line, name).tolist() for name in ("token_ids", "starts", "ends", "voken_ids")))
        for line in corpus
    ]


@pytest.fixture(scope="module")
def source(voken_corpus_folder):
    return VokenCorpus(voken_corpus_folder)


def test_to_the_same_tokenizer_nothing_changes(source, tokenizer, tmp_path):
    made = revokenize(source, tokenizer, tmp_path / "same")
    assert columns(made) == columns(source)
    assert made.num_vokens == source.num_vokens
    assert made.artifact.inputs["bank"] == source.artifact.inputs["bank"]
    assert made.artifact.inputs["tokenizer"] == source.artifact.inputs["tokenizer"]


@pytest.mark.parametrize("name", ["wordpiece", "byte-level", "unigram"])
def test_to_another_tokenizer_every_token_takes_its_best_overlap(source, built_tokenizers, tmp_path, name):
    tokenizer = built_tokenizers[name]
    made = revokenize(source, tokenizer, tmp_path / "other")
    assert len(made) == len(source)
    for old, new in zip(source, made, strict=True):
        assert new.text == old.text
        encoded = tokenizer(new.text, add_special_tokens=False, return_offsets_mapping=True)
        assert new.token_ids.tolist() == encoded["input_ids"]
        best = brute_force([*zip(old.starts, old.ends, strict=True)], encoded["offset_mapping"])
        assert new.voken_ids.tolist() == [24 if i == NO_MATCH else old.voken_ids[i] for i in best]
    assert made.artifact.report["no_voken"] == sum((line.voken_ids == 24).sum() for line in made)
    kept = load_tokenizer(made.path / "tokenizer")
    assert kept(old.text, add_special_tokens=False)["input_ids"] == new.token_ids.tolist()


@pytest.fixture
def in_shards(vokenizer_folder, world_folder, tmp_path):
    """The voken corpus in several shards."""
    corpus = Corpus(world_folder / "corpus.txt")
    return vokenize(corpus, Vokenizer.from_pretrained(vokenizer_folder), tmp_path / "in_shards", shard_size=300)


def three_shards(work, tasks):
    """An engine that breaks down."""
    yield from itertools.islice(engines.here(work, tasks), 3)
    raise InterruptedError


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*"))}


def test_shards_are_cut_as_the_sources(in_shards, source, built_tokenizers, tmp_path):
    made = revokenize(in_shards, built_tokenizers["byte-level"], tmp_path / "a")
    assert [num_lines(path) for path in made.shards] == [num_lines(path) for path in in_shards.shards]
    assert len(made.shards) > 5
    assert columns(made) == columns(revokenize(source, built_tokenizers["byte-level"], tmp_path / "b"))


def test_a_stopped_run_resumed_leaves_the_same_folder(in_shards, built_tokenizers, tmp_path):
    tokenizer = built_tokenizers["unigram"]
    revokenize(in_shards, tokenizer, tmp_path / "whole")

    with pytest.raises(InterruptedError):
        revokenize(in_shards, tokenizer, tmp_path / "stopped", engine=three_shards)
    assert len(shards(tmp_path / "stopped")) == 3
    with pytest.raises(ArtifactError, match="another tokenizer"):
        revokenize(in_shards, built_tokenizers["wordpiece"], tmp_path / "stopped", resume=True)
    revokenize(in_shards, tokenizer, tmp_path / "stopped", resume=True)
    assert shards(tmp_path / "stopped") == shards(tmp_path / "whole")


def test_other_vokens_of_the_same_text_are_not_mixed_in_on_resume(in_shards, built_tokenizers, tmp_path):
    """Random vokens have the text, tokens and bank of those they control for, and are other vokens all the same."""
    tokenizer = built_tokenizers["unigram"]
    own = load_tokenizer(in_shards.path / "tokenizer")
    others = random_vokens(in_shards, own, tmp_path / "random", seed=0)

    with pytest.raises(InterruptedError):
        revokenize(in_shards, tokenizer, tmp_path / "stopped", engine=three_shards)
    with pytest.raises(ArtifactError, match="cannot be resumed"):
        revokenize(others, tokenizer, tmp_path / "stopped", resume=True)


def test_a_slow_tokenizer_is_refused(source, tmp_path):
    from transformers import ByT5Tokenizer

    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        revokenize(source, ByT5Tokenizer(), tmp_path / "out")


@pytest.mark.parametrize("make", [revokenize, partial(random_vokens, seed=0)], ids=["revokenize", "random"])
def test_a_corpus_without_vokens_has_none_to_carry_over(world_folder, tokenizer, tmp_path, make):
    tokens = tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path / "tokens")
    with pytest.raises(ConfigError, match="only tokenized"):
        make(tokens, tokenizer, tmp_path / "out")
