"""Reading scores folders: what is computed anew agrees with what was written, and what does not fit is refused."""

import json
import shutil

import pytest

from scores_folders import METRIC, SKILL, write_all, write_scores
from sightread.errors import ArtifactError, DataError
from sightread.runs import read_runs

ANSWERS = {seed: [("a", "a"), ("a", "b"), ("b", None)] for seed in (0, 1)}


@pytest.fixture(scope="module")
def all_folders(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("scores"), num_rows=30)


@pytest.fixture
def write(tmp_path):
    def write(name="one", *, task="rte", metric="classification", encoder="bert", answers=ANSWERS, **other):
        return write_scores(tmp_path / name, task=task, metric=metric, encoder=encoder, answers=answers, **other)

    return write


def test_recomputed_scores_are_those_that_were_written(all_folders):
    runs = read_runs(all_folders)
    assert [(run.arm, run.column) for run in runs] == [(arm, task) for arm in SKILL for task in sorted(METRIC)]
    for run in runs:
        assert run.metric_name == METRIC[run.column]
        assert run.diverged == (
            {3: "the training loss was not finite"} if (run.arm, run.column) == ("random", "nli") else {}
        )
        assert list(run.scores) == [0, 1, 2, 3, 4]
        for seed, scores in run.scores.items():
            written = json.loads((run.folder / f"seed-{seed}" / "scores.json").read_text())
            assert written == pytest.approx({f"test_{name}": score for name, score in scores.items()})
        assert run.main_scores() == [scores[run.metric.main] for scores in run.scores.values()]
        assert len(run.main_scores(without_diverged=True)) == 5 - len(run.diverged)


def test_written_scores_are_not_trusted(write):
    folder = write()
    (folder / "seed-0" / "scores.json").write_text('{"test_accuracy": 1.0}')
    assert read_runs([folder])[0].main_scores() == [0.5, 0.5]


def test_rows_without_gold_are_left_out(write):
    run = read_runs([write()])[0]
    assert run.gold == ["a", "b"]
    assert run.predictions == {0: ["a", "a"], 1: ["a", "a"]}


@pytest.mark.parametrize(
    ("splits", "columns"),
    [
        ({"dev": "a", "test": "a"}, ["rte"]),
        ({"dev": "a", "test": None}, ["rte (dev)"]),
        ({"dev": "a"}, ["rte (dev)"]),
        ({"dev": "a", "mismatched": "a"}, ["rte (dev)", "rte (mismatched)"]),
        ({"dev": "a", "test_2016": "a", "test_2017": "a"}, ["rte (test_2016)", "rte (test_2017)"]),
    ],
)
def test_a_column_is_a_split_with_gold_and_dev_only_for_want_of_test(write, splits, columns):
    folder = write(answers={0: [("a", "a")]}, split="train")
    (folder / "seed-0" / "predictions-train.jsonl").unlink()
    for split, gold in splits.items():
        (folder / "seed-0" / f"predictions-{split}.jsonl").write_text(
            json.dumps({"row": 0, "prediction": "a", "gold": gold}) + "\n"
        )
    assert [run.column for run in read_runs([folder])] == columns


@pytest.mark.parametrize(
    ("encoder", "arm"),
    [("bert-base-uncased", "bert-base-uncased"), ("google/bert", "google/bert"), ("runs/mlm/encoder", "mlm"),
     ("/data/minilm", "minilm"), ("mlm/encoder", "mlm"), ("./minilm", "minilm")],
)  # fmt: skip
def test_an_arm_is_named_after_its_checkpoint(write, encoder, arm):
    assert read_runs([write(encoder=encoder)])[0].arm == arm


def test_a_label_names_all_that_its_folder_holds(all_folders):
    runs = read_runs([f"my name={all_folders[0]}"])
    assert {run.arm for run in runs} == {"my name"}
    assert len(runs) == 3


def refused(places, error, message):
    with pytest.raises(error, match=message):
        read_runs(places)


def test_what_is_no_scores_folder(write, tmp_path):
    refused([tmp_path / "nothing"], ArtifactError, "no folder .*nothing")
    refused([tmp_path], ArtifactError, "holds no scores")
    folder = write()
    (folder / "manifest.json").rename(folder / "run.json")
    refused([folder], ArtifactError, "unfinished.*--resume")
    refused([tmp_path], ArtifactError, "unfinished.*--resume")  # nothing is left out in silence


def test_an_older_manifest(write):
    folder = write()
    manifest = json.loads((folder / "manifest.json").read_text())
    for key, change in [("metric", "bleurt"), ("task", None)]:
        report = {**manifest["report"], key: change} if change else {"main_score": "accuracy"}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "report": report}))
        refused([folder], ArtifactError, "bleurt.*known are classification" if change else "says no 'task'")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"row": 1, "prediction": "a"}', r"seed-1/predictions-test.jsonl:2 .*'gold'"),
        ('{"row": 5, "prediction": "a", "gold": "b"}', ":2 is row 5, expected 1"),
        ("{broken", ":2 holds no prediction and gold"),
        ("[1]", ":2 holds no prediction and gold"),
        ('{"row": 1, "prediction": "a", "gold": "c"}', "first at row 1: 'b' and 'c'"),
    ],
)
def test_broken_predictions_are_named_by_file_and_line(write, line, message):
    folder = write()
    path = folder / "seed-1" / "predictions-test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    refused([folder], DataError, message)


def test_a_lost_seed(write):
    folder = write()
    shutil.rmtree(folder / "seed-1")
    refused([folder], DataError, "seed-1/predictions-test.jsonl cannot be read.*run the task again")
    shutil.rmtree(folder / "seed-0")
    refused([folder], DataError, "no predictions for labelled rows")


def test_other_rows_are_not_compared(write):
    one = write("one")
    refused(
        [one, write("two", encoder="x", answers={0: ANSWERS[0][:1]})],
        DataError,
        "one and .*two .* same rows .2 rows and 1",
    )
    refused(
        [one, write("three", encoder="x", answers={0: [("a", "b"), ("a", "b")]})],
        DataError,
        "first at row 0: 'a' and 'b'",
    )
    refused(
        [one, write("four", encoder="x", metric="cola")], DataError, "by classification in .*one, by cola in .*four"
    )


def test_names_must_be_clear(write):
    one, two = write("one"), write("two")
    refused([one, two], DataError, "both hold rte of bert; name one label=")
    assert [run.arm for run in read_runs([one, f"again={two}"])] == ["bert", "again"]
    three, four = write("three", encoder="a/mlm/encoder"), write("four", encoder="b/mlm/encoder", task="sst2")
    refused([three, four], DataError, "a/mlm/encoder and b/mlm/encoder would both be called mlm")
    assert [run.arm for run in read_runs([f"mlm={three}", f"mlm={four}"])] == ["mlm", "mlm"]  # as was asked for
