import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from byte_clip import byte_tokenizer
from sightread.contracts import IGNORED
from sightread.data.blocks import TokenBlocks
from sightread.data.clip_rows import ClipRows, ClipSide
from sightread.data.corpora import Corpus
from sightread.errors import ConfigError, DataError
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize

LENGTH = 12
CLIP = byte_tokenizer(LENGTH)
ROWS = ClipRows(CLIP, LENGTH)
SPECIAL = [CLIP.bos_token_id, CLIP.eos_token_id]


def inside(rows):
    """What rows hold between their special tokens, which are where they belong."""
    assert all([row[0], row[-1]] == SPECIAL and len(row) <= LENGTH for row in rows)
    return [token for row in rows for token in row[1:-1]]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_rows_lose_no_token(text):
    rows = ROWS.of([text], most=999)
    words = inside(rows.ids)
    assert rows.cut == 0
    assert words == CLIP(text, add_special_tokens=False)["input_ids"]
    said = CLIP.backend_tokenizer.decode(words)  # every byte is a token
    plain = unicodedata.normalize("NFC", text).lower()
    assert "".join(said.split()).casefold() == "".join(plain.split()).casefold() or "\ufffd" in said
    few = ROWS.of([text], most=2)
    assert inside(few.ids) == words[: 2 * (LENGTH - 2)]
    assert few.cut == len(words) - len(inside(few.ids))
    assert all(len(row) == LENGTH for row in rows.ids[:-1])


def test_sentences_never_share_a_row_and_an_empty_one_is_a_row():
    rows = ROWS.of(["ab", "", "abcdefghijklm"], most=1)
    assert [inside([row]) for row in rows.ids] == [
        CLIP(text, add_special_tokens=False)["input_ids"][:10] for text in ("ab", "", "abcdefghijklm")
    ]
    assert rows.cut == 3


def test_batches_mask_padding_and_special_tokens():
    batch = ROWS.collate([ROWS.of(["abc", "d"], 2), ROWS.of([""], 2)])
    assert batch["clip_ids"].shape == (2, 2, 5)
    assert batch["clip_attention_mask"].tolist() == [[[1] * 5, [1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0], [0] * 5]]
    assert batch["clip_words"].tolist() == [[[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]], [[0] * 5, [0] * 5]]
    assert (batch["clip_ids"][batch["clip_attention_mask"] == 0] == CLIP.pad_token_id).all()


def test_a_special_token_that_a_text_spells_is_text():
    spelled = f"a {CLIP.eos_token} b {CLIP.bos_token}"
    (row,) = ClipRows(CLIP, 60).of([spelled], 1).ids
    assert not np.isin(row[1:-1], SPECIAL).any()
    assert CLIP.decode(row[1:-1]).replace(" ", "") == spelled.replace(" ", "")


def test_rows_without_room_are_refused():
    with pytest.raises(ConfigError, match="rows of 2 tokens leave no room"):
        ClipRows(CLIP, 2)


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


def drawn(corpus, tokenizer, **settings):
    """All blocks four times, and what they are without CLIP."""
    made = [TokenBlocks(corpus, tokenizer, max_length=16, packed=True) for _ in range(2)]
    made[0].beside = ClipSide(ROWS, made[0], tokenizer, most=20, **settings)
    order = [(epoch, i) for epoch in range(4) for i in range(len(made[0]))]
    return [[blocks.example(i, keyed_rng(0, epoch, i)) for epoch, i in order] for blocks in made]


def said(tokens):
    """The letters of CLIP's tokens; a full stop may stand apart or not."""
    return "".join(CLIP.decode(tokens).split())


@pytest.mark.parametrize("reads", ["whole", "masked"])
def test_what_clip_reads_beside_a_block(corpus, tokenizer, reads):
    examples, control = drawn(corpus, tokenizer, reads=reads)
    for example, alone in zip(examples, control, strict=True):
        assert all(np.array_equal(example[name], alone[name]) for name in alone)
        hidden = example["lm_labels"] != IGNORED
        whole = np.where(hidden, example["lm_labels"], example["input_ids"])
        shown = whole if reads == "whole" else whole[~hidden]  # every word is one token
        text = " ".join(tokenizer.convert_ids_to_tokens(shown, skip_special_tokens=True))
        side = example["beside"]
        told = inside(side["rows"].ids)
        same = said(told) == said(CLIP(text, add_special_tokens=False)["input_ids"])
        assert (
            same
            if side["own"]
            else said(told) != said(CLIP(tokenizer.decode(whole, skip_special_tokens=True))["input_ids"][1:-1])
        )
        for row, labels in zip(side["rows"].ids, side["labels"], strict=True):
            labelled = labels != IGNORED
            assert (labels[labelled] == row[labelled]).all()
            assert not labelled[[0, -1]].any()
            assert side["own"] or not labelled.any()
    own = [example["beside"] for example in examples if example["beside"]["own"]]
    assert 0.35 < len(own) / len(examples) < 0.65
    shares = [np.mean([token != IGNORED for labels in side["labels"] for token in labels[1:-1]]) for side in own]
    assert np.mean(shares) == pytest.approx(0.15, abs=0.03)
    others = [sum(map(len, example["beside"]["rows"].ids)) for example in examples if not example["beside"]["own"]]
    lengths = [sum(map(len, side["rows"].ids)) for side in own]  # nothing but the words says which is which
    assert np.mean(others) == pytest.approx(np.mean(lengths), rel=0.1)


def test_without_matching_every_block_is_its_own_and_batches_are_tensors(corpus, tokenizer):
    examples, _ = drawn(corpus, tokenizer, matches=False)
    assert all(example["beside"]["own"] for example in examples)
    side = ClipSide(ROWS, TokenBlocks(corpus, tokenizer, max_length=16), tokenizer, most=2)
    batch = side.collate([example["beside"] for example in examples[:3]])
    assert batch["matched"].tolist() == [1] * 3
    assert batch["clip_labels"].shape == batch["clip_ids"].shape
    assert (batch["clip_labels"][batch["clip_words"] == 0] == IGNORED).all()
    assert batch["clip_cut"].dtype == torch.int64


def test_what_the_tokenizer_does_not_know_is_counted(tokenizer, tmp_path):
    (tmp_path / "corpus.txt").write_text("the \N{SNOWMAN} is red\nthe box")
    corpus = tokenize(Corpus(tmp_path / "corpus.txt"), tokenizer, tmp_path / "tokens")
    examples, _ = drawn(corpus, tokenizer, matches=False, reads="whole")
    assert {example["beside"]["rows"].cut for example in examples} == {1}


def test_a_corpus_of_one_sentence_cannot_be_mismatched(tokenizer, tmp_path):
    (tmp_path / "corpus.txt").write_text("red " * 14 + "\n" + "red " * 14)
    corpus = tokenize(Corpus(tmp_path / "corpus.txt"), tokenizer, tmp_path / "tokens")
    with pytest.raises(DataError, match="all blocks are alike"):
        drawn(corpus, tokenizer)
