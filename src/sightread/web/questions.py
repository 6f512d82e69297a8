"""What can be asked of the page's server, and how much of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TEXT = 2000  # characters

Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Row = Annotated[int, Field(ge=0)]


class Asked(BaseModel):
    """A question; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True)


class VokensAsked(Asked):
    """The vokens of a text by some vokenizers."""

    text: Text
    vokenizers: Annotated[list[Name], Field(min_length=1, max_length=8)]


class StripsAsked(VokensAsked):
    """The same to take away, pictures of lower scores left out."""

    least: float


class PictureAsked(Asked):
    """A picture of a vokenizer's bank."""

    vokenizer: Name
    row: Row


class EvidenceAsked(PictureAsked):
    """Where in that picture the evidence is for a token, by its number in the text."""

    text: Text
    token: Row


class SearchAsked(Asked):
    """The pictures of a vokenizer's bank for a whole text."""

    text: Text
    vokenizer: Name


class ComparisonAsked(Asked):
    """Two encoders' answers to one probe, some at a time."""

    first: Name
    second: Name
    name: Name
    kind: Literal["all", "first", "second", "equal"]
    begin: Row
