"""The tables: right numbers, and no number that does not exist."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from scores_folders import write_all, write_scores
from sightread.compare import Column, Comparison, compare_runs
from sightread.report import as_markdown
from sightread.runs import read_runs
from sightread.statistics import holm, paired_bootstrap, permutation_test, summarize

HOSTILE = "<script>alert('arm')</script>"
COLUMNS = (Column("color", 1 / 6), Column("shape", 1 / 4))


@pytest.fixture
def comparison():
    scores = {
        "text-only": {"color": [0.10, 0.20, 0.30], "shape": [0.5, 0.5, 0.5]},
        "grounded": {"color": [0.80, 0.85, 0.90], "shape": [0.4, 0.5, 0.6]},
        HOSTILE: {"color": [0.20, 0.90, 0.40], "shape": [0.2, 0.2, 0.2]},
    }
    return Comparison(COLUMNS, (0, 1, 2), scores)


def test_table_holds_the_numbers(comparison):
    header, control, grounded, *_, chance = comparison.table().splitlines()
    assert header.split() == ["encoder", "color", "shape"]
    # half of the interval is t(2) * deviation / sqrt(3): 4.30265 * 0.1 / 1.73205 and a half of it
    assert control.split("  ")[0] == "text-only"
    assert control.split()[1:] == ["0.20", "[-0.05,0.45]", "0.50", "[0.50,0.50]"]
    assert grounded.split()[1:] == ["0.85", "[0.73,0.97]", "0.50", "[0.25,0.75]"]
    assert chance.split() == ["chance", "0.17", "0.25"]
    assert chance.index("0.17") == grounded.index("0.85"), "chance stands below the means"


def test_apart_means_above_and_clear(comparison):
    assert comparison.control == "text-only"
    assert comparison.apart("grounded", "color")
    assert not comparison.apart("grounded", "shape")  # equal means
    assert not comparison.apart(HOSTILE, "color")  # its mean is above, its interval is not
    assert not comparison.apart(HOSTILE, "shape")  # apart, but below


def test_an_arm_may_have_a_control_of_its_own(comparison):
    other = replace(comparison, controls={HOSTILE: "grounded"})
    assert [other.control_of(arm) for arm in other.scores] == ["text-only", "text-only", "grounded"]
    assert other.difference(HOSTILE, "color").scores == pytest.approx((0.20 - 0.80, 0.90 - 0.85, 0.40 - 0.90))
    assert other.difference("grounded", "color") == comparison.difference("grounded", "color")
    assert comparison.apart("grounded", "color")
    assert not replace(comparison, controls={"grounded": HOSTILE}).apart("grounded", "color")
    assert f"{HOSTILE} − grounded" in other.markdown()
    assert f"{HOSTILE} − text-only" not in other.markdown()


def test_markdown_holds_the_numbers_and_what_diverged(comparison):
    assert "Runs that diverged, and count: none." in comparison.markdown()
    assert "| text-only | 0.20 [−0.05, 0.45] | 0.50 [0.50, 0.50] | – |" in comparison.markdown()
    told = replace(
        comparison, seconds={"text-only": (1.0, 2.0, 6.0)}, diverged={"text-only": [], "grounded": ["color of seed 1"]}
    )
    assert "| text-only | 0.20 [−0.05, 0.45] | 0.50 [0.50, 0.50] | 3 |" in told.markdown()
    assert "| grounded − text-only | +0.65 [+0.53, +0.77] | +0.00 [−0.25, +0.25] |" in told.markdown()
    assert "| grounded | 0.85 | 0.50 |" in told.markdown()  # medians
    assert "| chance | 0.17 | 0.25 |" in told.markdown()
    assert told.markdown().endswith("Runs that diverged, and count: grounded (color of seed 1).\n")
    assert json.loads(told.to_json())["diverged"]["grounded"] == ["color of seed 1"]


def test_json_holds_scores_summaries_and_differences(comparison):
    found = json.loads(comparison.to_json())
    assert found["seeds"] == [0, 1, 2]
    assert found["chance"] == {"color": 1 / 6, "shape": 0.25}
    cell = found["arms"]["grounded"]["color"]
    assert cell["scores"] == [0.8, 0.85, 0.9]
    assert cell["mean"] == pytest.approx(0.85)
    assert cell["difference"]["scores"] == pytest.approx([0.7, 0.65, 0.6])
    assert set(found["arms"]["text-only"]["shape"]["difference"]["scores"]) == {0}


def test_a_single_seed_has_no_interval_and_says_so():
    lone = Comparison(
        COLUMNS, (0,), {"text-only": {"color": [0.1], "shape": [0.5]}, "x": {"color": [0.9], "shape": [0.5]}}
    )
    for shown in (lone.table(), lone.markdown(), lone.to_json()):
        assert not re.search(r"\b(nan|NaN|None)\b", shown)
    assert "0.10" in lone.table()
    assert "two seeds" in lone.table()
    assert not lone.apart("x", "color")


# Scores folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("scores"), num_rows=120)


@pytest.fixture(scope="module")
def compared(folders):
    return compare_runs(read_runs(folders), num=500)


def test_cells_hold_the_statistics_of_the_runs(folders, compared):
    runs = {(run.arm, run.column): run for run in read_runs(folders)}
    assert compared.arms == ["text-only", "grounded", "random"]
    assert compared.columns == ["nli", "similarity", "tags"]
    for (arm, column), cell in compared.cells.items():
        run, control = runs[arm, column], runs["text-only", column]
        assert cell.summary == summarize(run.main_scores())
        if arm == "text-only":
            assert cell.difference is cell.p is cell.adjusted is None
            continue
        own, theirs = list(run.predictions.values()), list(control.predictions.values())
        assert cell.difference == paired_bootstrap(run.metric, own, theirs, run.gold, num=500)
        assert cell.difference.mean == pytest.approx(np.mean(run.main_scores()) - np.mean(control.main_scores()))
        assert cell.p == permutation_test(run.metric, own, theirs, run.gold, num=500)
    for arm in compared.arms[1:]:
        cells = [compared.cells[arm, column] for column in compared.columns]
        assert [cell.adjusted for cell in cells] == holm([cell.p for cell in cells])


def test_runs_may_have_a_control_of_their_own(folders, compared):
    own = compare_runs(read_runs(folders), controls={"random": "grounded"}, num=500)
    assert own.control == "text-only (of random to grounded)"
    for column in own.columns:
        assert own.cells["grounded", column] == compared.cells["grounded", column]
        mine, other = (own.cells[arm, column] for arm in ("random", "grounded"))
        assert mine.difference.mean == pytest.approx(mine.summary.mean - other.summary.mean)
    assert any("clearly better than grounded" in said for said in own.verdicts())
    assert "Differences to text-only (of random to grounded)" in as_markdown(own).replace("\\", "")


def test_what_was_planted_is_found_and_nothing_else(compared):
    found = {key: cell.verdict for key, cell in compared.cells.items() if cell.verdict}
    assert found == {("grounded", "nli"): "better", ("random", "similarity"): "worse"}
    assert (
        "grounded: of 3 tasks clearly better than text-only on 1 (nli), clearly worse on none." in compared.verdicts()
    )


def test_a_diverged_run_counts_and_is_named(compared):
    cell = compared.cells["random", "nli"]
    assert len(cell.summary.scores) == 5
    rest = np.mean(np.delete(cell.summary.scores, 3))
    assert rest > cell.summary.mean + 0.02
    assert compared.notes() == [
        "† random, nli: diverged with seed 3 (the training loss was not finite), which is counted; "
        f"the mean without is {rest:.3f}."
    ]
    assert cell.p < 0.05  # on these models; another training might not diverge:
    assert cell.difference.low < 0 < cell.difference.high
    assert cell.verdict == ""


def test_errors_are_better_when_lower(tmp_path):
    gold = [float(i) for i in range(40)]
    answers = {"bad": 2.0, "good": 0.5}
    runs = [
        write_scores(
            tmp_path / name, task="ease", metric="error", encoder=name,
            answers={seed: [(g + off * (-1) ** (i + seed), g) for i, g in enumerate(gold)] for seed in range(3)},
        )
        for name, off in answers.items()
    ]  # fmt: skip
    cell = compare_runs(read_runs(runs), num=200).cells["good", "ease"]
    assert cell.difference.mean == pytest.approx(-1.5)
    assert cell.verdict == "better"


def test_seeds_are_matched_and_what_is_missing_is_said(tmp_path):
    rows = [("a", "a"), ("b", "a"), ("b", "b")]
    seeds = {"control": (0, 1, 2), "fewer": (2, 1), "lone": (1,), "other": (7, 8)}
    places = [
        write_scores(
            tmp_path / arm / task,
            task=task,
            metric="classification",
            encoder=arm,
            answers=dict.fromkeys(seeds[arm], rows),
        )
        for arm in seeds
        for task in ("rte", "sst2")
        if (arm, task) not in {("fewer", "sst2"), ("control", "sst2")}
    ]
    compared = compare_runs(read_runs(places), num=50)
    assert compared.cells["fewer", "rte"].seeds == (1, 2)
    assert compared.cells["other", "rte"].difference is compared.cells["lone", "sst2"].difference is None
    assert compared.notes() == [
        "rte: fewer and control have seeds 1, 2 in common; the difference is over these.",
        "rte: lone and control have seeds 1 in common; the difference is over these.",
        "rte: other has no seed in common with control, so there is no paired difference.",
        "rte: a single seed for lone, so no interval over seeds; that of a difference is over examples only.",
        "sst2: not run for control, fewer.",
        "sst2: a single seed for lone, so no interval over seeds; that of a difference is over examples only.",
    ]


def test_unequal_settings_are_said(tmp_path):
    answers, training = {0: [("a", "a"), ("b", "a")]}, {"learning_rate": 5e-5, "num_train_epochs": 3}
    configs = {
        "control": {"pooling": "mean", "training": training},
        "equal": {"pooling": "mean", "training": training},
        "longer": {"pooling": "first", "training": training | {"num_train_epochs": 9}},
    }
    runs = [
        write_scores(tmp_path / arm, task="rte", metric="classification", encoder=arm, answers=answers, config=config)
        for arm, config in configs.items()
    ]
    said = [note for note in compare_runs(read_runs(runs), num=50).notes() if "settings" in note]
    assert said == ["rte: longer and control were trained with unequal settings (pooling, num_train_epochs)."]


def test_translations_come_with_their_signature(tmp_path):
    answers = {0: [("a cat sat on the mat", "a cat sat on the mat"), ("a dog ran off", "the dog ran away")]}
    folder = write_scores(tmp_path / "x", task="multi30k", metric="translation", encoder="small", answers=answers)
    assert "tok:13a" in compare_runs(read_runs([folder])).notes()[-1]
