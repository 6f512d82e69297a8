"""Classification: official files are read as they are, faults are named by file and line, scores equal a hand's."""

import gzip

import datasets
import numpy as np
import pytest
import torch

from sightread.contracts import Row
from sightread.errors import ConfigError, DataError
from sightread.metrics import METRICS
from sightread.tasks.classification import Classification

RTE = """index\tsentence1\tsentence2\tlabel
0\tNo weapons were found in Iraq.\tWeapons were found in Iraq.\tnot_entailment
1\t"Sorrow, he said.\tHe "said" a word.\tentailment
2\tHerceptin was approved.\tIt was approved.\tentailment
"""
RTE_TEST = "index\tsentence1\tsentence2\n0\tMangla was summoned.\tMangla died.\n1\tIt rains.\tIt is wet.\n"
SST2 = "sentence\tlabel\nhide new secretions \t0\n`` it's a \"charming journey '' \t1\nthat loves its characters\t1\n"
SST2_TEST = "index\tsentence\n0\tuneasy mishmash of styles\n"
SICK = """pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment
1\tA group of kids is playing\tA group of boys is playing\t4.5\tNEUTRAL
2\tA man is here\tNo man is here\t3.6\tCONTRADICTION
3\tKids are playing\tChildren are playing\t5\tENTAILMENT
"""
WORLD = "sentence\tlabel\tnoun\nthe dax is here .\tred\tdax\nanna has a wug .\tblue\twug\na dax is there .\tred\tdax\n"
FILES = {
    "rte": {"train.tsv": RTE, "dev.tsv": RTE, "test.tsv": RTE_TEST},
    "sst2": {"train.tsv.gz": SST2, "dev.tsv": SST2, "test.tsv": SST2_TEST},
    "sick": {"SICK_train.txt": SICK, "SICK_trial.txt": SICK, "SICK_test_annotated.txt": SICK},
    "world": {"train.tsv": WORLD, "dev.tsv": WORLD, "test.tsv": WORLD},
}
HEADS = {name: next(iter(files.values())).splitlines()[0] for name, files in FILES.items()}


@pytest.fixture
def folder(tmp_path):
    """Writes files into a folder and returns it."""

    def write(files):
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path

    return write


LABELS = {
    "rte": ["not_entailment", "entailment", "entailment"],
    "sst2": ["0", "1", "1"],
    "sick": ["NEUTRAL", "CONTRADICTION", "ENTAILMENT"],
    "world": ["red", "blue", "red"],
}
CLASSES = {
    "rte": ("entailment", "not_entailment"),
    "sst2": ("0", "1"),
    "sick": ("CONTRADICTION", "ENTAILMENT", "NEUTRAL"),
    "world": ("blue", "red"),
}


@pytest.mark.parametrize("name", FILES)
def test_official_files(name, folder):
    task = Classification(name, folder(FILES[name]))
    assert task.splits() == ["train", "dev", "test"]
    assert task.labels == CLASSES[name]
    for split in ("train", "dev"):
        rows = task.load(split)
        assert [row.gold for row in rows] == LABELS[name]
        assert {len(row.inputs) for row in rows} == {2 if name in {"rte", "sick"} else 1}


@pytest.mark.parametrize(("name", "count"), [("rte", 2), ("sst2", 1)])
def test_a_test_split_without_labels(name, count, folder):
    task = Classification(name, folder(FILES[name]))
    rows = task.load("test")
    assert [row.gold for row in rows] == [None] * count
    assert METRICS[task.metric].scores(["entailment"] * count, [row.gold for row in rows]) == {}


@pytest.mark.parametrize(
    ("name", "row", "texts"),
    [
        ("rte", 1, ('"Sorrow, he said.', 'He "said" a word.')),
        ("sst2", 1, ("`` it's a \"charming journey '' ",)),
        ("world", 0, ("the dax is here .",)),
    ],
)
def test_texts_are_kept_literally(name, row, texts, folder):
    assert Classification(name, folder(FILES[name])).load("train")[row].inputs == texts


def test_splits_are_those_that_are_there(folder):
    task = Classification("world", folder({"train.tsv": WORLD, "test.tsv": WORLD}))
    assert task.splits() == ["train", "test"]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("rte", "3\tone sentence\tentailment", r"train\.tsv:5 has 3 columns, its header 4"),
        ("rte", "3\ta\tb\tentailment\textra", r"train\.tsv:5 has 5 columns"),
        ("rte", "3\ta\tb\tmaybe", r"train\.tsv:5 has label 'maybe', expected one of entailment, not_entailment"),
        ("rte", "3\ta\t \tentailment", r"train\.tsv:5 has an empty sentence"),
        ("sst2", "fine\t2", r"train\.tsv\.gz:5 has label '2'"),
        ("sick", "4\ta\tb\t3.2\tneutral", r"SICK_train\.txt:5 has label 'neutral'"),
        ("world", "\tred\tdax", r"train\.tsv:5 has an empty sentence"),
    ],
)
def test_faults_are_named_by_file_and_line(name, line, message, folder):
    first, text = next(iter(FILES[name].items()))
    source = folder({**FILES[name], first: text + line + "\n"})
    with pytest.raises(DataError, match=message):
        Classification(name, source).load("train")


@pytest.mark.parametrize("blank", ["\n", "\r\n"])
def test_blank_lines_do_not_shift_line_numbers(blank, folder):
    source = folder({**FILES["rte"], "train.tsv": RTE + blank + "3\ta\tb\tmaybe\n"})
    with pytest.raises(DataError, match=r"train\.tsv:6 has label 'maybe'"):
        Classification("rte", source).load("train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no train\.tsv"),
        ({"train.tsv": ""}, "is empty"),
        ({"train.tsv": "index\tsentence1\tlabel\n0\ta\tentailment\n"}, r"has columns index, .*; no sentence2"),
        ({"train.tsv": RTE_TEST}, r"no label"),  # only a test split may lack it
        ({"train.tsv": RTE.encode() + b"3\t\xff\tb\tentailment\n"}, r"not UTF-8.*train\.tsv:5"),
        ({"train.tsv.gz": b""}, "is empty|broken gzip"),
    ],
)
def test_files_that_cannot_be_read(files, message, folder):
    with pytest.raises(DataError, match=message):
        Classification("rte", folder(files)).load("train")


def test_unknown_data_set():
    with pytest.raises(ConfigError, match=r"data set is 'snil', expected one of .*; did you mean 'snli'"):
        Classification("snil", "nowhere")


def glue(split_labels, names=("entailment", "not_entailment")):
    """An RTE as the Hub has it: labels are numbers of a ClassLabel, -1 where they are kept back."""
    features = datasets.Features(
        sentence1=datasets.Value("string"), sentence2=datasets.Value("string"), label=datasets.ClassLabel(names=names)
    )
    columns = {
        split: {"sentence1": [f"a {i}" for i in labels], "sentence2": ["b"] * len(labels), "label": labels}
        for split, labels in split_labels.items()
    }
    return datasets.DatasetDict({s: datasets.Dataset.from_dict(c, features=features) for s, c in columns.items()})


HUB = {"train": [0, 1, 1], "validation": [1, 0], "test": [-1, -1]}


@pytest.fixture(params=["saved", "hub"])
def dataset_source(request, tmp_path, monkeypatch):
    """A data set saved to disk, or one that only `datasets.load_dataset` can reach."""
    if request.param == "saved":
        glue(HUB).save_to_disk(tmp_path / "rte")
        return tmp_path / "rte"
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: {"somebody/rte": glue(HUB)}[name][split])
    return "hf:somebody/rte"


def test_data_sets_of_the_hub(dataset_source):
    task = Classification("rte", dataset_source)
    assert [row.gold for row in task.load("train")] == ["entailment", "not_entailment", "not_entailment"]
    assert [row.gold for row in task.load("dev")] == ["not_entailment", "entailment"]
    assert task.load("test") == [Row(("a -1", "b"), None)] * 2
    assert task.splits() == ["train", "dev", "test"]


def test_class_names_of_the_hub_may_differ_in_order(tmp_path):
    glue(HUB, names=("not_entailment", "entailment")).save_to_disk(tmp_path)
    labels = [row.gold for row in Classification("rte", tmp_path).load("train")]
    assert labels == ["not_entailment", "entailment", "entailment"]


def test_a_missing_split_of_a_data_set_is_the_users_to_know(tmp_path):
    glue({"train": [0, 1]}).save_to_disk(tmp_path)
    task = Classification("rte", tmp_path)
    assert task.splits() == ["train"]
    with pytest.raises(DataError, match="validation"):
        task.load("dev")


def test_a_single_saved_split_is_not_train_and_test_at_once(tmp_path):
    glue(HUB)["train"].save_to_disk(tmp_path)
    task = Classification("rte", tmp_path)
    assert len(task.load("train")) == 3
    with pytest.raises(DataError):
        task.load("test")


def test_encoding_a_pair(folder, tokenizer):
    task = Classification("rte", folder(FILES["rte"]))
    rows = [
        Row(("the red box", "a box"), "not_entailment"),
        Row(("a box is here in the garden", "a cup"), "entailment"),
    ]
    examples = task.encode(rows, tokenizer, max_length=10)
    batch = examples.collate([examples.example(i, np.random.default_rng(0)) for i in (1, 0)])
    assert batch["labels"].tolist() == [0, 1]
    assert {
        name: tuple(batch[name].shape) for name in ("input_ids", "attention_mask", "token_type_ids")
    } == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (2, 10))
    second = tokenizer.decode(batch["input_ids"][1][batch["attention_mask"][1].bool()])
    assert second == "[CLS] the red box [SEP] a box [SEP]"
    assert batch["token_type_ids"][1].tolist() == [0] * 5 + [1] * 3 + [0] * 2
    assert batch["attention_mask"].sum(dim=1).tolist() == [10, 8]  # the first was cut
    assert len(examples) == 2


def test_loss_and_prediction(folder):
    task = Classification("sick", folder(FILES["sick"]))
    logits, labels = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([0, 1])
    expected = np.mean([np.log(np.exp([2, 0, 0]).sum()) - 2, np.log(np.exp([0, 0, 1]).sum()) - 0])
    assert float(task.loss(logits, labels)) == pytest.approx(expected, rel=1e-5)
    assert task.predict(logits.numpy(), [], None) == ["CONTRADICTION", "NEUTRAL"]
    assert task.head(16)(torch.zeros(5, 16)).shape == (5, 3)
