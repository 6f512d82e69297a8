import numpy as np
import pytest
import torch
import transformers
from scipy.special import erf

from sightread.errors import ConfigError, ShapeError
from sightread.modules.two_stream import TwoStream, TwoStreamLayer, attention_maps
from sightread.runtime import keyed_rng, seed_everything

D, W = 16, 24
TEXT = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
CLIP = {**TEXT, "hidden_size": W, "max_position_embeddings": 6, "eos_token_id": 39, "pad_token_id": 0}


def made(kind="bert", projected=None, num_layers=2):
    seed_everything(0)
    text = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, hidden_size=D, **TEXT))
    clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP))
    model = TwoStream(text, clip, projected and torch.nn.Linear(W, projected), num_layers=num_layers)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


@pytest.fixture
def inputs():
    """Two texts; CLIP reads one of them in two rows, the other in one."""
    rng = keyed_rng(1)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    rows = torch.tensor([[[1] * 6, [1] * 5 + [0]], [[1] * 4 + [0] * 2, [0] * 6]])
    words = torch.tensor([[[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]], [[0, 1, 1, 0, 0, 0], [0] * 6]])
    ids, clip_ids = rng.integers(5, 39, (2, 6)), rng.integers(5, 39, (2, 2, 6))
    return {"input_ids": torch.from_numpy(ids), "attention_mask": mask, "clip_ids": torch.from_numpy(clip_ids),
            "clip_attention_mask": rows, "clip_words": words}  # fmt: skip


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def norm(layer, x):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + layer.eps)
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def attention(layer, x, y, mask, maps=None):
    """One position and one head at a time."""
    query, key, value = linear(layer.query, x), linear(layer.key, y), linear(layer.value, y)
    size, found = x.shape[1] // layer.heads, np.zeros_like(query)
    weights = np.zeros((layer.heads, len(x), len(y)))
    for head in range(layer.heads):
        own = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            shares = {j: np.exp(query[i, own] @ key[j, own] / np.sqrt(size)) for j in np.flatnonzero(mask)}
            for j, share in shares.items():
                weights[head, i, j] = share / sum(shares.values())
                found[i, own] += weights[head, i, j] * value[j, own]
    if maps is not None:
        maps.append(weights)
    return norm(layer.norm, x + (linear(layer.output, found) if mask.any() else 0))


def feed(layer, x):
    first, _, last, _ = layer.layers
    inside = linear(first, x)
    return norm(layer.norm, x + linear(last, inside * (1 + erf(inside / np.sqrt(2))) / 2))


def layer_in_numpy(layer, x, y, mask_x, mask_y, maps=None):
    a, b = attention(layer.cross[0], x, y, mask_y, maps), attention(layer.cross[1], y, x, mask_x, maps)
    a, b = attention(layer.own[0], a, a, mask_x), attention(layer.own[1], b, b, mask_y)
    return feed(layer.feed[0], a), feed(layer.feed[1], b)


@pytest.mark.parametrize("widths", [(16, 24), (128, 8)])
@torch.no_grad()
def test_a_layer_equals_numpy(widths):
    seed_everything(2)
    layer = TwoStreamLayer(widths, 0.1).double().eval()
    x, y = torch.randn(3, 5, widths[0]).double(), torch.randn(3, 4, widths[1]).double()
    masks = (
        torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [1] * 5]).bool(),
        torch.tensor([[1] * 4, [0, 1, 0, 1], [0] * 4]).bool(),
    )
    found = layer((x, y), masks)
    for i in range(3):  # the last has nothing to read on the other side
        expected = layer_in_numpy(layer, *(part[i].numpy() for part in (x, y, *masks)))
        for ours, theirs in zip(found, expected, strict=True):
            assert np.allclose(ours[i].numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("projected", [None, 8])
@torch.no_grad()
def test_the_model_is_both_encoders_and_the_layers_and_maps_are_its_own(inputs, projected):
    model = made(projected=projected)
    text = model.text(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    found, maps = model(**inputs), attention_maps(model, **inputs)
    for i, rows in enumerate((2, 1)):
        y = np.zeros((2, 6, model.widths[1]))
        for row in range(rows):  # each alone, and as long as it is
            length = int(inputs["clip_attention_mask"][i, row].sum())
            states = model.clip(input_ids=inputs["clip_ids"][i, row, :length][None]).last_hidden_state[0]
            y[row, :length] = model.projection(states) if projected else states
        x, y, expected = text[i].numpy(), y.reshape(12, -1), []
        masks = inputs["attention_mask"][i].numpy() == 1, inputs["clip_words"][i].flatten().numpy() == 1
        for layer in model.layers:
            x, y = layer_in_numpy(layer, x, y, *masks, expected)
        assert np.allclose(found[0][i][masks[0]], x[masks[0]], atol=1e-10)
        assert np.allclose(found[1][i].flatten(0, 1)[masks[1]], y[masks[1]], atol=1e-10)
        for ours, theirs in zip([m[i] for pair in maps for m in pair], expected, strict=True):
            rows_read = masks[0] if theirs.shape[1] == 6 else masks[1]
            assert np.allclose(ours[:, rows_read], theirs[:, rows_read], atol=1e-10)
            assert np.allclose(ours[:, rows_read].sum(-1), 1)


@torch.no_grad()
def test_padding_and_special_tokens_are_not_read(inputs):
    model = made()
    before = model(**inputs)
    elsewhere = (inputs["clip_ids"] + (1 - inputs["clip_attention_mask"]) * 3) % 40
    padded = (inputs["input_ids"] + (1 - inputs["attention_mask"]) * 7) % 40
    after = model(**inputs | {"clip_ids": elsewhere, "input_ids": padded})
    words, kept = inputs["clip_words"].bool(), inputs["attention_mask"].bool()
    assert torch.equal(before[0][kept], after[0][kept])
    assert torch.equal(before[1][words], after[1][words])
    ends = inputs["clip_attention_mask"] - inputs["clip_words"]  # what stands there, CLIP's later tokens read
    ends[..., 0] = 0
    after = model(**inputs | {"clip_ids": inputs["clip_ids"] % 38 + ends})
    assert torch.equal(model(**inputs | {"clip_ids": inputs["clip_ids"] % 38})[0], after[0])


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "albert"])
def test_encoders_of_several_kinds_and_gradients_to_both(kind, inputs):
    model = made(kind)
    text, _ = model(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]))
    text[:, 0].square().sum().backward()
    assert text.shape == (2, 6, D)
    assert all(
        p.grad is not None for part in (model.clip, model.text.get_input_embeddings()) for p in part.parameters()
    )


def test_what_does_not_fit_is_refused(inputs):
    with pytest.raises(ConfigError, match="num_layers=0"):
        made(num_layers=0)
    with pytest.raises(ShapeError, match="clip_ids"):
        made()(**inputs | {"clip_ids": inputs["clip_ids"][:1]})


def size_of(width, embedding, num_layers):
    """Weights of a BERT or ELECTRA without pooler: embeddings, their map to the width, layers of 12 D² + 13 D."""
    embedded = (30522 + 512 + 2) * embedding + 2 * embedding
    return embedded + (embedding != width) * (embedding + 1) * width + num_layers * (12 * width**2 + 13 * width)


def side_of(width, read):
    """Weights of one side of a layer: attention to what it reads and to itself, feed-forward, three LayerNorms."""
    own, crossed = 4 * (width**2 + width), 2 * (width**2 + width) + 2 * (read * width + width)
    return crossed + own + 8 * width**2 + 5 * width + 3 * 2 * width


@pytest.mark.parametrize(
    ("kind", "width", "embedding", "num_layers", "alone"),
    [
        ("bert", 768, 768, 12, 109.5), ("bert", 1024, 1024, 24, 335.1), ("electra", 768, 768, 12, 108.9),
        ("electra", 1024, 1024, 24, 334.1), ("electra", 256, 128, 12, 13.5),
    ],
)  # fmt: skip
def test_the_language_encoder_is_as_large_as_before_and_all_of_it_as_its_parts(
    kind, width, embedding, num_layers, alone
):
    """Hsu et al. 2022, table 6; BERT's count in the literature has its pooler."""
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 64}
    more = {"embedding_size": embedding} if kind == "electra" else {}
    config = transformers.AutoConfig.for_model(kind, num_hidden_layers=num_layers, **sizes, **more)
    with torch.device("meta"):
        text = transformers.AutoModel.from_config(config)
        clip = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig())
        count = text.num_parameters()
        full = TwoStream(text, clip.text_model, clip.text_projection, num_layers=2)
    assert round(count / 1e6, 1) == alone
    assert (
        full.text.num_parameters()
        == count
        == size_of(width, embedding, num_layers) + (kind == "bert") * (width + 1) * width
    )
    tower = (49408 + 77) * 512 + 12 * (12 * 512**2 + 13 * 512) + 2 * 512
    joined = 2 * (side_of(width, 512) + side_of(512, width))
    assert sum(p.numel() for p in full.parameters()) == count + tower + 512**2 + joined
