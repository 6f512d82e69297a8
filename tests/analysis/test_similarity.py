import numpy as np
import pytest
from scipy import linalg

from sightread.analysis.similarity import RANDOM, as_markdown, draw, pwcca, sentence_vectors, similarities
from sightread.encoders.text import TextEncoder
from sightread.errors import ConfigError, DataError
from sightread.runtime import keyed_rng


def pwcca_by_eigenvalues(x, y):
    """From the covariances: w solves Sxy Syy⁻¹ Syx w = ρ² Sxx w."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    squared, directions = linalg.eigh(x.T @ y @ linalg.inv(y.T @ y) @ y.T @ x, x.T @ x)
    best = np.argsort(-squared)[: min(x.shape[1], y.shape[1])]
    weights = [sum(abs(x[:, j] @ (x @ directions[:, i])) for j in range(x.shape[1])) for i in best]
    return sum(w * np.sqrt(squared[i]) for w, i in zip(weights, best, strict=True)) / sum(weights)


@pytest.mark.parametrize("widths", [(5, 5), (4, 7), (7, 4)])
def test_it_equals_the_eigenvalue_problem(widths):
    rng = keyed_rng(*widths)
    shared = rng.standard_normal((80, 3))
    x, y = (shared @ rng.standard_normal((3, w)) + rng.standard_normal((80, w)) for w in widths)
    assert pwcca(x, y) == pytest.approx(pwcca_by_eigenvalues(x, y), rel=1e-9)
    assert pwcca(x, y) != pytest.approx(pwcca(y, x), rel=1e-3)


def test_what_says_the_same_is_alike_and_what_is_random_is_not():
    rng = keyed_rng(1)
    x, turn = rng.standard_normal((300, 6)), rng.standard_normal((6, 6))
    assert pwcca(x, x @ turn + 3) == pytest.approx(1)
    assert pwcca(np.hstack([x, x[:, :2]]), x) == pytest.approx(1)  # of lower rank than it is wide
    assert pwcca(x, rng.standard_normal((300, 6))) < 0.3


def test_too_few_sentences_and_constant_vectors_are_refused():
    x = keyed_rng(2).standard_normal((10, 5))
    with pytest.raises(DataError, match="give more than 10 sentences"):
        pwcca(x, x)
    with pytest.raises(DataError, match="one and the same"):
        pwcca(x[:, :4], np.ones((10, 5)))


def test_encoders_are_compared_by_their_sentences(text_encoder_folder, captions):
    encoder = TextEncoder.from_pretrained(text_encoder_folder)
    texts = [*captions.texts, "a box ."]
    vectors = sentence_vectors(encoder, [*texts, ""])
    tokens = encoder.tokenizer("a box .", return_tensors="pt")
    states = encoder(tokens["input_ids"], tokens["attention_mask"])[0, 1:-1].detach().numpy()
    assert vectors[-2] == pytest.approx(states.mean(axis=0), abs=2e-3)  # kept in half precision
    assert not vectors[-1].any()
    found = similarities({"one": encoder, "other": TextEncoder.from_pretrained(text_encoder_folder, (-2,))}, texts)
    assert set(found["one"]) == {"other", RANDOM}
    assert found["one"]["other"] > found["one"][RANDOM]
    with pytest.raises(ConfigError, match="another label"):
        similarities({RANDOM: encoder}, texts)


def test_similarities_are_drawn_and_told(tmp_path):
    pytest.importorskip("matplotlib")
    found = {"one": {"other": 0.8125, RANDOM: 0.25}, "other": {"one": 0.75, RANDOM: 0.5}}
    svg, _ = draw(found, tmp_path / "similarity")
    assert all(f">{value}<" in svg.read_text() for value in ("0.81", "0.75", "0.25", "other", RANDOM))
    assert "| one | – | 0.812 | 0.250 |" in as_markdown(found)
