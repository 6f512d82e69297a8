from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightread.artifacts import Artifact, digest_file
from sightread.contracts import IGNORED
from sightread.data.voken_corpus import (
    KIND,
    Line,
    VokenCorpus,
    num_lines,
    read_shard,
    shard_bytes,
    shard_path,
    voken_dtype,
)
from sightread.errors import ArtifactError, ConfigError
from voken_shards import shard_of

EDGES = [0, 1, 255, 256, 65535, 65536, 2**31 - 1]


@st.composite
def lines_of(draw, num_vokens):
    """A line with 0 to 6 tokens and vokens up to and including V, which means "none"."""
    size = draw(st.integers(0, 6))

    def column(high, dtype):
        return np.array(draw(st.lists(st.integers(0, high), min_size=size, max_size=size)), dtype)

    text = draw(st.text(max_size=8))
    return Line(text, *(column(2**31 - 1, np.int32) for _ in range(3)), column(num_vokens, np.int64))


def line(text, token_ids, voken_ids):
    at = np.arange(len(token_ids), dtype=np.int32)
    return Line(text, np.array(token_ids, np.int32), at, at + 1, np.array(voken_ids, np.int64))


SHARDS = [[line("a b", [5, 6], [0, 3]), line("", [], [])], [line("c", [7], [2])]]


def write_shard(folder, index, lines, num_vokens, **top):
    shard_path(folder, index).write_bytes(shard_bytes(replace(shard_of(lines), **top), num_vokens))


def store(folder, shards, num_vokens, tops=None):
    """A voken corpus with these shards, and of each its best pictures, two a token."""
    inputs, config = {"corpus": "c0", "tokenizer": "t0"}, {"num_vokens": num_vokens} | ({"top": 2} if tops else {})
    artifact = Artifact.begin(folder, KIND, config=config, inputs=inputs)
    for index, lines in enumerate(shards):
        write_shard(artifact.path, index, lines, num_vokens, **(tops[index] if tops else {}))
    tokens = [len(line.token_ids) for lines in shards for line in lines]
    digests = [digest_file(shard_path(folder, index)) for index in range(len(shards))]
    report = {"shards": len(shards), "lines": len(tokens), "tokens": sum(tokens), "digests": digests}
    artifact.finish(report)
    return folder


@pytest.fixture
def folder(tmp_path):
    return store(tmp_path / "vokens", SHARDS, num_vokens=3)


def same(one, two):
    names = ("token_ids", "starts", "ends", "voken_ids")
    return one.text == two.text and all(np.array_equal(getattr(one, n), getattr(two, n)) for n in names)


@settings(max_examples=40)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    num_vokens = data.draw(st.sampled_from(EDGES))
    shards = data.draw(st.lists(st.lists(lines_of(num_vokens), min_size=1, max_size=4), max_size=3))
    corpus = VokenCorpus(store(tmp_path_factory.mktemp("vokens") / "x", shards, num_vokens))
    lines = [line for shard in shards for line in shard]
    assert all(same(one, two) for one, two in zip(corpus, lines, strict=True))
    assert all(read.voken_ids.dtype == np.int64 and read.token_ids.dtype == np.int32 for read in corpus)
    tokens, vokens, begins = corpus.flat()
    assert tokens.dtype == vokens.dtype == np.int32
    assert begins.tolist() == [0, *np.cumsum([len(line.token_ids) for line in lines], dtype=int)]
    assert tokens.tolist() == [id_ for line in lines for id_ in line.token_ids]
    assert vokens.tolist() == [IGNORED if v == num_vokens else v for line in lines for v in line.voken_ids]
    assert (len(corpus), corpus.num_tokens, corpus.num_vokens) == (len(lines), len(tokens), num_vokens)
    assert [num_lines(path) for path in corpus.shards] == [len(shard) for shard in shards]
    assert [len(read_shard(path)) for path in corpus.shards] == [len(shard) for shard in shards]


def test_no_voken_is_ignored_and_zero_is_not(folder):
    assert VokenCorpus(folder).flat()[1].tolist() == [0, IGNORED, 2]


def test_best_pictures_are_kept_beside_the_voken(tmp_path, folder):
    ids, scores = [[0, 2], [3, 3], [2, 1]], [[0.5, 0.25], [0, 0], [1, -0.5]]
    parts = [slice(0, 2), slice(2, 3), slice(3, 3)]
    tops = [{"top_ids": np.array(ids)[part], "top_scores": np.array(scores, np.float32)[part]} for part in parts]
    corpus = VokenCorpus(store(tmp_path / "top", [*SHARDS, [line("", [], [])]], 3, tops))
    plain = VokenCorpus(folder)
    assert (corpus.top, plain.top) == (2, 0)
    assert [part.tolist() for part in corpus.flat_top()] == [[[0, 2], [IGNORED] * 2, [2, 1]], scores]
    assert [part.dtype for part in corpus.flat_top()] == [np.int32, np.float32]
    assert [part.tolist() for part in corpus.flat()[:2]] == [part.tolist() for part in plain.flat()[:2]]
    for path, top in zip(corpus.shards, tops, strict=True):
        read = read_shard(path, 2)
        assert read_shard(path).top_ids is None
        assert all(np.array_equal(getattr(read, name), top[name]) for name in top)
    assert str(pq.read_schema(corpus.shards[0]).field("top_ids").type.value_type) == "uint8"
    assert pq.read_schema(plain.shards[0]).names == ["text", "token_ids", "starts", "ends", "voken_ids"]
    with pytest.raises(ConfigError, match=r"keeps one voken a token.*--top 2"):
        plain.flat_top()


def test_without_a_bank_no_token_has_a_voken(tmp_path):
    lines = [line("a b", [5, 6], [0, 0])]
    assert VokenCorpus(store(tmp_path / "x", [lines], num_vokens=0)).flat()[1].tolist() == [IGNORED, IGNORED]


@pytest.mark.parametrize(
    ("num_vokens", "bytes_each"), [(0, 1), (255, 1), (256, 2), (65535, 2), (65536, 4), (2**32 - 1, 4)]
)
def test_vokens_take_the_fewest_bytes_that_hold_v(tmp_path, num_vokens, bytes_each):
    assert voken_dtype(num_vokens) == np.dtype(f"u{bytes_each}")
    write_shard(tmp_path, 0, [line("a", [5], [num_vokens])], num_vokens)
    stored = pq.read_schema(shard_path(tmp_path, 0)).field("voken_ids").type.value_type
    assert str(stored) == f"uint{8 * bytes_each}"
    assert read_shard(shard_path(tmp_path, 0)).voken_ids.tolist() == [num_vokens]


@pytest.mark.parametrize(
    "read", [list, VokenCorpus.flat, lambda corpus: [*map(num_lines, corpus.shards)]], ids=["lines", "flat", "number"]
)
@pytest.mark.parametrize("tear", [lambda data: data[: len(data) // 2], lambda data: b""], ids=["half", "empty"])
def test_a_torn_shard_is_an_error_that_names_it(folder, read, tear):
    path = shard_path(folder, 1)
    path.write_bytes(tear(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"shard-00001\.parquet cannot be read"):
        read(VokenCorpus(folder))


@pytest.mark.parametrize("index", [0, 1])
def test_a_missing_shard_is_an_error(folder, index):
    shard_path(folder, index).unlink()
    with pytest.raises(ArtifactError, match="has 1 shards, its manifest says 2"):
        VokenCorpus(folder)


def test_a_shard_too_many_is_an_error(folder):
    write_shard(folder, 2, SHARDS[0], num_vokens=3)
    with pytest.raises(ArtifactError, match="has 3 shards, its manifest says 2"):
        VokenCorpus(folder)


def test_datasets_loads_the_shards_as_they_are(folder, tmp_path):
    import datasets

    files = [str(path) for path in VokenCorpus(folder).shards]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["text", "token_ids", "starts", "ends", "voken_ids"]
    assert loaded["text"][:] == ["a b", "", "c"]
    assert loaded["token_ids"][:] == [[5, 6], [], [7]]
    assert loaded["voken_ids"][:] == [[0, 3], [], [2]]
    assert loaded["ends"][:] == [[1, 2], [], [1]]


def test_the_digest_is_of_tokens_vokens_and_tokenizer(folder, tmp_path):
    expected = VokenCorpus(folder).digest
    assert VokenCorpus(store(tmp_path / "again", SHARDS, num_vokens=3)).digest == expected
    others = [
        store(tmp_path / "a", SHARDS[:1], 3),
        store(tmp_path / "b", SHARDS, 4),
        store(tmp_path / "c", SHARDS[::-1], 3),
    ]
    assert len({expected, *(VokenCorpus(other).digest for other in others)}) == 4
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"t0"', '"t1"'))
    assert VokenCorpus(folder).digest != expected
    manifest.write_text(manifest.read_text().replace('"digests"', '"seconds"'))
    with pytest.raises(ArtifactError, match="made by an older version"):
        VokenCorpus(folder).digest  # noqa: B018


def test_it_knows_its_tokenizer(folder):
    corpus = VokenCorpus(folder)
    corpus.check_tokenizer("t0")
    with pytest.raises(ArtifactError, match=r"the tokenizer does not fit.*vokens/tokenizer.*revokenize"):
        corpus.check_tokenizer("t1")
