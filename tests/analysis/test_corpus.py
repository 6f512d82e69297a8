import gzip
import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from sightread.analysis import counting
from sightread.analysis.corpora import TYPES, CorporaConfig, analyze_corpora
from sightread.analysis.corpus import divergences, jensen_shannon, statistics_of
from sightread.analysis.counting import Texts, count_all
from sightread.analysis.grounded_types import grounded_types, grounding_ratio, read_types
from sightread.analysis.ngrams import count, sentences_of, subwords
from sightread.artifacts import MANIFEST
from sightread.errors import ConfigError, DataError

PIECES = [
    "the",
    "The",
    "dog",
    "dog's",
    "Mr.",
    "end.",
    "Why?",
    "3.5",
    "don’t",
    "<unk>",
    "(",
    "Élan",
    "_",
    "so,",
    "\u00a0x",
]
lines = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(" ".join), max_size=12)


def in_dictionaries(counts):
    """Counts of types, of pairs of types, and of sentences."""
    names = counts.tokens
    singles = {names[row]: int(n) for row, n in enumerate(counts.unigrams) if n}
    firsts, seconds = (counts.pairs >> 32).tolist(), (counts.pairs & 0xFFFFFFFF).tolist()
    pairs = zip(firsts, seconds, counts.bigrams.tolist(), strict=True)
    return singles, {(names[first], names[second]): n for first, second, n in pairs}, counts.sentences


def by_hand(lines):
    """Character by character."""
    singles, pairs, sentences = Counter(), Counter(), 0
    for line in lines:
        for sentence in sentences_of(line):
            tokens, word = [], ""
            text = sentence.lower().replace("’", "'").replace("<unk>", "\0") + " "
            for here, after in pairwise(text):
                inside = here.isalnum() or (here == "'" and word and after.isalnum())
                word += here if inside else ""
                if word and (not inside or not (after.isalnum() or after == "'")):
                    tokens.append(word)
                    word = ""
                if not inside and not here.isspace():
                    tokens.append(here)
            singles.update(tokens)
            pairs.update(pairwise(tokens))
            sentences += bool(tokens)
    rename = {"\0": "<unk>"}
    named = {tuple(rename.get(token, token) for token in pair): n for pair, n in pairs.items()}
    return {rename.get(token, token): n for token, n in singles.items()}, named, sentences


@given(lines)
def test_counts_are_those_by_hand(lines):
    assert in_dictionaries(count(lines)) == by_hand(lines)


@given(lines, st.integers(1, 60))
def test_chunks_do_not_matter(lines, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "CHUNK", size)
        chunked = count_all(lines, {"known": 0})
    assert in_dictionaries(chunked) == in_dictionaries(count(lines))
    assert (np.diff(chunked.pairs) > 0).all()


@settings(max_examples=4)
@given(lines)
def test_many_processes_count_as_one_does(lines):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "CHUNK", 20)
        one, many = (count_all(lines, {}, workers=workers) for workers in (1, 3))
    assert one.tokens == many.tokens
    for name in ("unigrams", "pairs", "bigrams"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It rains. The dog sleeps! Why? (Nobody knows.) \"Ah.\" So it is.", 6),
        ("Mr. Smith met J. R. Smith in St. Paul, vs. nobody.", 1),
        ("H. americanus is a lobster . It is blue . 3.5 m long.", 2),
        ("the dog barks. then it sleeps.", 1),
        ("", 1),
    ],
)  # fmt: skip
def test_a_sentence_ends_before_a_capital(text, count):
    assert len(sentences_of(text)) == count


@pytest.mark.parametrize("name", ["wordpiece", "byte-level", "unigram"])
def test_tokens_of_a_tokenizer(name, built_tokenizers):
    tokenizer, text = built_tokenizers[name], ["The red box is near. Anna's café", "a lamp"]
    tokens = [tokenizer.tokenize(sentence) for sentence in ("The red box is near.", "Anna's café", "a lamp")]
    singles, pairs, sentences = in_dictionaries(count(text, subwords(tokenizer)))
    assert singles == Counter(token for sentence in tokens for token in sentence)
    assert pairs == Counter(pair for sentence in tokens for pair in pairwise(sentence))
    assert sentences == 3


counted = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30)


@given(counted)
def test_the_divergence_is_scipys(pairs):
    p, q = (np.array([pair[side] for pair in pairs]) + (pairs[0][side] == 0) for side in (0, 1))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12)


def test_divergences_of_corpora():
    row_of = {}
    text, reference = ["a b c. a b", "x"], ["b a c", "d a b", "y y y"]
    one, other = (count_all(lines, row_of) for lines in (text, reference))
    for found, k in zip(divergences(one, other), (0, 1), strict=True):
        p, q = in_dictionaries(one)[k], in_dictionaries(other)[k]
        keys = sorted({*p, *q})
        expected = jensenshannon([p.get(key, 0) for key in keys], [q.get(key, 0) for key in keys]) ** 2
        assert found == pytest.approx(expected)
    assert divergences(one, one) == (0, 0)
    assert jensen_shannon(np.array([3, 0]), np.array([0, 1])) == pytest.approx(math.log(2))


def test_statistics_of_a_corpus():
    counts = count(["a red dog. " * 7, "A blue dog ."])
    row = statistics_of(counts, counts, {"dog", "red", "cat"})
    assert (row.tokens, row.sentences, row.vocabulary) == (32, 2, 4)
    assert row.tokens_per_sentence == 16
    assert row.grounding_ratio == pytest.approx(15 / 32)
    assert statistics_of(counts, counts).grounding_ratio is None


def test_grounded_types_are_frequent_at_their_rate_and_no_stop_words(monkeypatch):
    captions = count(["the dog, the dog.", "the dog, a cat", "Fire"] * 10)
    assert grounded_types(captions) == {"dog": 30, "cat": 10, "fire": 10}
    assert grounded_types(captions, marks=True) == {"dog": 30, ",": 20, "cat": 10, ".": 10, "fire": 10}
    assert grounded_types(captions, stop={"dog", "fire"}) == {"the": 30, "a": 10, "cat": 10}
    monkeypatch.setattr("sightread.analysis.grounded_types.COCO", 300)  # ten times as many: more than 10 it is
    assert grounded_types(captions) == {"dog": 30}
    spaced = count(["the dog"] * 2, lambda _: (["\n", "Ġthe", "▁Dog"], np.array([0, 1, 2, 0])))
    assert grounded_types(spaced) == {"▁Dog": 1}
    monkeypatch.setattr("sightread.analysis.grounded_types.COCO", 3)  # fewer: still a hundred
    assert not grounded_types(captions)
    assert grounding_ratio(captions, {"dog"}) == pytest.approx(30 / 120)


@pytest.fixture
def places(tmp_path):
    """Text in two files, and captions as COCO's and as Flickr's."""
    (tmp_path / "one.txt").write_text("A dog sleeps. It snores.\n\nThe end.\n")
    with gzip.open(tmp_path / "two.txt.gz", "wt") as file:
        file.write("Nobody came.\n")
    captions = [{"id": i, "image_id": 1, "caption": c} for i, c in enumerate(["a dog sleeps", "a big dog"])]
    (tmp_path / "coco.json").write_text(json.dumps({"images": [], "annotations": captions}))
    (tmp_path / "flickr.tsv").write_text("x.jpg#0\tThe dog runs.\nx.jpg#1\tA dog.\nnothing\n")
    return tmp_path


def test_text_and_captions_are_read(places):
    texts = Texts([str(places / name) for name in ("one.txt", "two.txt.gz", "coco.json", "flickr.tsv")])
    said = [
        "A dog sleeps. It snores.",
        "The end.",
        "Nobody came.",
        "a dog sleeps",
        "a big dog",
        "The dog runs.",
        "A dog.",
    ]
    assert list(texts) == said
    assert texts.skipped.count == 1
    before = texts.digest
    (places / "flickr.tsv").write_text("x.jpg#0\tA cat.\n")
    assert texts.digest != before
    with pytest.raises(DataError, match="no captions file"):
        Texts([str(places / "none.tsv")])


def test_a_table_is_written_and_its_types_can_be_read(places):
    corpora = {"text": [str(places / "one.txt"), str(places / "two.txt.gz")], "coco": [str(places / "coco.json")]}
    rows = analyze_corpora(CorporaConfig(reference="text", captions="coco"), corpora, places / "out")
    assert (rows["text"].tokens, rows["text"].sentences, rows["coco"].tokens) == (13, 4, 6)
    assert rows["text"].grounding_ratio == pytest.approx(2 / 13)
    types = read_types(places / "out" / TYPES)
    assert types == {"dog": 2, "sleeps": 1, "big": 1}
    table = (places / "out" / "corpora.md").read_text()
    assert "| text | 13 | 4 | 0 | 3.2 | 0.00 | 0.00 | 15.4 % |" in table
    again = CorporaConfig(reference="coco", types=str(places / "out" / TYPES))
    found = analyze_corpora(again, corpora, places / "again")
    assert found["text"].grounding_ratio == rows["text"].grounding_ratio
    assert found["text"].jsd_2 == pytest.approx(rows["coco"].jsd_2)
    assert json.loads((places / "again" / MANIFEST).read_text())["report"]["corpora"]["coco"]["jsd_1"] == 0


def test_what_cannot_be_compared_is_told_before_anything_is_written(places):
    corpora = {"text": [str(places / "one.txt")]}
    for config, error, told in (
        (CorporaConfig(reference="tex"), ConfigError, "did you mean 'text'"),
        (CorporaConfig(reference="text", captions="text", types="x"), ConfigError, "not both"),
        (CorporaConfig(reference="text", types=str(places / "one.txt")), DataError, "one.txt:3 is no type"),
    ):
        with pytest.raises(error, match=told):
            analyze_corpora(config, corpora, places / "out")
    assert not (places / "out").exists()
    (places / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="blank has no tokens"):
        analyze_corpora(CorporaConfig(reference="blank"), {"blank": [str(places / "blank.txt")]}, places / "out")
