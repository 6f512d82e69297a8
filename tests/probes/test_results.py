"""The table that people read, and the interval in it."""

import csv
import io

import numpy as np
import pytest

from sightread.probes.results import ProbeConfig, ProbeResult, as_csv, mean_interval, table

RESULTS = [
    ProbeResult(
        probe="colors", encoder="one", score="cloze accuracy", value=0.5, low=0.25, high=0.75, chance=0.1,
        references={"majority": 0.25, "frequency": 0.125}, items=109, answers=[{"item": "frog"}],
    ),
    ProbeResult(probe="colors", encoder="two", score="cloze accuracy", chance=0.1, items=109, note="no head"),
    ProbeResult(probe="grammar", encoder="one", score="accuracy", value=0.625, chance=0.5, items=1),
    ProbeResult(probe="grammar", encoder="one", score="accuracy binding", value=1.0, detail=True),
    ProbeResult(probe="words", encoder="one", note="skipped: no words.txt in data"),
    ProbeResult(probe="words", encoder="two", note="skipped: no words.txt in data"),
    ProbeResult(probe="more", encoder="two", note="no head"),
]  # fmt: skip


def test_the_table():
    assert table(RESULTS).splitlines() == [
        "| probe   | score          | one                  | two | chance | best reference | items |",
        "| ------- | -------------- | -------------------- | --- | ------ | -------------- | ----- |",
        "| colors  | cloze accuracy | 0.500 [0.250, 0.750] | –   | 0.100  | 0.250 majority | 109   |",
        "| grammar | accuracy       | 0.625                | –   | 0.500  | –              | 1     |",
        "| words   | –              | –                    | –   | –      | –              | –     |",
        "| more    | –              | –                    | –   | –      | –              | –     |",
        "",
        "two: no head (colors, more)",
        "one: skipped: no words.txt in data (words)",
        "two: skipped: no words.txt in data (words)",
    ]


def test_without_notes_the_table_ends():
    assert table(RESULTS[2:3]).splitlines()[-1].startswith("| grammar")


def test_csv_has_everything():
    rows = list(csv.DictReader(io.StringIO(as_csv(RESULTS))))
    assert len(rows) == len(RESULTS)
    assert rows[0] == {
        "probe": "colors", "score": "cloze accuracy", "encoder": "one", "value": "0.5", "low": "0.25", "high": "0.75",
        "chance": "0.1", "references": "majority=0.25; frequency=0.125", "items": "109", "note": "",
    }  # fmt: skip
    assert (rows[1]["value"], rows[1]["note"]) == ("", "no head")
    assert rows[3]["score"] == "accuracy binding"


def test_subjects_are_resampled_whole():
    values, subjects = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0], list("aabbbc")
    config = ProbeConfig(num_resamples=4000)
    rng = np.random.default_rng(1)
    groups = [[1.0, 1.0], [0.0, 1.0, 0.0], [0.0]]
    drawn = [np.mean(np.concatenate([groups[i] for i in rng.integers(3, size=3)])) for _ in range(4000)]
    expected = np.percentile(drawn, [2.5, 97.5])
    assert mean_interval(values, subjects, config) == pytest.approx(expected, abs=0.05)


def test_one_subject_has_no_interval():
    assert mean_interval([1.0, 0.0], ["a", "a"], ProbeConfig()) == (None, None)
