"""Voken strips: a sentence, and under each token the picture it sees, as a PNG or a self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sightread.artifacts import write_atomic
from sightread.data.images import open_picture
from sightread.errors import DataError
from sightread.templates import render
from sightread.vokenizer import Vokenizer

_SIDE, _GAP, _TEXT, _ROW = 96, 8, 26, 10  # pixels: picture, space between, line of text, pictures in a row
_INK, _FAINT, _PAPER, _MISSING = "#1d2433", "#6b7385", "#ffffff", "#e3e6ec"


@dataclass(frozen=True)
class StripToken:
    """One token of a strip: the text it covers, and its pictures with their scores and ids, best first; or none."""

    text: str
    pictures: list[Image.Image]
    scores: list[float]
    image_ids: list[str]


def voken_strip(vokenizer: Vokenizer, sentence: str, k: int = 1) -> list[StripToken]:
    """The tokens of a sentence with their k best pictures; pictures that cannot be opened are grey."""
    if not sentence.strip():
        raise DataError("the sentence is empty; give some text")
    found = vokenizer([sentence], k)[0]
    return [
        StripToken(
            sentence[slice(*t.span)], [thumbnail(vokenizer.bank.paths[r]) for r in t.rows], t.scores, t.image_ids
        )
        for t in found
    ]


def draw_strip(tokens: Sequence[StripToken]) -> Image.Image:
    """A PNG-ready picture of the strip: each token above its best picture, ten in a row, scores below."""
    rows = [tokens[i : i + _ROW] for i in range(0, len(tokens), _ROW)]
    cell, line = _SIDE + _GAP, _SIDE + 2 * _TEXT + _GAP
    canvas = Image.new("RGB", (min(len(tokens), _ROW) * cell + _GAP, len(rows) * line + _GAP), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for r, row in enumerate(rows):
        for c, token in enumerate(row):
            x, y = _GAP + c * cell, _GAP + r * line
            pen.text((x + _SIDE / 2, y + _TEXT / 2), _fitted(token.text, pen), _INK, font(15), anchor="mm")
            if token.pictures:
                canvas.paste(token.pictures[0], (x, y + _TEXT))
                below = (x + _SIDE / 2, y + _TEXT + _SIDE + 11)
                pen.text(below, f"{token.scores[0]:.2f}", _FAINT, font(12), anchor="mm")
    return canvas


def write_strip(vokenizer: Vokenizer, sentence: str, out: Path, k: int = 5) -> tuple[Path, Path]:
    """Write `out`.html, self-contained, with k pictures a token, and `out`.png with the best; returns both paths."""
    tokens = voken_strip(vokenizer, sentence, k)
    page, picture = (out.with_name(out.name + suffix) for suffix in (".html", ".png"))
    write_atomic(page, strips_page(sentence, {"": tokens}))
    draw_strip(tokens).save(picture)
    return page, picture


def strips_page(sentence: str, strips: Mapping[str, Sequence[StripToken]]) -> str:
    """A self-contained page of a sentence's strips, by the names that stand above them."""
    shown = {name: [as_html(token) for token in tokens] for name, tokens in strips.items()}
    return render("show.html", sentence=sentence, strips=shown)


def as_html(token: StripToken) -> dict[str, Any]:
    """A token for a template: its text and, for each picture, data URI, score and id."""
    pictures = zip(token.pictures, token.scores, token.image_ids, strict=True)
    return {"text": token.text, "pictures": [{"uri": data_uri(p), "score": s, "id": i} for p, s, i in pictures]}


def data_uri(image: Image.Image) -> str:
    """A picture inside a page."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@lru_cache(maxsize=4096)
def thumbnail(path: str) -> Image.Image:
    """The square middle of a picture, small; grey if it cannot be opened."""
    if path:
        try:
            return square(open_picture(Path(path)), _SIDE)
        except DataError:
            pass
    return missing(_SIDE)


def square(image: Image.Image, side: int) -> Image.Image:
    """The square middle of a picture, `side` pixels wide."""
    image.thumbnail((512, 512))
    least = min(image.size)
    left, top = (image.width - least) // 2, (image.height - least) // 2
    return image.crop((left, top, left + least, top + least)).resize((side, side), Image.Resampling.LANCZOS)


def missing(side: int) -> Image.Image:
    """What stands in a picture's place, `side` pixels wide."""
    grey = Image.new("RGB", (side, side), _MISSING)
    ImageDraw.Draw(grey).text((side / 2, side / 2), "no picture", _FAINT, font(side // 7), anchor="mm")
    return grey


@lru_cache
def font(size: int) -> Any:
    """Pillow's own, of so many pixels."""
    return ImageFont.load_default(size)


def _fitted(text: str, pen: ImageDraw.ImageDraw) -> str:
    while len(text) > 1 and pen.textlength(text, font(15)) > _SIDE + _GAP - 4:
        text = text[:-2] + "…"
    return text
