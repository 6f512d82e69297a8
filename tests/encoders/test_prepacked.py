"""Linear layers whose weights were laid out beforehand compute what they are to."""

import pytest
import torch
from torch import nn

from sightread.encoders import prepacked as module
from sightread.encoders.prepacked import prepacked
from sightread.runtime import has_fast_bf16


@pytest.fixture(autouse=True)
def avx512(monkeypatch):
    """As if this processor had it; oneDNN computes with what there is."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.GELU(), nn.Linear(5, 3, bias=False)).requires_grad_(False)


def reference(layers, x):
    """In double precision, product by product."""
    first, _, last = layers
    hidden = (x.double()[..., None, :] * first.weight.double()).sum(-1) + first.bias.double()
    return (nn.functional.gelu(hidden)[..., None, :] * last.weight.double()).sum(-1)


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 7), (1, 7), (0, 7)])
def test_products_are_those_of_double_precision(shape, layers, monkeypatch):
    called, x = [], torch.randn(shape)
    with prepacked(layers) as mode, torch.inference_mode():
        monkeypatch.setattr(mode, "laid_out", Counting(mode.laid_out, called))
        found = layers(x)
    assert len(called) == 2  # both layers, and nothing else
    torch.testing.assert_close(found.double(), reference(layers, x), atol=1e-6, rtol=1e-5)


class Counting(dict):
    """Tells which weights were looked up, and found."""

    def __init__(self, items, called):
        super().__init__(items)
        self.called = called

    def get(self, key, default=None):
        self.called += [key] if key in self else []
        return super().get(key, default)


@pytest.mark.skipif(not has_fast_bf16(), reason="this processor has no instructions for bfloat16")
def test_in_bfloat16(layers):
    x = torch.randn(6, 7)
    with prepacked(layers, torch.bfloat16), torch.inference_mode():
        found = layers(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), reference(layers, x), atol=0.03, rtol=0.03)


def test_weights_that_change_are_laid_out_again(layers):
    x = torch.randn(4, 7)
    first = prepacked(layers)
    assert prepacked(layers) is first
    layers[0].weight.mul_(2)
    with prepacked(layers), torch.inference_mode():
        torch.testing.assert_close(layers(x).double(), reference(layers, x), atol=1e-6, rtol=1e-5)
    layers[2].weight.data = torch.randn(3, 5)
    with prepacked(layers), torch.inference_mode():
        torch.testing.assert_close(layers(x).double(), reference(layers, x), atol=1e-6, rtol=1e-5)
    for _ in range(50):  # whose places in memory may be those of the ones before
        layers[2].weight = nn.Parameter(torch.randn(3, 5), requires_grad=False)
        with prepacked(layers), torch.inference_mode():
            torch.testing.assert_close(layers(x).double(), reference(layers, x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_what_is_not_of_single_precision_is_left_alone(dtype, layers):
    assert not isinstance(prepacked(layers.to(dtype)), module._Prepacked)
    with torch.inference_mode():
        made_there = nn.Linear(3, 3)
    assert not isinstance(prepacked(made_there), module._Prepacked)


def test_one_that_has_gone_leaves_nothing():
    layer = nn.Linear(3, 3)
    prepacked(layer)
    held = len(module._made)
    del layer
    assert len(module._made) == held - 1


def test_layers_of_others_are_left_alone(layers):
    other, x = nn.Linear(7, 2), torch.randn(3, 7)
    with prepacked(layers):
        other(x).sum().backward()
    assert other.weight.grad is not None


def test_where_it_is_slower_nothing_happens(layers, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not isinstance(prepacked(layers), module._Prepacked)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not isinstance(prepacked(nn.Identity()), module._Prepacked)
    monkeypatch.setattr(module, "has_fast_bf16", lambda device: False)
    assert not isinstance(prepacked(layers, torch.bfloat16), module._Prepacked)
    assert isinstance(prepacked(layers), module._Prepacked)
