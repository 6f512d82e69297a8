import os

import numpy as np
import pytest
import torch
from PIL import Image

from sightread.data.images import PictureFiles
from sightread.encoders.features import encode_ids, image_features, token_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder
from sightread.errors import ArtifactError, DataError


class Counted(ImageEncoder):
    """An image encoder that counts the pictures it has seen."""

    seen = 0

    def forward(self, pixel_values):
        self.seen += len(pixel_values)
        return super().forward(pixel_values)


@pytest.fixture
def encoder(image_encoder_folder):
    return Counted.from_pretrained(image_encoder_folder)


def paint(path, i):
    Image.new("RGB", (32, 32), (25 * i, 255 - 25 * i, 40)).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Seven pictures of one colour each."""
    (tmp_path / "images").mkdir()
    for i in range(7):
        paint(tmp_path / "images" / f"{i}.png", i)
    return PictureFiles.from_folder(tmp_path / "images")


def one_by_one(encoder, pictures, rows):
    encoder.eval()
    with torch.no_grad():
        return np.concatenate([encoder(encoder.preprocess([pictures.load(row)])).numpy() for row in rows])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 32])
@pytest.mark.parametrize("broken", [[], [6], [0, 6], [5, 6], [2]], ids=str)
def test_rows_say_which_picture_a_feature_belongs_to(encoder, pictures, batch_size, broken):
    for row in broken:
        pictures.paths[row].write_bytes(b"no picture")
    features, rows, skipped = image_features(encoder, pictures, batch_size=batch_size, max_skipped=0.5)
    assert rows.tolist() == [row for row in range(7) if row not in broken]
    assert features.dtype == np.float32
    assert encoder.seen == len(rows)
    np.testing.assert_allclose(features, one_by_one(encoder, pictures, rows), atol=1e-5)
    assert skipped.count == len(broken)
    assert [place for found in skipped.report().values() for place in found["first"]] == [
        f"{row}.png" for row in broken
    ]


def test_too_many_or_only_broken_pictures_are_an_error(encoder, pictures):
    pictures.paths[3].unlink()
    with pytest.raises(DataError, match=r"1 of 7 pictures are bad.*missing picture: 1 \(first: 3.png\)"):
        image_features(encoder, pictures)
    for path in pictures.paths:
        path.unlink(missing_ok=True)
    with pytest.raises(DataError, match="not one"):
        image_features(encoder, pictures, max_skipped=1.0)


def test_a_cache_is_read_and_the_encoder_left_alone(encoder, pictures, tmp_path):
    pictures.paths[6].write_bytes(b"no picture")
    cache = tmp_path / "cache"
    first = image_features(encoder, pictures, cache=cache, max_skipped=0.5)
    assert encoder.seen == 6
    again = image_features(encoder, pictures, cache=cache, max_skipped=0.5)
    assert encoder.seen == 6
    for a, b in zip(first[:2], again[:2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert first[2].report() == again[2].report() != {}
    np.testing.assert_array_equal(first[0], image_features(encoder, pictures, max_skipped=0.5)[0])


def change_weights(encoder, pictures):
    next(encoder.parameters()).data[0] += 1


def change_pooling(encoder, pictures):
    encoder.pooling = "mean"


def change_preprocessing(encoder, pictures):
    encoder.processor.image_std = [0.25] * 3


def change_picture(encoder, pictures):
    paint(pictures.paths[2], 9)
    later = pictures.paths[2].stat().st_mtime_ns + 10**6  # where the clock is coarse
    os.utime(pictures.paths[2], ns=(later, later))


def change_order(encoder, pictures):
    pictures.ids.reverse()
    pictures.paths.reverse()


def leave_one_out(encoder, pictures):
    del pictures.ids[-1], pictures.paths[-1]


def tear(encoder, pictures):
    cache = pictures.paths[0].parent.parent / "cache"
    (cache / "manifest.json").rename(cache / "run.json")  # as a killed run leaves it
    np.save(cache / "features.npy", np.zeros((7, 12), np.float32))


@pytest.mark.parametrize(
    "change",
    [change_weights, change_pooling, change_preprocessing, change_picture, change_order, leave_one_out, tear],
    ids=lambda f: f.__name__,
)
def test_a_cache_that_does_not_fit_is_made_anew(encoder, pictures, tmp_path, change):
    image_features(encoder, pictures, cache=tmp_path / "cache")
    change(encoder, pictures)
    encoder.seen = 0
    features, rows, _ = image_features(encoder, pictures, cache=tmp_path / "cache")
    assert encoder.seen == len(rows) == len(pictures)
    np.testing.assert_allclose(features, one_by_one(encoder, pictures, rows), atol=1e-5)


def test_an_encoder_can_be_trained_after_its_features_were_taken(encoder, pictures):
    image_features(encoder, pictures)
    encoder.train()(encoder.preprocess([pictures.load(i) for i in range(7)])).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_cache_folder_with_other_files_is_left_alone(encoder, pictures, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "thesis.tex").write_text("precious")
    with pytest.raises(ArtifactError, match="no sightread folder"):
        image_features(encoder, pictures, cache=tmp_path / "cache")
    assert (tmp_path / "cache" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("layers", [(-1,), (0, -1)])
def test_token_features_are_the_encoders_states_without_special_tokens(text_encoder_folder, captions, layers):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, layers).eval()
    sentences = [*captions.texts[:9], "", "the", "zzz " * 80]
    with pytest.warns(UserWarning, match=rf"1 of {len(sentences)} sentences are longer than the 64 tokens read"):
        features = token_features(encoder, sentences, batch_size=4)
    assert features.vectors.dtype == np.float16
    assert features.begins[0] == 0
    assert features.begins[-1] == len(features.vectors)
    for i, sentence in enumerate(sentences):
        ids = encoder.tokenizer(sentence, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = encoder(ids, torch.ones_like(ids))[0, 1:-1].numpy()
        found = features.vectors[features.begins[i] : features.begins[i + 1]]
        np.testing.assert_allclose(found, expected, atol=3e-3)
        assert (features.sentence_of[features.begins[i] : features.begins[i + 1]] == i).all()
    assert features.begins[-1] - features.begins[-2] == 62  # cut at the 64 tokens that the model reads


def test_features_of_sentences_are_the_states_of_their_first_tokens(text_encoder_folder, captions):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, (0, -1)).eval()
    sentences = [*captions.texts[:5], "zzz " * 80, "the"]
    with pytest.warns(UserWarning, match="1 of 7 sentences are longer"):
        features = token_features(encoder, sentences, level="sentence", batch_size=2)
    ids = [
        encoder.tokenizer(text, truncation=True, max_length=64, return_tensors="pt")["input_ids"] for text in sentences
    ]
    with torch.no_grad():
        expected = np.concatenate([encoder(row, torch.ones_like(row))[:, 0].numpy() for row in ids])
    np.testing.assert_allclose(features.vectors, expected, atol=3e-3)
    assert features.begins.tolist() == list(range(8))
    assert features.sentence_of.tolist() == list(range(7))


def test_encode_ids_does_not_look_at_padding(text_encoder_folder):
    encoder = TextEncoder.from_pretrained(text_encoder_folder).eval()
    rows = [np.array([2, 9, 3]), np.array([2, 7, 8, 9, 10, 11, 3]), np.array([2, 3])]
    with torch.no_grad():
        states = encode_ids(encoder, rows)
        assert states.shape == (3, 7, 16)
        for row, state in zip(rows, states, strict=True):
            torch.testing.assert_close(state[: len(row)], encode_ids(encoder, [row])[0], atol=1e-5, rtol=1e-5)
