import sys

import numpy as np
import pytest
import torch

from sightread.bank import ImageBank, recall, unit_rows
from sightread.errors import ConfigError, MissingExtra, ShapeError
from sightread.modules.approximate import KINDS, FaissIndex
from sightread.modules.search import exact_top_k

rng = np.random.default_rng(0)
CENTRES = rng.standard_normal((40, 16))
KEYS, QUERIES = (
    torch.from_numpy(unit_rows(CENTRES[rng.integers(0, 40, n)] + 0.2 * rng.standard_normal((n, 16))))
    for n in (2000, 50)
)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"sightread\[faiss\]"):
        FaissIndex(KEYS, "flat")
    bank = ImageBank(["a"], KEYS[:1].numpy(), [""])
    with pytest.raises(MissingExtra, match=r"sightread\[faiss\]"):
        bank.with_index("ivf")  # at once, and not when it is first searched


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'hnsw'"):
        FaissIndex(KEYS, "hnws")


@pytest.fixture(params=KINDS)
def kind(request):
    pytest.importorskip("faiss")
    return request.param


@pytest.mark.parametrize("k", [1, 5])
def test_what_is_found_is_scored_as_exact_search_does(kind, k):
    scores, rows = FaissIndex(KEYS, kind).top_k(QUERIES, k)
    assert (scores.dtype, rows.dtype, rows.shape) == (torch.float32, torch.int64, (50, k))
    np.testing.assert_allclose(scores, (QUERIES[:, None].double() * KEYS[rows].double()).sum(-1), rtol=1e-6)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    expected = exact_top_k(QUERIES, KEYS, k)[1]
    same = (rows == expected).float().mean()
    assert same == 1 if kind == "flat" else same > 0.9


def test_an_index_is_always_the_same(kind):
    first, second = (FaissIndex(KEYS, kind).top_k(QUERIES, 5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_does_not_fit_is_refused(kind):
    index = FaissIndex(KEYS, kind)
    with pytest.raises(ConfigError, match=r"k=2001.*2000"):
        index.top_k(QUERIES, 2001)
    with pytest.raises(ShapeError, match="finite"):
        index.top_k(QUERIES * torch.nan)
    assert index.top_k(QUERIES[:0], 3)[1].shape == (0, 3)


def test_an_index_that_finds_too_few_says_so():
    pytest.importorskip("faiss")
    with pytest.raises(ConfigError, match="ivf index found fewer than k=2000"):
        FaissIndex(KEYS, "ivf").top_k(QUERIES, 2000)


def test_a_bank_is_searched_with_it(kind):
    bank = ImageBank([str(i) for i in range(2000)], KEYS.numpy(), [""] * 2000).with_index(kind)
    assert torch.equal(bank.nearest(QUERIES, 3)[1], FaissIndex(KEYS, kind).top_k(QUERIES, 3)[1])
    assert recall(bank, QUERIES) > 0.9
