"""Voken strips: sizes, missing pictures, long words, and pages that are safe to open."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sightread.analysis.strips import StripToken, _fitted, data_uri, draw_strip, thumbnail, voken_strip, write_strip
from sightread.errors import ConfigError, DataError
from sightread.vokenizer import Vokenizer

SIDE, GAP, LINE = 96, 8, 156  # pixels of a picture, between pictures, of a row with its two lines of text


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


def token(text="word", color="red", score=0.5):
    return StripToken(text, [Image.new("RGB", (SIDE, SIDE), color)], [score], ["id"])


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (9, 9, 1), (10, 10, 1), (11, 10, 2), (25, 10, 3)])
def test_ten_pictures_a_row(count, columns, rows):
    assert draw_strip([token()] * count).size == (columns * (SIDE + GAP) + GAP, rows * LINE + 16 - GAP)


def test_each_picture_stands_in_its_place():
    colors = ["red", "lime", "blue"] * 4
    strip = np.asarray(draw_strip([token(color=color) for color in colors]))
    for i, color in enumerate(colors):
        y, x = GAP + (i // 10) * LINE + 26 + SIDE // 2, GAP + (i % 10) * (SIDE + GAP) + SIDE // 2
        assert strip[y, x].tolist() == list(Image.new("RGB", (1, 1), color).getpixel((0, 0)))


def test_strip_shows_the_vokens(vokenizer):
    sentence = "anna has a red box ."
    tokens = voken_strip(vokenizer, sentence, k=3)
    found = vokenizer([sentence], 3)[0]
    assert [t.text for t in tokens] == sentence.split()
    assert [t.image_ids for t in tokens] == [t.image_ids for t in found]
    assert [t.scores for t in tokens] == [t.scores for t in found]
    for shown, t in zip(tokens, found, strict=True):
        assert len(shown.pictures) == 3
        with Image.open(vokenizer.bank.paths[t.rows[0]]) as picture:
            expected = np.asarray(picture.convert("RGB").resize((SIDE, SIDE)), dtype=float)
        assert np.abs(np.asarray(shown.pictures[0], dtype=float) - expected).mean() < 16


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_missing_pictures_are_grey(content, tmp_path):
    path = tmp_path / "gone.png"
    if content:
        path.write_bytes(content)
    grey = thumbnail(str(path))
    assert grey.size == (SIDE, SIDE)
    assert grey.getpixel((2, 2)) == (0xE3, 0xE6, 0xEC)
    assert np.array_equal(np.asarray(grey), np.asarray(thumbnail("")))  # and the same where there is no file at all


def test_wide_pictures_are_cropped_not_squeezed(tmp_path):
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("blue", (300, 0, 600, 300))
    wide.save(tmp_path / "wide.png")
    square = np.asarray(thumbnail(str(tmp_path / "wide.png")), dtype=int)
    assert square.shape == (SIDE, SIDE, 3)
    assert np.abs(square[:, 4:-4] - (0, 0, 255)).max() < 16


@pytest.mark.parametrize("text", ["a", "dog", "incomprehensibilities" * 5, "語" * 60])
def test_long_words_are_fitted(text):
    pen = ImageDraw.Draw(Image.new("RGB", (8, 8)))
    fitted = _fitted(text, pen)
    assert pen.textlength(fitted, font_size=15) <= SIDE + GAP
    if len(text) < 4:
        assert fitted == text
    else:
        assert fitted.endswith("…")
        assert text.startswith(fitted[:-1])
        assert len(fitted) > 3


def test_written_files(vokenizer, tmp_path):
    page, picture = write_strip(vokenizer, "a red box", tmp_path / "strip", k=4)
    assert (page, picture) == (tmp_path / "strip.html", tmp_path / "strip.png")
    with Image.open(picture) as image:
        assert image.size == (3 * (SIDE + GAP) + GAP, LINE + GAP)
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text())
    assert len(sources) == 3 * 4 == page.read_text().count("<img")
    assert {Image.open(io.BytesIO(base64.b64decode(source))).size for source in sources} == {(SIDE, SIDE)}
    assert "http" not in re.sub(r"base64,[^\"]+", "", page.read_text())


def test_pages_escape_what_they_show(vokenizer, tmp_path):
    sentence = '<script>alert(1)</script> & "a"'
    page = write_strip(vokenizer, sentence, tmp_path / "strip", k=1)[0].read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;a&#34;" in page


def test_data_uri_is_the_picture():
    kind, _, data = data_uri(Image.new("RGB", (8, 6), "red")).partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, image.size) == ("data:image/jpeg;base64", (8, 6))
    assert image.getpixel((4, 3))[0] > 240


@pytest.mark.parametrize("sentence", ["", "  \n"])
def test_an_empty_sentence_is_refused(sentence, vokenizer):
    with pytest.raises(DataError, match="empty"):
        voken_strip(vokenizer, sentence)


def test_more_pictures_than_the_bank_has(vokenizer):
    with pytest.raises(ConfigError, match="k=25: expected between 1 and the 24"):
        voken_strip(vokenizer, "a box", k=25)
