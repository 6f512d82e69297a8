import pytest
import torch
import transformers

from sightread.contracts import IGNORED
from sightread.errors import ConfigError
from sightread.modules.language_model import LanguageModel
from sightread.runtime import seed_everything

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "albert": {"embedding_size": 8},
    "electra": {"embedding_size": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    "mpnet": {"pad_token_id": 1},
    "gpt2": {"bos_token_id": 2, "eos_token_id": 3},
}


def tiny(kind):
    config = transformers.AutoConfig.for_model(kind, **SIZES | CONFIGS[kind])
    seed_everything(0)
    kind = transformers.AutoModelForCausalLM if kind == "gpt2" else transformers.AutoModelForMaskedLM
    model = kind.from_config(config)
    for parameter in model.parameters():  # fresh biases are zero, and would hide a part that is left out
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def batch():
    """Two sequences, the second padded."""
    ids = torch.randint(4, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return ids, mask


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_at_chosen_positions_are_the_whole_models(kind):
    model = tiny(kind)
    parts = LanguageModel(model)
    assert parts.width == 16
    model.eval()
    ids, mask = batch()
    chosen = torch.zeros(2, 9, dtype=torch.bool)
    chosen[0, [1, 4, 8]] = chosen[1, [0, 5]] = True
    with torch.no_grad():
        states = parts(ids, mask)
        assert states.shape == (2, 9, 16)
        expected = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(parts.logits(states[chosen]), expected[chosen], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(parts.logits(states), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_transform_is_the_head_without_its_last_layer(kind):
    parts = LanguageModel(tiny(kind)).eval()
    states = torch.randn(5, 16)
    read = []
    hook = parts.output.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    logits = parts.logits(states)
    hook.remove()
    torch.testing.assert_close(parts.transform(states), read[0])
    torch.testing.assert_close(parts.output(parts.transform(states)), logits)
    labels = torch.tensor([3, IGNORED, 7, IGNORED, 39])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(parts.loss(states[None], labels[None]), expected)
    assert parts.loss(states[None], torch.full((1, 5), IGNORED)) == 0


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_decoder_sees_nothing_of_what_follows(kind):
    parts = LanguageModel(tiny(kind)).eval()
    ids, mask = batch()
    other = ids.clone()
    other[:, 4:] = 5
    states = [parts(read, torch.ones_like(mask))[:, :4] for read in (ids, other)]
    assert parts.causal == (kind == "gpt2") == torch.allclose(*states)


def test_the_states_of_all_layers():
    parts = LanguageModel(tiny("bert")).eval()
    states = parts.hidden_states(*batch())
    assert len(states) == 3
    torch.testing.assert_close(states[-1], parts(*batch()))
    torch.testing.assert_close(states[0], parts.encoder.embeddings(batch()[0]))


@pytest.mark.parametrize("training", [True, False])
def test_taking_a_model_apart_leaves_it_as_it_was(training):
    model = tiny("bert").train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    LanguageModel(model)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_the_heads_weights_stay_tied_to_the_embeddings(kind):
    parts = LanguageModel(tiny(kind))
    ids, mask = batch()
    parts.logits(parts(ids, mask)).sum().backward()
    embeddings = parts.encoder.get_input_embeddings().weight
    assert any(parameter is embeddings for parameter in parts.head.parameters())


def test_an_unknown_head_is_refused():
    config = transformers.DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    with pytest.raises(ConfigError, match="DistilBertForMaskedLM has a language-model head of a shape unknown"):
        LanguageModel(transformers.DistilBertForMaskedLM(config))


def test_a_head_whose_parts_run_in_another_order_is_refused():
    class Doubled(transformers.BertForMaskedLM):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            return transformers.modeling_outputs.MaskedLMOutput(logits=2 * output.logits)

    with pytest.raises(ConfigError, match="Doubled"):
        LanguageModel(Doubled(transformers.AutoConfig.for_model("bert", **SIZES)))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_from_pretrained_reads_encoder_and_head(kind, tmp_path):
    model = tiny(kind).eval()
    model.save_pretrained(tmp_path)
    parts = LanguageModel.from_pretrained(tmp_path).eval()
    ids, mask = batch()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(parts.logits(parts(ids, mask)), expected)
