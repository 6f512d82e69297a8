import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from byte_clip import byte_tokenizer
from sightread.analysis.attention import PLACEHOLDER, AttentionMap, attention_of, draw
from sightread.association.chance import RandomAssociation
from sightread.bank import ImageBank
from sightread.data.clip_rows import ClipRows
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError
from sightread.grounded import Finder, GroundedEncoder, load_encoder
from sightread.methods.visual_awareness import AwarenessConfig, wrap
from sightread.modules.cross_modal import CrossModal
from sightread.modules.language_model import LanguageModel
from sightread.modules.two_stream import TwoStream, attention_maps
from sightread.runtime import keyed_rng, seed_everything
from sightread.xbert import XBertEncoder

TEXT = "the red box is large ."


def association(num_regions):
    features = keyed_rng(3).standard_normal((9, num_regions * 4)).astype(np.float32)
    return RandomAssociation(ImageBank([f"picture {i}" for i in range(9)], features, [""] * 9, num_regions=num_regions))


def words_of(folder):
    tokenizer = load_tokenizer(folder)
    return tokenizer.convert_ids_to_tokens(tokenizer(TEXT)["input_ids"])


def test_an_aware_encoder_looks_at_pictures(text_encoder_folder, tmp_path):
    """With one head, what is seen is the values of the pictures, weighed as the map says."""
    wrap(AwarenessConfig(num_images=3, heads=1, seed=4), text_encoder_folder, association(1), tmp_path / "run")
    found = attention_of(tmp_path / "run" / "encoder", TEXT)
    assert (found.rows, found.layers.shape) == (words_of(text_encoder_folder), (1, len(found.rows), 3))
    assert found.layers.sum(axis=2) == pytest.approx(1, abs=1e-5)
    encoder = load_encoder(tmp_path / "run" / "encoder")
    layer = encoder.cross_modal.attention
    bank = encoder.finder.association.bank
    seen = torch.from_numpy(bank.features[[bank.ids.index(id_) for id_ in found.columns]])
    tokens = load_tokenizer(text_encoder_folder)(TEXT, return_tensors="pt")
    heads = {}
    layer.attention.register_forward_hook(lambda _, given, output: heads.update(seen=output[0]))
    with torch.no_grad():
        encoder(tokens["input_ids"], tokens["attention_mask"])
        vectors = layer.project(torch.nn.functional.normalize(seen, dim=-1))
        width = vectors.shape[1]
        values = vectors @ layer.attention.in_proj_weight[2 * width :].T + layer.attention.in_proj_bias[2 * width :]
        expected = layer.attention.out_proj(torch.from_numpy(found.layers[0]) @ values)
    np.testing.assert_allclose(heads["seen"][0].numpy(), expected.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def grounded(text_encoder_folder, tmp_path_factory):
    """A grounded encoder with pictures of two regions, and one that sees its placeholder."""
    folder, tokenizer = tmp_path_factory.mktemp("grounded"), load_tokenizer(text_encoder_folder)
    for name, finder in (("found", Finder(association(2), tokenizer, 3)), ("placeholder", None), ("none", None)):
        seed_everything(5)
        text, cross = (LanguageModel.from_pretrained(text_encoder_folder) for _ in range(2))
        images = 0 if name == "none" else 3
        model = CrossModal(text.encoder, cross, image_width=4, num_images=images, num_regions=2)
        (folder / name).mkdir()
        GroundedEncoder.of(model, tokenizer, finder).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def test_a_grounded_encoder_reads_words_and_the_regions_of_pictures(grounded):
    found = attention_of(grounded / "found", TEXT)
    assert (found.rows, len(found.columns)) == (words_of(grounded / "found"), 3)
    assert set(found.columns) <= {f"picture {i}" for i in range(9)}
    encoder = load_encoder(grounded / "found")
    tokens = load_tokenizer(grounded / "found")(TEXT, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    read, cross = [], encoder.cross_modal.cross.encoder
    cross.register_forward_pre_hook(lambda _, given, named: read.append(named), with_kwargs=True)
    with torch.no_grad():
        encoder(ids, mask)
        x = read[0]["inputs_embeds"]
        layer = cross.encoder.layer[0].attention.self
        query, key = (part(x).unflatten(-1, (2, 8)).transpose(1, 2) for part in (layer.query, layer.key))
        weights = (query @ key.mT / 8**0.5).softmax(-1)[0].mean(0)  # of the first layer
    pictures = weights[: ids.shape[1], ids.shape[1] :].unflatten(1, (3, 2)).sum(2)
    np.testing.assert_allclose(found.layers[0], pictures.numpy(), atol=1e-5)
    assert found.layers.shape == (2, len(found.rows), 3)
    assert (found.layers.sum(axis=2) < 1).all()


def test_without_pictures_there_is_a_placeholder_or_nothing(grounded, text_encoder_folder):
    found = attention_of(grounded / "placeholder", TEXT)
    assert (found.columns, found.layers.shape[2]) == ([PLACEHOLDER], 1)
    with pytest.raises(ConfigError, match="reads no pictures"):
        attention_of(grounded / "none", TEXT)
    with pytest.raises(ConfigError, match="reads text alone"):
        attention_of(text_encoder_folder, TEXT)


def test_an_xbert_reads_the_words_of_clip(text_encoder_folder, tmp_path):
    seed_everything(6)
    clip_tokenizer, tokenizer = byte_tokenizer(16), load_tokenizer(text_encoder_folder)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ids = {name: getattr(clip_tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=len(clip_tokenizer), max_position_embeddings=16, **sizes, **ids))
    text = LanguageModel.from_pretrained(text_encoder_folder).encoder
    model = TwoStream(text, clip, None, num_layers=2)
    encoder = XBertEncoder.of(model, tokenizer, ClipRows(clip_tokenizer, 16), 2).eval()
    encoder.save_pretrained(tmp_path)
    found = attention_of(tmp_path, TEXT)
    tokens = tokenizer(TEXT, return_tensors="pt")
    inputs = encoder.clip_inputs(tokens["input_ids"], tokens["attention_mask"])
    maps = attention_maps(model, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], **inputs)
    words = inputs["clip_words"].flatten().bool().numpy()
    assert found.layers.shape == (2, len(found.rows), words.sum())
    assert len(found.columns) == words.sum()
    np.testing.assert_allclose(found.layers[1], maps[1][0][0].mean(0).numpy()[:, words], atol=1e-5)
    assert found.layers.sum(axis=2) == pytest.approx(1, abs=1e-4)


def test_a_text_that_is_too_long_is_cut_and_said(text_encoder_folder, grounded):
    longest = load_encoder(text_encoder_folder).config.max_position_embeddings
    with pytest.warns(UserWarning, match=f"longer than the {longest} tokens that the encoder reads"):
        found = attention_of(grounded / "placeholder", "the box " * 1000)
    assert len(found.rows) == longest


def test_where_an_aware_encoder_finds_no_picture_it_looks_at_none(text_encoder_folder, tmp_path):
    wrap(AwarenessConfig(num_images=3, heads=1, seed=4), text_encoder_folder, association(1), tmp_path / "run")
    found = attention_of(tmp_path / "run" / "encoder", "")
    assert found.columns == [PLACEHOLDER] * 3
    assert (found.layers == 0).all()


def test_the_most_looked_at_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    layers = np.zeros((2, 2, 3), np.float32)
    layers[:, :, 1:] = 0.5
    svg, pdf = draw(AttentionMap(["a", "dog"], ["unseen", "one", "other"], layers), tmp_path / "map", most=2)
    words = svg.read_text()
    assert all(f">{word}<" in words for word in ("dog", "one", "other", "mean over 2 layers and their heads"))
    assert ">unseen<" not in words
    assert pdf.is_file()
