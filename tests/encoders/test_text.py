import copy
import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers

from sightread.encoders.text import (
    TextEncoder,
    build_word_tokenizer,
    check_fast,
    freeze,
    hub_names,
    load_model,
    load_tokenizer,
    tokenizer_digest,
    weights_digest,
)
from sightread.errors import ArtifactError, ConfigError, DataError, ShapeError
from sightread.runtime import data_root


def batch():
    ids = torch.randint(5, 40, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    return ids, mask


@pytest.mark.parametrize("layers", [(-1,), (2,), (0,), (-3, -1), (1, 1, 0), (2, 1, 0)])
def test_layers_are_hidden_states_side_by_side(text_encoder_folder, layers):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, layers).eval()
    ids, mask = batch()
    with torch.no_grad():
        vectors = encoder(ids, mask)
        hidden = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert len(hidden) == 3
    assert encoder.width == 16 * len(layers) == vectors.shape[-1]
    for place, layer in enumerate(layers):
        torch.testing.assert_close(vectors[..., 16 * place : 16 * (place + 1)], hidden[layer])


def outputs(encoder):
    with torch.no_grad():
        return encoder(*batch())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_can_be_sent(text_encoder_folder, dtype):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, (-2, -1)).to(dtype).eval()
    expected = outputs(encoder)
    assert torch.equal(outputs(pickle.loads(pickle.dumps(encoder)).eval()), expected)
    assert torch.equal(outputs(copy.deepcopy(encoder)), expected)


@pytest.mark.slow
def test_it_can_be_sent_to_another_process(text_encoder_folder):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, (-2, -1)).eval()
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        assert torch.equal(pool.submit(outputs, encoder).result(), outputs(encoder))


@pytest.mark.parametrize("layers", [(3,), (-4,), (0, 7), ()])
def test_a_layer_that_does_not_exist_is_refused(text_encoder_folder, layers):
    with pytest.raises(ConfigError, match="-3 to 2"):
        TextEncoder.from_pretrained(text_encoder_folder, layers)


def test_shapes_are_checked(text_encoder_folder):
    encoder = TextEncoder.from_pretrained(text_encoder_folder)
    ids, mask = batch()
    with pytest.raises(ShapeError, match="input_ids"):
        encoder(ids[0], mask[0])
    with pytest.raises(ShapeError, match="attention_mask"):
        encoder(ids, mask[:, :5])


def test_a_saved_encoder_loads_as_an_ordinary_checkpoint(text_encoder_folder, tmp_path):
    encoder = TextEncoder.from_pretrained(text_encoder_folder, (0, -1)).eval()
    encoder.save_pretrained(tmp_path)
    ids, mask = batch()
    with torch.no_grad():
        plain = transformers.AutoModel.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(
            plain(input_ids=ids, attention_mask=mask).last_hidden_state, encoder(ids, mask)[..., 16:]
        )
        torch.testing.assert_close(TextEncoder.from_pretrained(tmp_path, (0, -1)).eval()(ids, mask), encoder(ids, mask))
    assert tokenizer_digest(transformers.AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_digest(encoder.tokenizer)


@pytest.mark.parametrize("load", [TextEncoder.from_pretrained, load_tokenizer, lambda n: load_model(n, "AutoModel")])
@pytest.mark.parametrize("name", ["missing", "./missing", "nobody/nothing"])
def test_a_model_that_is_not_there_is_refused(tmp_path, monkeypatch, load, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"missing|nobody/nothing"):
        load(tmp_path / name if name == "missing" else name)


def test_an_empty_or_damaged_folder_is_refused(tmp_path, text_encoder_folder):
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        load_model(tmp_path, "AutoModel")
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text((text_encoder_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((text_encoder_folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        load_model(tmp_path, "AutoModel")


def test_weights_of_another_shape_than_the_config_says_are_refused(tmp_path, text_encoder_folder):
    folder = Path(shutil.copytree(text_encoder_folder, tmp_path / "folder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 3}))
    with pytest.raises(ArtifactError, match="folder cannot be loaded as a model"):
        load_model(folder, "AutoModel")


def test_pickled_weights_are_never_opened(tmp_path, text_encoder_folder):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "config.json").write_text((text_encoder_folder / "config.json").read_text())
    torch.save({"weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError):
        load_model(tmp_path, "AutoModel")
    assert not (tmp_path / "sprung").exists()


def test_a_slow_tokenizer_is_refused(tmp_path):
    slow = transformers.ByT5Tokenizer()
    with pytest.raises(DataError, match="ByT5Tokenizer is a slow tokenizer"):
        check_fast(slow)
    slow.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="slow tokenizer"):
        load_tokenizer(tmp_path)


def test_the_digest_is_of_what_a_tokenizer_does_to_text(tokenizer, tmp_path):
    expected = tokenizer_digest(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    copy = load_tokenizer(tmp_path)
    assert tokenizer_digest(copy) == expected
    copy(["the box", "a"], padding="max_length", truncation=True, max_length=9)  # leaves its traces in the state
    assert json.loads(copy.backend_tokenizer.to_str())["truncation"] is not None
    assert tokenizer_digest(copy) == expected


def test_the_digest_changes_with_vocabulary_case_and_new_tokens():
    lines = ["the red box", "a cup"]
    digests = [tokenizer_digest(build_word_tokenizer(lines)), tokenizer_digest(build_word_tokenizer(lines[:1]))]
    cased = transformers.BertTokenizer(vocab=build_word_tokenizer(lines).get_vocab(), do_lower_case=False)
    grown = build_word_tokenizer(lines)
    grown.add_tokens(["dax"])
    assert len({*digests, tokenizer_digest(cased), tokenizer_digest(grown)}) == 4
    assert tokenizer_digest(build_word_tokenizer(lines[::-1])) == digests[0]


def test_the_word_tokenizer_knows_every_word_and_spells_the_others():
    tokenizer = build_word_tokenizer(["the Red box is here .", "a dax"])
    assert tokenizer.tokenize("The red DAX is here.") == ["the", "red", "dax", "is", "here", "."]
    assert tokenizer.tokenize("bad") == ["b", "##a", "##d"]
    assert tokenizer.tokenize("q") == ["[UNK]"]
    assert [tokenizer.decode(i) for i in tokenizer("a box")["input_ids"]] == ["[CLS]", "a", "box", "[SEP]"]
    assert tokenizer.mask_token_id == 4


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("bert", {"max_position_embeddings": 4000}, 512),  # the tokenizer's own limit
        ("roberta", {"max_position_embeddings": 42, "pad_token_id": 1}, 40),
        ("xlm-roberta", {"max_position_embeddings": 42, "pad_token_id": 1}, 40),
    ],
)
def test_max_length_can_be_read_and_one_more_cannot(tokenizer, kind, settings, expected):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes | settings)
    encoder = TextEncoder(transformers.AutoModel.from_config(config), tokenizer)
    assert encoder.max_length == expected
    ids = torch.full((1, expected + 1), 7)
    assert encoder(ids[:, 1:], torch.ones_like(ids[:, 1:])).shape == (1, expected, 8)
    if expected < 512:
        with pytest.raises((IndexError, RuntimeError)):
            encoder(ids, torch.ones_like(ids))


def test_a_frozen_copy_leaves_the_original_alone():
    original = torch.nn.Linear(2, 2).train()
    frozen = freeze(original)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    frozen.weight.data.zero_()
    assert original.training
    assert original.weight.requires_grad
    assert original.weight.abs().sum() > 0


def test_the_digest_of_weights_covers_names_shapes_types_and_values():
    def linear(width, value, dtype=torch.float32):
        layer = torch.nn.Linear(width, 2, bias=False, dtype=dtype)
        layer.weight.data.fill_(value)
        return layer

    class Renamed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.other = linear(2, 1).weight

    modules = [linear(2, 1), linear(2, 1.0000001), linear(4, 1), linear(2, 1, torch.float64), Renamed()]
    assert len({weights_digest(module) for module in modules}) == 5
    assert weights_digest(linear(2, 1)) == weights_digest(modules[0])


def test_the_digest_of_a_checkpoint_does_not_depend_on_what_was_drawn_before(text_encoder_folder):
    """A checkpoint of a masked language model has no pooler: `AutoModel` draws one, which no token vector sees."""
    digests = set()
    for seed in range(2):
        torch.manual_seed(seed)
        digests.add(weights_digest(TextEncoder.from_pretrained(text_encoder_folder)))
    assert len(digests) == 1


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["tok-bert-base-uncased", "tok-roberta-base", "tok-clip", "tok-albert-base-v2"])
def test_published_tokenizers_are_fast_and_keep_their_digest(name):
    tokenizer = load_tokenizer(data_root() / "models" / name)
    digest = tokenizer_digest(tokenizer)
    tokenizer(["a dog jumps", "a"], padding=True, truncation=True, max_length=4)
    assert tokenizer_digest(tokenizer) == digest == tokenizer_digest(load_tokenizer(data_root() / "models" / name))


def test_only_what_came_from_the_hub_has_a_name_there(text_encoder_folder):
    there, here = (TextEncoder.from_pretrained(text_encoder_folder).model for _ in range(2))
    there.config.name_or_path = "ada/bert"  # as transformers writes it
    fresh = transformers.BertModel(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    assert hub_names(there, here, fresh, there) == ["ada/bert"]
