"""An encoder that looks at pictures is an encoder: to tasks, to disk, and within a model that translates."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForSeq2SeqLM

from sightread.artifacts import Artifact
from sightread.association.chance import RandomAssociation
from sightread.association.store import PictureStore
from sightread.aware import AwareTranslator, LookConfig
from sightread.bank import ImageBank
from sightread.data.blocks import text_of
from sightread.data.parallel import ParallelText
from sightread.encoders.seq2seq import build_transformer, learn_vocabulary, translate
from sightread.encoders.text import load_tokenizer
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.finetuning import FinetuningConfig, finetune_seeds
from sightread.grounded import Finder, load_encoder
from sightread.methods.visual_awareness import AwarenessConfig, wrap
from sightread.modules.single_stream import SingleStream
from sightread.runtime import keyed_rng, seed_everything
from sightread.tasks import translation
from sightread.tasks.classification import Classification
from sightread.tasks.translation import TranslationConfig, TranslationObjective

CONFIG = AwarenessConfig(num_images=3, heads=2, gated=True, seed=4)
TEXTS = ["the box is red .", "a cup", ""]


@pytest.fixture(scope="module")
def association():
    """Pictures by chance, of a bank of 9 with two regions each."""
    features = keyed_rng(3).standard_normal((9, 2 * 4)).astype(np.float32)
    return RandomAssociation(ImageBank([str(i) for i in range(9)], features, [""] * 9, num_regions=2))


@pytest.fixture(scope="module")
def run(association, text_encoder_folder, tmp_path_factory):
    return wrap(CONFIG, text_encoder_folder, association, tmp_path_factory.mktemp("aware") / "run")


def states(encoder, batch):
    with torch.no_grad():
        return encoder(**batch).last_hidden_state


def test_states_are_the_encoders_beside_the_pictures_found(run, association, text_encoder_folder):
    encoder, tokenizer = load_encoder(run / "encoder"), load_tokenizer(run / "encoder")
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = states(encoder, batch)
    plain = states(load_encoder(text_encoder_folder), batch)
    rows = association.retrieve([text_of(tokenizer, ids) for ids in batch["input_ids"]], 3)
    features = association.bank.features.reshape(9, 2, 4)
    for i in range(3):
        seen = features[rows[i][rows[i] >= 0]].reshape(1, -1, 4)
        images = torch.from_numpy(seen) if seen.size else None
        with torch.no_grad():
            expected = encoder.cross_modal.attention(plain[i : i + 1], images)
        torch.testing.assert_close(found[i : i + 1], expected, atol=1e-5, rtol=1e-5)
    blind = encoder.cross_modal.attention(plain)
    assert not torch.allclose(found[0], blind[0], atol=1e-3)
    assert torch.equal(found[2], blind[2])


def test_a_seed_is_one_layer_and_a_folder_is_one_encoder(run, association, text_encoder_folder, tmp_path):
    batch = load_tokenizer(run / "encoder")(TEXTS, padding=True, return_tensors="pt")
    again = wrap(CONFIG, text_encoder_folder, association, tmp_path / "again")
    other = wrap(replace(CONFIG, seed=5), text_encoder_folder, association, tmp_path / "other")
    first, second, third = (states(load_encoder(of / "encoder"), batch) for of in (run, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    wrap(CONFIG, text_encoder_folder, association, tmp_path / "again", resume=True)
    with pytest.raises(ArtifactError, match="begun with another seed"):
        wrap(CONFIG, text_encoder_folder, association, tmp_path / "other", resume=True)


def test_with_each_seed_of_fine_tuning_an_untaught_layer_is_another(run, tmp_path):
    batch, found = load_tokenizer(run / "encoder")(TEXTS, padding=True, return_tensors="pt"), {}
    for number, seed in enumerate((3, 3, 4)):
        encoder = load_encoder(run / "encoder")
        torch.manual_seed(seed)
        encoder.begin_anew()
        found[number] = states(encoder, batch)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    torch.manual_seed(3)
    encoder.begin_anew()  # it is no longer untaught
    assert torch.equal(states(encoder, batch), found[2])
    encoder.save_pretrained(tmp_path)
    load_tokenizer(run / "encoder").save_pretrained(tmp_path)
    assert not load_encoder(tmp_path).config.untaught


def test_a_layer_that_is_never_taught_is_told(run, world_folder, tmp_path):
    task = Classification("world", world_folder / "tasks" / "color", name="color")
    training = {"max_steps": 1, "per_device_train_batch_size": 4}
    config = FinetuningConfig(max_length=16, num_train=4, freeze_encoder=True, training=training)
    with pytest.warns(UserWarning, match="has learnt nothing yet, and with freeze_encoder it never does"):
        finetune_seeds(run / "encoder", task, seeds=(0,), config=config, out=tmp_path / "scores")


def test_tasks_about_pictures_refuse_it(run):
    with pytest.raises(ConfigError, match="encoder reads what it finds beside text, and no pictures that it is given"):
        SingleStream.from_pretrained(run / "encoder", 4)


def test_a_task_cannot_tell(run, world_folder, tmp_path, monkeypatch):
    """Pictures are found once for all its texts, before training."""
    find, asked = RandomAssociation.find, []
    monkeypatch.setattr(RandomAssociation, "find", lambda self, texts, k: asked.extend(texts) or find(self, texts, k))
    task = Classification("world", world_folder / "tasks" / "color", name="color")
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    config = FinetuningConfig(max_length=16, num_train=16, training=training)
    scores = finetune_seeds(run / "encoder", task, seeds=(0, 1), config=config, out=tmp_path / "scores")
    assert len(scores["test_accuracy"].scores) == 2
    pictures = Artifact.open(tmp_path / "scores", "scores").report["pictures"]
    texts = {row.inputs[0] for split in ("train", *task.splits()) for row in task.load(split)}
    assert len(asked) == len({*asked}) == pictures["distinct"] == len(texts)
    assert pictures["texts_per_second"] > 0 == pictures["without_picture"]


def test_what_cannot_be_is_told_before_any_folder(run, association, text_encoder_folder, tmp_path):
    for config, start, message in (
        (replace(CONFIG, num_images=10), text_encoder_folder, "k=10: expected between 1 and the 9 pictures"),
        (replace(CONFIG, heads=3), text_encoder_folder, "heads=3: 16, the width"),
        (CONFIG, run / "encoder", "reads more than text .sightread-aware."),
    ):
        with pytest.raises(ConfigError, match=message):
            wrap(config, start, association, tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_pictures_of_a_corpus_are_sought_once(association, tokenizer, tmp_path, monkeypatch):
    finder = Finder(association, tokenizer, 3)
    finder.prepare(["a cup", "a box"], tmp_path / "pictures")
    assert PictureStore(tmp_path / "pictures").rows(["a box"], 3).tolist() == finder.rows(["a box"]).tolist()
    monkeypatch.setattr(RandomAssociation, "find", None)
    other = Finder(association, tokenizer, 3)
    other.prepare(["a cup", "a box"], tmp_path / "pictures")
    assert other.rows(["a cup"]).tolist() == finder.rows(["a cup"]).tolist()


WORDS = {"red": "rot", "blue": "blau", "cup": "Tasse", "box": "Kiste", "dog": "Hund"}
SIZES = {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64}
LOOK = LookConfig(num_images=3, heads=4)
SHORT = TranslationConfig(
    **SIZES, dropout=0.1, vocab_size=300, averaged=2, look=LOOK,
    training={
        "max_steps": 6, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 2,
        "save_strategy": "steps", "save_steps": 2, "train_sampling_strategy": "group_by_length",
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("words"), random.Random(0)
    for split, count in (("train", 60), ("val", 4)):
        rows = [draw.choices([*WORDS], k=draw.randint(2, 4)) for _ in range(count)]
        (folder / f"{split}.en").write_text("".join(" ".join(row) + "\n" for row in rows))
        (folder / f"{split}.de").write_text("".join(" ".join(WORDS[word] for word in row) + "\n" for row in rows))
    return ParallelText("multi30k", folder)


def build(tokenizer, **more):
    seed_everything(0)
    return build_transformer(tokenizer, **SIZES, dropout=0.1, num_beams=2, length_penalty=0.6, **more).eval()


def test_a_translator_begins_as_its_control_and_looks(association):
    tokenizer = learn_vocabulary([*WORDS, *WORDS.values()], 300)
    finder = Finder(association, tokenizer, 3)
    control, model = build(tokenizer), build(tokenizer, kind=AwareTranslator, **AwareTranslator.shape(finder, LOOK))
    model.model.encoder.finder = finder
    weights = dict(model.named_parameters())
    for name, value in control.named_parameters():
        renamed = name if name in weights else name.replace("model.encoder.", "model.encoder.text.")
        assert torch.equal(weights[renamed], value), name
    batch = tokenizer(["red cup", "blue box box"], padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model.get_encoder()(**batch).last_hidden_state
        plain = control.get_encoder()(**batch).last_hidden_state
        images = finder(batch["input_ids"], batch["attention_mask"])
        expected = model.model.encoder.attention(plain, **images)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, model.model.encoder.attention(plain), atol=1e-3)
    assert model.get_input_embeddings() is model.model.encoder.text.embed_tokens


def test_translation_looks_is_kept_and_resumed_exactly(association, parallel, tmp_path, monkeypatch):
    def train(name, **more):
        return translation.train(
            SHORT, parallel, tmp_path / name, seeds=[0], association=association, keep_models=True, **more
        )

    train("whole")
    forward, calls = TranslationObjective.forward, []

    def stopping(self, **batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(TranslationObjective, "forward", stopping)
        with pytest.raises(KeyboardInterrupt):
            train("stopped")
    train("stopped", resume=True)
    kept = [tmp_path / name / "seed-0" / "model" for name in ("whole", "stopped")]
    weights = [safetensors.torch.load_file(folder / "model.safetensors") for folder in kept]
    assert all(torch.equal(value, weights[1].pop(name)) for name, value in weights[0].items())
    assert not weights[1]
    report = Artifact.open(tmp_path / "whole", "scores").report
    assert report["encoder"] == "transformer-1x32-3-pictures-random"
    assert report["pictures"]["distinct"] <= 64
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(kept[0]), load_tokenizer(kept[0])
    assert model.model.encoder.finder.association.digest == association.digest
    lines = (tmp_path / "whole" / "seed-0" / "predictions-dev.jsonl").read_text().splitlines()
    sources = [row.inputs for row in parallel.load("dev")]
    assert translate(model, tokenizer, sources) == [json.loads(line)["prediction"] for line in lines]
    with pytest.raises(DataError, match=r"sentence 1 has .* tokens, and this model reads at most"):
        translate(model, tokenizer, ["red " * 2000])
    with pytest.raises(ConfigError, match="k=10: expected between 1 and the 9"):
        translation.train(replace(SHORT, look=replace(LOOK, num_images=10)), parallel, tmp_path / "many", seeds=[0],
                          association=association)  # fmt: skip
    assert not (tmp_path / "many").exists()
