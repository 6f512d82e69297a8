"""Words and their vectors: files of three programs, broken lines, a model's own table."""

import gzip

import numpy as np
import pytest
import torch
from small_banks import OTHERS, WORDS, make_bank, make_captions, random_texts, random_vectors
from torch import nn

from sightread.association.words import WordVectors, rows_in
from sightread.data.words import content_words, stop_words, words_of
from sightread.encoders.text import build_byte_tokenizer, load_tokenizer
from sightread.errors import DataError, ShapeError
from sightread.runtime import data_root


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, two CATS.", ["a", "dog", "two", "cats"]),
        ("don’t 'quote' the dogs' man-eater", ["don't", "quote", "the", "dogs", "man", "eater"]),
        ("snake_case 42nd café cafe\u0301 Größe собака", ["snake", "case", "42nd", "café", "café", "größe", "собака"]),
        ("... _ '", []),
    ],
)
def test_words_of_a_text(text, words):
    assert words_of(text) == words


def test_stop_words_are_left_out_but_what_can_be_seen_stays():
    assert content_words("The fire is on the thin mill") == ["fire", "thin", "mill"]
    assert {"the", "of"} < stop_words()


def test_a_bag_is_the_mean_of_known_content_words_of_unit_length():
    rng = np.random.default_rng(0)
    words, texts = random_vectors(rng), random_texts(rng, 200)
    table = dict(zip(WORDS, words.vectors.astype(np.float64), strict=True))
    for text, bag in zip(texts, words(texts), strict=True):
        known = [table[word] for word in text.split() if word in table]
        mean = np.mean(known, axis=0) if known else np.zeros(3)
        np.testing.assert_allclose(bag, mean / (np.linalg.norm(mean) or 1), atol=1e-6)
    assert not words([" ".join(OTHERS), ""]).any()
    one, other = words(["dog cat tree ball red", "red ball cat dog tree"])
    assert one.tobytes() == other.tobytes()


FILES = {
    "word2vec": "2 3\ndog 1 2.5 -3e-1\ncat 0 1 0\n",
    "fasttext": "2 3\ndog 1 2.5 -3e-1 \ncat 0 1 0 \n",
    "glove": "dog 1 2.5 -3e-1\ncat 0 1 0\n",
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".txt", ".vec.gz"])
def test_files_of_three_programs(kind, suffix, tmp_path):
    path, data = tmp_path / f"vectors{suffix}", FILES[kind].encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    words = WordVectors.read(path)
    assert words.row_of == {"dog": 0, "cat": 1}
    np.testing.assert_array_equal(words.vectors, np.array([[1, 2.5, -0.3], [0, 1, 0]], dtype=np.float32))
    assert words.skipped.count == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"tree 1 2", "not a word and 3 numbers"),
        (b"tree 1 2 3 4", "not a word and 3 numbers"),
        (b" 1 2 3", "not a word and 3 numbers"),
        (b"tree 1 two 3", "not a number"),
        (b"tree 1 nan 3", "not finite"),
        (b"tree 1 1e39 3", "not finite"),
        (b"tr\xff 1 2 3", "not UTF-8"),
        (b"dog 9 9 9", "a word again"),
    ],
)
def test_broken_lines_are_skipped_and_listed_and_too_many_refused(line, reason, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(FILES["glove"].encode() + line + b"\nred 7 8 9\n\n")
    words = WordVectors.read(path, max_skipped=0.25)
    assert words.row_of == {"dog": 0, "cat": 1, "red": 2}
    assert words.vectors[0].tolist() == [1, 2.5, np.float32(-0.3)]
    assert words.skipped.report() == {reason: {"count": 1, "first": [f"{path}:3"]}}
    with pytest.raises(DataError, match=f"1 of 5 lines.*{reason}: 1"):
        WordVectors.read(path, max_skipped=0.1)


def test_a_torn_first_line_does_not_tell_the_width(tmp_path):
    (tmp_path / "words.txt").write_text("torn 1\n" + "".join(f"w{i} {i} 2 3\n" for i in range(30)))
    words = WordVectors.read(tmp_path / "words.txt")
    assert (len(words.row_of), words.width, words.skipped.count) == (30, 3, 1)


@pytest.mark.parametrize("content", ["", "3 25\n", "\n"])
def test_a_file_without_vectors_is_refused(content, tmp_path):
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(DataError, match="holds no word vectors"):
        WordVectors.read(tmp_path / "vectors.txt")


def test_words_are_looked_up_in_lower_case():
    words = WordVectors(["Dog", "Cat", "CAT", "dog"], np.arange(4, dtype=np.float32)[:, None])
    assert {word: words.vectors[row, 0] for word, row in words.row_of.items()} == {"dog": 3, "cat": 1}
    assert words(["DOG"]).tolist() == [[1]]
    with pytest.raises(ShapeError, match="1 words have vectors of shape"):
        WordVectors(["dog"], np.zeros((2, 3)))


class Model:
    """What has a table of vectors, that of token i all i."""

    def __init__(self, size):
        self.table = nn.Embedding.from_pretrained(torch.arange(float(size))[:, None].repeat(1, 2))

    def get_input_embeddings(self):
        return self.table


@pytest.mark.parametrize(("kind", "mark"), [("wordpiece", ""), ("byte-level", "Ġ")])
def test_a_models_own_table_for_words_that_are_one_token(kind, mark, built_tokenizers):
    tokenizer = (
        built_tokenizers[kind] if kind == "wordpiece" else build_byte_tokenizer(["Red boxes, 42 lamps"] * 2, 290)
    )
    whole = {piece for piece in tokenizer.get_vocab() if piece.startswith(mark) and piece.removeprefix(mark).isalnum()}
    expected = {
        p.removeprefix(mark).lower(): p for p in sorted(whole) if tokenizer.tokenize(f" {p.lstrip(mark)}") == [p]
    }
    words = WordVectors.of_tokens(Model(400), tokenizer)
    assert len(words.row_of) >= 5
    found = {word: words.vectors[row].tolist() for word, row in words.row_of.items()}
    assert found == {word: [tokenizer.convert_tokens_to_ids(piece)] * 2 for word, piece in expected.items()}
    with pytest.raises(DataError, match="no token of this"):
        WordVectors.of_tokens(Model(1), tokenizer)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["albert-base-v2", "bert-base-uncased", "clip", "roberta-base"])
def test_whole_words_of_real_tokenizers(name):
    tokenizer = load_tokenizer(data_root() / f"models/tok-{name}")
    words = WordVectors.of_tokens(Model(len(tokenizer)), tokenizer)
    assert {"dog", "house", "running"} <= words.row_of.keys()
    assert len(words.row_of) > 12_000
    row = int(words.vectors[words.row_of["dog"]][0])
    assert tokenizer(" a dog", add_special_tokens=False)["input_ids"][-1] == row


def test_captions_and_bank_meet_by_ids():
    captions = make_captions([("b", "one"), ("x", "two"), ("a", "three"), ("b", "four")])
    assert rows_in(make_bank(["a", "b", "c"]), captions).tolist() == [1, -1, 0, 1]
    with pytest.raises(DataError, match="none of the bank's 1 pictures is among the 3 captioned ones"):
        rows_in(make_bank(["c"]), captions)
