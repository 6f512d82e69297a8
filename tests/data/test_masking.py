import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.contracts import IGNORED
from sightread.data.masking import mask_tokens
from sightread.runtime import keyed_rng

MASK, V = 4, 1000
tokens = st.lists(st.integers(5, V - 1), max_size=40).map(lambda ids: np.array(ids, np.int64))
keys = st.integers(0, 2**32)


def mask(ids, key, **settings):
    return mask_tokens(ids, keyed_rng(key), **{"mask_id": MASK, "vocab_size": V} | settings)


@given(tokens, keys, st.floats(0, 1), st.data())
def test_labels_remember_what_was_hidden(ids, key, probability, data):
    maskable = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), bool)
    before = ids.copy()
    inputs, labels = mask(ids, key, probability=probability, maskable=maskable)
    chosen = labels != IGNORED
    assert inputs.dtype == labels.dtype == np.int64
    assert inputs.shape == labels.shape == ids.shape
    assert (labels[chosen] == ids[chosen]).all()
    assert (inputs[~chosen] == ids[~chosen]).all()
    assert not (chosen & ~maskable).any()
    assert ((inputs >= 0) & (inputs < V)).all()
    assert (ids == before).all()


@given(tokens, keys)
def test_a_key_gives_one_mask(ids, key):
    for one, two in zip(mask(ids, key), mask(ids, key), strict=True):
        assert (one == two).all()


@given(tokens, tokens, keys, st.floats(0, 1))
def test_the_draws_depend_on_the_length_alone(ids, others, key, probability):
    length = min(len(ids), len(others))
    one, two = keyed_rng(key), keyed_rng(key)
    labels = mask_tokens(ids[:length], one, mask_id=MASK, vocab_size=V)[1]
    _, others_labels = mask_tokens(others[:length], two, mask_id=MASK, vocab_size=V)
    assert ((labels == IGNORED) == (others_labels == IGNORED)).all()
    maskable = others[:length] % 2 == 0
    three = keyed_rng(key)
    mask_tokens(ids[:length], three, mask_id=0, vocab_size=V, probability=probability, maskable=maskable)
    assert len({rng.random() for rng in (one, two, three)}) == 1


@given(tokens, tokens, keys)
def test_what_is_read_does_not_tell_what_is_hidden(ids, others, key):
    """Where it stands there itself, one time in ten, it is not hidden, though it is asked for."""
    inputs, labels = mask(ids, key)
    hidden = (labels != IGNORED) & (inputs != ids)
    changed = ids.copy()
    changed[hidden] = np.resize(others, len(ids))[hidden] if len(others) else 7
    again, _ = mask(changed, key)
    assert (again == inputs)[hidden | (labels == IGNORED)].all()


@given(tokens, keys)
def test_the_ends_of_the_scale(ids, key):
    inputs, labels = mask(ids, key, probability=0.0)
    assert (inputs == ids).all()
    assert (labels == IGNORED).all()
    assert (mask(ids, key, probability=1.0)[1] == ids).all()


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_shares_are_those_of_bert(probability):
    ids = keyed_rng(0).integers(5, V, size=200_000)
    inputs, labels = mask(ids, 1, probability=probability)
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(probability, abs=0.005)  # more than five standard deviations
    hidden, true = inputs[chosen], ids[chosen]
    assert (hidden == MASK).mean() == pytest.approx(0.8, abs=0.012)
    assert (hidden == true).mean() == pytest.approx(0.1, abs=0.01)
    drawn = hidden[(hidden != MASK) & (hidden != true)]
    assert len(drawn) / len(hidden) == pytest.approx(0.1, abs=0.01)
    assert np.histogram(drawn, bins=10, range=(0, V))[0] / len(drawn) == pytest.approx(np.full(10, 0.1), abs=0.03)


def test_masks_of_keys_are_unrelated():
    ids = np.full(20_000, 9)
    chosen = [mask(ids, key)[1] != IGNORED for key in (1, 2)]
    assert (chosen[0] & chosen[1]).mean() == pytest.approx(0.15**2, abs=0.005)
