"""Text that looks at pictures, against NumPy in double precision, and what it must not see."""

import numpy as np
import pytest
import torch

from sightread.errors import ConfigError, ShapeError
from sightread.modules.fusion import PictureAttention
from sightread.runtime import keyed_rng, seed_everything

B, L, R, D, F, HEADS = 3, 5, 4, 6, 7, 2


def made(gated=False):
    seed_everything(0)
    layer = PictureAttention(D, F, heads=HEADS, gated=gated).double().eval()
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    rng = keyed_rng(0)
    states, images = rng.standard_normal((B, L, D)), 5 * rng.standard_normal((B, R, F))
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    return layer, states, images, mask


def linear(x, layer):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def layer_norm(x, layer):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def attended(layer, states, pictures):
    """H′ of one text and the pictures that are there: each head's softmax(q·k / √d) over them."""
    if not len(pictures):
        return np.zeros_like(states)
    vectors = layer_norm(linear(pictures / np.linalg.norm(pictures, axis=1, keepdims=True), layer.project[0]),
                         layer.project[1])  # fmt: skip
    weight, bias = (getattr(layer.attention, f"in_proj_{name}").detach().numpy() for name in ("weight", "bias"))
    q, k, v = (
        x @ w.T + b for x, w, b in zip((states, vectors, vectors), np.split(weight, 3), np.split(bias, 3), strict=True)
    )
    heads = []
    for head in np.split(np.arange(D), HEADS):
        scores = np.exp(q[:, head] @ k[:, head].T / np.sqrt(D / HEADS))
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, head])
    return linear(np.concatenate(heads, axis=1), layer.attention.out_proj)


@pytest.mark.parametrize("gated", [False, True])
def test_fusion_is_the_papers(gated):
    layer, states, images, mask = made(gated)
    found = layer(*(torch.from_numpy(x) for x in (states, images, mask))).detach()
    for i in range(B):
        seen = attended(layer, states[i], images[i][mask[i] == 1])
        gate = 1 / (1 + np.exp(-linear(np.concatenate([states[i], seen], 1), layer.gate))) if gated else 1
        expected = layer_norm(linear(states[i] + gate * seen, layer.output), layer.norm)
        np.testing.assert_allclose(found[i], expected, atol=1e-10)


def test_its_gradient_is_that_of_its_values():
    layer, states, images, mask = made(gated=True)
    inputs = [torch.from_numpy(x).requires_grad_() for x in (states, images)]
    assert torch.autograd.gradcheck(lambda h, m: layer(h, m, torch.from_numpy(mask)), inputs)


def test_each_picture_is_scaled_by_its_own_length():
    """In published code a picture's scale depended on all others."""
    layer, states, images, _ = made()
    factors = np.array([0.1, 1, 10, 100])[None, :, None]
    found = [layer(torch.from_numpy(states), torch.from_numpy(x)) for x in (images, images * factors)]
    torch.testing.assert_close(*found)
    turned = [layer(torch.from_numpy(states), torch.from_numpy(x)) for x in (images, images[:, ::-1].copy())]
    torch.testing.assert_close(*turned)


def test_a_text_without_pictures_is_that_of_no_pictures():
    layer, states, images, mask = (x if i == 0 else torch.from_numpy(x) for i, x in enumerate(made()))
    blind = layer(states)
    assert torch.equal(layer(states, images, mask)[2], blind[2])
    assert not torch.allclose(layer(states, images, mask)[:2], blind[:2])
    torch.testing.assert_close(layer(states, images + 9 * (1 - mask[..., None]), mask), layer(states, images, mask))


def test_before_training_states_go_through():
    layer = PictureAttention(D, F, heads=HEADS)
    states = torch.nn.functional.layer_norm(torch.randn(B, L, D), (D,))
    torch.testing.assert_close(layer(states), states, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="heads=4: 6, the width"):
        PictureAttention(6, F, heads=4)
    layer, states, images, _ = made()
    with pytest.raises(ShapeError, match="F=7"):
        layer(torch.from_numpy(states), torch.from_numpy(images[..., 1:]))
