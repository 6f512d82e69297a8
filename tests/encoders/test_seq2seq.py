"""Translating Transformers: no character is lost, positions are Vaswani's, the search does not see what lies beside."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st

from sightread.encoders.seq2seq import (
    EXTRA_LENGTH,
    build_transformer,
    learn_vocabulary,
    padded,
    token_ids,
    translate,
)
from sightread.errors import DataError
from sightread.runtime import seed_everything

TEXT = ["A red box, near the garden.", "Eine rote Kiste, in der Nähe des Gartens.", "two boxes, one red cup"] * 2
SIZES = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.1}


@pytest.fixture(scope="module")
def tokenizer():
    return learn_vocabulary(TEXT, 300)


@pytest.fixture
def model(tokenizer):
    """Random weights, and a bias towards the end of a sentence, so that translations are of different lengths."""
    seed_everything(0)
    model = build_transformer(tokenizer, **SIZES, num_beams=4, length_penalty=0.6).eval()
    model.final_logits_bias[0, tokenizer.eos_token_id] = 2
    return model


@given(text=st.text())
@example(text="a</s> b<pad>")
def test_no_character_is_lost(text, tokenizer):
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True).removeprefix(" ") == text.removeprefix(" ")


def test_the_vocabulary_is_as_large_as_asked_and_always_the_same(tokenizer):
    assert len(tokenizer) == 300
    assert len(learn_vocabulary(TEXT, 10_000)) < 400  # no more pieces than occur twice
    assert learn_vocabulary(iter(TEXT), 300).get_vocab() == tokenizer.get_vocab()
    assert tokenizer.tokenize("red box") == [*tokenizer.tokenize("red"), *tokenizer.tokenize(" box")]


def test_tokens_do_not_depend_on_how_many_are_made_at_once(tokenizer):
    expected = [tokenizer(text)["input_ids"] for text in TEXT]
    assert [row.tolist() for row in token_ids(tokenizer, TEXT, at_once=4)] == expected


def test_embeddings_are_shared_and_positions_are_sinusoids(model, tokenizer):
    shared = {model.model.shared.weight.data_ptr()}
    parts = (model.model.encoder.embed_tokens, model.model.decoder.embed_tokens, model.lm_head)
    assert {part.weight.data_ptr() for part in parts} == shared
    position, pair = np.arange(50)[:, None], np.arange(SIZES["width"] // 2)
    angles = position / 10_000 ** (2 * pair / SIZES["width"])
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # the paper's, sines first
    for side in (model.model.encoder, model.model.decoder):
        assert not side.embed_positions.weight.requires_grad
        np.testing.assert_allclose(side.embed_positions.weight[:50], expected, atol=1e-6)
        assert side.embed_scale == SIZES["width"] ** 0.5


def test_fresh_embeddings_have_the_papers_scale(tokenizer):
    wide = build_transformer(tokenizer, **{**SIZES, "width": 64}, num_beams=1, length_penalty=1.0)
    assert wide.model.shared.weight[2:].std().item() == pytest.approx(64**-0.5, rel=0.03)


SENTENCES = ["two boxes", "A red box, near the garden, near one red cup.", "cup", "Eine rote Kiste.", "the garden"]


def test_translations_keep_their_order_whatever_the_batch(model, tokenizer):
    alone = [translate(model, tokenizer, [sentence])[0] for sentence in SENTENCES]
    assert len(set(alone)) == len(SENTENCES)
    for batch_size in (2, 5, 64):
        assert translate(model, tokenizer, SENTENCES, batch_size=batch_size) == alone
    assert translate(model, tokenizer, []) == []


def log_probability(model, source, target):
    """log p(target | source), by one forward pass; token ids, the target with its end."""
    inputs = torch.tensor([[model.config.pad_token_id, *target[:-1]]])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=inputs).logits[0].double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_p[np.arange(len(target)), target].sum()


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_hypotheses_are_ranked_as_the_docstring_says(length_penalty, model, tokenizer):
    model.generation_config.length_penalty = length_penalty
    source = tokenizer("A red box.")["input_ids"]
    found = model.generate(
        **padded([np.array(source)], tokenizer.pad_token_id), max_new_tokens=40, num_return_sequences=4,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    scores = []
    for tokens in found.sequences.tolist():
        target = tokens[1 : tokens.index(tokenizer.eos_token_id) + 1]
        scores.append(log_probability(model, source, target) / len(target) ** length_penalty)
    np.testing.assert_allclose(found.sequences_scores, scores, rtol=1e-4)
    assert scores == sorted(scores, reverse=True)


def test_an_endless_translation_is_cut(model, tokenizer, monkeypatch):
    model.final_logits_bias[0, tokenizer.eos_token_id] = -1e9
    made, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: made.append(generate(**inputs)) or made[-1])
    translate(model, tokenizer, ["a red cup"])
    start, source = 1, len(tokenizer("a red cup")["input_ids"])
    assert made[0].shape == (1, start + source + EXTRA_LENGTH)


def test_a_sentence_beyond_the_models_reach_is_named(model, tokenizer):
    with pytest.raises(DataError, match=r"sentence 2 has 2002 tokens, and this model reads at most 974; split it"):
        translate(model, tokenizer, ["a cup", "?" * 2000])


def test_the_folder_is_an_ordinary_checkpoint(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    inputs = again(TEXT, return_tensors="pt", padding=True)
    assert set(inputs) == {"input_ids", "attention_mask"}
    texts = again.batch_decode(loaded.generate(**inputs, max_new_tokens=80), skip_special_tokens=True)
    assert [text.strip() for text in texts] == translate(model, tokenizer, TEXT)
    assert all(texts)
