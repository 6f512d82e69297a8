import numpy as np
import pytest
import torch
import transformers

from sightread.encoders.text import load_model
from sightread.errors import ArtifactError, ConfigError, ShapeError
from sightread.modules.language_model import LanguageModel
from sightread.modules.single_stream import VISUAL, SingleStream
from sightread.runtime import seed_everything

D, F, VOCAB = 16, 5, 40
SIZES = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "vocab_size": VOCAB}  # fmt: skip
KINDS = {
    "bert": {}, "roberta": {"pad_token_id": 1}, "electra": {"embedding_size": 8}, "albert": {"embedding_size": 8},
}  # fmt: skip


def made(kind="bert"):
    seed_everything(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES, **KINDS[kind])
    model = SingleStream(LanguageModel.from_config(config), F)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def text():
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return {"input_ids": torch.randint(5, VOCAB, (2, 6)), "attention_mask": mask}


@pytest.fixture
def pictures():
    """Of three regions, the second untagged, the third of two subwords; and of one, padded."""
    torch.manual_seed(2)
    return {
        "tag_ids": torch.tensor([[7, 8, 9], [7, 0, 0]]), "tag_regions": torch.tensor([[0, 2, 2], [0, -1, -1]]),
        "region_vectors": torch.randn(2, 3, F), "region_boxes": torch.rand(2, 3, 4),
        "region_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
    }  # fmt: skip


@torch.no_grad()
def states(model, text, **seen):
    return model(**text, **seen)


def same(a, b, where=slice(None), **close):
    return all(torch.allclose(x[where], y[where], **{"atol": 1e-6, **close}) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_text_alone_is_read_exactly_as_the_encoder_reads_it(kind, text, pictures):
    model = made(kind)
    words, tags, regions = states(model, text)
    with torch.no_grad():
        assert torch.equal(words, model.language.encoder(**text).last_hidden_state)
    assert tags.shape == regions.shape == (2, 0, D)
    nothing = {name: value[:, :0] for name, value in pictures.items()}
    assert torch.equal(states(model, text, **nothing).last_hidden_state, words)
    absent = {"tag_regions": torch.full((2, 3), -1), "region_mask": torch.zeros(2, 3, dtype=torch.long)}
    assert torch.allclose(states(model, text, **pictures | absent).last_hidden_state, words, atol=1e-5)
    beside = states(model, text, **pictures)
    assert [part.shape for part in beside] == [(2, 6, D), (2, 3, D), (2, 3, D)]
    assert not torch.allclose(beside.last_hidden_state, words, atol=1e-3)
    assert torch.equal(states(model, text).last_hidden_state, words)  # and nothing is left behind


def test_tags_and_regions_are_what_the_paper_makes_of_them(text, pictures):
    model = made()
    encoder, visual = model.language.encoder, model.visual
    with torch.no_grad():
        linear = {name: visual[name] for name in ("vector", "box")}
        weights = {name: (part.weight.double(), part.bias.double()) for name, part in linear.items()}

        def norm(x, name):
            mean, var = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, correction=0)
            return (x - mean) / (var + 1e-5).sqrt() * visual[name].weight + visual[name].bias

        def line(x, name):
            return x.double() @ weights[name][0].T + weights[name][1]

        hidden = torch.tensor([[False, True, False], [False, False, False]])
        box = norm(line(pictures["region_boxes"], "box"), "box_norm")
        vectors = np.where(hidden[..., None], 0.0, pictures["region_vectors"])
        regions = norm(line(torch.from_numpy(vectors), "vector"), "vector_norm") + box
        words = norm(encoder.embeddings.word_embeddings.weight.double()[pictures["tag_ids"]], "tag_norm")
        tags = words + torch.stack([box[0, [0, 2, 2]], box[1, [0, 0, 0]]])
        x = torch.cat([encoder.embeddings(text["input_ids"]), tags.float(), regions.float()], dim=1)
        there = torch.cat([text["attention_mask"], pictures["tag_regions"] >= 0, pictures["region_mask"]], dim=1).bool()
        for layer in encoder.encoder.layer:
            attention = layer.attention.self
            q, k, v = (
                getattr(attention, name)(x).view(2, 12, 2, 8).transpose(1, 2) for name in ("query", "key", "value")
            )
            weights_ = (q @ k.mT / 8**0.5).masked_fill(~there[:, None, None], -1e9).softmax(dim=-1)
            x = layer.attention.output((weights_ @ v).transpose(1, 2).flatten(2), x)
            x = layer.output(layer.intermediate(x), x)
    found = torch.cat(states(model, text, **pictures, hidden_regions=hidden), dim=1)
    assert torch.allclose(found[there], x[there], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_what_is_hidden_or_padding_is_never_read(kind, text, pictures):
    model = made(kind)
    hidden = torch.tensor([[True, False, False], [False, False, False]])
    before = states(model, text, **pictures, hidden_regions=hidden)
    changed = dict(pictures, region_vectors=pictures["region_vectors"].clone(), tag_ids=pictures["tag_ids"].clone())
    changed["region_vectors"][0, 0] = 100.0
    changed["region_vectors"][1, 1:] = float("nan")
    changed["tag_ids"][1, 1:] = 11
    after = states(model, text, **changed, hidden_regions=hidden)
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    assert torch.equal(before.regions, after.regions)
    assert torch.equal(before.tags[0], after.tags[0])
    seen = states(model, text, **changed)
    assert not torch.allclose(before.last_hidden_state[0], seen.last_hidden_state[0], atol=1e-3)
    moved = states(model, text, **dict(pictures, region_boxes=pictures["region_boxes"] / 2), hidden_regions=hidden)
    assert not torch.allclose(before.regions[0, 0], moved.regions[0, 0], atol=1e-3)  # the box of a hidden one is seen


def test_the_order_of_regions_and_tags_is_of_no_matter(text, pictures):
    model, turned = made(), {name: value.flip(1) for name, value in pictures.items()}
    turned["tag_regions"] = torch.where(turned["tag_regions"] < 0, -1, 2 - turned["tag_regions"])
    before, after = states(model, text, **pictures), states(model, text, **turned)
    assert torch.allclose(before.last_hidden_state, after.last_hidden_state, atol=1e-5)
    assert torch.allclose(before.regions[0], after.regions[0].flip(0), atol=1e-5)
    assert torch.allclose(before.tags[0], after.tags[0].flip(0), atol=1e-5)


def test_a_picture_says_nothing_of_another(text, pictures):
    model = made()
    before = states(model, text, **pictures)
    alone = {name: value[:1] for name, value in pictures.items()}
    again = states(model, {name: value[:1] for name, value in text.items()}, **alone)
    assert same([part[:1] for part in before], again)


def test_gradients_reach_what_sees_only_where_there_is_something_to_see(text, pictures):
    model = made()
    model(**text).last_hidden_state.sum().backward()
    assert all(parameter.grad is None for parameter in model.visual.parameters())
    model(**text, **pictures).last_hidden_state.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.visual.parameters())


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_a_folder_is_a_text_encoder_and_the_whole(kind, text, pictures, tmp_path):
    model = made(kind)
    model.save_pretrained(tmp_path)
    again = SingleStream.from_pretrained(tmp_path).eval()
    assert again.region_width == F
    assert all(map(torch.equal, states(model, text, **pictures), states(again, text, **pictures)))
    with torch.no_grad():
        alone = load_model(tmp_path, "AutoModel").eval()(**text).last_hidden_state
        assert torch.equal(alone, states(model, text).last_hidden_state)
        head = load_model(tmp_path, "AutoModelForMaskedLM").eval()
        assert torch.allclose(head(**text).logits, model.language.logits(alone), atol=1e-5)


def test_a_checkpoint_of_text_alone_begins_to_see(text, pictures, text_encoder_folder):
    with pytest.raises(ArtifactError, match=r"has seen no regions: there is no visual\.safetensors"):
        SingleStream.from_pretrained(text_encoder_folder)
    first, second, other = (SingleStream.from_pretrained(text_encoder_folder, F, seed=seed) for seed in (0, 0, 1))
    weights = [model.visual["vector"].weight for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_what_does_not_fit_is_refused(text, pictures, tmp_path):
    model = made()
    with pytest.raises(ShapeError, match="region_vectors"):
        states(model, text, **dict(pictures, region_vectors=torch.randn(2, 3, F + 1)))
    with pytest.raises(ConfigError, match="have no vectors; make them with --image-encoder"):
        SingleStream(model.language, 0)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"reads regions {F} wide, and these are 9"):
        SingleStream.from_pretrained(tmp_path, 9)
    (tmp_path / VISUAL).write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        SingleStream.from_pretrained(tmp_path)


OTHERS = {
    "mpnet": {**SIZES, "pad_token_id": 1},
    "modernbert": {**SIZES, **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}},
    "gpt2": {"vocab_size": VOCAB, "n_embd": D, "n_layer": 1, "n_head": 2},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_layers_that_give_places_or_read_one_way_are_refused(kind):
    model = LanguageModel.from_config(transformers.AutoConfig.for_model(kind, **OTHERS[kind]))
    with pytest.raises(ConfigError, match=r"cannot read regions beside text.*BERT, RoBERTa, ELECTRA and ALBERT can"):
        SingleStream(model, F)


def test_what_the_hub_does_not_tell_is_not_taken_for_nothing(text_encoder_folder, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr("transformers.utils.hub.cached_file", unreachable)
    language = LanguageModel.from_pretrained(text_encoder_folder)
    with pytest.raises(ArtifactError, match="whether someone/something has seen regions cannot be told: no connection"):
        SingleStream.beside(language, "someone/something", 4)
