"""What associations find for sentences, side by side (Sileo 2021, figure 4), as a PNG and a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from sightread.analysis.strips import data_uri, font, thumbnail
from sightread.artifacts import write_atomic
from sightread.association import Association
from sightread.errors import DataError
from sightread.templates import render

_SIDE, _GAP, _LABEL, _LINE = 96, 8, 110, 30  # pixels: picture, space between, name of an association, sentence
_INK, _FAINT, _PAPER = "#1d2433", "#6b7385", "#ffffff"


def found_pictures(
    associations: Mapping[str, Association], sentences: Sequence[str], k: int
) -> list[dict[str, list[tuple[str, Image.Image]]]]:
    """For each sentence, by association, the ids and thumbnails of what it finds, at most k; `DataError` if empty."""
    if not [sentence for sentence in sentences if sentence.strip()]:
        raise DataError("there is no sentence to find pictures for; give some text")
    rows = {name: association.retrieve(sentences, k) for name, association in associations.items()}
    banks = {name: association.bank for name, association in associations.items()}
    return [
        {
            name: [(banks[name].ids[row], thumbnail(banks[name].paths[row])) for row in rows[name][i] if row >= 0]
            for name in associations
        }
        for i in range(len(sentences))
    ]


def write_found(
    associations: Mapping[str, Association], sentences: Sequence[str], out: Path, k: int = 5
) -> tuple[Path, Path]:
    """Write `out`.html, self-contained, and `out`.png: a row an association, its k pictures; returns both paths."""
    found = found_pictures(associations, sentences, k)
    page, picture = (out.with_name(out.name + suffix) for suffix in (".html", ".png"))
    shown = [
        {name: [{"id": id_, "uri": data_uri(image)} for id_, image in pictures] for name, pictures in by_name.items()}
        for by_name in found
    ]
    write_atomic(page, render("found.html", found=list(zip(sentences, shown, strict=True)), k=k))
    draw_found(sentences, found, k).save(picture)
    return page, picture


def draw_found(
    sentences: Sequence[str], found: Sequence[Mapping[str, Sequence[tuple[str, Image.Image]]]], k: int
) -> Image.Image:
    """A PNG-ready picture: under each sentence a row an association, of at most k pictures."""
    cell = _SIDE + _GAP
    heights = [_LINE + len(by_name) * cell + _GAP for by_name in found]
    width = max(_LABEL + k * cell, *(int(font(15).getlength(sentence)) for sentence in sentences)) + 2 * _GAP
    canvas = Image.new("RGB", (width, sum(heights)), _PAPER)
    pen, y = ImageDraw.Draw(canvas), 0
    for sentence, by_name, height in zip(sentences, found, heights, strict=True):
        pen.text((_GAP, y + _LINE / 2), sentence, _INK, font(15), anchor="lm")
        for i, (name, pictures) in enumerate(by_name.items()):
            top = y + _LINE + i * cell
            pen.text((_GAP, top + _SIDE / 2), name, _FAINT, font(13), anchor="lm")
            for j, (_, picture) in enumerate(pictures):
                canvas.paste(picture, (_LABEL + _GAP + j * cell, top))
        y += height
    return canvas
