"""The words of a text, and those that name nothing."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""A word in what `lowered` gives: letters of any script and digits, with apostrophes between them."""
_MEANT = frozenset({"bill", "cry", "fire", "mill", "system", "thick", "thin"})  # listed as stop words, but to be seen


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: letters of any script and digits, with apostrophes between them."""
    return WORD.findall(lowered(text))


def lowered(text: str) -> str:
    """A text in lower case, in one Unicode form, with one kind of apostrophe."""
    return unicodedata.normalize("NFC", text.lower()).replace("’", "'")


@cache
def stop_words() -> frozenset[str]:
    """English words that name nothing: scikit-learn's but for a few nouns and adjectives among them."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS - _MEANT


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words, in order, as often as they occur."""
    return [word for word in words_of(text) if word not in stop_words()]
