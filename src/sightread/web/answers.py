"""What the page's server answers: pure functions from questions to JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sightread.analysis.evidence import evidence
from sightread.analysis.localisation import overlay
from sightread.analysis.strips import data_uri
from sightread.bank import unit_rows
from sightread.data.words import WORD, lowered, stop_words
from sightread.errors import DataError
from sightread.web import lookup, probed
from sightread.web.exhibit import Exhibit
from sightread.web.questions import MAX_TEXT, ComparisonAsked, EvidenceAsked, PictureAsked, SearchAsked, VokensAsked

TOP, FOUND = 8, 24  # pictures of a token, and of a search
EXAMPLE = "A small dog jumps over a red fence."


def about(exhibit: Exhibit) -> dict[str, Any]:
    """What is shown here, for the page to begin with."""
    captions = [texts[0] for texts in exhibit.captions.values() if texts]
    return {
        "vokenizers": [
            {"name": name, "pictures": len(gallery), "gallery": gallery.key, "lookedUp": name in exhibit.looked_up}
            for name, gallery in exhibit.galleries.items()
        ],
        "maxText": MAX_TEXT,
        "captions": bool(captions),
        "grounding": exhibit.is_grounded is not None,
        "corpus": exhibit.corpus.path.name if exhibit.corpus else None,
        "examples": _examples(captions),
        "probes": {encoder: list(scores) for encoder, scores in exhibit.answers.items()},
    }


def vokens(exhibit: Exhibit, asked: VokensAsked) -> list[dict[str, Any]]:
    """The tokens of a text with their best pictures, by each vokenizer."""
    return [{"vokenizer": name, "tokens": _tokens(exhibit, name, asked.text)} for name in asked.vokenizers]


def search(exhibit: Exhibit, asked: SearchAsked) -> list[dict[str, Any]]:
    """The pictures nearest to the mean of a text's tokens; `DataError` if it has none."""
    vokenizer, vectors = exhibit.vokenizer(asked.vokenizer), _vectors(exhibit, asked.vokenizer, asked.text)
    if not len(vectors):
        raise DataError("there is no token in this text; give some words")
    mean = unit_rows(vectors.mean(axis=0, keepdims=True))
    scores, rows = vokenizer.bank.nearest(mean, min(FOUND, len(vokenizer.bank)))
    found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
    return [{"row": row, "id": vokenizer.bank.ids[row], "score": score} for row, score in found]


def captions(exhibit: Exhibit, asked: PictureAsked) -> dict[str, Any]:
    """A picture's id and its captions; `DataError` if there is no such picture."""
    id_ = _picture_id(exhibit, asked)
    return {"id": id_, "captions": list(exhibit.captions.get(id_, ()))}


def where(exhibit: Exhibit, asked: EvidenceAsked) -> dict[str, Any]:
    """The heat of a token on a picture, drawn over it, and what the score loses where most of the evidence lies."""
    _picture_id(exhibit, asked)
    vectors = _vectors(exhibit, asked.vokenizer, asked.text)
    if asked.token >= len(vectors):
        raise DataError(f"this text has {len(vectors)} tokens, and no number {asked.token}")
    image = exhibit.galleries[asked.vokenizer].whole(asked.row)
    heat = evidence(exhibit.vokenizer(asked.vokenizer), image, vectors[asked.token])
    return {"uri": data_uri(overlay(image, heat.clip(min=0))), "loss": float(heat.max())}


def choosers(exhibit: Exhibit, asked: PictureAsked) -> dict[str, Any]:
    """The tokens of the corpus that chose a picture; `DataError` if it chose among others, or there is none."""
    _picture_id(exhibit, asked)
    if not (exhibit.corpus and asked.vokenizer in exhibit.looked_up):
        raise DataError("there is no voken corpus of these pictures here")
    return lookup.choosers(exhibit.corpus, exhibit.corpus_tokenizer, asked.row)


def compare(exhibit: Exhibit, asked: ComparisonAsked) -> dict[str, Any]:
    """Answers of two encoders to the same questions; see `probed.compared`."""
    return probed.compared(exhibit.answers, asked.first, asked.second, asked.name, asked.kind, asked.begin)


def _examples(texts: Sequence[str]) -> list[str]:
    """Three of them, neither short nor long."""
    return sorted(texts[:: len(texts) // 60 + 1], key=lambda text: abs(len(text.split()) - 9))[:3] or [EXAMPLE]


def _tokens(exhibit: Exhibit, name: str, text: str) -> list[dict[str, Any]]:
    vokenizer = exhibit.vokenizer(name)
    with exhibit.turn:
        tokens = vokenizer([text], min(TOP, len(vokenizer.bank)))[0]
    kinds = kinds_of(exhibit, text, [token.span for token in tokens])
    return [
        {
            "text": text[slice(*token.span)] or token.piece, "start": token.span[0], "kind": kind,
            "pictures": [
                {"row": row, "id": id_, "score": score}
                for row, id_, score in zip(token.rows, token.image_ids, token.scores, strict=True)
            ],
        }
        for token, kind in zip(tokens, kinds, strict=True)
    ]  # fmt: skip


def kinds_of(exhibit: Exhibit, text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    """Of each token "stop" (its word, or sign, names nothing), "grounded", "other", or "word" where nobody knows."""
    same_length = text.replace("’", "'")  # so that spans stay
    word_at = {i: match.group() for match in WORD.finditer(same_length) for i in range(*match.span())}
    for begin, end in spans:
        word = lowered(next((word_at[i] for i in range(begin, end) if i in word_at), ""))
        if not word or word in stop_words():
            yield "stop"
        elif exhibit.is_grounded is None:
            yield "word"
        else:
            yield "grounded" if exhibit.is_grounded(word) else "other"


def _picture_id(exhibit: Exhibit, asked: PictureAsked) -> str:
    ids = exhibit.vokenizer(asked.vokenizer).bank.ids
    if asked.row >= len(ids):
        raise DataError(f"this bank has {len(ids)} pictures, and no number {asked.row}")
    return ids[asked.row]


def _vectors(exhibit: Exhibit, name: str, text: str) -> np.ndarray:
    """The tokens of a text in the joint space, unit rows float32 (L, E)."""
    vokenizer = exhibit.vokenizer(name)
    with exhibit.turn:
        ids = vokenizer.tokenizer([text], add_special_tokens=False)["input_ids"][0]
        return vokenizer.token_vectors([np.array(ids, dtype=np.int64)])[0].numpy()
