from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightread.contracts import IGNORED
from sightread.data.blocks import TokenBlocks, special_tokens_around, stands_first, text_of
from sightread.data.corpora import Corpus
from sightread.encoders.text import build_byte_tokenizer, build_word_tokenizer
from sightread.errors import ConfigError, DataError
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize, vokenize, write_corpus
from sightread.vokenization.work import Work, tokenize_lines
from sightread.vokenizer import Vokenizer

WORDS = ["the", "cat", "sat", "on", "a", "mat"]
NO_VOKEN_EVERY = 7  # the voken of the t-th token of a corpus is t, but each seventh token has none


@pytest.fixture(scope="module")
def words():
    return build_word_tokenizer(WORDS)


class Numbered(Work):
    """Work: lines -> their tokens, with vokens that number them."""

    num_vokens = 1000

    def __init__(self, tokenizer):
        self.tokenizer, self.next = tokenizer, 0

    def __call__(self, index, task, clock):
        shard = tokenize_lines(self.tokenizer, task)
        rows = np.arange(self.next, self.next + len(shard.token_ids))
        self.next += len(rows)
        return replace(shard, voken_ids=np.where(rows % NO_VOKEN_EVERY == 0, 1000, rows))


def vokened(lines, tokenizer, out):
    """A voken corpus in small shards, whose vokens number its tokens."""
    path = out.with_suffix(".txt")
    path.write_text("\n".join(lines))
    return write_corpus(Numbered(tokenizer), Corpus(path), tokenizer, out, shard_size=20)


def examples(blocks, seed=0):
    return [blocks.example(i, keyed_rng(seed, i)) for i in range(len(blocks))]


texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=5)


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=25)
@given(lines=texts, room=st.integers(1, 9))
def test_blocks_tile_the_corpus(tmp_path_factory, words, packed, lines, room):
    corpus = vokened(lines, words, tmp_path_factory.mktemp("blocks") / "x")
    rows = examples(TokenBlocks(corpus, words, max_length=room + 2, packed=packed, probability=0.5))
    for row in rows:
        assert len({len(column) for column in row.values()}) == 1
        assert row["input_ids"][[0, -1]].tolist() == [words.cls_token_id, words.sep_token_id]
        assert row["lm_labels"][[0, -1]].tolist() == row["voken_labels"][[0, -1]].tolist() == [IGNORED, IGNORED]

    read = [np.where(row["lm_labels"] == IGNORED, row["input_ids"], row["lm_labels"])[1:-1].tolist() for row in rows]
    lengths = [len(line.split()) for line in lines]
    if packed:
        lengths = [sum(lengths)]
    assert [len(block) for block in read] == [
        size for length in lengths for size in [room] * (length // room) + [length % room] * (length % room > 0)
    ]
    tokens = [words.vocab[word] for line in lines for word in line.split()]
    assert [id_ for block in read for id_ in block] == tokens

    numbers = np.arange(len(tokens))
    vokens = np.concatenate([row["voken_labels"][1:-1] for row in rows])
    assert vokens.tolist() == np.where(numbers % NO_VOKEN_EVERY == 0, IGNORED, numbers).tolist()


LINES = [" ".join(WORDS[i % 6] for i in range(n)) for n in (40, 1, 25, 13)]


@pytest.mark.parametrize("packed", [False, True])
def test_the_masks_know_nothing_of_the_vokens(tmp_path, words, packed):
    (tmp_path / "corpus.txt").write_text("\n".join(LINES))
    plain = tokenize(Corpus(tmp_path / "corpus.txt"), words, tmp_path / "plain")
    corpora = plain, vokened(LINES, words, tmp_path / "vokens")
    control, grounded = (examples(TokenBlocks(c, words, max_length=10, packed=packed)) for c in corpora)
    for one, two in zip(control, grounded, strict=True):
        assert np.array_equal(one["input_ids"], two["input_ids"])
        assert np.array_equal(one["lm_labels"], two["lm_labels"])
        assert (one["voken_labels"] == IGNORED).all()
    assert any((row["voken_labels"] != IGNORED).any() for row in grounded)


@pytest.mark.parametrize("packed", [False, True])
def test_a_decoder_foretells_every_token_from_those_before(tmp_path, words, packed):
    corpus, unmasked = vokened(LINES, words, tmp_path / "x"), build_word_tokenizer(WORDS)
    unmasked.mask_token = None  # which it does not need
    masked, causal = (
        examples(TokenBlocks(corpus, tokenizer, max_length=10, packed=packed, causal=tokenizer is unmasked))
        for tokenizer in (words, unmasked)
    )
    for read, told in zip(masked, causal, strict=True):
        whole = np.where(read["lm_labels"] == IGNORED, read["input_ids"], read["lm_labels"]).tolist()
        assert told["input_ids"].tolist() == whole
        assert told["lm_labels"].tolist() == [*whole[1:], IGNORED]
        assert told["voken_labels"].tolist() == read["voken_labels"].tolist()
        assert told.keys() == read.keys()


@pytest.mark.parametrize("packed", [False, True])
def test_soft_blocks_hold_the_best_pictures_of_each_token(tmp_path, world_folder, vokenizer_folder, packed):
    vokenizer = Vokenizer.from_pretrained(vokenizer_folder)
    corpus = vokenize(Corpus(world_folder / "corpus.txt", max_lines=9), vokenizer, tmp_path / "top", top=3)
    options = {"max_length": 12, "packed": packed}
    soft, plain = (TokenBlocks(corpus, vokenizer.tokenizer, **options, soft=soft) for soft in (True, False))
    sentences = list(corpus)
    best = [token for tokens in vokenizer([line.text for line in sentences], k=3) for token in tokens]
    rows, known = examples(soft), examples(plain)
    for row, other in zip(rows, known, strict=True):
        assert all(np.array_equal(row[name], other[name]) for name in other)
        assert len(row["top_ids"]) == len(row["top_scores"]) == len(row["input_ids"])
        assert (row["top_ids"][[0, -1]] == IGNORED).all()
    top_ids, top_scores = (np.concatenate([row[name][1:-1] for row in rows]) for name in ("top_ids", "top_scores"))
    assert top_ids.tolist() == [list(token.rows) for token in best]
    np.testing.assert_allclose(top_scores, [token.scores for token in best], atol=1e-5)
    batch = soft.collate(rows[-2:])
    lengths = [len(row["input_ids"]) for row in rows[-2:]]
    assert (batch["top_ids"].dtype, batch["top_scores"].dtype) == (torch.int64, torch.float32)
    assert batch["top_ids"].shape == batch["top_scores"].shape == (2, max(lengths), 3)
    for i, length in enumerate(lengths):
        assert batch["top_ids"][i, :length].tolist() == rows[i - 2]["top_ids"].tolist()
        assert (batch["top_ids"][i, length:] == IGNORED).all()


class Drawn:
    """Numbers beside each block."""

    def draw(self, rng, block):
        assert {"input_ids", "lm_labels"} <= set(block)
        return rng.integers(1000, size=2)

    def collate(self, drawn):
        return {"drawn": torch.from_numpy(np.concatenate(drawn))}


@pytest.mark.parametrize("causal", [False, True])
def test_what_goes_beside_is_drawn_after_the_masks(tmp_path, words, causal):
    corpus = vokened(LINES, words, tmp_path / "x")
    options = {"max_length": 10, "probability": 0.5, "causal": causal}
    alone, both = (TokenBlocks(corpus, words, **options, beside=beside) for beside in (None, Drawn()))
    rows, beside = examples(alone), examples(both)
    for row, other in zip(rows, beside, strict=True):
        assert all(np.array_equal(row[name], other[name]) for name in row)
    batch, expected = both.collate(beside), alone.collate(rows)
    assert set(batch) == {*expected, "drawn"}
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert batch["drawn"].tolist() == [number for row in beside for number in row["beside"]]
    assert np.array_equal(both.example(0, keyed_rng(7))["beside"], both.example(0, keyed_rng(7))["beside"])
    assert len({tuple(row["beside"]) for row in beside}) == len(beside)


def test_an_example_follows_from_its_index_and_key(tmp_path, words):
    blocks = TokenBlocks(vokened(LINES, words, tmp_path / "x"), words, max_length=42, probability=0.5)
    one, again, other = (blocks.example(0, keyed_rng(seed, 0))["lm_labels"] for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    hidden = (one[1:-1] != IGNORED).mean()
    assert 0.25 < hidden < 0.75  # of 40 tokens, at a probability of a half


def test_collate_pads_on_the_right(tmp_path, words):
    blocks = TokenBlocks(vokened(LINES[1:], words, tmp_path / "x"), words, max_length=32)
    blocks.pad_id = 99  # zero would hide a mix-up with the attention mask
    rows = examples(blocks)
    batch = blocks.collate(rows)
    lengths = [1 + 2, 25 + 2, 13 + 2]
    assert set(batch) == {"input_ids", "attention_mask", "lm_labels", "voken_labels"}
    assert all(tensor.dtype == torch.int64 and tensor.shape == (3, 27) for tensor in batch.values())
    fills = {"input_ids": 99, "attention_mask": 0, "lm_labels": IGNORED, "voken_labels": IGNORED}
    for i, length in enumerate(lengths):
        assert batch["attention_mask"][i, :length].tolist() == [1] * length
        assert all(batch[name][i, :length].tolist() == column.tolist() for name, column in rows[i].items())
        assert all((batch[name][i, length:] == fill).all() for name, fill in fills.items())


def test_special_tokens_that_a_text_spells_are_not_foretold(tmp_path):
    odd = odd_tokenizer()
    blocks = TokenBlocks(vokened(["the [SEP] the"], odd, tmp_path / "x"), odd, max_length=16, probability=1.0)
    (example,) = examples(blocks)
    assert example["lm_labels"].tolist() == [IGNORED, 5, IGNORED, 5, IGNORED]
    assert example["input_ids"][2] == 2


def odd_tokenizer():
    from transformers import BertTokenizer

    return BertTokenizer(vocab={"[UNK]": 0, "[MASK]": 1, "[SEP]": 2, "[CLS]": 3, "[PAD]": 4, "the": 5})


def test_padding_and_masks_take_the_ids_of_the_tokenizer(tmp_path):
    odd = odd_tokenizer()
    blocks = TokenBlocks(vokened(["the " * 9, "the"], odd, tmp_path / "x"), odd, max_length=16, probability=1.0)
    batch = blocks.collate(examples(blocks))
    assert batch["input_ids"][:, 0].tolist() == [3, 3]
    assert batch["input_ids"][1, 2:].tolist() == [2] + [4] * 8
    assert (batch["input_ids"][0] == 1).sum() > 4


def test_what_cannot_be_cut_into_blocks_is_refused(tmp_path, words):
    corpus = vokened(LINES, words, tmp_path / "x")
    assert len(TokenBlocks(corpus, words, max_length=3)) == 40 + 1 + 25 + 13
    with pytest.raises(ConfigError, match="max_length=2 leaves no room"):
        TokenBlocks(corpus, words, max_length=2)
    empty = vokened(["\u200b"], words, tmp_path / "empty")  # a line, but nothing to read in it
    with pytest.raises(DataError, match=f"{empty.path} holds no tokens"):
        TokenBlocks(empty, words, max_length=8)
    unmasked = build_word_tokenizer(WORDS)
    unmasked.mask_token = None
    with pytest.raises(ConfigError, match="no mask token"):
        TokenBlocks(corpus, unmasked, max_length=8)


@pytest.mark.parametrize("visible", [None, [True] * 4, [True, False, True, True], [True, True, False, True]])
def test_text_of_tokens_keeps_pieces_around_what_is_hidden_apart(visible):
    tokenizer = build_word_tokenizer(["he", "is", "go", "in"])
    ids = np.array(tokenizer.convert_tokens_to_ids(["he", "i", "##s", "go"]))
    said = {None: "he is go", (True, False, True, True): "he s go", (True, True, False, True): "he i go"}
    said[(True,) * 4] = said[None]
    assert text_of(tokenizer, ids, visible and np.array(visible)) == said[visible and tuple(visible)]
    masked = np.array([tokenizer.cls_token_id, ids[0], tokenizer.mask_token_id, *ids[2:], tokenizer.sep_token_id])
    assert text_of(tokenizer, masked) == "he s go"
    assert text_of(tokenizer, ids[2:]) == "s go"
    assert text_of(tokenizer, ids[:0]) == ""


def test_text_of_byte_pairs_keeps_them_apart_too():
    tokenizer = build_byte_tokenizer(["he sang", "##"], 261)
    ids = np.array(tokenizer("he sang ##", add_special_tokens=False)["input_ids"])
    assert text_of(tokenizer, ids) == "he sang ##"
    hidden = np.array([piece != "a" for piece in tokenizer.convert_ids_to_tokens(ids)])
    assert text_of(tokenizer, ids, hidden) == "he s ng ##"


def test_text_of_a_pair_keeps_its_parts_apart():
    for tokenizer in (build_byte_tokenizer(["he sang", "she"], 261), build_word_tokenizer(["he", "sang", "she"])):
        assert text_of(tokenizer, np.array(tokenizer("he sang", "she sang")["input_ids"])) == "he sang she sang"


@pytest.mark.parametrize(
    ("template", "around"),
    [("[CLS] $A [SEP]", ([0], [1])), ("$A [SEP]", ([], [1])), ("[CLS] [CLS] $A", ([0, 0], [])), ("$A", ([], []))],
)
def test_special_tokens_around(template, around):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, cls_token="[CLS]")
    before, after = special_tokens_around(tokenizer)
    assert (before.tolist(), after.tolist()) == around
    assert stands_first(tokenizer) == template.startswith("[CLS]")
    assert before.dtype == after.dtype == np.int64


def test_special_tokens_are_found_whatever_letters_a_tokenizer_knows():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    def tokenizer_of(vocab):
        made = Tokenizer(models.BPE(vocab={"[CLS]": 0, "[SEP]": 1, **vocab}, merges=[]))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        pair = [("[CLS]", 0), ("[SEP]", 1)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pair)
        return PreTrainedTokenizerFast(tokenizer_object=made, cls_token="[CLS]", sep_token="[SEP]")

    assert [ids.tolist() for ids in special_tokens_around(tokenizer_of({"的": 2}))] == [[0], [1]]
    with pytest.raises(ConfigError, match="makes no token of any of a 1"):
        special_tokens_around(tokenizer_of({}))
