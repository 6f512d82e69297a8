"""What models pre-training starts from, and that every kind of them learns and comes out as an ordinary checkpoint."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers

from pretraining_runs import resumes_exactly
from sightread.artifacts import MANIFEST
from sightread.data.blocks import TokenBlocks
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import build_byte_tokenizer, load_tokenizer
from sightread.errors import ArtifactError, ConfigError
from sightread.methods import grounded_teacher, lexical_contrast, lm, voken
from sightread.methods.grounded_teacher import DistillationConfig
from sightread.methods.lexical_contrast import ContrastConfig
from sightread.methods.lm import LmObjective
from sightread.methods.voken import VokenConfig
from sightread.modules import losses
from sightread.pretraining import PretrainingConfig, is_fresh, pretrain, start_model, step_flops
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import reading_order, training_arguments
from sightread.vokenization.revokenize import revokenize

TRAINING = {"max_steps": 12, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "logging_steps": 4}
SMALL = "new:bert-1L-64H"
SHORT = {**TRAINING, "max_steps": 3}
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
    [
        ("new:bert", r"no shape new:TYPE-nL-nH.*not given"), ("new:bert-2L-64", "no shape"),
        ("new:birt-2L-64H", "birt"), ("new:bert-1L-200H", "is not a multiple"), ("new:vit-1L-64H", "ViTConfig"),
        ("new:t5-1L-64H", "T5Config"), ("new:funnel-1L-64H", "block_sizes"), ("new:xlnet-1L-64H", "it reads ahead"),
    ],
)  # fmt: skip
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


class Twice(LmObjective):
    """Reads every batch twice."""

    def forward(self, **batch):
        return {"loss": super().forward(**batch)["loss"] + super().forward(**batch)["loss"]}


def report(run):
    return json.loads((run / MANIFEST).read_text())["report"]


def test_the_operations_of_a_step_are_those_of_its_matrix_products(corpus, tokenizer, tmp_path):
    model = start_model("new:bert-1L-64H", tokenizer)
    blocks = TokenBlocks(corpus, tokenizer, max_length=16, packed=True)
    args = training_arguments(tmp_path, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, seed=0)
    labels = sum((reading_order(blocks, args)[i]["lm_labels"] >= 0).sum() for i in range(4))
    layer = 4 * 16 * (4 * 64 * 64 + 2 * 64 * 256 + 2 * 16 * 64)
    head = labels * (64 * 64 + 64 * len(tokenizer))
    assert step_flops(LmObjective(model), blocks, args) == 3 * 3 * 2 * (layer + head)
    assert step_flops(Twice(model), blocks, args) == 2 * step_flops(LmObjective(model), blocks, args)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_products_in_chunks_are_counted_too(kind, corpus, tokenizer, tmp_path, monkeypatch):
    blocks = TokenBlocks(corpus, tokenizer, max_length=16, packed=True)
    args, counts = training_arguments(tmp_path, {}, seed=0), []
    for room in (losses.LOGITS_AT_ONCE, 3 * len(tokenizer)):
        monkeypatch.setattr(losses, "LOGITS_AT_ONCE", room)
        counts.append(step_flops(LmObjective(start_model(SMALL, tokenizer)).to(kind), blocks, args))
    assert counts[0] == counts[1]


def test_equal_compute_is_counted_in_operations_and_not_in_seconds(corpus, monkeypatch, tmp_path):
    other = pretrain(Twice, corpus, tmp_path / "other", start=SMALL, config=replace(CONFIG, training=SHORT))
    manifest = json.loads((other / MANIFEST).read_text())
    manifest["report"]["seconds"] *= 9
    (other / MANIFEST).write_text(json.dumps(manifest))
    config = replace(CONFIG, training={**SHORT, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        lm.train(config, corpus, out, start=SMALL, match_compute_of=other, **options)

    assert resumes_exactly(monkeypatch, LmObjective, train, tmp_path)
    assert report(tmp_path / "whole")["steps"] == report(tmp_path / "stopped")["steps"] == 2 * 3
    assert report(tmp_path / "whole")["flops"] == report(other)["flops"]
    (other / MANIFEST).write_text(json.dumps(manifest, indent=2))
    with pytest.raises(ArtifactError, match="another match_compute_of"):
        train(tmp_path / "whole", resume=True)
    manifest["report"].pop("flops")
    (other / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="does not say what it cost"):
        train(tmp_path / "new")


def encoder_bytes(run):
    return (run / "encoder" / "model.safetensors").read_bytes()


def test_without_weight_every_method_is_its_control_bit_for_bit(corpus, captions, text_encoder_folder, tmp_path):
    training = {**SHORT, "max_grad_norm": 1e9}  # the norm is summed over other tensors
    start, config = {"start": text_encoder_folder}, vars(replace(CONFIG, training=training))
    features = keyed_rng(0).standard_normal((len(captions.pictures), 5)).astype("float32")
    control = lm.train(replace(CONFIG, training=training), corpus, tmp_path / "lm", **start)
    arms = [
        voken.train(VokenConfig(**config, head="shared", voken_weight=0), corpus, tmp_path / "voken", **start),
        lexical_contrast.train(ContrastConfig(**config, contrast_weight=0), corpus, tmp_path / "contrast", **start,
                               captions=captions, features=features),
        grounded_teacher.train(DistillationConfig(**config, nst_weight=0, crd_weight=0), corpus, tmp_path / "distil",
                               **start, teacher=text_encoder_folder),
    ]  # fmt: skip
    assert [encoder_bytes(arm) == encoder_bytes(control) for arm in arms] == [True] * 3


def test_a_start_with_another_config_is_another_start(corpus, text_encoder_folder, tmp_path):
    start = shutil.copytree(text_encoder_folder, tmp_path / "start")
    config = replace(CONFIG, training=SHORT)
    lm.train(config, corpus, tmp_path / "run", start=start)
    (start / "config.json").write_text((start / "config.json").read_text().replace('"gelu"', '"relu"'))
    with pytest.raises(ArtifactError, match="another start_config"):
        lm.train(config, corpus, tmp_path / "run", start=start, resume=True)
