"""Every probe on made-up data with a tiny encoder: kept, taken up again, skipped by name."""

import json

import pytest
from made_up import write_lines, write_probe_data

from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.probes import run
from sightread.probes.results import ProbeConfig, table
from sightread.probes.run import PROBES, labelled, probe

CONFIG = ProbeConfig(num_resamples=20, folds=3)


@pytest.fixture
def data(tmp_path):
    return write_probe_data(tmp_path)


def test_every_probe_answers(text_encoder_folder, data, world_folder):
    (data / "world").symlink_to(world_folder)
    results = probe(text_encoder_folder, data, config=CONFIG, label="tiny")
    assert {result.probe for result in results} == set(PROBES)
    assert {result.encoder for result in results} == {"tiny"}
    unanswered = [(result.probe, result.score) for result in results if result.value is None]
    assert {score for _, score in unanswered} == {"spearman concrete"}  # of too few pairs
    for result in results:
        if result.value is not None:
            assert result.low <= result.value <= result.high or result.score == "r2"
            assert result.chance is not None
    assert "| memory_colors " in table(results)


def test_finished_probes_are_kept(text_encoder_folder, data, tmp_path, monkeypatch):
    out, names = tmp_path / "out", ["memory_colors", "blimp"]
    first = probe(text_encoder_folder, data, names[:1], config=CONFIG, out=out)
    answers = [json.loads(line) for line in (out / "memory_colors/answers.jsonl").read_text().splitlines()]
    assert len(answers) == 2 * 6
    assert set(answers[0]) == {"score", "item", "prediction", "gold", "value"}
    monkeypatch.setitem(run.PROBES, "memory_colors", None)  # it is not run again
    both = probe(text_encoder_folder, data, names, config=CONFIG, out=out, resume=True, label="again")
    assert [result.score for result in both if result.probe == "memory_colors"] == [r.score for r in first]
    assert both[0].value == first[0].value
    assert {result.encoder for result in both} == {"again"}
    assert "blimp" in {result.probe for result in both}


def test_what_was_kept_must_fit(text_encoder_folder, data, tmp_path):
    out = tmp_path / "out"
    probe(text_encoder_folder, data, ["memory_colors"], config=CONFIG, out=out)
    with pytest.raises(ArtifactError, match="already holds a finished probe"):
        probe(text_encoder_folder, data, ["memory_colors"], config=CONFIG, out=out)
    other = ProbeConfig(num_resamples=20, folds=3, seed=1)
    with pytest.raises(ArtifactError, match="another seed"):
        probe(text_encoder_folder, data, ["memory_colors"], config=other, out=out, resume=True)
    write_lines(data / "probes/relative_size_pairs.txt", "straw plum")
    with pytest.raises(ArtifactError, match="another data"):
        probe(text_encoder_folder, data, ["memory_colors"], config=CONFIG, out=out, resume=True)
    assert probe(text_encoder_folder, data, ["memory_colors"], config=CONFIG, out=out, overwrite=True)


def test_a_result_in_the_way_is_found_before_work_begins(text_encoder_folder, data, tmp_path, monkeypatch):
    probe(text_encoder_folder, data, ["relative_size"], config=CONFIG, out=tmp_path / "out")
    monkeypatch.setitem(run.PROBES, "memory_colors", None)  # it is not begun
    with pytest.raises(ArtifactError, match="relative_size already holds"):
        probe(text_encoder_folder, data, ["memory_colors", "relative_size"], config=CONFIG, out=tmp_path / "out")


def test_missing_data_is_skipped_and_named(text_encoder_folder, data):
    (data / "probes/relative_size_pairs.txt").unlink()
    [result] = probe(text_encoder_folder, data, ["relative_size"])
    assert (result.value, result.note) == (None, f"skipped: no probes/relative_size_pairs.txt in {data}")


def test_a_missing_folder_is_no_skip(text_encoder_folder, tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere; expected one that holds probes/ and lexicons/"):
        probe(text_encoder_folder, tmp_path / "nowhere")


def test_an_unknown_probe_is_named(text_encoder_folder, data):
    with pytest.raises(ConfigError, match="did you mean 'simlex'"):
        probe(text_encoder_folder, data, ["simlx"])


def test_labels():
    given = ["runs/mlm/encoder", "bert-base-uncased", "org/name", "mine=/a/b"]
    assert labelled(given) == {
        "mlm": "runs/mlm/encoder", "bert-base-uncased": "bert-base-uncased", "name": "org/name", "mine": "/a/b"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="two encoders are called 'mlm'; name them: label=folder"):
        labelled(["a/mlm/encoder", "b/mlm/encoder"])
