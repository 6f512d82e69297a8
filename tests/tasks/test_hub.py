"""Data sets as the Hub lays them out: the rows are those that the official files would have given."""

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

from sightread.errors import ConfigError, DataError
from sightread.tasks import load_task
from sightread.tasks.spans import Question

TEXT, FIRST, SECOND = Value("string"), "a red box", "a box"
SINGLE, PAIR, NLI = ("sentence",), ("sentence1", "sentence2"), ("premise", "hypothesis")
ENTAILMENT = ("entailment", "neutral", "contradiction")
ENTAILED, DEV = ("entailment", "not_entailment"), ("validation",)
# name: columns of the texts, names of the classes, how the official files write them, and the splits if not all three
CLASSES = {
    "sst2": (SINGLE, ("negative", "positive"), ("0", "1")),
    "rte": (PAIR, ENTAILED, ENTAILED),
    "wnli": (PAIR, ("not_entailment", "entailment"), ("0", "1")),
    "qnli": (("question", "sentence"), ENTAILED, ENTAILED),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), ("0", "1")),
    "mrpc": (PAIR, ("not_equivalent", "equivalent"), ("0", "1")),
    "cola": (SINGLE, ("unacceptable", "acceptable"), ("0", "1")),
    "mnli": (NLI, ENTAILMENT, ENTAILMENT, ("train", "validation_matched", "validation_mismatched")),
    "snli": (NLI, ENTAILMENT, ENTAILMENT),
    "sick": (("sentence_A", "sentence_B"), ENTAILMENT, ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")),
    "advglue-sst2": (SINGLE, ("negative", "positive"), ("0", "1"), DEV),
    "advglue-qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), ("0", "1"), DEV),
    "advglue-qnli": (("question", "sentence"), ENTAILED, ENTAILED, DEV),
    "advglue-mnli": (NLI, ENTAILMENT, ENTAILMENT, DEV),
    "advglue-mnli-mm": (NLI, ENTAILMENT, ENTAILMENT, DEV),
}
NUMBERS = {"sick-r": (("sentence_A", "sentence_B"), "relatedness_score"), "stsb": (PAIR, "label")}
OFFICIAL_ONLY = ["joci", "joci-a", "clear", "read", "pdtb", "vua-all", "vua-nouns", "vua-verbs", "moh-x"]
SPLITS = {"validation": "dev", "validation_matched": "dev", "validation_mismatched": "dev_mismatched"}


def save(folder, features, rows, splits=("train", "validation", "test"), **of_test):
    """Save the same rows as every split, but for what is another in "test"; the splits as we name them."""
    columns = {name: [row[name] for row in rows] for name in features}
    tables = {split: {**columns, **(of_test if split == "test" else {})} for split in splits}
    DatasetDict({split: Dataset.from_dict(table, features=Features(features)) for split, table in tables.items()}
                ).save_to_disk(folder)  # fmt: skip
    return [SPLITS.get(split, split) for split in splits]


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name, tmp_path):
    columns, names, meant, *splits = CLASSES[name]
    texts = dict(zip(columns, (FIRST, SECOND), strict=False))
    rows = [texts | {"label": number} for number in range(len(names))]
    features = dict.fromkeys(columns, TEXT) | {"label": ClassLabel(names=list(names))}
    splits = save(tmp_path, features, rows, *splits, label=[-1] * len(rows))
    task = load_task(name, tmp_path)
    assert task.splits() == splits
    for split in splits:
        gold = [None] * len(rows) if split == "test" else list(meant)
        expected = [] if (name, split) == ("snli", "test") else [(tuple(texts.values()), label) for label in gold]
        assert task.load(split) == expected  # where SNLI's annotators did not agree, the Hub has -1 too
    assert set(task.labels) == set(meant)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name, tmp_path):
    columns, label = NUMBERS[name]
    rows = [dict(zip(columns, (FIRST, SECOND), strict=True)) | {label: number} for number in (1.0, 4.5)]
    hidden = {label: [-1.0, -1.0]} if name == "stsb" else {}
    save(tmp_path, dict.fromkeys(columns, TEXT) | {label: Value("float32")}, rows, **hidden)
    task = load_task(name, tmp_path)
    for split in ("train", "dev", "test"):
        gold = [None, None] if hidden and split == "test" else [1.0, 4.5]
        assert task.load(split) == [((FIRST, SECOND), number) for number in gold]


@pytest.mark.parametrize(("name", "answers"), [("squad", ["red box", "red"]), ("squad2", [])])
def test_answers(name, answers, tmp_path):
    features = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT,
                "answers": Sequence({"text": TEXT, "answer_start": Value("int32")})}  # fmt: skip
    given = {"text": answers, "answer_start": [2] * len(answers)}
    rows = [{"id": "7", "title": "t", "context": FIRST, "question": "what ?", "answers": given}]
    save(tmp_path, features, rows, ("train", "validation"))
    task = load_task(name, tmp_path)
    assert task.splits() == ["train", "dev"]
    for split in task.splits():
        assert task.load(split) == [(Question("what ?", FIRST, (2, 9) if answers else None), answers)]


def test_endings(tmp_path):
    texts = {"sent1": "A man sits.", "sent2": "He"} | {f"ending{i}": f"does {i}." for i in range(4)}
    features = dict.fromkeys(texts, TEXT) | {"label": ClassLabel(names=["0", "1", "2", "3"])}
    save(tmp_path, features, [texts | {"label": 2}], label=[-1])
    task = load_task("swag", tmp_path)
    endings = ("A man sits.", tuple(f"He does {i}." for i in range(4)))
    assert [task.load(split) for split in ("train", "dev", "test")] == [[(endings, gold)] for gold in (2, 2, None)]


def test_tags(tmp_path):
    kinds = ["O", *(f"{prefix}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for prefix in "BI")]  # the Hub's order
    features = {"tokens": Sequence(TEXT), "ner_tags": Sequence(ClassLabel(names=kinds))}
    save(tmp_path, features, [{"tokens": ["Anna", "Li", "saw", "Rome"], "ner_tags": [1, 2, 0, 5]}])
    task = load_task("conll2003", tmp_path)
    gold = ["B-PER", "I-PER", "O", "B-LOC"]
    assert task.load("dev") == [((("Anna", "Li", "saw", "Rome"), (0, 1, 2, 3)), gold)]
    assert set(kinds) == set(task.labels)


@pytest.mark.parametrize("name", OFFICIAL_ONLY)
def test_what_the_hub_does_not_have(name):
    with pytest.raises(ConfigError, match=f"{name} is read from its official files only; hf:x is no folder of them"):
        load_task(name, "hf:x")


def test_what_cannot_be_fetched_is_the_users_to_know(monkeypatch):
    def fails(*names, split):
        raise ConnectionError(f"no {names[0]} today")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match="hf:glue:sst2 cannot be loaded: no glue today"):
        load_task("sst2", "hf:glue:sst2")


def test_a_carved_split_names_its_classes_too(tmp_path):
    rows = [{"sentence": f"sentence {i}", "label": i % 2} for i in range(40)]
    save(tmp_path, {"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"])}, rows, DEV)
    task = load_task("advglue-sst2", tmp_path, carve="dev")
    assert sum(len(task.load(split)) for split in task.splits()) == 40
