"""What models pre-training starts from, and that every kind of them learns and comes out as an ordinary checkpoint."""

import json

import pytest
import torch
import transformers

from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import build_byte_tokenizer, load_tokenizer
from sightread.errors import ConfigError
from sightread.methods import voken
from sightread.methods.voken import VokenConfig
from sightread.pretraining import PretrainingConfig, is_fresh, start_model
from sightread.runtime import seed_everything
from sightread.vokenization.revokenize import revokenize

TRAINING = {"max_steps": 12, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 4}
CONFIG = PretrainingConfig(max_length=16, training=TRAINING)
KINDS = ("bert", "roberta", "albert", "electra", "deberta-v2", "modernbert", "gpt2")


@pytest.fixture(scope="module")
def corpus(voken_corpus_folder):
    return VokenCorpus(voken_corpus_folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_gives_fresh_weights(kind, tokenizer):
    seed_everything(0)
    model = start_model(f"new:{kind}-2L-128H", tokenizer)
    config = model.encoder.config
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == (kind, 2, 128)
    assert (config.num_attention_heads, config.vocab_size, config.pad_token_id) == (2, len(tokenizer), 0)
    assert model.causal == (kind == "gpt2")


@pytest.mark.parametrize(
    ("start", "message"),
    [("new:bert", "no Hugging Face model config"), ("new:birt-2L-64H", "birt"), ("new:bert-2L-64", "no Hugging Face")],
)
def test_a_shape_that_is_none_is_refused(start, message, tokenizer):
    assert is_fresh(start)
    with pytest.raises(ConfigError, match=message):
        start_model(start, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_learns_words_and_vokens(kind, corpus, tmp_path):
    folder = tmp_path / kind
    voken.train(VokenConfig(**vars(CONFIG)), corpus, folder, start=f"new:{kind}-1L-64H")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["voken_loss"] < log[0]["voken_loss"]
    assert log[-1]["lm_loss"] < log[0]["lm_loss"]
    loaded, found = transformers.AutoModel.from_pretrained(folder / "encoder", output_loading_info=True)
    assert loaded.config.model_type == kind
    assert not {name for name in found["missing_keys"] if "pooler" not in name}


def test_a_decoder_foretells_and_carries_vokens_where_its_tokens_are(corpus, tmp_path):
    seen, forward = [], voken.VokenObjective.forward

    def watch(self, **batch):
        seen.append(batch)
        return forward(self, **batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voken.VokenObjective, "forward", watch)
        voken.train(VokenConfig(**vars(CONFIG)), corpus, tmp_path / "run", start="new:gpt2-1L-64H")
    tokens, vokens, _ = corpus.flat()
    voken_of = {}
    for token, picture in zip(tokens.tolist(), vokens.tolist(), strict=True):
        voken_of.setdefault(token, set()).add(picture)
    for batch in seen:
        ids, labels, mask = batch["input_ids"], batch["lm_labels"], batch["attention_mask"]
        assert torch.equal(labels[:, :-1][mask[:, 1:] == 1], ids[:, 1:][mask[:, 1:] == 1])
        assert (labels[:, -1] == -100).all()
        assert not (ids == 4).any(), "nothing is masked"
        has_voken = batch["voken_labels"] >= 0
        for token, picture in zip(ids[has_voken].tolist(), batch["voken_labels"][has_voken].tolist(), strict=True):
            assert picture in voken_of[token]


def test_a_decoder_has_no_masked_tokens_to_label(corpus, tmp_path):
    config = VokenConfig(**vars(CONFIG), labelled="masked")
    with pytest.raises(ConfigError, match="labelled=masked: a decoder masks no tokens"):
        voken.train(config, corpus, tmp_path, start="new:gpt2-1L-64H")


def test_vokens_carried_over_to_roberta(corpus, tmp_path):
    target = build_byte_tokenizer([line.text for line in corpus], 300)
    carried = revokenize(corpus, target, tmp_path / "carried")
    target.save_pretrained(tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path / "tokenizer")("a dax .")["input_ids"] == target("a dax .")["input_ids"]
    voken.train(VokenConfig(**vars(CONFIG)), carried, tmp_path / "run", start="new:roberta-1L-64H")
    assert transformers.AutoModel.from_pretrained(tmp_path / "run" / "encoder").config.model_type == "roberta"
