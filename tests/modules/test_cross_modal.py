import copy

import pytest
import torch
import transformers
from torch.nn import functional

from sightread.errors import ConfigError, ShapeError
from sightread.modules.cross_modal import CrossModal
from sightread.modules.language_model import LanguageModel
from sightread.runtime import seed_everything

D, F, K, N = 16, 5, 2, 3
SIZES = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
KINDS = {
    "bert": {}, "roberta": {"pad_token_id": 1}, "albert": {"embedding_size": 8}, "electra": {"embedding_size": 8},
    "mpnet": {"pad_token_id": 1},
    "deberta-v2": {"position_buckets": 8, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {f"{name}_token_id": i for i, name in enumerate(("pad", "bos", "eos", "cls", "sep"))},
}  # fmt: skip


def made(kind="bert", num_images=K):
    seed_everything(0)
    model = LanguageModel.from_config(transformers.AutoConfig.for_model(kind, **SIZES, **KINDS[kind]))
    cross_modal = CrossModal(
        model.encoder, copy.deepcopy(model), image_width=F, num_images=num_images, num_regions=N if num_images else 1
    )
    for parameter in cross_modal.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    cross_modal.standardise_by(3 + 2 * torch.randn(7, N, F))
    return cross_modal.eval()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    ids = torch.randint(5, 40, (2, 6))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return {"input_ids": ids, "attention_mask": mask, "images": torch.randn(2, K * N, F)}


@torch.no_grad()
def states(model, inputs, **changes):
    return model(**inputs | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_encoder_reads_text_and_pictures(kind, inputs):
    model = made(kind)
    words, regions = states(model, inputs)
    assert words.shape == (2, 6, D)
    assert regions.shape == (2, K * N, D)
    other = states(model, inputs, images=inputs["images"] + 1)
    assert not torch.allclose(words, other[0], atol=1e-4)
    assert model.cross.loss(words, inputs["input_ids"]).isfinite()


def test_it_is_the_layers_of_the_copy_over_states_and_regions(inputs):
    model = made()
    words, regions = states(model, inputs)
    with torch.no_grad():
        text = model.text(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        standard = (inputs["images"] - model.mean) / model.scale
        linear, norm = model.project
        seen = functional.layer_norm(standard @ linear.weight.T + linear.bias, (D,), norm.weight, norm.bias)
        place = [(k, n) for k in range(K) for n in range(N)]
        seen = seen + torch.stack([model.ranks.weight[k] + model.regions.weight[n] for k, n in place])
        x = torch.cat([text, seen], dim=1)
        mask = torch.cat([inputs["attention_mask"], torch.ones(2, K * N, dtype=torch.long)], dim=1).bool()
        for layer in model.cross.encoder.encoder.layer:
            x = layer(x, attention_mask=mask[:, None, None, :].expand(-1, 1, x.shape[1], -1))
            x = x[0] if isinstance(x, tuple) else x
    assert torch.allclose(torch.cat([words, regions], dim=1), x, atol=1e-5)


def test_vectors_are_standardised_by_what_they_are_like():
    model, features = made(), 5 + 3 * torch.randn(50, N, F)
    model.standardise_by(features)
    standard = model.standardised(features)
    assert torch.allclose(standard.mean(dim=(0, 1)), torch.zeros(F), atol=1e-5)
    assert standard.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
def test_what_is_hidden_or_absent_is_never_read(kind, inputs):
    model = made(kind)
    hidden = torch.zeros(2, K * N, dtype=torch.bool)
    hidden[0, 2] = hidden[1, 0] = True
    there = torch.ones(2, K * N, dtype=torch.long)
    there[:, N:] = 0  # the second picture
    before = states(model, inputs, hidden=hidden, image_mask=there)
    for where, value in ((hidden, 100.0), (there == 0, float("nan"))):
        changed = inputs["images"].masked_fill(where[..., None], value)
        after = states(model, inputs, images=changed, hidden=hidden, image_mask=there)
        assert all(torch.equal(a[:, :N], b[:, :N]) for a, b in zip(before, after, strict=True))
    seen = states(model, inputs, images=inputs["images"] + 1.0, hidden=hidden, image_mask=there)
    assert not torch.allclose(before[0], seen[0], atol=1e-4)


def test_a_missing_picture_is_one_placeholder(inputs):
    model = made()
    alone = states(model, inputs, images=None)
    assert alone[1].shape == (2, 1, D)
    absent = states(model, inputs, image_mask=torch.zeros(2, K * N, dtype=torch.long))
    assert torch.allclose(alone[0], absent[0], atol=1e-6)
    whole = states(model, inputs)
    one = states(model, inputs, image_mask=torch.tensor([[1] * K * N, [0] * K * N]))
    assert torch.allclose(one[0][0], whole[0][0], atol=1e-6)
    assert torch.allclose(one[0][1], alone[0][1], atol=1e-6)
    model.placeholder.data += 1
    assert not torch.allclose(alone[0], states(model, inputs, images=None)[0], atol=1e-4)


def test_padding_tells_nothing(inputs):
    model = made()
    before = states(model, inputs)
    ids = inputs["input_ids"].clone()
    ids[1, 4:] = 7
    after = states(model, inputs, input_ids=ids)
    assert torch.allclose(before[0][1, :4], after[0][1, :4], atol=1e-6)
    assert torch.allclose(before[1], after[1], atol=1e-6)


def test_without_pictures_it_reads_text_alone(inputs):
    model = made(num_images=0)
    words, regions = states(model, inputs)
    assert regions.shape[1] == 0
    assert torch.equal(words, states(model, inputs, images=inputs["images"] + 1)[0])
    assert not [name for name, _ in model.named_parameters() if name.startswith(("project", "ranks", "placeholder"))]


def test_what_does_not_fit_is_refused(inputs):
    with pytest.raises(ConfigError, match=r"7 regions, and this model reads at most 2·3"):
        states(made(), inputs, images=torch.randn(2, 7, F))
    with pytest.raises(ShapeError, match="images"):
        states(made(), inputs, images=torch.randn(2, 6, F + 1))
    model = made()
    decoder = LanguageModel.from_config(transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="a decoder does not"):
        CrossModal(model.text, decoder, image_width=F, num_images=1)
    wide = LanguageModel.from_config(transformers.BertConfig(**SIZES | {"hidden_size": 32}))
    with pytest.raises(ConfigError, match="the text encoder is 16 wide, the cross-modal one 32"):
        CrossModal(model.text, wide, image_width=F, num_images=1)
