"""Parallel text: line n belongs to line n, faults are named by file and line, nothing that is scored is dropped."""

import gzip

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.contracts import Row
from sightread.data.parallel import PARALLEL_SETS, ParallelText
from sightread.errors import ConfigError, DataError
from sightread.runtime import data_root

ENGLISH = ["The box is red.", "A cup – two cups!", "dogs"]
GERMAN = ["Die Kiste ist rot.", "Eine Tasse, zwei Tassen!", "Hündinnen"]
PAIRS = [Row(*pair) for pair in zip(ENGLISH, GERMAN, strict=True)]


@pytest.fixture
def folder(tmp_path):
    """Writes lines (or bytes) into files of a folder and returns it."""

    def write(**files):
        for name, lines in files.items():
            data = lines if isinstance(lines, bytes) else "".join(line + "\n" for line in lines).encode()
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return tmp_path

    return write


def test_line_n_belongs_to_line_n(folder):
    data = ParallelText("multi30k", folder(train__en=ENGLISH, train__de__gz=GERMAN))
    assert data.load("train") == PAIRS
    assert ParallelText("multi30k", folder(), max_train=2).load("train") == PAIRS[:2]
    assert (data.name, data.skipped.count) == ("multi30k-en-de", 0)


@pytest.mark.parametrize("name", PARALLEL_SETS)
def test_splits_are_those_that_are_there_and_each_reads_its_own_file(name, folder):
    layout = PARALLEL_SETS[name]
    data = ParallelText(name, folder())
    assert data.splits() == []
    for split, file in layout.files.items():
        folder(**{f"{file}__{language}": [f"{split} {language}"] for language in layout.languages})
    assert data.splits() == list(layout.files)
    assert data.splits()[:3] == ["train", "dev", "test"]
    for split in data.splits():
        assert data.load(split) == [Row(*(f"{split} {language}" for language in layout.languages))]


def test_other_languages_can_be_asked_for(folder):
    data = ParallelText("multi30k", folder(val__fr=["la boîte"], val__en=["the box"]), languages=("fr", "en"))
    assert data.splits() == ["dev"]
    assert data.load("dev") == [Row("la boîte", "the box")]
    assert data.name == "multi30k-fr-en"


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\ufeff")).map(str.strip).filter(bool)


@given(pairs=st.lists(st.tuples(LINES, LINES), min_size=1))
def test_what_is_written_is_read(pairs, tmp_path):
    for side, language in enumerate(("en", "de")):
        (tmp_path / f"val.{language}").write_bytes("".join(f" {pair[side]} \n" for pair in pairs).encode())
    assert ParallelText("multi30k", tmp_path).load("dev") == pairs


def test_sides_of_different_length_are_refused(folder):
    source = folder(val__en=ENGLISH, val__de=GERMAN[:2])
    with pytest.raises(DataError, match=r"val\.en has 3 lines, .*val\.de 2; line n of one must be the translation"):
        ParallelText("multi30k", source).load("dev")


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
@pytest.mark.parametrize("side", ["en", "de"])
def test_an_empty_line_is_left_out_of_training_and_refused_in_a_test(side, blank, folder):
    sides = {"en": ENGLISH * 5, "de": GERMAN * 5}
    sides[side] = [*sides[side][:4], blank, *sides[side][5:]]
    lines = {f"{name}__{language}": text for name in ("train", "val") for language, text in sides.items()}
    data = ParallelText("multi30k", folder(**lines))
    assert data.load("train") == [pair for row, pair in enumerate(PAIRS * 5) if row != 4]
    assert data.skipped.report() == {"empty line": {"count": 1, "first": [f"{folder()}/train.{side}:5"]}}
    with pytest.raises(DataError, match=rf"val\.{side}:5 is empty; every line of dev is scored"):
        data.load("dev")
    with pytest.raises(DataError, match=r"1 of 15 training pairs of .* are bad"):
        ParallelText("multi30k", folder(), max_skipped=0.05).load("train")


@pytest.mark.parametrize("name", ["train", "val"])
def test_what_is_not_utf8_is_named(name, folder):
    source = folder(**{f"{name}__en": ENGLISH, f"{name}__de": "rot\nblau\ngr\u00fcn\n".encode("latin-1")})
    with pytest.raises(DataError, match=rf"not UTF-8.*{name}\.de:3"):
        ParallelText("multi30k", source).load({"val": "dev"}.get(name, name))


def test_what_is_missing_is_named(folder):
    with pytest.raises(DataError, match=r"no train\.en \(or \.gz\) in"):
        ParallelText("multi30k", folder()).load("train")
    half = ParallelText("multi30k", folder(val__en=ENGLISH))
    assert half.splits() == ["dev"]  # so that loading it says what is wrong
    with pytest.raises(DataError, match=r"no val\.de \(or \.gz\) in"):
        half.load("dev")
    with pytest.raises(DataError, match="holds no pairs for train"):
        ParallelText("multi30k", folder(train__en=[], train__de=[])).load("train")
    with pytest.raises(ConfigError, match="'multi30', expected one of multi30k, wmt14, wmt16; did you mean 'multi30k'"):
        ParallelText("multi30", folder())


NESTED = {"translation": [{"en": english, "de": german} for english, german in PAIRS]}
TYPED = datasets.Features({"translation": datasets.Translation(languages=["de", "en"])})


@pytest.mark.parametrize(
    ("columns", "features"), [(NESTED, None), (NESTED, TYPED), ({"de": GERMAN, "en": ENGLISH, "id": [1, 2, 3]}, None)]
)
def test_saved_data_sets(columns, features, tmp_path):
    rows = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": rows, "validation": rows.select([1])}).save_to_disk(tmp_path / "saved")
    data = ParallelText("wmt14", tmp_path / "saved")
    assert data.splits() == ["train", "dev"]
    assert data.load("train") == PAIRS
    assert data.load("dev") == PAIRS[1:2]
    with pytest.raises(DataError, match=r"has columns .*; no (translation\.)?ro$"):
        ParallelText("wmt16", tmp_path / "saved").load("dev")


def test_a_saved_row_without_text_is_refused(tmp_path):
    rows = datasets.Dataset.from_dict({"en": ["a", "b"], "de": ["x", None]})
    datasets.DatasetDict({"test": rows}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="saved test row 1 is empty"):
        ParallelText("wmt14", tmp_path / "saved").load("test")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("multi30k", "multi30k", {"train": 29_000, "dev": 1_014, "test": 1_000, "test_2017_flickr": 1_000,
                                  "test_2017_mscoco": 461, "test_2018_flickr": 1_071}),
        ("wmt14", "wmt-en-de", {"dev": 3_000, "test": 3_003}),
        ("wmt16", "wmt-en-ro", {"test": 1_999}),
    ],
)  # fmt: skip
def test_published_sets(name, folder, counts):
    data = ParallelText(name, data_root() / "data" / "nmt" / folder)
    assert {split: len(data.load(split)) for split in data.splits()} == counts
