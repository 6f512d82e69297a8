"""What a loaded encoder says of its head, and its vectors against a model run by hand."""

import pytest
import torch
import transformers

from sightread.encoders.text import load_model
from sightread.errors import ArtifactError, DataError
from sightread.probes.encoder import NO_HEAD, ProbedEncoder


@pytest.fixture(scope="module")
def probed(text_encoder_folder):
    return ProbedEncoder.from_pretrained(text_encoder_folder, "tiny")


def test_a_checkpoint_with_a_head_keeps_it(probed, text_encoder_folder):
    model = load_model(text_encoder_folder, "AutoModelForMaskedLM").eval()
    ids = torch.arange(5, 11)[None]
    ours = probed.masked_lm.eval()
    logits = ours.logits(ours(ids, torch.ones_like(ids)))
    torch.testing.assert_close(logits, model(ids).logits)
    assert probed.label == "tiny"


def test_a_checkpoint_without_a_head_gets_none_made_up(text_encoder_folder, tokenizer, tmp_path):
    transformers.AutoModel.from_pretrained(text_encoder_folder).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = ProbedEncoder.from_pretrained(tmp_path)
    assert (encoder.masked_lm, encoder.headless, encoder.label) == (None, NO_HEAD, str(tmp_path))
    assert encoder.embed(["a"]).shape == (1, 16)


def test_a_discriminator_is_no_language_model(tokenizer, tmp_path):
    sizes = {"embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ElectraConfig(vocab_size=len(tokenizer), intermediate_size=16, **sizes)
    transformers.ElectraForPreTraining(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert ProbedEncoder.from_pretrained(tmp_path).masked_lm is None


def test_an_architecture_without_such_a_head_has_none(tokenizer, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)
    transformers.CLIPTextModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = ProbedEncoder.from_pretrained(tmp_path)
    assert encoder.masked_lm is None
    assert encoder.embed(["a frog"]).shape == (1, 16)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"no model folder at .*nowhere"):
        ProbedEncoder.from_pretrained(tmp_path / "nowhere")


def test_vectors_are_means_over_tokens_that_are_not_special(probed, text_encoder_folder):
    model = load_model(text_encoder_folder, "AutoModel").eval()
    texts = ["red", "a red box", "zyx", "red"]  # the third falls into characters
    vectors = probed.embed(texts)
    for text, vector in zip(texts, vectors, strict=True):
        ids = probed.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(ids).last_hidden_state[0, 1:-1].mean(dim=0)
        torch.testing.assert_close(torch.from_numpy(vector), expected, atol=2e-3, rtol=2e-3)  # kept in half precision
    assert (vectors[0] == vectors[3]).all()


def test_a_text_without_tokens_is_named(probed):
    with pytest.raises(DataError, match=r"tiny: its tokenizer finds no token in '\\u200b'"):
        probed.embed(["red", "\u200b"])
