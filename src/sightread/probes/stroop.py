"""Stroop probing, for encoders without a language-model head (Alper et al. 2023, "Is BERT Blind?", section 3).

Just as a colour word printed in a wrong colour disturbs a reader, a wrong attribute disturbs the meaning of a phrase
more than one that goes without saying: "a photo of the yellow banana" should lie nearer to "a photo of the banana" than
"a photo of the purple banana" does. The choice whose phrase has the highest cosine with the neutral phrase wins.

Two things differ from the authors' code: the neutral phrase leaves the slot out, where theirs keeps the word MASK in
it, and vectors are means over tokens, where theirs are the pooler's, which many checkpoints lack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightread.bank import unit_rows
from sightread.probes.encoder import ProbedEncoder

PHRASES = ("[Y] [X]", "a photo of the [Y] [X]")  # no "a [X]", which would need "an" before some


def stroop_similarities(
    encoder: ProbedEncoder, subjects: Sequence[str], choices: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """How little each choice disturbs its subject.

    Args:
        encoder: Any encoder.
        subjects: What is spoken of, e.g. "banana".
        choices: For each subject the words that may be said of it, e.g. colours.

    Returns:
        For each subject the cosines of its choices, averaged over `PHRASES`, float64 (choices,).
    """
    asked = [(phrase, subject, words) for subject, words in zip(subjects, choices, strict=True) for phrase in PHRASES]
    texts = [text for phrase, subject, words in asked for text in _variants(phrase, subject, words)]
    vectors = unit_rows(encoder.embed(texts)).astype(np.float64)
    cosines, begin = [], 0
    for _, _, words in asked:
        neutral, *variants = vectors[begin : begin + 1 + len(words)]
        cosines.append(np.array(variants) @ neutral)
        begin += 1 + len(words)
    each = len(PHRASES)
    return [np.mean(cosines[i : i + each], axis=0) for i in range(0, len(cosines), each)]


def _variants(phrase: str, subject: str, words: Sequence[str]) -> list[str]:
    """The neutral phrase, then one for each word."""
    about = phrase.replace("[X]", subject)
    return [about.replace("[Y] ", ""), *(about.replace("[Y]", word) for word in words)]
