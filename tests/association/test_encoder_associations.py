"""Nearest keys, vokens and pictures that are made, against loops."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_banks import make_bank, make_captions, padded

from sightread.association.encoders import (
    DenseAssociation,
    MeanVectors,
    SynthesisAssociation,
    VokenAssociation,
    best_distinct,
)
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder
from sightread.errors import ConfigError, DataError, ShapeError
from sightread.grounded import Finder
from sightread.vokenizer import Vokenizer

TEXTS = ["", "the red box", "a lamp near the cup is on the table .", "the red box", "x"]


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_key_of_a_picture_counts_and_ties_go_to_the_lowest_row(seed):
    rng = np.random.default_rng(seed)
    count, size = int(rng.integers(1, 12)), int(rng.integers(1, 60))
    keys, rows = rng.integers(-2, 3, (size, 2)).astype(np.float32), rng.integers(count, size=size)
    queries = rng.integers(-2, 3, (30, 2)).astype(np.float32)  # sums are exact, and ties are many
    bank, texts = make_bank([str(i) for i in range(count)]), [str(i) for i in range(30)]
    association = DenseAssociation(bank, lambda texts: queries[[int(text) for text in texts]], keys, rows)
    for k in {1, count}:
        for query, found in zip(queries, association.retrieve(texts, k).tolist(), strict=True):
            scores = {row: max((keys[rows == row] @ query).tolist()) for row in sorted(set(rows.tolist()))}
            best = sorted(scores, key=lambda row: (-scores[row], row)) if query.any() else []
            assert found == padded(best, k)


def test_vectors_of_another_width_are_refused():
    association = DenseAssociation(make_bank(["a"]), lambda texts: np.ones((1, 3)), np.ones((1, 2)), np.zeros(1, int))
    with pytest.raises(ShapeError, match=r"\(1, 3\)"):
        association.retrieve(["a"], 1)


@pytest.mark.parametrize("seed", range(5))
def test_best_distinct_keeps_the_first_of_each(seed):
    rng = np.random.default_rng(seed)
    owners, rows = np.sort(rng.choice([0, 2, 3], 25)), rng.integers(6, size=25)
    expected = [padded(list(dict.fromkeys(rows[owners == owner].tolist())), 4) for owner in range(5)]
    assert best_distinct(owners, rows, 5, 4).tolist() == expected


def test_mean_vectors_of_a_text_encoder_leave_special_tokens_and_padding_out(text_encoder_folder):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, (-2, -1)).eval()
    vectors = MeanVectors(encoder)(TEXTS)
    assert not vectors[0].any()
    for text, vector in zip(TEXTS[1:], vectors[1:], strict=True):
        ids = encoder.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            mean = encoder(ids["input_ids"], ids["attention_mask"])[0, 1:-1].mean(dim=0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_a_vokenizers_own_pictures_are_keys(vokenizer):
    association = DenseAssociation.of_vokenizer(vokenizer)
    found = association.retrieve(TEXTS, 24)
    assert found[0].tolist() == [-1] * 24
    for text, rows in zip(TEXTS[1:], found[1:], strict=True):
        ids = vokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]
        scores = vokenizer.bank.vectors @ vokenizer.token_vectors([ids])[0].numpy().mean(axis=0)
        assert (np.diff(scores[rows]) <= 1e-6).all()
        assert sorted(rows) == list(range(24))


def test_vokens_of_a_text_are_distinct_and_the_best_token_counts(vokenizer):
    long = " ".join(TEXTS) * 3
    found = VokenAssociation(vokenizer).retrieve([*TEXTS, long], 5).tolist()
    tokens_of = [[], *vokenizer([*TEXTS[1:], long])]
    for tokens, rows in zip(tokens_of, found, strict=True):
        scores = {}
        for token in tokens:
            scores[token.rows[0]] = max(scores.get(token.rows[0], -2), token.scores[0])
        assert rows == padded(sorted(scores, key=lambda row: (-scores[row], row)), 5)
    assert found[5][1] >= 0


def test_captions_read_by_an_encoder_are_keys(text_encoder_folder):
    encode = MeanVectors(TextEncoder.from_pretrained(text_encoder_folder))
    captions = make_captions([("b", "the red box"), ("a", "a lamp"), ("b", "the cup"), ("c", "the red box")])
    association = DenseAssociation.of_captions(make_bank(["c", "b", "d", "a"]), captions, encode)
    assert association.retrieve(["the red box", ""], 4).tolist() == [[0, 1, 3, -1], [-1] * 4]
    assert association.retrieve(["the cup"], 1).tolist() == [[1]]


def test_what_reads_made_pictures_reads_those_that_come_later(image_encoder_folder, tokenizer):
    encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    association = SynthesisAssociation(lambda text: Image.new("L", (32, 32), 9 * len(text)), encoder)
    association.retrieve(["a"], 1)
    finder, batch = (
        Finder(association, tokenizer, 1),
        tokenizer(["the red box", "a cup"], padding=True, return_tensors="pt"),
    )
    images = finder(batch["input_ids"], batch["attention_mask"])["images"]
    np.testing.assert_array_equal(images[:, 0].numpy(), association.bank.features[1:])


def test_a_picture_is_made_for_each_new_text(image_encoder_folder):
    made = []

    def make(text):
        made.append(text)
        return Image.new("L", (32, 32), 40 * len(text))

    encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    association = SynthesisAssociation(make, encoder)
    assert association.retrieve(["a", "bb", "a"], 1).tolist() == [[0], [1], [0]]
    assert association.retrieve(["ccc", "bb"], 1).tolist() == [[2], [1]]
    assert made == association.bank.ids == ["a", "bb", "ccc"]
    np.testing.assert_allclose(association.features(["bb"])[0], association.bank.features[1], rtol=1e-4, atol=1e-5)
    assert abs(association.bank.features[0] - association.bank.features[1]).max() > 1e-3
    association.bank.check_encoder(encoder)
    assert association.retrieve([], 1).shape == (0, 1)
    with pytest.raises(ConfigError, match="k=2: one picture is made"):
        association.retrieve(["a"], 2)

    def fail(text):
        raise DataError("the generator has no picture")

    with pytest.raises(DataError, match="the generator has no picture"):
        SynthesisAssociation(fail, encoder).retrieve(["a"], 1)
