"""Regression: numbers are read, scaled and given back on the scale of the data set."""

import numpy as np
import pytest
import torch

from sightread.errors import DataError
from sightread.metrics import METRICS
from sightread.tasks.regression import DATASETS, Regression

STSB = "index\tsentence1\tsentence2\tscore\n0\tA plane rises.\tAn air plane rises.\t5.000\n1\tA man.\tA dog.\t0.5\n"
JOCI = 'CONTEXT,HYPOTHESIS,LABEL,SUBSET\nIt rains.,It is wet.,5,A\n"A dog, red.",A cat.,0,A\nHe ran.,He moved.,3,A\n'
SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n1\ta b\tc d\t4.5\tNEUTRAL\n"


@pytest.fixture
def stsb(tmp_path):
    (tmp_path / "train.tsv").write_text(STSB)
    (tmp_path / "test.tsv").write_text(STSB.replace("\tscore", "").replace("\t5.000", "").replace("\t0.5", ""))
    return Regression("stsb", tmp_path)


def test_official_files(stsb, tmp_path):
    assert stsb.splits() == ["train", "test"]
    assert [row.gold for row in stsb.load("train")] == [5.0, 0.5]
    assert stsb.load("train")[0].inputs == ("A plane rises.", "An air plane rises.")
    assert [row.gold for row in stsb.load("test")] == [None, None]
    (tmp_path / "SICK_train.txt").write_text(SICK)
    assert Regression("sick-r", tmp_path).load("train")[0].gold == 4.5


def test_what_makes_no_sense_is_left_out(tmp_path):
    (tmp_path / "A.train.csv").write_text(JOCI)
    assert [row.gold for row in Regression("joci-a", tmp_path).load("train")] == [5.0, 3.0]


@pytest.mark.parametrize("value", ["six", "7", "-1", "nan", ""])
def test_a_wrong_number_is_named_by_line(value, tmp_path):
    (tmp_path / "train.tsv").write_text(STSB + f"2\ta\tb\t{value}\n")
    with pytest.raises(DataError, match=r"train\.tsv:4 has score .*, expected a number from 0 to 5"):
        Regression("stsb", tmp_path).load("train")


def test_labels_are_scaled_and_predictions_scaled_back(stsb, tokenizer):
    rows = stsb.load("train")
    examples = stsb.encode(rows, tokenizer, 16)
    labels = examples.collate([0, 1])["labels"]
    assert labels.dtype == torch.float32
    assert labels.tolist() == pytest.approx([1.0, 0.1])
    said = stsb.predict([np.array(value) for value in labels.tolist()], rows, examples)
    assert said == pytest.approx([5.0, 0.5])
    assert float(stsb.loss(torch.tensor([0.5, 0.5]), labels)) == pytest.approx((0.5**2 + 0.4**2) / 2)
    assert stsb.head(8)(torch.zeros(3, 8)).shape == (3,)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_metric(name):
    assert DATASETS[name].metric in METRICS
