import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertModel

from conftest import LAYERS, tiny_bert
from sightread.analysis.retrieval import retrieval_scores
from sightread.artifacts import digest_file
from sightread.bank import ImageBank
from sightread.data.captions import read_captions
from sightread.encoders.features import TokenFeatures
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import TextEncoder
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.methods import matching
from sightread.methods.matching import OBJECTIVES, MatchingConfig, MatchingExamples, MatchingObjective
from sightread.runtime import keyed_rng, seed_everything
from sightread.train import fit, last_checkpoint, training_arguments
from sightread.vokenizer import Vokenizer

TRAINING = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-2}
CONFIG = MatchingConfig(layers=LAYERS, hidden=16, width=8, max_length=24, training=TRAINING)


def linear(layer, x):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def head_in_numpy(head, x):
    """LayerNorm, linear, ReLU, linear, unit length, in double precision."""
    norm, first, second = (layer for layer in head.layers if hasattr(layer, "weight"))
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + norm.eps)
    x = linear(second, np.maximum(linear(first, x), 0))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def features_of_tokens(lengths, vectors):
    begins = np.concatenate([[0], np.cumsum(lengths)])
    return TokenFeatures(vectors.astype(np.float16), begins, np.repeat(np.arange(len(lengths)), lengths))


def random_examples(seed=0, num_pictures=5, captions_per_picture=2, text_width=12, image_width=6):
    """Captions of one to four tokens; tokens of the same picture are alike."""
    rng = np.random.default_rng(seed)
    picture_of = rng.permutation(np.repeat(np.arange(num_pictures), captions_per_picture))
    lengths = rng.integers(1, 5, size=len(picture_of))
    about = rng.standard_normal((num_pictures, text_width))[np.repeat(picture_of, lengths)]
    vectors = about + 0.1 * rng.standard_normal(about.shape)
    features = rng.standard_normal((num_pictures, image_width)).astype(np.float32)
    return MatchingExamples(features_of_tokens(lengths, vectors), features, picture_of)


def loss_in_numpy(config, objective, examples, rows):
    """Equation 3, its batch form, or InfoNCE, token by token."""
    text = [head_in_numpy(objective.text_head, states.astype(np.float64)) for states, _, _ in rows]
    look = {i: head_in_numpy(objective.image_head, f) for i, f in enumerate(examples.features.astype(np.float64))}
    batch = [picture for _, picture, _ in rows]
    losses = []
    for tokens, (_, own, negative) in zip(text, rows, strict=True):
        for token in tokens:
            others = [picture for picture in batch if picture != own]
            if config.objective == "hinge":
                losses.append(max(0, config.margin - token @ look[own] + token @ look[negative]))
            elif config.objective == "batch_hinge":
                losses += [max(0, config.margin - token @ look[own] + token @ look[other]) for other in others]
            else:
                scores = np.array([token @ look[picture] for picture in [own, *others]]) / config.temperature
                losses.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[0])
    return np.mean(losses)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_numpy(name, seed):
    config = replace(CONFIG, objective=name, margin=0.3, temperature=0.2)
    examples = random_examples(seed)
    rows = [examples.example(i, keyed_rng(seed, i)) for i in (0, 3, 4, 7, 8, 9)]
    assert len({picture for _, picture, _ in rows}) < len(rows)  # a picture comes twice, and is no negative of itself
    objective = MatchingObjective(config, 12, 6).eval()
    losses = objective(**examples.collate(rows))
    assert losses["loss"].item() == pytest.approx(loss_in_numpy(config, objective, examples, rows), abs=1e-5)
    if name == "info_nce":
        assert losses["temperature"].item() == pytest.approx(0.2)


def test_the_temperature_is_learnt_and_stays_away_from_zero():
    examples, objective = random_examples(), MatchingObjective(replace(CONFIG, temperature=1e-6), 12, 6)
    losses = objective(**examples.collate([examples.example(i, keyed_rng(i)) for i in range(4)]))
    assert losses["temperature"].item() == pytest.approx(0.01)
    assert torch.isfinite(losses["loss"])
    objective = MatchingObjective(CONFIG, 12, 6)
    objective(**examples.collate([examples.example(i, keyed_rng(i)) for i in range(4)]))["loss"].backward()
    assert objective.log_temperature.grad.abs() > 0


def test_the_negative_is_a_different_picture_redrawn_every_epoch():
    examples = random_examples(num_pictures=4)
    drawn = np.array(
        [[examples.example(i, keyed_rng(0, epoch, i))[2] for i in range(len(examples))] for epoch in range(60)]
    )
    for i, own in enumerate(examples.picture_of):
        assert examples.example(i, keyed_rng(0, 0, i))[1] == own
        assert set(drawn[:, i]) == set(range(4)) - {own}  # each of the others, sooner or later
        counts = np.bincount(drawn[:, i], minlength=4)
        assert counts[counts > 0].min() > 8  # of 20 expected
    again = [examples.example(i, keyed_rng(0, 7, i))[2] for i in range(len(examples))]
    np.testing.assert_array_equal(again, drawn[7])


def test_a_batch_lays_tokens_end_to_end():
    examples = random_examples()
    rows = [examples.example(i, keyed_rng(i)) for i in (2, 0, 5)]
    batch = examples.collate(rows)
    assert batch["caption_of"].tolist() == [i for i, (states, _, _) in enumerate(rows) for _ in states]
    np.testing.assert_array_equal(batch["tokens"], np.concatenate([states for states, _, _ in rows]))
    np.testing.assert_array_equal(batch["images"], examples.features[[picture for _, picture, _ in rows]])
    np.testing.assert_array_equal(batch["negatives"], examples.features[[other for _, _, other in rows]])
    assert batch["pictures"].tolist() == examples.picture_of[[2, 0, 5]].tolist()
    begins = examples.tokens.begins
    np.testing.assert_array_equal(rows[0][0], examples.tokens.vectors[begins[2] : begins[3]])


def test_one_picture_is_not_enough():
    with pytest.raises(DataError, match="at least two different pictures"):
        random_examples(num_pictures=1)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'batch_hinge'"):
        MatchingObjective(replace(CONFIG, objective="batch_hing"), 12, 6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_learns_which_picture_a_token_belongs_to(name, tmp_path):
    seed_everything(0)
    examples = random_examples(num_pictures=8)
    config = replace(CONFIG, objective=name, hidden=32, dropout=0.0, input_dropout=0.0)
    objective = MatchingObjective(config, 12, 6)

    def recall():
        with torch.no_grad():
            text = objective.eval().text_head(torch.from_numpy(examples.tokens.vectors).float())
            best = (text @ objective.image_head(torch.from_numpy(examples.features)).T).argmax(dim=1).numpy()
        return (best == examples.picture_of[examples.tokens.sentence_of]).mean()

    before = recall()
    settings = {"num_train_epochs": 80, "per_device_train_batch_size": 16, "learning_rate": 2e-2, "logging_steps": 20}
    log = fit(objective, examples, args=training_arguments(tmp_path, settings, seed=0))
    assert before < 0.4
    assert recall() > 0.95
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.fixture(scope="module")
def encoders(text_encoder_folder, image_encoder_folder):
    return {
        "text_encoder": TextEncoder.from_pretrained(text_encoder_folder, LAYERS),
        "image_encoder": ImageEncoder.from_pretrained(image_encoder_folder),
    }


def test_a_vokenizer_overfits_the_captions_it_was_trained_on(captions, encoders, tmp_path):
    said = list(dict.fromkeys(captions.texts))
    few = captions.keep_pictures(np.arange(8))
    few = replace(few, texts=[said[picture] for picture in few.picture_of])  # no caption speaks of two pictures
    training = {**TRAINING, "num_train_epochs": 80}
    config = replace(CONFIG, hidden=32, dropout=0.0, input_dropout=0.0, training=training)
    vokenizer = matching.train(config, few, tmp_path / "vokenizer", **encoders)
    scores = retrieval_scores(vokenizer, few)
    assert scores["sentences"]["R@1"] == 1
    assert scores["tokens"]["R@1"] > 0.6  # words that several captions share cannot tell
    assert scores["chance"]["R@1"] == 1 / 8
    manifest = json.loads((tmp_path / "vokenizer" / "manifest.json").read_text())
    assert (manifest["report"]["captions"], manifest["report"]["pictures"]) == (16, 8)


def test_at_the_level_of_sentences_captions_find_their_pictures_by_their_first_token(
    captions, encoders, tokenizer, tmp_path
):
    said = list(dict.fromkeys(captions.texts))
    few = captions.keep_pictures(np.arange(6))
    few = replace(few, texts=[said[picture] for picture in few.picture_of])
    seed_everything(0)
    training = {**TRAINING, "num_train_epochs": 60}
    config = replace(CONFIG, level="sentence", hidden=32, dropout=0.0, input_dropout=0.0, training=training)
    bert = BertModel(tiny_bert(len(tokenizer), dropout=0.0, initializer_range=0.5))  # small weights mix tokens little
    matching.train(
        config, few, tmp_path / "vokenizer", **encoders | {"text_encoder": TextEncoder(bert, tokenizer, LAYERS)}
    )
    vokenizer = Vokenizer.from_pretrained(tmp_path / "vokenizer")
    scores = retrieval_scores(vokenizer, few)
    assert scores["tokens"]["R@1"] == scores["sentences"]["R@1"] == 1  # words that captions share find each its own
    assert all(len({token.rows[0] for token in tokens}) == 1 for tokens in vokenizer(few.texts))


@pytest.mark.parametrize(
    ("setting", "said"), [({"level": "sentense"}, "did you mean 'sentence'"), ({"hidden": 0}, "256")]
)
def test_settings_that_cannot_be_are_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        replace(CONFIG, **setting)


def test_broken_pictures_and_their_captions_are_left_out(world_folder, encoders, tmp_path):
    captions = read_captions(world_folder / "captions.tsv")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    captions.pictures.paths[1] = tmp_path / "broken.png"
    vokenizer = matching.train(CONFIG, captions, tmp_path / "vokenizer", **encoders)
    assert vokenizer.bank.ids == [id_ for i, id_ in enumerate(captions.pictures.ids) if i != 1]
    report = json.loads((tmp_path / "vokenizer" / "manifest.json").read_text())["report"]
    assert report["skipped"] == {"broken picture (UnidentifiedImageError)": {"count": 1, "first": ["scene-00001.png"]}}
    assert (report["captions"], report["pictures"]) == (46, 23)


def test_a_bank_can_hold_other_pictures(captions, encoders, vokenizer_folder, tmp_path):
    bank = ImageBank.load(vokenizer_folder / "bank").select([4, 2])
    vokenizer = matching.train(CONFIG, captions, tmp_path / "vokenizer", bank=bank, **encoders)
    assert vokenizer.bank.ids == bank.ids
    assert Vokenizer.from_pretrained(tmp_path / "vokenizer").bank.digest == bank.digest


def heads(folder):
    return digest_file(folder / "heads.safetensors")


def test_the_seed_decides_the_vokenizer_whatever_was_drawn_before(captions, encoders, tmp_path):
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        matching.train(replace(CONFIG, seed=seed), captions, tmp_path / name, **encoders)
        digests.append(heads(tmp_path / name))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_backbones_are_left_as_they_were(captions, encoders, vokenizer_folder, text_encoder_folder):
    trained = Vokenizer.from_pretrained(vokenizer_folder)
    before = TextEncoder.from_pretrained(text_encoder_folder, LAYERS).state_dict()
    for name, value in trained.text_encoder.state_dict().items():
        assert "pooler" in name or torch.equal(value, before[name])  # the checkpoint has none
    for a, b in zip(trained.image_encoder.parameters(), encoders["image_encoder"].parameters(), strict=True):
        assert torch.equal(a, b)


RESUMABLE = {"num_train_epochs": 6, "save_strategy": "steps", "save_steps": 3, "logging_steps": 1}


def train_here(world_folder, text_encoder_folder, image_encoder_folder, out, resume, seconds_per_batch):
    """Train as the tests above do; in a process that is to be killed, slowly."""
    collate = MatchingExamples.collate

    def slowly(self, examples):
        time.sleep(seconds_per_batch)
        return collate(self, examples)

    seed_everything(11)  # the heads' first weights, and the pooler that the checkpoint lacks
    text_encoder = TextEncoder.from_pretrained(text_encoder_folder, LAYERS)
    image_encoder = ImageEncoder.from_pretrained(image_encoder_folder)
    MatchingExamples.collate = slowly
    try:
        return matching.train(
            replace(CONFIG, dropout=0.3, training={**TRAINING, **RESUMABLE}),
            read_captions(world_folder / "captions.tsv"), out,
            text_encoder=text_encoder, image_encoder=image_encoder, resume=resume,
        )  # fmt: skip
    finally:
        MatchingExamples.collate = collate


def test_a_killed_run_resumed_equals_the_uninterrupted_one(
    world_folder, text_encoder_folder, image_encoder_folder, tmp_path, kill_when
):
    folders = (world_folder, text_encoder_folder, image_encoder_folder)
    train_here(*folders, tmp_path / "whole", False, 0)
    killed, checkpoints = tmp_path / "killed", tmp_path / "killed" / "checkpoints"
    kill_when(lambda: last_checkpoint(checkpoints), train_here, *folders, killed, False, 0.1)
    assert not (killed / "manifest.json").exists()
    with pytest.raises(ArtifactError, match=r"unfinished vokenizer.*--resume"):
        train_here(*folders, killed, False, 0)
    begun = last_checkpoint(checkpoints)
    vokenizer = train_here(*folders, killed, True, 0)
    assert heads(killed) == heads(tmp_path / "whole")
    assert vokenizer.bank.vectors.tobytes() == ImageBank.load(tmp_path / "whole" / "bank").vectors.tobytes()
    assert begun is not None
    logs = [(folder / "log.jsonl").read_text() for folder in (tmp_path / "whole", killed)]
    assert [json.loads(line)["loss"] for line in logs[0].splitlines()] == [
        json.loads(line)["loss"] for line in logs[1].splitlines()
    ]


def test_a_finished_run_is_not_run_again_and_another_is_refused(captions, encoders, tmp_path):
    out = tmp_path / "vokenizer"
    matching.train(CONFIG, captions, out, **encoders)
    written = (out / "heads.safetensors").stat().st_mtime_ns
    assert len(matching.train(CONFIG, captions, out, resume=True, **encoders).bank) == 24
    assert (out / "heads.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ArtifactError, match=r"another margin \(0.5, now 0.4\)"):
        matching.train(replace(CONFIG, margin=0.4), captions, out, resume=True, **encoders)
    with pytest.raises(ArtifactError, match="another captions"):
        matching.train(CONFIG, captions.keep_pictures(np.arange(9)), out, resume=True, **encoders)
