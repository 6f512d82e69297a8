"""Associations made of their parts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sightread.association import Association
from sightread.association.captions import KeywordAssociation, SceneAssociation
from sightread.association.chance import RandomAssociation
from sightread.association.encoders import DenseAssociation, VokenAssociation
from sightread.association.objects import ObjectAssociation
from sightread.config import check_choice
from sightread.errors import ConfigError

_MADE_OF: dict[str, tuple[Callable[..., Association], tuple[str, ...]]] = {
    "scene": (SceneAssociation.of_captions, ("bank", "captions", "words")),
    "keyword": (KeywordAssociation.of_captions, ("bank", "captions")),
    "object": (ObjectAssociation, ("nouns", "words")),
    "dense": (DenseAssociation.of_captions, ("bank", "captions", "text_encoder")),
    "voken": (VokenAssociation, ("vokenizer",)),
    "random": (RandomAssociation, ("bank",)),
}
_AND_PERHAPS = {"random": ("like",), "object": ("tagger",)}
ASSOCIATIONS = tuple(_MADE_OF)


def build_association(kind: str, **parts: Callable[[], Any]) -> Association:
    """An association of a kind.

    Args:
        kind: One of `ASSOCIATIONS`.
        **parts: What gives its parts, called if they are needed: `bank`, `captions`, `words` (`WordVectors`), `nouns`
            (a `NounIndex`), `tagger` (text -> nouns), `text_encoder` (texts -> vectors), `vokenizer`, and `like`, the
            association that "random" is to be the control of; those that are there.

    Raises:
        ConfigError: As `check_parts`.
    """
    check_parts(kind, parts)
    make, names = _MADE_OF[kind]
    more = {name: parts[name]() for name in parts_of(kind) if name not in names and name in parts}
    return make(*(parts[name]() for name in names), **more)


def parts_of(kind: str) -> tuple[str, ...]:
    """All that an association of a kind may be made of."""
    return _MADE_OF[kind][1] + _AND_PERHAPS.get(kind, ())


def check_parts(kind: str, given: Collection[str]) -> None:
    """Raise `ConfigError` if there is no such kind of association, or it lacks a part."""
    check_choice("kind", kind, ASSOCIATIONS)
    _, names = _MADE_OF[kind]
    if missing := [name for name in names if name not in given]:
        raise ConfigError(f"an association by {kind} is made of {', '.join(names)}; {', '.join(missing)} not given")
