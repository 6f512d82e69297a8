import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sightread.errors import ConfigError, ShapeError
from sightread.modules import search as search_module
from sightread.modules.search import ExactIndex, exact_top_k


@pytest.fixture(autouse=True, scope="module", params=[False, True], ids=["float32", "bfloat16"])
def first_pass(request):
    """Both ways, whatever this processor is fast at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "has_fast_bf16", lambda device: request.param)
        yield


def brute_force(queries, keys, k):
    """Every score in double precision, one by one; equal scores in order of row."""
    scores = (queries.astype(np.float64)[:, None, :] * keys.astype(np.float64)[None, :, :]).sum(axis=-1)
    rows = np.array(
        [sorted(range(len(keys)), key=lambda row: (-line[row], row))[:k] for line in scores], dtype=np.int64
    )
    return np.take_along_axis(scores, rows.reshape(-1, k), axis=1), rows.reshape(-1, k)


def found(queries, keys, k, **blocks):
    scores, rows = ExactIndex(torch.from_numpy(keys), **blocks).top_k(torch.from_numpy(queries), k)
    assert scores.dtype == torch.float32
    assert rows.dtype == torch.int64
    return scores.numpy(), rows.numpy()


@st.composite
def searches(draw, elements):
    """Queries, keys of which some are copies of others, and k."""
    width, num_keys = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    values = st.tuples(st.just(draw(st.integers(0, 5))), st.just(width)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=elements)
    )
    keys = draw(arrays(np.float32, (num_keys, width), elements=elements))
    keys = keys[draw(st.lists(st.integers(0, num_keys - 1), min_size=1, max_size=12))]
    return draw(values), keys, draw(st.integers(1, len(keys)))


small_integers = st.integers(-2, 2).map(float)  # few values, so that most scores tie exactly
floats = st.one_of(st.just(0.0), st.floats(0.125, 100, width=32), st.floats(-100, -0.125, width=32))


@given(searches(small_integers), st.integers(1, 6), st.integers(1, 14))
def test_integer_vectors_equal_brute_force_in_every_tie_and_block_size(search, query_block, key_block):
    expected_scores, expected_rows = brute_force(*search)
    scores, rows = found(*search, query_block=query_block, key_block=key_block)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@given(searches(floats), st.integers(1, 6), st.integers(1, 14))
def test_float_vectors_equal_brute_force_in_double_precision(search, query_block, key_block):
    expected_scores, expected_rows = brute_force(*search)
    scores, rows = found(*search, query_block=query_block, key_block=key_block)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_rows_do_not_depend_on_block_sizes(k):
    rng = np.random.default_rng(k)
    keys = rng.standard_normal((50, 33)).astype(np.float32)
    keys = np.concatenate([keys, keys[::-1]])  # every key twice
    queries = rng.standard_normal((20, 33)).astype(np.float32)
    _, expected = brute_force(queries, keys, k)
    for query_block in (1, 7, 2048):
        for key_block in (1, 9, 50, 99, 16384):
            _, rows = found(queries, keys, k, query_block=query_block, key_block=key_block)
            np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("noise", [1e-7, 1e-6])
def test_keys_closer_than_single_precision_are_told_apart(noise):
    rng = np.random.default_rng(0)
    keys = (rng.standard_normal((1, 64)) + noise * rng.standard_normal((200, 64))).astype(np.float32)
    queries = rng.standard_normal((30, 64)).astype(np.float32)
    _, expected = brute_force(queries, keys, 5)
    _, rows = found(queries, keys, 5, key_block=17)
    np.testing.assert_array_equal(rows, expected)
    naive = np.argsort(-(queries @ keys.T), axis=1, kind="stable")[:, :5]
    assert (naive != expected).any()  # else the case would show nothing


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shift", [0.5, 30, 1e4])
def test_keys_that_all_point_one_way(shift, k):
    rng = np.random.default_rng(0)
    keys = (rng.standard_normal((300, 16)) + shift).astype(np.float32)
    queries = np.concatenate([rng.standard_normal((20, 16)), -np.ones((1, 16)), np.ones((1, 16))]).astype(np.float32)
    np.testing.assert_array_equal(found(queries, keys, k, key_block=32)[1], brute_force(queries, keys, k)[1])


@given(searches(st.floats(-2, 2, width=32)))
def test_the_margin_is_no_narrower_than_what_bfloat16_does(search):
    """Mantissas that are rounded by nearly half a place in both factors and in the product."""
    queries, keys, k = search
    off = np.float32(1 + 2**-8 - 2**-20)
    np.testing.assert_array_equal(
        found(queries * off, keys * off, k, key_block=3)[1], brute_force(queries * off, keys * off, k)[1]
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_scores_that_single_precision_cannot_hold_hide_no_key(k):
    keys = np.array([[1e20, -1.1e20], [1e19, 0], [5e18, 0]], np.float32)
    queries = np.array([[1e19, 1e19]], np.float32)
    np.testing.assert_array_equal(found(queries, keys, k, key_block=1)[1], brute_force(queries, keys, k)[1])


@pytest.mark.parametrize("key_block", [1, 3, 10, 64])
def test_keys_that_are_all_equal_come_in_order_of_row(key_block):
    queries, keys = np.ones((3, 4), np.float32) / 3, np.full((10, 4), 0.1, np.float32)
    scores, rows = found(queries, keys, 7, key_block=key_block)
    np.testing.assert_array_equal(rows, np.tile(np.arange(7), (3, 1)))
    assert len(np.unique(scores)) == 1


@pytest.mark.parametrize("k", [1, 4, 11, 40])  # fewer than blocks, as many, more
def test_clustered_keys_with_copies_and_rows_of_zeros(k, monkeypatch):
    monkeypatch.setattr(search_module, "QUERIES_AT_ONCE", 30)
    monkeypatch.setattr(search_module, "LOOKUPS_AT_ONCE", 50)  # many of the queries must be looked up in parts
    rng = np.random.default_rng(k)
    keys = rng.standard_normal((20, 1, 16)) + 0.01 * rng.standard_normal((20, 20, 16))
    keys = np.concatenate([keys.reshape(-1, 16), np.zeros((9, 16))]).astype(np.float32)[rng.integers(0, 409, 700)]
    queries = rng.standard_normal((75, 16)).astype(np.float32)
    queries[::9] = 0  # ties with every key
    scores, rows = found(queries, keys, k, query_block=7, key_block=64)
    expected_scores, expected = brute_force(queries, keys, k)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, expected_scores.astype(np.float32))


@pytest.mark.parametrize(("of_queries", "of_keys"), [(1e-30, 1e-30), (1e-23, 1e15), (1e30, 1e30), (1, 1e38)])
def test_scores_beyond_single_precision_are_ordered_all_the_same(of_queries, of_keys):
    rng = np.random.default_rng(0)
    keys = rng.uniform(-1, 1, 8) + 1e-7 * rng.uniform(-1, 1, (60, 8))  # a rounding apart
    keys = (keys * of_keys).astype(np.float32)
    queries = (rng.uniform(-1, 1, (20, 8)) * of_queries).astype(np.float32)
    np.testing.assert_array_equal(found(queries, keys, 3, key_block=7)[1], brute_force(queries, keys, 3)[1])


def test_an_index_is_searched_again_and_keeps_nothing_of_the_last_time():
    rng = np.random.default_rng(0)
    keys, queries = (torch.from_numpy(rng.standard_normal((n, 5)).astype(np.float32)) for n in (40, 12))
    index = ExactIndex(keys, key_block=6)
    for k, some in ((3, queries), (1, queries[:2]), (7, queries.requires_grad_()), (3, queries[5:])):
        for again, once in zip(index.top_k(some, k), exact_top_k(some, keys, k), strict=True):
            assert torch.equal(again, once)
            assert not again.requires_grad


def test_all_keys_can_be_asked_for():
    rng = np.random.default_rng(0)
    queries, keys = rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal((9, 3)).astype(np.float32)
    np.testing.assert_array_equal(found(queries, keys, 9)[1], brute_force(queries, keys, 9)[1])


def test_no_queries_give_no_rows():
    scores, rows = found(np.zeros((0, 3), np.float32), np.ones((5, 3), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_k_beyond_the_keys_is_refused(k):
    with pytest.raises(ConfigError, match=rf"k={k}.*5"):
        found(np.ones((1, 3), np.float32), np.ones((5, 3), np.float32), k)


@pytest.mark.parametrize(
    ("queries", "keys"), [((2, 3), (5, 4)), ((3,), (5, 3)), ((2, 3), (5,)), ((2, 3, 1), (5, 3)), ((0, 2), (5, 3))]
)
def test_wrong_shapes_are_refused(queries, keys):
    with pytest.raises(ShapeError, match=r"expected \("):
        found(np.ones(queries, np.float32), np.ones(keys, np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_values_that_are_not_finite_are_refused(value, side):
    given_arrays = [np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)]
    given_arrays[side][1, 2] = value
    with pytest.raises(ShapeError, match="finite"):
        found(*given_arrays, 1)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_rows():
    rng = np.random.default_rng(0)
    keys = np.repeat(rng.standard_normal((500, 48)).astype(np.float32), 2, axis=0)
    queries = rng.standard_normal((200, 48)).astype(np.float32)
    scores, rows = ExactIndex(torch.from_numpy(keys).cuda(), key_block=333).top_k(torch.from_numpy(queries).cuda(), 5)
    assert rows.device.type == scores.device.type == "cuda"
    np.testing.assert_array_equal(rows.cpu().numpy(), brute_force(queries, keys, 5)[1])
