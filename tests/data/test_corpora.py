import gzip
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.data import sources
from sightread.data.corpora import Corpus
from sightread.errors import DataError

TEXT = "The cat sleeps.\n\n  Ein Hündchen \r\n   \nlast line without an end"
LINES = ["The cat sleeps.", "Ein Hündchen", "last line without an end"]


@pytest.fixture
def write(tmp_path):
    def write_(name, content):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write_


@pytest.fixture
def saved(tmp_path):
    """A data set on disk with two text columns, of which `text` holds LINES over three rows, one of them empty."""
    import datasets

    columns = {"text": ["\n".join(LINES[:2]), None, "", LINES[2]], "title": ["a", "b", "c", "d"]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "any.name"])
def test_a_file_gives_its_lines_that_are_not_blank_every_time(write, name):
    corpus = Corpus(write(name, TEXT))
    assert list(corpus) == list(corpus) == LINES
    assert list(Corpus(str(write(name, TEXT)), max_lines=2)) == LINES[:2]
    assert list(Corpus(write(name, TEXT), max_lines=9)) == LINES


def test_a_folder_gives_its_text_files_in_order(write, tmp_path):
    for name, text in {"b.txt": "2", "a.txt.gz": "1\n", "sub/c.raw": "3\n", "sub/d.text": "4", "e.md": "no"}.items():
        write(f"texts/{name}", text)
    (tmp_path / "texts" / "folder.txt").mkdir()
    corpus = Corpus(tmp_path / "texts")
    assert list(corpus) == ["1", "2", "3", "4"]
    assert list(Corpus(tmp_path / "texts", max_lines=3)) == ["1", "2", "3"]


def test_a_saved_data_set_gives_the_lines_of_a_column(saved):
    assert list(Corpus(saved)) == list(Corpus(saved)) == LINES
    assert list(Corpus(saved, text_column="title", max_lines=2)) == ["a", "b"]
    with pytest.raises(DataError, match="has columns text, title; no 'body'"):
        list(Corpus(saved, text_column="body"))


def test_a_split_of_a_saved_data_set(tmp_path):
    import datasets

    splits = {split: datasets.Dataset.from_dict({"text": [split]}) for split in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert list(Corpus(tmp_path / "saved")) == ["train"]
    assert list(Corpus(tmp_path / "saved", split="test")) == ["test"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\ufeff"))))
def test_only_line_feeds_end_a_line(tmp_path, lines):
    (path := tmp_path / "x.txt").write_bytes("\n".join(lines).encode())
    assert list(Corpus(path)) == [line.strip() for line in lines if line.strip()]


def test_a_byte_order_mark_is_no_part_of_the_text(write):
    assert list(Corpus(write("x.txt", b"\xef\xbb\xbf" + TEXT.encode()))) == LINES


def test_lines_that_are_not_utf8_are_skipped_and_counted_anew_each_time(write):
    path = write("x.txt", b"good\nb\xe4d\ngood too\n\xff\n")
    corpus = Corpus(path, max_skipped=0.5)
    for _ in range(2):
        assert list(corpus) == ["good", "good too"]
        assert corpus.skipped.report() == {"not UTF-8": {"count": 2, "first": [f"{path}:2", f"{path}:4"]}}


def test_too_many_bad_lines_are_an_error(write):
    bad = write("x.txt", b"good\n\xff\n\n\n")
    with pytest.raises(DataError, match=r"1 of 4 lines of .*x\.txt are bad.*0\.1: not UTF-8: 1 .*x\.txt:2"):
        list(Corpus(bad))
    with pytest.raises(DataError, match="2 of 2 lines"):
        list(Corpus(write("utf16.txt", b"\xff\xfe\n\xff\n")))


def test_the_share_of_bad_lines_is_that_of_the_whole_folder(write, tmp_path):
    write("texts/a.txt", b"good\n\xff\n")
    write("texts/b.txt", "good\n" * 98)
    assert len(list(Corpus(tmp_path / "texts", max_skipped=0.1))) == 99
    with pytest.raises(DataError, match="1 of 100 lines"):
        list(Corpus(tmp_path / "texts", max_skipped=0.005))
    with pytest.raises(DataError, match="are bad, more than the allowed share"):  # of the lines that were read
        list(Corpus(tmp_path / "texts", max_skipped=0.005, max_lines=60))


@pytest.mark.parametrize(
    "data",
    [b"not packed at all\n", gzip.compress(TEXT.encode() * 99)[:-12], gzip.compress(TEXT.encode())[:-8] + bytes(8)],
    ids=["plain", "cut", "wrong checksum"],
)
def test_a_broken_gzip_file_is_an_error(tmp_path, data):
    (path := tmp_path / "x.txt.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.txt\.gz is a broken gzip file after line \d"):
        list(Corpus(path))


@pytest.mark.parametrize("make", [lambda at: None, lambda at: at.mkdir(), lambda at: (at / "x.md").mkdir(parents=True)])
def test_where_there_is_no_text_it_says_so(tmp_path, make):
    make(tmp_path / "texts")
    with pytest.raises(DataError, match=r"no text at .*texts: expected .*\.txt\.gz"):
        Corpus(tmp_path / "texts")


def test_the_digest_follows_what_is_read(write, saved, tmp_path):
    path = write("x.txt", "one\ntwo\n")
    digests = [Corpus(path).digest, Corpus(path, max_lines=1).digest, Corpus(path, max_lines=2).digest]
    assert Corpus(write("y.txt", "one\ntwo\n")).digest == digests[0]  # where the text lies does not count
    digests.append(Corpus(write("x.txt", "one\ntwO\n")).digest)
    write("texts/a.txt", "one\n")
    write("texts/b.txt", "two\n")
    digests += [Corpus(tmp_path / "texts").digest, Corpus(saved).digest, Corpus(saved, text_column="title").digest]
    assert len(set(digests)) == len(digests)
    assert Corpus(saved).digest == digests[-2]


def test_the_digest_of_a_saved_data_set_is_of_what_it_holds(saved, tmp_path):
    import datasets

    before = Corpus(saved).digest
    datasets.Dataset.from_dict({"text": ["another"]}).save_to_disk(tmp_path / "other")
    for file in saved.glob("*.arrow"):
        file.write_bytes((tmp_path / "other" / file.name).read_bytes())  # its fingerprint stays
    assert Corpus(saved).digest != before


def test_a_column_that_is_no_text_is_refused(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": [["a", "b"]]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"column 'text' of .* holds list, not text"):
        list(Corpus(tmp_path / "saved"))


def test_a_file_that_cannot_be_read_to_its_end_is_named(write, monkeypatch):
    class Failing:
        closed = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            yield b"a line\n"
            raise OSError(5, "Input/output error")

        def tell(self):
            return 0

    monkeypatch.setattr(sources, "open_bytes", lambda path: Failing())
    with pytest.raises(DataError, match=r"x.txt cannot be read after line 1: Input/output error"):
        list(Corpus(write("x.txt", TEXT)))


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_the_share_that_was_read_grows_to_one(write, saved, name):
    lines = "".join(f"{random.getrandbits(400):x}\n" for random in [Random(0)] for _ in range(4000))
    for corpus in (Corpus(write(name, lines)), Corpus(saved), Corpus(write(name, lines), max_lines=100)):
        shares = [corpus.share_read for _ in corpus]
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= 0.5
        assert shares[-1] == 1
        list(corpus)
        assert corpus.share_read == 1
