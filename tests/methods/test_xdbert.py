import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from byte_clip import byte_tokenizer
from clip_models import build_model
from pretraining_runs import TRAINING, VOCAB, overfits, recorded, resumes_exactly, tiny_model
from sightread.artifacts import Artifact, digest_file
from sightread.contracts import IGNORED
from sightread.data.clip_rows import ClipRows
from sightread.data.corpora import Corpus
from sightread.encoders.text import load_tokenizer, weights_digest
from sightread.errors import ArtifactError, ConfigError
from sightread.finetuning import FinetuningConfig, finetune, finetune_seeds
from sightread.grounded import load_encoder
from sightread.methods import distillation, lm
from sightread.methods.distillation import XdbertConfig, XdbertObjective
from sightread.methods.lm import LmObjective
from sightread.pretraining import PretrainingConfig
from sightread.runtime import keyed_rng, seed_everything
from sightread.tasks import load_task
from sightread.vokenization.job import tokenize

CLIP = byte_tokenizer(16)
SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = {"bos_token_id": CLIP.bos_token_id, "eos_token_id": CLIP.eos_token_id, "pad_token_id": CLIP.pad_token_id}
TOWER = CLIPTextConfig(vocab_size=len(CLIP), max_position_embeddings=16, projection_dim=8, **SIZES, **IDS)
CONFIG = XdbertConfig(max_length=16, num_cross_layers=1, training=TRAINING)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    seed_everything(3)
    folder = tmp_path_factory.mktemp("clip")
    for part in (CLIPTextModelWithProjection(TOWER), CLIP):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.fixture(scope="module")
def adapted(corpus, text_encoder_folder, clip, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("xdbert") / "run"
    return distillation.train(CONFIG, corpus, out, start=text_encoder_folder, clip=clip)


class Tokenizer:
    model_max_length = 64


def objective_of(**settings):
    seed_everything(1)
    whole = CLIPTextModelWithProjection(TOWER)
    projection = whole.text_projection if settings.get("clip_projection", True) else None
    config = replace(CONFIG, **settings)
    made = XdbertObjective(config, tiny_model("bert"), whole.text_model, projection, Tokenizer(), ClipRows(CLIP, 16))
    return made.double().eval()


def batch_of(seed=0):
    """Three blocks; CLIP reads another than the second."""
    rng = keyed_rng(seed)
    mask = (np.arange(9) < np.array([9, 6, 9])[:, None]).astype(np.int64)
    rows = ClipRows(CLIP, 16)
    beside = rows.collate([rows.of([text], 9) for text in ("a cat and two dogs", "no", "")])
    words = (beside["clip_words"] == 1) & (torch.arange(3) != 1)[:, None, None]
    labelled = words & torch.from_numpy(rng.random(tuple(words.shape)) < 0.5)
    lm_labels = np.where((rng.random((3, 9)) < 0.5) & (mask == 1), rng.integers(VOCAB, size=(3, 9)), IGNORED)
    return {
        "input_ids": torch.from_numpy(rng.integers(5, VOCAB, (3, 9))), "attention_mask": torch.from_numpy(mask),
        "lm_labels": torch.from_numpy(lm_labels), **beside, "matched": torch.tensor([1, 0, 1]),
        "clip_labels": torch.where(labelled, beside["clip_ids"], IGNORED), "clip_cut": torch.tensor([0, 2, 4]),
    }  # fmt: skip


def entropies(logits, labels):
    log_z = np.log(np.exp(logits).sum(axis=-1))
    return np.mean([log_z[i] - logits[i, label] for i, label in enumerate(labels)])


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


@torch.no_grad()
def losses_in_numpy(objective, batch):
    names = ("input_ids", "attention_mask", "clip_ids", "clip_attention_mask", "clip_words")
    text, seen = objective.two_stream(**{name: batch[name] for name in names})
    places, told = ([*zip(*np.nonzero(batch[n].numpy() != IGNORED), strict=True)] for n in ("lm_labels", "clip_labels"))
    words = np.stack([objective.model.logits(text[at]).numpy() for at in places])
    first, _, last = objective.heads["match"]
    matched = linear(last, np.tanh(linear(first, text[:, 0].numpy())))
    dense, _, norm, out = objective.heads["cliptc"]
    x = linear(dense, np.stack([seen[at].numpy() for at in told]))
    x = x * torch.special.ndtr(torch.from_numpy(x)).numpy()
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + norm.eps)
    table = objective.two_stream.clip.embeddings.token_embedding.weight.numpy()
    clip = linear(out, x * norm.weight.numpy() + norm.bias.numpy()) @ table.T
    return {
        "mlm": entropies(words, [batch["lm_labels"][at] for at in places]),
        "match": entropies(matched, batch["matched"].tolist()),
        "cliptc": entropies(clip, [batch["clip_labels"][at] for at in told]),
    }


@pytest.mark.parametrize("losses", [("mlm", "match", "cliptc"), ("mlm",), ("match", "cliptc")])
@pytest.mark.parametrize("projected", [True, False])
def test_the_losses_are_the_papers_and_their_sum(losses, projected):
    batch = batch_of()
    expected = losses_in_numpy(objective_of(clip_projection=projected), batch)
    found = objective_of(losses=losses, clip_projection=projected)(**batch)
    assert found.keys() == {"loss", "clip_cut", *(f"{name}_loss" for name in losses)}
    assert found["clip_cut"] == 2
    assert all(found[f"{n}_loss"].item() == pytest.approx(expected[n], rel=1e-9) for n in losses)  # heads begin alike
    assert found["loss"].item() == pytest.approx(sum(found[f"{name}_loss"].item() for name in losses), rel=1e-12)


def test_padding_and_special_tokens_carry_no_loss():
    """The gradient at every input vector, and what the losses are where something else stands there."""
    objective, batch = objective_of(), batch_of()
    given = []
    for part in (objective.model.encoder, objective.two_stream.clip):
        part.get_input_embeddings().register_forward_hook(lambda _, __, out: given.append(out) or out.retain_grad())
    objective(**batch)["loss"].backward()
    text, clip = (vectors.grad.abs().sum(dim=-1) for vectors in given)
    there = batch["clip_attention_mask"].bool().any(dim=-1)
    assert (text[batch["attention_mask"] == 0] == 0).all()
    assert (clip[batch["clip_attention_mask"][there] == 0] == 0).all()
    ends = (batch["clip_ids"][there] == CLIP.eos_token_id) & (batch["clip_attention_mask"][there] == 1)
    assert ends.any()
    assert (clip[ends] == 0).all()  # the beginning is read by CLIP itself, within its row
    assert (clip[batch["clip_words"][there] == 1] > 0).all()
    assert (batch["clip_labels"][batch["clip_words"] == 0] == IGNORED).all()


def test_a_batch_without_labels_or_words_is_finite():
    objective, batch = objective_of(), batch_of()
    batch |= {name: torch.full_like(batch[name], IGNORED) for name in ("lm_labels", "clip_labels")}
    batch["clip_words"] = torch.zeros_like(batch["clip_words"])
    losses = objective.train()(**batch)
    losses["loss"].backward()
    assert losses["mlm_loss"].item() == losses["cliptc_loss"].item() == 0 < losses["match_loss"].item()
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_it_overfits_a_tiny_batch():
    assert overfits(objective_of(), batch_of(), ("mlm_loss", "match_loss", "cliptc_loss"))


def test_clip_is_trained_frozen_or_begun_afresh():
    trained, frozen, fresh = objective_of(), objective_of(freeze_clip=True).train(), objective_of(fresh_clip=True)
    assert not frozen.two_stream.clip.training
    for objective in (trained, frozen):
        objective(**batch_of())["loss"].backward()
        parts = [*objective.two_stream.clip.parameters(), *objective.two_stream.projection.parameters()]
        assert all((p.grad is not None) == (objective is trained) for p in parts)
    assert weights_digest(trained.two_stream.clip) == weights_digest(frozen.two_stream.clip)
    assert weights_digest(trained.two_stream.clip) != weights_digest(fresh.two_stream.clip)
    assert not torch.equal(trained.two_stream.projection.weight, fresh.two_stream.projection.weight)
    for name in ("model", "two_stream.layers", "heads"):  # all else begins alike
        assert weights_digest(trained.get_submodule(name)) == weights_digest(fresh.get_submodule(name))


PROJECTION = "text_projection.weight"


def save_without(model, folder, kept):
    """A checkpoint that lacks some weights."""
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if kept(name)}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    CLIP.save_pretrained(folder)


def test_checkpoints_in_half_precision_are_trained_in_single(corpus, text_encoder_folder, clip, tokenizer, tmp_path):
    for folder, kind in ((text_encoder_folder, AutoModelForMaskedLM), (clip, CLIPTextModelWithProjection)):
        kind.from_pretrained(folder).to(torch.bfloat16).save_pretrained(tmp_path / kind.__name__)
    tokenizer.save_pretrained(tmp_path / "AutoModelForMaskedLM")
    CLIP.save_pretrained(tmp_path / "CLIPTextModelWithProjection")
    start, tower = tmp_path / "AutoModelForMaskedLM", tmp_path / "CLIPTextModelWithProjection"
    distillation.train(CONFIG, corpus, tmp_path / "run", start=start, clip=tower)
    assert {x.dtype for x in load_encoder(tmp_path / "run" / "full").parameters()} == {torch.float32}


def test_settings_and_models_that_cannot_be_are_refused(corpus, text_encoder_folder, clip, tmp_path):
    for settings, message in (
        ({"losses": ("mlm", "mach")}, "losses is 'mach'.*did you mean 'match'"), ({"losses": ()}, "losses is empty"),
        ({"clip_reads": "all"}, "clip_reads is 'all'"), ({"block_rows": 0}, "block_rows=0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            replace(CONFIG, **settings)
    CLIPTextModel(TOWER).save_pretrained(tmp_path / "tower")
    CLIP.save_pretrained(tmp_path / "tower")
    for folder, kept in (("whole", lambda name: name != PROJECTION), ("half", lambda name: "layers.0" not in name)):
        save_without(build_model("clip", CLIP, 16), tmp_path / folder, kept)
    build_model("siglip", CLIP, 16).save_pretrained(tmp_path / "siglip")
    for folder, message in (
        (tmp_path / "whole", "without its text_projection"),
        (tmp_path / "half", "lacks 16 weights of a CLIP"),
        (tmp_path / "tower", "without its text_projection; give the whole CLIP, or set clip_projection=false"),
        (text_encoder_folder, r"is of the kind 'bert'; give a CLIP .clip or clip_text_model., or make one: .* towers$"),
        (tmp_path / "siglip", "of the kind 'siglip'; give a CLIP .*; SigLIP reads padding as text, which is masked"),
    ):
        with pytest.raises(ArtifactError, match=message):
            distillation.train(CONFIG, corpus, tmp_path / "out", start=text_encoder_folder, clip=folder)
    config = replace(CONFIG, clip_projection=False, training={**TRAINING, "max_steps": 1})
    out = distillation.train(config, corpus, tmp_path / "run", start=text_encoder_folder, clip=tmp_path / "tower")
    assert load_encoder(out / "full").two_stream.widths == (16, 24)
    with pytest.raises(ConfigError, match="a decoder masks nothing"):
        XdbertObjective(CONFIG, tiny_model("gpt2"), CLIPTextModel(TOWER), None, Tokenizer(), ClipRows(CLIP, 16))


def test_it_reads_what_its_control_reads(corpus, text_encoder_folder, clip, monkeypatch, tmp_path):
    control, start, few = (
        recorded(monkeypatch, LmObjective),
        {"start": text_encoder_folder},
        {**TRAINING, "max_steps": 3},
    )
    lm.train(PretrainingConfig(max_length=16, training=few), corpus, tmp_path / "lm", **start)
    ours = recorded(monkeypatch, XdbertObjective)
    for reads in ("whole", "masked"):
        distillation.train(
            replace(CONFIG, clip_reads=reads, training=few), corpus, tmp_path / reads, clip=clip, **start
        )
        assert [{name: batch[name] for name in control[0]} for batch in ours] == control
        ours.clear()


def test_what_comes_out_is_the_language_encoder_and_all_of_it(adapted, text_encoder_folder):
    alone, full = load_encoder(adapted / "encoder"), load_encoder(adapted / "full")
    start = AutoModel.from_pretrained(text_encoder_folder, add_pooling_layer=False)
    shape = {name: value.shape for name, value in start.state_dict().items()}
    found = AutoModel.from_pretrained(adapted / "encoder", add_pooling_layer=False)
    assert {name: value.shape for name, value in found.state_dict().items()} == shape
    assert not torch.equal(found.embeddings.word_embeddings.weight, start.embeddings.word_embeddings.weight)
    assert torch.equal(full.get_input_embeddings().weight, alone.get_input_embeddings().weight)
    batch = load_tokenizer(adapted / "full")(["the box is red .", "a cup"], padding=True, return_tensors="pt")
    states = full(**batch).last_hidden_state
    assert states.shape == (*batch["input_ids"].shape, 16)
    single = load_tokenizer(adapted / "full")("a cup", return_tensors="pt")
    assert torch.allclose(full(**single).last_hidden_state[0], states[1, : single["input_ids"].shape[1]], atol=1e-5)
    assert full.config.hidden_size == 16


def test_saved_again_it_is_the_same_and_faults_are_told(adapted, tmp_path):
    full = load_encoder(adapted / "full")
    full.save_pretrained(tmp_path)
    assert digest_file(tmp_path / "model.safetensors") == digest_file(adapted / "full" / "model.safetensors")
    ids = torch.tensor([[2, 7, 8, 3]])
    assert torch.equal(load_encoder(tmp_path)(ids).last_hidden_state, full(ids).last_hidden_state)
    with pytest.raises(ConfigError, match="states of its last layer alone"):
        full(ids, output_hidden_states=True)
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        type(full).from_pretrained(None)
    with pytest.raises(ConfigError, match="without tokenizers"):
        type(full)(full.config)(ids)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="cannot be loaded as an XBERT"):
        load_encoder(tmp_path)


def clip_texts(full, *texts):
    """What CLIP reads of some texts: of each row, the words."""
    tokenizer = load_tokenizer(full.tokenizer.name_or_path)
    batch = tokenizer(*[[text] for text in texts], return_tensors="pt")
    rows = full.clip_inputs(batch["input_ids"], batch["attention_mask"])
    words = [ids[kept == 1] for ids, kept in zip(rows["clip_ids"][0], rows["clip_words"][0], strict=True)]
    return [CLIP.decode(row) for row in words]


def test_sentences_of_a_pair_have_rows_of_their_own(adapted):
    full = load_encoder(adapted / "full")
    assert ["".join(row.split()) for row in clip_texts(full, "the box is red .", "a cup")] == ["theboxisred.", "acup"]
    masked = torch.tensor([[2, 7, full.tokenizer.mask_token_id, 7, 3]])
    assert full.clip_inputs(masked, torch.ones_like(masked))["clip_ids"].shape[1] == 1  # a mask parts no sentence


@pytest.mark.parametrize("text", ["", "\U0001f600 e\u0301\u0301 \u200d", "red " * 2000])
def test_strange_texts_are_read(adapted, text):
    full = load_encoder(adapted / "full")
    batch = load_tokenizer(adapted / "full")([text, "a cup"], truncation=True, max_length=64, padding=True,
                                             return_tensors="pt")  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        states, _ = (full(**batch).last_hidden_state for _ in range(2))
    assert states.isfinite().all()
    assert [str(warning.message) for warning in told if "CLIP" in str(warning.message)] == [
        "a text has 158 tokens more than CLIP reads in 2 rows a sentence, and they are left out; for more, raise "
        "sentence_rows in config.json"
    ] * (len(text) > 20)
    unknown = int((batch["input_ids"] == load_tokenizer(adapted / "full").unk_token_id).sum())
    assert unknown == ("\N{GRINNING FACE}" in text)
    assert full.cut == 2 * (158 * (len(text) > 20) + unknown)  # 62 words of three letters, less 2 rows of 14


@pytest.mark.parametrize("folder", ["full", "encoder", "clip"])
def test_tasks_take_all_of_them(adapted, clip, world_folder, folder, tmp_path):
    name = clip if folder == "clip" else adapted / folder
    config = FinetuningConfig(pooling="mean", max_length=16, training={**TRAINING, "max_steps": 2})
    task = load_task("world", world_folder / "tasks" / "color")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = finetune(load_encoder(name), AutoTokenizer.from_pretrained(name), task, config=config, out=tmp_path)
    assert 0 <= scores["dev_accuracy"] <= 1


def test_what_clip_cannot_read_of_a_task_is_counted_in_its_report(adapted, world_folder, tmp_path):
    full, task = load_encoder(adapted / "full"), load_task("world", world_folder / "tasks" / "color")
    full.config.sentence_rows = 1
    full.save_pretrained(tmp_path / "full")
    config = FinetuningConfig(max_length=12, num_train=8, training={**TRAINING, "max_steps": 1})
    with pytest.warns(UserWarning, match=r"tokens more than CLIP reads in 1 rows"):
        finetune_seeds(tmp_path / "full", task, seeds=[0], config=config, out=tmp_path / "scores")
    read = [full.tokenizer.tokenize(row.inputs[0])[:10] for row in task.load("train")]
    letters = ["".join(words).replace("##", "") for words in read]
    report = Artifact.open(tmp_path / "scores", "scores").report
    assert report["clip_cut"]["train"] == sum(max(len(text) - 14, 0) for text in letters) > 0
    assert report["clip_cut"].keys() == {"train", *task.splits()}


@pytest.mark.slow
def test_an_interrupted_run_resumed_equals_the_whole_one(corpus, text_encoder_folder, clip, monkeypatch, tmp_path):
    config = replace(CONFIG, training={**TRAINING, "max_steps": 5, "save_strategy": "steps", "save_steps": 3})

    def train(out, **options):
        distillation.train(config, corpus, out, start=text_encoder_folder, clip=clip, **options)

    assert resumes_exactly(monkeypatch, XdbertObjective, train, tmp_path)
    files = [tmp_path / run / "full" / "model.safetensors" for run in ("whole", "stopped")]
    assert digest_file(files[0]) == digest_file(files[1])
