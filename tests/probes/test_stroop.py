"""Similarities against a computation by hand, one sentence at a time."""

import numpy as np
import pytest
from made_up import PlantedEncoder

from sightread.probes.encoder import ProbedEncoder
from sightread.probes.stroop import PHRASES, stroop_similarities


@pytest.fixture(scope="module")
def probed(text_encoder_folder):
    return ProbedEncoder.from_pretrained(text_encoder_folder, "tiny")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_similarities_by_hand(probed):
    subjects, choices = ["box", "zyx"], [("red", "blue"), ("green", "red", "tiny")]
    found = stroop_similarities(probed, subjects, choices)
    assert [len(scores) for scores in found] == [2, 3]
    for subject, words, scores in zip(subjects, choices, found, strict=True):
        for word, score in zip(words, scores, strict=True):
            pairs = [(subject, f"{word} {subject}"), (f"a photo of the {subject}", f"a photo of the {word} {subject}")]
            expected = np.mean([cosine(*(probed.embed([text])[0] for text in pair)) for pair in pairs])
            assert score == pytest.approx(expected, abs=2e-3)


def test_phrases_fit_any_subject():
    assert len(PHRASES) == 2
    for phrase in PHRASES:
        assert phrase.count("[X]") == phrase.count("[Y] ") == 1
        assert "a [" not in phrase


def test_what_goes_without_saying_wins():
    def vector_of(text):
        """Anything but "green" moves the vector."""
        return [1.0, sum(word not in {"frog", "green", "a", "photo", "of", "the"} for word in text.split())]

    [scores] = stroop_similarities(PlantedEncoder(vector_of), ["frog"], [("red", "green", "blue")])
    np.testing.assert_allclose(scores, [2**-0.5, 1, 2**-0.5], atol=1e-6)
