import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import LAYERS
from sightread.bank import ImageBank, build_bank
from sightread.encoders.image import ImageEncoder
from sightread.encoders.windows import end_to_end, overlapping_windows
from sightread.errors import ArtifactError, ConfigError
from sightread.vokenizer import TOKEN_BUDGET, Vokenizer

SENTENCES = ["The red box is large .", "", "zzz", "a small  cup,near the garden", "   ", "anna has a lamp ."]
ROOM = 22  # 24 tokens at once, two of them special


@pytest.fixture(scope="module")
def vokenizer(vokenizer_folder):
    return Vokenizer.from_pretrained(vokenizer_folder)


def linear(layer, x):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def head_in_numpy(head, x):
    """LayerNorm, linear, ReLU, linear, unit length, in double precision."""
    norm, first, second = (layer for layer in head.layers if hasattr(layer, "weight"))
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + norm.eps)
    x = x * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
    x = linear(second, np.maximum(linear(first, x), 0))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vectors_alone(vokenizer, ids, kept=slice(1, -1)):
    """Joint vectors of one sequence that fits, by default without special tokens: no batch, no padding, no windows."""
    tokenizer, model = vokenizer.tokenizer, vokenizer.text_encoder.model.eval()
    around = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
    with torch.no_grad():
        hidden = model(input_ids=around, output_hidden_states=True).hidden_states
    states = np.concatenate([hidden[layer][0, kept].double().numpy() for layer in LAYERS], axis=-1)
    return head_in_numpy(vokenizer.text_head, states)


def test_every_token_gets_its_best_pictures(vokenizer):
    keys = head_in_numpy(vokenizer.image_head, vokenizer.bank.features.astype(np.float64))
    results = vokenizer(SENTENCES, k=4)
    assert [len(tokens) for tokens in results] == [6, 0, 3, 7, 0, 5]
    for sentence, tokens in zip(SENTENCES, results, strict=True):
        ids = vokenizer.tokenizer(sentence, add_special_tokens=False)["input_ids"]
        scores = vectors_alone(vokenizer, ids) @ keys.T if ids else []
        for token, id_, line in zip(tokens, ids, scores, strict=True):
            best = np.argsort(-line, kind="stable")[:4]
            assert token.piece == vokenizer.tokenizer.convert_ids_to_tokens(id_)
            assert sentence[slice(*token.span)].lower() == token.piece.removeprefix("##")
            assert token.rows == best.tolist()
            assert token.image_ids == [vokenizer.bank.ids[row] for row in best]
            np.testing.assert_allclose(token.scores, line[best], atol=1e-5)


def test_one_picture_unless_more_are_asked_for(vokenizer):
    every = vokenizer(SENTENCES, k=24)
    for one, all_ in zip(vokenizer(SENTENCES), every, strict=True):
        assert [token.rows for token in one] == [token.rows[:1] for token in all_]
    assert sorted(every[0][0].rows) == list(range(24))
    with pytest.raises(ConfigError, match=r"k=25.*24 pictures"):
        vokenizer(SENTENCES, k=25)


@pytest.mark.parametrize("sentences", [[], [""], ["", " ", "\t"]], ids=str)
def test_no_tokens_give_no_vokens(vokenizer, sentences):
    assert vokenizer(sentences) == [[] for _ in sentences]


@given(length=st.integers(0, 300), room=st.integers(1, 40))
def test_windows_tile_the_sequence_and_give_every_token_context(length, room):
    windows = list(overlapping_windows(length, room))
    kept = [position for _, _, keep_from, keep_to in windows for position in range(keep_from, keep_to)]
    assert kept == list(range(length))
    for begin, end, keep_from, keep_to in windows:
        assert 0 <= begin <= keep_from < keep_to <= end <= length
        assert end - begin == min(room, length)
        assert keep_from == 0 or keep_from - begin >= room // 8
        assert keep_to == length or end - keep_to >= room // 8
    assert len(windows) <= 1 + -(-4 * max(length - room, 0) // (3 * room))  # a quarter is read twice


def test_long_text_is_read_in_windows(vokenizer):
    words = [word for word in vokenizer.tokenizer.get_vocab() if word.isalpha()]
    lengths = [ROOM, ROOM + 1, 2 * ROOM, 75, 3]
    rng = np.random.default_rng(0)
    sequences = [
        np.array(vokenizer.tokenizer.convert_tokens_to_ids(list(rng.choice(words, length)))) for length in lengths
    ]
    for ids, vectors in zip(sequences, vokenizer.token_vectors(sequences), strict=True):
        assert vectors.shape == (len(ids), 8)
        expected = np.zeros((len(ids), 8))
        for begin, end, keep_from, keep_to in overlapping_windows(len(ids), ROOM):
            expected[keep_from:keep_to] = vectors_alone(vokenizer, ids[begin:end])[keep_from - begin : keep_to - begin]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    sentence = " ".join(rng.choice(words, 75))
    assert [sentence[slice(*token.span)] for token in vokenizer([sentence])[0]] == sentence.split()


@pytest.mark.parametrize("k", [1, 5])
def test_vokens_are_the_best_rows_with_their_scores_however_often_a_line_occurs(vokenizer, k):
    lines = vokenizer.tokenizer([*SENTENCES, *SENTENCES[::-1], "the " * 40], add_special_tokens=False)["input_ids"]
    rows, scores = vokenizer.vokens(*end_to_end(lines), k=k)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    products = torch.cat(vokenizer.token_vectors(lines)).double().numpy() @ vokenizer.bank.vectors.T.astype(float)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(products, expected, axis=1), atol=1e-6)


def test_at_the_level_of_sentences_a_window_has_one_vector_and_is_searched_once(vokenizer, monkeypatch):
    whole, asked, nearest = copy.copy(vokenizer), [], ImageBank.nearest
    whole.config = replace(vokenizer.config, level="sentence")
    lines = vokenizer.tokenizer([*SENTENCES, "the red box " * 20, SENTENCES[0]], add_special_tokens=False)["input_ids"]
    expected = [np.zeros((len(ids), 8)) for ids in lines]
    for ids, vectors in zip(lines, expected, strict=True):
        for begin, end, keep_from, keep_to in overlapping_windows(len(ids), ROOM):
            vectors[keep_from:keep_to] = vectors_alone(vokenizer, ids[begin:end], [0])
    np.testing.assert_allclose(torch.cat(whole.token_vectors(lines)), np.concatenate(expected), atol=1e-5)
    monkeypatch.setattr(ImageBank, "nearest", lambda *args: (asked.append(len(args[1])), nearest(*args))[1])
    rows = whole.vokens(*end_to_end(lines))[0][:, 0]
    assert sum(asked) == 4 + len(list(overlapping_windows(60, ROOM)))  # of the lines that differ and are not empty
    keys = head_in_numpy(vokenizer.image_head, vokenizer.bank.features.astype(np.float64))
    np.testing.assert_array_equal(rows, (np.concatenate(expected) @ keys.T).argmax(axis=1))
    assert [token.rows for tokens in whole(SENTENCES) for token in tokens] == rows[
        : sum(map(len, lines[:6])), None
    ].tolist()


def test_an_encoder_that_sees_padding_is_refused(vokenizer):
    from transformers import FNetConfig, FNetModel

    from sightread.encoders.text import TextEncoder

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    model = FNetModel(FNetConfig(vocab_size=len(vokenizer.tokenizer), **sizes)).eval()
    encoder = TextEncoder(model, vokenizer.tokenizer, LAYERS)
    parts = (vokenizer.text_head, vokenizer.image_encoder, vokenizer.image_head, vokenizer.bank)
    with pytest.raises(ConfigError, match="FNetModel does not leave padding out"):
        Vokenizer(vokenizer.config, encoder, *parts)


def test_batches_stay_under_the_budget_of_tokens(vokenizer, monkeypatch):
    sentences = ["the box is red ."] * 30 + ["the garden " * 40] * 3
    expected = vokenizer(sentences)
    shapes = []
    hook = vokenizer.text_encoder.register_forward_hook(lambda _, args, __: shapes.append(args[0].shape))
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 50)
    results = vokenizer(sentences)
    hook.remove()
    assert all(rows * length <= 50 for rows, length in shapes)
    assert len(shapes) < 30
    assert [[t.rows for t in tokens] for tokens in results] == [[t.rows for t in tokens] for tokens in expected]


def answers(vokenizer):
    return vokenizer(SENTENCES, k=5)


def test_a_saved_vokenizer_gives_the_same_answers(vokenizer, tmp_path):
    folder = vokenizer.save_pretrained(tmp_path / "copy")
    assert answers(Vokenizer.from_pretrained(folder)) == answers(vokenizer)
    with pytest.raises(ArtifactError, match="already holds a finished vokenizer"):
        vokenizer.save_pretrained(folder)
    assert answers(Vokenizer.from_pretrained(vokenizer.save_pretrained(folder, overwrite=True))) == answers(vokenizer)


def test_older_folders_are_of_tokens_and_of_cropped_pictures(vokenizer, vokenizer_folder, tmp_path):
    manifest = shutil.copytree(vokenizer_folder, tmp_path / "old") / "manifest.json"
    header = json.loads(manifest.read_text())
    del header["config"]["level"], header["config"]["view"]
    manifest.write_text(json.dumps(header))
    assert answers(Vokenizer.from_pretrained(tmp_path / "old")) == answers(vokenizer)


def test_another_bank_of_the_same_encoder_takes_the_banks_place(vokenizer, vokenizer_folder):
    bank = ImageBank.load(vokenizer_folder / "bank").select([5, 3, 20])
    other = Vokenizer.from_pretrained(vokenizer_folder, bank)
    for tokens, before in zip(other(SENTENCES, k=3), vokenizer(SENTENCES, k=24), strict=True):
        for token, among_all in zip(tokens, before, strict=True):
            assert token.image_ids == [id_ for id_ in among_all.image_ids if id_ in bank.ids]


def test_a_bank_of_another_encoder_is_refused(vokenizer_folder):
    bank = ImageBank(["a", "b"], np.eye(2, 7), ["", ""])
    with pytest.raises(ArtifactError, match=r"7 wide.*gives 12.*build the bank with"):
        Vokenizer.from_pretrained(vokenizer_folder, bank)


def test_a_bank_of_another_encoder_that_is_as_wide_is_refused(vokenizer_folder, image_encoder_folder, captions):
    encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    own = build_bank(captions.pictures, encoder)[0]
    next(encoder.parameters()).data += 0.1
    other = build_bank(captions.pictures, encoder)[0]
    assert len(Vokenizer.from_pretrained(vokenizer_folder, own).bank) == 24
    for bank in (other, other.select([3, 4]).with_index("flat").with_vectors(np.eye(2))):
        with pytest.raises(ArtifactError, match=r"the bank's image encoder does not fit.*pooling and view"):
            Vokenizer.from_pretrained(vokenizer_folder, bank)


DAMAGE = {
    "torn heads": lambda folder: (folder / "heads.safetensors").write_bytes(b"torn"),
    "no heads": lambda folder: (folder / "heads.safetensors").unlink(),
    "no bank": lambda folder: shutil.rmtree(folder / "bank"),
    "no text encoder": lambda folder: shutil.rmtree(folder / "text_encoder"),
    "no image encoder": lambda folder: shutil.rmtree(folder / "image_encoder"),
    "unfinished": lambda folder: (folder / "manifest.json").unlink(),
    "heads of another width": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"width": 8', '"width": 9')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_vokenizer_is_refused(vokenizer_folder, tmp_path, damage):
    shutil.copytree(vokenizer_folder, tmp_path / "vokenizer")
    DAMAGE[damage](tmp_path / "vokenizer")
    with pytest.raises(ArtifactError):
        Vokenizer.from_pretrained(tmp_path / "vokenizer")


def test_a_max_length_without_room_for_a_token_is_refused(vokenizer_folder, tmp_path):
    shutil.copytree(vokenizer_folder, tmp_path / "vokenizer")
    manifest = tmp_path / "vokenizer" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"max_length": 24', '"max_length": 2'))
    with pytest.raises(ConfigError, match="max_length"):
        Vokenizer.from_pretrained(tmp_path / "vokenizer")(["the box"])


def test_a_repository_that_cannot_be_had_is_an_error_of_ours():
    with pytest.raises(ArtifactError, match="nobody/nothing"):
        Vokenizer.from_pretrained("nobody/nothing")  # the suite runs offline


def test_a_folder_that_is_no_vokenizer_is_refused(tmp_path, text_encoder_folder):
    for folder in (tmp_path / "missing", text_encoder_folder):
        with pytest.raises(ArtifactError, match="vokenizer"):
            Vokenizer.from_pretrained(folder)
