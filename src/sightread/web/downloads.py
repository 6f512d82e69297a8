"""A text and its vokens to take away: a PNG, or a page that holds its pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image, ImageDraw

from sightread.analysis.strips import StripToken, draw_strip, font, strips_page, voken_strip
from sightread.web.exhibit import Exhibit
from sightread.web.questions import StripsAsked

PICTURES = 5  # of a token, on the page
_LINE, _GAP, _INK, _PAPER = 34, 8, "#1d2433", "#ffffff"  # pixels: of a name, around it

Strips = Mapping[str, Sequence[StripToken]]


def strips(exhibit: Exhibit, asked: StripsAsked) -> Strips:
    """A strip by each vokenizer; `DataError` if there is no text."""
    found = {}
    for name in asked.vokenizers:
        vokenizer = exhibit.vokenizer(name)
        with exhibit.turn:
            tokens = voken_strip(vokenizer, asked.text, min(PICTURES, len(vokenizer.bank)))
        found[name] = [_above(token, asked.least) for token in tokens]
    return found


def page(exhibit: Exhibit, asked: StripsAsked) -> bytes:
    """The strips as a self-contained page."""
    return strips_page(asked.text, strips(exhibit, asked)).encode()


def png(exhibit: Exhibit, asked: StripsAsked) -> bytes:
    """The strips as one picture, below each other, each under its vokenizer's name."""
    drawn = {name: draw_strip(tokens) for name, tokens in strips(exhibit, asked).items()}
    widths = [max(strip.width, int(font(15).getlength(name)) + 2 * _GAP) for name, strip in drawn.items()]
    canvas = Image.new("RGB", (max(widths), sum(_LINE + strip.height for strip in drawn.values())), _PAPER)
    y = 0
    pen = ImageDraw.Draw(canvas)
    for name, strip in drawn.items():
        pen.text((_GAP, y + _LINE / 2), name, _INK, font(15), anchor="lm")
        canvas.paste(strip, (0, y + _LINE))
        y += _LINE + strip.height
    canvas.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def _above(token: StripToken, least: float) -> StripToken:
    count = sum(score >= least for score in token.scores)  # they are in order
    return replace(
        token, pictures=token.pictures[:count], scores=token.scores[:count], image_ids=token.image_ids[:count]
    )
