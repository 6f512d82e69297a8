"""A card claims what manifests, predictions and weights say, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from scipy import stats

from scores_folders import write_scores
from sightread import hub
from sightread.artifacts import Artifact
from sightread.encoders.text import weights_digest
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.grounded import load_encoder
from sightread.hub.card import model_card
from sightread.hub.made import METHODS, Made

CONFIG = {"objective": "classification", "seed": 0, "training": {"max_steps": 3}}
SKIPPED = {"not UTF-8": {"count": 1234, "first": ["/home/ada/private.txt:7"]}}
RIGHT = {0: 60, 1: 66, 2: 75}  # of 80 rows, by seed


def write_run(folder, text_encoder, config=CONFIG, **inputs):
    artifact = Artifact.begin(folder, "encoder", config=config, inputs={"vokens": "ab" * 32} | inputs)
    shutil.copytree(text_encoder, folder / "encoder")
    artifact.finish({"steps": 3000, "seconds": 90.4, "skipped": SKIPPED, "base_models": ["ada/bert"]})
    return folder


@pytest.fixture(scope="module")
def run(text_encoder_folder, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "grounded", text_encoder_folder)


def scored(folder, encoder, right, digest="0" * 64):
    """Scores of an encoder; `digest` is that of its weights."""
    gold = ["yes", "no"] * 40
    answers = {
        seed: [(g if i < n else "never", g) for i, g in enumerate(gold)] for seed, n in right.items()
    }  # fmt: skip
    write_scores(folder, task="rte", metric="classification", encoder=str(encoder), answers=answers)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"]["encoder"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def scores(run, tmp_path):
    """Those of a control, and the encoder's own, wherever they say that it lay."""
    digest = weights_digest(load_encoder(run / "encoder"))
    control = scored(tmp_path / "text-only", "elsewhere/text-only", {0: 20, 1: 22, 2: 24})
    return [control, scored(tmp_path / "own", "moved/since", RIGHT, digest)]


def parts(card):
    """Metadata, and the text."""
    _, header, text = str(card).split("---\n", 2)
    return yaml.safe_load(header), text


def test_scores_are_the_models_own_with_their_intervals(run, scores):
    data, text = parts(model_card(Made.open(run), scores, name="ada/grounded"))
    shares = np.array(list(RIGHT.values())) / 80
    half = stats.t.ppf(0.975, 2) * shares.std(ddof=1) / 3**0.5
    interval = f"[{shares.mean() - half:.3f}, {shares.mean() + half:.3f}]"
    (model,) = data["model-index"]
    (result,) = model["results"]  # the control's are not the model's
    assert model["name"] == "ada/grounded"
    assert result["dataset"]["name"] == "rte"
    (metric,) = result["metrics"]
    assert (metric["type"], metric["name"]) == ("accuracy", f"accuracy (mean of 3 seeds, 95 % {interval})")
    assert metric["value"] == pytest.approx(shares.mean(), abs=1e-6)
    rows = [line for line in text.splitlines() if line.startswith("|") and "since" in line]
    assert len(rows) == 1
    assert f"{shares.mean():.3f} | {interval}" in rows[0]
    assert rows[0].endswith("| better |")
    assert ModelCard(str(model_card(Made.open(run), scores))).data.eval_results[0].metric_value == metric["value"]


def test_scores_of_others_are_refused(run, scores, tmp_path):
    with pytest.raises(ConfigError, match="none of the scores"):
        model_card(Made.open(run), scores[:1])
    with pytest.raises(ArtifactError):
        model_card(Made.open(run), [tmp_path / "nowhere"])


def test_method_data_limits_and_settings_are_told(run, scores):
    data, text = parts(model_card(Made.open(run)))
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "fill-mask")
    assert data["base_model"] == ["ada/bert"]
    assert "Voken pre-training" in text
    assert f"| vokens | `{'ab' * 32}` |" in text
    assert "3,000 steps, 90 seconds, 1,234 left out: not UTF-8" in text
    assert "/home/ada" not in text
    assert "a dog [MASK]." in text
    assert json.loads(text.partition("```json\n")[2].partition("```")[0]) == CONFIG
    assert "Without scores" in text
    told = parts(model_card(Made.open(run), scores[1:]))[1]
    assert "compared with no control" in told
    assert "trained once" in told
    both = parts(model_card(Made.open(run), scores))[1]
    assert "no control" not in both


@pytest.mark.parametrize(
    ("inputs", "config", "module"),
    [
        ({"objective": "lm"}, {}, "lm"),
        ({"captions": "c"}, {}, "lexical_contrast"),
        ({"captions": "c"}, {"strategy": "t2i"}, "joint_masked"),
        ({"teacher": "t", "teacher_config": "c"}, {}, "grounded_teacher"),
        ({"like": "l"}, {"seed": 0}, "weight_noise"),
        ({"pictures": "p", "bank": "b"}, {}, "associative"),
        ({"pictures": "p", "regions": "r"}, {}, "unpaired"),
        ({"clip_tokenizer": "c"}, {}, "distillation"),
        ({"association": "a"}, {}, "visual_awareness"),
    ],
)
def test_the_method_follows_from_the_manifest(inputs, config, module, tmp_path):
    Artifact.begin(tmp_path / "run", "encoder", config=config, inputs=inputs | {"start": "s"}).finish()
    made = Made.open(tmp_path / "run")
    assert made.module == f"methods.{module}"
    assert made.method.endswith(".")
    assert 20 < len(made.method) < 200


def test_a_method_that_is_not_told_is_not_made_up(text_encoder_folder, tmp_path):
    folder = tmp_path / "run"
    Artifact.begin(folder, "encoder").finish()
    shutil.copytree(text_encoder_folder, folder / "encoder")
    assert "How it was made is not known" in str(model_card(Made.open(folder)))


def test_every_method_has_a_sentence():
    folder = Path(hub.__file__).parents[1]
    for module in {module for kind in METHODS.values() for module in kind.values()}:
        assert (folder / f"{module.replace('.', '/')}.py").is_file()


def test_a_vokenizers_scores_are_those_of_retrieval(vokenizer_folder, tmp_path):
    row = {"R@1": 0.103, "R@5": 0.25, "R@10": 0.5, "median_rank": 11.0, "queries": 4321}
    found = {"tokens": row, "sentences": row | {"queries": 99}, "chance": row | {"R@1": 0.001}, "pictures": 1000}
    (tmp_path / "scores.json").write_text(json.dumps(found))
    data, text = parts(model_card(Made.open(vokenizer_folder), [tmp_path / "scores.json"], name="ada/v"))
    assert data["library_name"] == "sightread"
    assert "base_model" not in data  # its encoders came from folders
    assert "Token-picture matching" in text
    assert "4,321 tokens and 99 sentences looked for their picture among 1,000" in text
    assert "| tokens | 10.3 | 25.0 | 50.0 | 11 |" in text
    assert "Its bank is left out" in text
    assert "--pooling pooled --view crop" in text
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(DataError, match="retrieval --json"):
        model_card(Made.open(vokenizer_folder), [tmp_path / "scores.json"])


def test_what_is_no_model_has_no_card(voken_corpus_folder, tmp_path):
    with pytest.raises(ConfigError, match="voken-corpus"):
        Made.open(voken_corpus_folder)
    Artifact.begin(tmp_path / "begun", "encoder")
    with pytest.raises(ArtifactError, match="unfinished"):
        Made.open(tmp_path / "begun")
    with pytest.raises(ArtifactError):
        Made.open(tmp_path)
