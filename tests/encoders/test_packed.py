"""Packed sequences are read as each alone."""

import pickle

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from sightread.encoders import windows
from sightread.encoders.features import encode_ids
from sightread.encoders.packed import can_pack, encode_packed
from sightread.encoders.text import PACKED, TextEncoder, build_word_tokenizer
from sightread.encoders.windows import encode_lines, end_to_end

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "max_position_embeddings": 64}  # fmt: skip


def build(kind: str, **more: object) -> TextEncoder:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more}, pad_token_id=0)
    return TextEncoder(transformers.AutoModel.from_config(config).eval(), build_word_tokenizer(["a b c"]), (-2, -1))


def sequences(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 40, length) for length in lengths]


@pytest.mark.parametrize(
    ("kind", "more", "packs"),
    [("Bert", {}, True), ("Roberta", {}, True), ("Electra", {"embedding_size": 16}, True),
     ("Albert", {"embedding_size": 16}, True), ("MPNet", {}, False),
     ("CLIPText", {}, False)],
)  # fmt: skip
def test_a_packed_sequence_is_read_as_if_it_were_alone(kind, more, packs):
    encoder, ids = build(kind, **more), sequences(3, 7, 7, 1, 3)
    alone = torch.cat([encode_ids(encoder, [row])[0] for row in ids])
    assert can_pack(encoder, sequences(2, 60, 60)) == packs
    assert (encoder.model.config._attn_implementation == PACKED) == packs
    if packs:
        torch.testing.assert_close(encode_packed(encoder, ids), alone, atol=1e-5, rtol=1e-5)
        assert can_pack(encoder, ids)
    padded = encode_ids(encoder, ids)
    torch.testing.assert_close(torch.cat([row[: len(i)] for row, i in zip(padded, ids, strict=True)]), alone)


@pytest.mark.parametrize("lengths", [(64,), (64, 64), (1,), (40, 25), (63,)])
def test_large_batches_are_filled_up(lengths):
    encoder, ids, read = build("Bert"), sequences(*lengths), []
    assert can_pack(encoder, sequences(2, 60))
    alone = torch.cat([encode_ids(encoder, [row])[0] for row in ids])
    encoder.register_forward_hook(lambda _, args, __: read.append(args[0].shape[1]))
    torch.testing.assert_close(encode_packed(encoder, ids), alone, atol=1e-5, rtol=1e-5)
    assert read == [128 if sum(lengths) > 64 else sum(lengths)]


def test_a_model_that_takes_no_longer_rows_is_found_out_by_short_ones():
    encoder = build("CLIPText")
    assert not can_pack(encoder, sequences(2, 8, 8))


@pytest.mark.parametrize(("packed", "batches"), [(True, 3), (False, 4)])
def test_packed_lines_are_read_by_weights_laid_out_and_nothing_between_them_is(packed, batches, monkeypatch):
    encoder, inside, read = build("Bert"), [], []

    class LaidOut:
        def __enter__(self):
            inside.append(1)

        def __exit__(self, *_):
            inside.pop()

    monkeypatch.setattr(windows, "prepacked", lambda module, dtype: LaidOut())
    encoder.register_forward_hook(lambda *_: read.append(len(inside)))
    tokens, begins = end_to_end(sequences(3, 40, 40, 40))
    assert can_pack(encoder, sequences(2, 60))
    read.clear()
    for _ in encode_lines(encoder, tokens, begins, room=50, budget=60, packed=packed):
        assert not inside
    assert read == [int(packed)] * batches


@pytest.mark.parametrize("packed", [True, False])
@given(st.lists(st.integers(1, 300), min_size=1, max_size=60).map(sorted), st.sampled_from([256, 1024]))
def test_batches_are_as_few_as_can_be_and_even(packed, lengths, budget):
    def size(batch):
        return int(batch.sum() if packed else len(batch) * batch.max())

    few = [0]  # of the first so many windows
    for end in range(1, len(lengths) + 1):
        begins = (b for b in range(end) if b == end - 1 or size(np.array(lengths[b:end])) <= budget)
        few.append(min(few[b] + 1 for b in begins))
    batches = np.split(np.array(lengths), windows._borders(lengths, budget, packed))
    assert np.concatenate(batches).tolist() == lengths
    assert all(size(batch) <= budget or len(batch) == 1 for batch in batches)
    assert len(batches) == few[-1]


def test_whole_windows_are_padded_within_the_budget():
    encoder, read = build("Bert"), []
    encoder.register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    tokens, begins = end_to_end(sequences(*[3] * 50, 40))
    for _ in encode_lines(encoder, tokens, begins, room=50, budget=256, packed=True, level="sentence"):
        pass
    assert max(read) <= 256


def test_no_small_batch_is_left_over():
    batches = np.split(np.full(100, 50), windows._borders([50] * 100, 4096, True))
    assert [batch.sum() for batch in batches] == [2550, 2450]


def test_attention_within_a_window_is_found_out():
    encoder = build("ModernBert", local_attention=8, global_attn_every_n_layers=2, num_hidden_layers=3)
    assert not can_pack(encoder, sequences(2, 40, 40))
    assert encoder.model.config._attn_implementation == "sdpa"


def test_an_encoder_that_was_sent_elsewhere_still_packs():
    encoder, ids = build("Bert"), sequences(5, 2)
    assert can_pack(encoder, ids)
    sent = pickle.loads(pickle.dumps(encoder)).eval()
    assert sent.model.config._attn_implementation == "sdpa"  # another process does not know of ours until it packs
    assert torch.equal(encode_packed(sent, ids), encode_packed(encoder, ids))


def test_attention_that_is_not_torchs_own_is_left_alone():
    encoder = build("Bert", attn_implementation="eager")
    assert not can_pack(encoder, sequences(2, 5))
    assert encoder.model.config._attn_implementation == "eager"
