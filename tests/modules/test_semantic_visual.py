"""WELDON pooling, both paths and the triplet loss against NumPy in double precision."""

import numpy as np
import pytest
import torch

from sightread.errors import ConfigError, ShapeError
from sightread.modules.semantic_visual import ImagePath, TextPath, triplet, weldon
from sightread.runtime import keyed_rng, seed_everything


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pooled(scores, k):
    ordered = np.sort(scores, axis=1)
    return ordered[:, -k:].mean(axis=1) + ordered[:, :k].mean(axis=1)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_weldon_is_the_mean_of_the_extremes(k):
    scores = keyed_rng(k).standard_normal((4, 9, 5))
    found = torch.from_numpy(scores).requires_grad_()
    np.testing.assert_allclose(weldon(found, k).detach(), pooled(scores, k), atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: weldon(x, k), found)


@pytest.mark.parametrize("k", [0, 10])
def test_more_extremes_than_places_are_refused(k):
    with pytest.raises(ConfigError, match=f"extremes={k}: expected between 1 and the 9 places"):
        weldon(torch.zeros(1, 9, 2), k)


def normed(x):
    """As a fresh LayerNorm."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)


def test_a_picture_is_its_places_pooled():
    seed_everything(0)
    path, maps = ImagePath(6, 4, extremes=2).double(), keyed_rng(0).standard_normal((3, 9, 6))
    linear = path.places[1]
    places = normed(maps) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(path(torch.from_numpy(maps)).detach(), unit(pooled(places, 2)), atol=1e-12)
    with pytest.raises(ShapeError, match="F=6"):
        path(torch.zeros(3, 9, 5))


def gru(words, weights, width):
    """The last state, by the equations of PyTorch's documentation."""
    w_in, w_state, b_in, b_state = weights
    state = np.zeros(width)
    for word in words:
        r, z, n = np.split(w_in @ word + b_in, 3)
        r_, z_, n_ = np.split(w_state @ state + b_state, 3)
        reset, update = (1 / (1 + np.exp(-x)) for x in (r + r_, z + z_))
        state = (1 - update) * np.tanh(n + reset * n_) + update * state
    return state


@pytest.mark.parametrize("reader", ["gru", "mean"])
def test_a_text_is_its_words_and_not_its_padding(reader):
    seed_everything(0)
    path, lengths = TextPath(3, 4, reader).double(), [2, 5, 1]
    words = keyed_rng(1).standard_normal((3, 5, 3))  # padding is not zero
    weights = [parameter.detach().numpy() for parameter in path.layer.parameters()]
    read = {
        "gru": lambda real: gru(real, weights, 4),
        "mean": lambda real: weights[0] @ real.mean(axis=0) + weights[1],
    }[reader]
    expected = unit(np.stack([read(row[:length]) for row, length in zip(normed(words), lengths, strict=True)]))
    np.testing.assert_allclose(path(torch.from_numpy(words), torch.tensor(lengths)).detach(), expected, atol=1e-12)


def test_an_unknown_reader_is_refused():
    with pytest.raises(ConfigError, match=r"reader is 'gruu'.*did you mean 'gru'"):
        TextPath(3, 4, "gruu")


@pytest.mark.parametrize("seed", range(5))
def test_the_hardest_negative_counts_and_fellow_captions_never(seed):
    rng, margin = keyed_rng(seed), 0.2
    pictures, scores = rng.integers(4, size=7), rng.uniform(-1, 1, (7, 7))
    most, mean = 0.0, 0.0
    for i in range(7):
        others = [j for j in range(7) if pictures[j] != pictures[i]]
        for rivals in ([scores[i, j] for j in others], [scores[j, i] for j in others]):
            hinges = [max(0.0, margin - scores[i, i] + rival) for rival in rivals]
            most, mean = most + max(hinges) / 7, mean + sum(hinges) / len(hinges) / 7
    excluded = torch.from_numpy(pictures[:, None] == pictures)
    found = torch.from_numpy(scores).requires_grad_()
    for hardest, expected in ((True, most), (False, mean)):
        assert triplet(found, excluded, margin, hardest=hardest).item() == pytest.approx(expected, rel=1e-12)
        assert torch.autograd.gradcheck(lambda x, of=hardest: triplet(x, excluded, margin, hardest=of), found)


def test_a_batch_of_one_picture_teaches_nothing():
    scores = torch.rand(3, 3, requires_grad=True)
    loss = triplet(scores, torch.ones(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()
