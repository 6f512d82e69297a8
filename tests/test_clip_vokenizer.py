"""Vokenizers made of a CLIP or SigLIP: their vectors are the model's own, and they are vokenizers like any other."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from typer.testing import CliRunner

from clip_models import POSITIONS, build_model, build_tokenizer, save
from sightread.bank import build_bank
from sightread.cli import app
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.clip import ClipTowers
from sightread.encoders.text import load_tokenizer
from sightread.encoders.windows import overlapping_windows
from sightread.errors import ConfigError
from sightread.runtime import data_root
from sightread.vokenizer import Vokenizer

WIDTH = {"clip": 8, "siglip": 12}
SENTENCES = ["a red box", "dog", "the cup is big", "zz ."]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def made(request, captions, tmp_path_factory):
    """The kind, the model, its folder, its towers as loaded, and a bank of the world's 24 pictures."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    tokenizer = build_tokenizer(kind)
    model = build_model(kind, tokenizer)
    towers = ClipTowers.from_pretrained(save(folder, model, tokenizer))
    return kind, model, folder, towers, build_bank(captions.pictures, towers.image_encoder)[0]


def unit(x):
    x = x.detach().double().numpy()
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def inputs(kind, tokenizer, sentence):
    """What the model's makers give it: SigLIP reads texts filled up to its full length, and no mask."""
    if kind == "clip":
        return tokenizer(sentence, return_tensors="pt")
    ids = tokenizer(sentence, padding="max_length", max_length=POSITIONS, return_tensors="pt")["input_ids"]
    return {"input_ids": ids}


def sentence_vector(kind, model, tokenizer, sentence):
    return unit(model.get_text_features(**inputs(kind, tokenizer, sentence)).pooler_output)[0]


def token_vectors(kind, model, tokenizer, sentence):
    """States after the last LayerNorm in the joint space, special tokens left out."""
    states = model.text_model(**inputs(kind, tokenizer, sentence)).last_hidden_state[0]
    length, begin = len(tokenizer(sentence, add_special_tokens=False)["input_ids"]), int(kind == "clip")
    projected = (model.text_projection if kind == "clip" else model.text_model.head)(states)
    return unit(projected[begin : begin + length])


def ids_of(vokenizer, sentences):
    return [vokenizer.tokenizer(sentence, add_special_tokens=False)["input_ids"] for sentence in sentences]


def test_vectors_of_sentences_and_tokens_are_the_models_own(made):
    kind, model, _, towers, bank = made
    for level in ("sentence", "token"):
        vokenizer = Vokenizer.from_clip(towers, bank, level)
        ids = ids_of(vokenizer, SENTENCES)
        for sentence, tokens, vectors in zip(SENTENCES, ids, vokenizer.token_vectors(ids), strict=True):
            expected = (sentence_vector if level == "sentence" else token_vectors)(
                kind, model, vokenizer.tokenizer, sentence
            )
            assert vectors.shape == (len(tokens), WIDTH[kind])
            np.testing.assert_allclose(vectors, np.broadcast_to(expected, vectors.shape), atol=1e-5)


def test_vectors_of_pictures_are_the_models_own(made, captions):
    _, model, _, towers, bank = made
    pixels = towers.image_encoder.preprocess([captions.pictures.load(row) for row in range(24)])
    expected = unit(model.get_image_features(pixel_values=pixels).pooler_output)
    np.testing.assert_allclose(Vokenizer.from_clip(towers, bank).bank.vectors, expected, atol=1e-5)


def test_long_text_is_read_in_windows_of_what_the_tower_reads(made):
    kind, model, _, towers, bank = made
    vokenizer, tokenizer = Vokenizer.from_clip(towers, bank, "sentence"), towers.text_encoder.tokenizer
    assert vokenizer.config.max_length == POSITIONS
    assert vokenizer.room == POSITIONS - (2 if kind == "clip" else 1)
    ids = list(range(26))
    vectors = vokenizer.token_vectors([ids])[0].numpy()
    begin, end = ([tokenizer.bos_token_id] if kind == "clip" else []), [tokenizer.eos_token_id]
    for first, last, keep_from, keep_to in overlapping_windows(26, vokenizer.room):
        window = torch.tensor([begin + ids[first:last] + end])
        expected = unit(model.get_text_features(input_ids=window).pooler_output)
        np.testing.assert_allclose(vectors[keep_from:keep_to], expected.repeat(keep_to - keep_from, 0), atol=1e-5)


def test_saved_and_loaded_it_is_the_same(made, tmp_path):
    kind, _, _, towers, bank = made
    for level in ("token", "sentence"):
        before = Vokenizer.from_clip(towers, bank, level)
        after = Vokenizer.from_pretrained(before.save_pretrained(tmp_path / level))
        assert after(SENTENCES, k=3) == before(SENTENCES, k=3)
        assert after.config == before.config
        assert after.image_encoder.digest == before.image_encoder.digest
    saved = [AutoConfig.from_pretrained(tmp_path / "token" / f"{side}_encoder") for side in ("text", "image")]
    assert [config.model_type for config in saved] == [f"{kind}_text_model", f"{kind}_vision_model"]


def test_the_verb_makes_what_vokenize_takes(made, world_folder, captions, tmp_path):
    kind, model, folder, *_ = made
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES))

    def sightread(command):
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output
        return result.stdout

    options = f"--model {folder} --images {world_folder}/images --size 9 --level sentence"
    said = sightread(f"clip {options} --out {tmp_path}/vokenizer")
    assert said.strip() == f"vokenizer with 9 pictures in {tmp_path}/vokenizer"
    paths = f"--corpus {tmp_path}/corpus.txt --vokenizer {tmp_path}/vokenizer --out {tmp_path}/vokens"
    sightread(f"vokenize {paths} --workers 1")
    vokenizer = Vokenizer.from_pretrained(tmp_path / "vokenizer")
    ids = {id_: row for row, id_ in enumerate(captions.pictures.ids)}
    images = [captions.pictures.load(ids[id_]) for id_ in vokenizer.bank.ids]
    keys = unit(model.get_image_features(pixel_values=vokenizer.image_encoder.preprocess(images)).pooler_output)
    lines = list(VokenCorpus(tmp_path / "vokens"))
    for sentence, line in zip(SENTENCES, lines, strict=True):
        best = (keys @ sentence_vector(kind, model, vokenizer.tokenizer, sentence)).argmax()
        assert line.voken_ids.tolist() == [best] * len(line.token_ids)


def test_other_models_are_refused(text_encoder_folder):
    with pytest.raises(ConfigError, match=r"is of the kind 'bert'; give a CLIP or a SigLIP"):
        ClipTowers.from_pretrained(text_encoder_folder)


@pytest.mark.realdata
def test_clips_own_tokenizer(captions, tmp_path):
    tokenizer = load_tokenizer(data_root() / "models" / "tok-clip")
    assert tokenizer.model_max_length == 77
    model = build_model("clip", tokenizer, positions=77)
    towers = ClipTowers.from_pretrained(save(tmp_path, model, tokenizer))
    bank = build_bank(captions.pictures, towers.image_encoder)[0]
    texts = ["A photo of a cat.", "Anna's café, 42 lamps", "x"]
    vokenizer = Vokenizer.from_clip(towers, bank, "sentence")
    vectors = [v[0].numpy() for v in vokenizer.token_vectors(ids_of(vokenizer, texts))]
    together = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    np.testing.assert_allclose(np.stack(vectors), unit(together), atol=1e-5)
