import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from regions_fixture import make_regions
from sightread.data.captions import Captions, read_captions, read_ids
from sightread.data.images import PictureFiles
from sightread.data.skipped import Skipped
from sightread.data.unpaired import captions_of_regions
from sightread.errors import DataError

PAIRS = [("b.png", "two dogs"), ("a.png", "a cat, asleep"), ("b.png", "ein Hündchen")]
COCO = {
    "images": [{"id": 9, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}, {"id": 5, "file_name": "c.png"}],
    "annotations": [
        {"id": i, "image_id": {"a.png": 4, "b.png": 9}[name], "caption": caption}
        for i, (name, caption) in enumerate(PAIRS)
    ],
}
FLICKR = "".join(f"{name}#{i}\t{caption}\n" for i, (name, caption) in enumerate(PAIRS))
CSV = "caption,image,split\n" + "".join(f'"{caption}",{name},train\n' for name, caption in PAIRS)
TSV = "image\tcaption\n" + "".join(f"{name}\t{caption}\n" for name, caption in PAIRS)


@pytest.fixture
def images(tmp_path):
    """The folder `images` with a.png, b.png and c.png, 1, 2 and 3 pixels wide."""
    (folder := tmp_path / "images").mkdir()
    for width, name in enumerate("abc", start=1):
        Image.new("RGB", (width, 1)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def write(tmp_path, images):
    def write_(name, content):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write_


def pairs(captions):
    return [(captions.pictures.ids[row], text) for row, text in zip(captions.picture_of, captions.texts, strict=True)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("flickr.tsv", FLICKR),
        ("flickr.token", FLICKR),
        ("windows.tsv", FLICKR.replace("\n", "\r\n")),
        ("packed.tsv.gz", FLICKR),
        ("no_numbers.tsv", "".join(f"{name}\t{caption}\n" for name, caption in PAIRS)),
        ("coco.json", json.dumps(COCO)),
        ("coco.json.gz", json.dumps(COCO)),
        ("table.csv", CSV),
        ("table.csv.gz", CSV),
        ("table.tsv", TSV),
        ("kaggle.txt", CSV),
    ],
)
@pytest.mark.parametrize("where", ["beside", "given"])
def test_every_format_gives_the_same_pairs(write, images, name, content, where):
    path = write(name, content)
    if where == "given":
        images = images.rename(images.with_name("elsewhere"))
    captions = read_captions(path, images if where == "given" else None)
    assert pairs(captions) == PAIRS
    assert captions.pictures.ids == ["b.png", "a.png"]  # in order of first mention; c.png has no caption
    assert captions.picture_of.dtype == np.int64
    assert [captions.pictures.load(row).width for row in (0, 1)] == [2, 1]
    assert captions.skipped.count == 0


@pytest.mark.parametrize(
    "name", ["captions.tsv", "captions.txt", "captions.json", "captions.json.gz", "captions.csv", "metadata.csv"]
)
@pytest.mark.parametrize("nested", [True, False])
def test_a_folder_with_captions_and_pictures(write, images, tmp_path, name, nested):
    write(name, CSV if name.endswith(".csv") else json.dumps(COCO) if ".json" in name else FLICKR)
    if not nested:
        for picture in images.iterdir():
            picture.rename(tmp_path / picture.name)
        images.rmdir()
    assert pairs(read_captions(tmp_path)) == PAIRS


@pytest.mark.parametrize("name", ["train.json", "train.jsonl.gz"])
def test_a_statement_of_nlvr2_is_read_with_both_of_its_pictures(name, tmp_path):
    records = [
        {"sentence": "One dog is left.", "identifier": "train-10171-0-1", "label": "True"},
        {"sentence": "Both are red.", "identifier": "train-7-2-0", "label": "False"},
    ]
    content = "\n".join(map(json.dumps, records)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    store = make_regions(
        tmp_path / "regions", ["train-7-2-img1.png", "train-10171-0-img0.png", "train-10171-0-img1.png"]
    )
    captions = captions_of_regions(tmp_path / name, store, max_skipped=0.5)
    of = [(captions.pictures.ids[row], text) for row, text in zip(captions.picture_of, captions.texts, strict=True)]
    assert sorted(of) == [
        ("train-10171-0-img0.png", "One dog is left."), ("train-10171-0-img1.png", "One dog is left."),
        ("train-7-2-img1.png", "Both are red."),
    ]  # fmt: skip
    assert captions.skipped.count == 1


def test_only_a_number_is_cut_off_a_name(write, images):
    (images / "a.png").rename(images / "my#photo.png")
    assert pairs(read_captions(write("x.tsv", "my#photo.png\ta dog\nb.png#12\ta cat\n"))) == [
        ("my#photo.png", "a dog"),
        ("b.png", "a cat"),
    ]


def test_columns_may_be_named(write):
    path = write("table.csv", CSV.replace("image", "file").replace("caption", "said"))
    assert pairs(read_captions(path, image_column="file", text_column="said")) == PAIRS
    with pytest.raises(DataError, match="has columns said, file, split; expected 'image' and 'caption'"):
        read_captions(path)


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "flickr.tsv"])
def test_a_byte_order_mark_is_no_part_of_the_text(write, name):
    """Excel writes one when asked for "CSV UTF-8"."""
    content = {"table.csv": CSV, "table.tsv": TSV, "flickr.tsv": FLICKR}[name]
    assert pairs(read_captions(write(name, b"\xef\xbb\xbf" + content.encode()))) == PAIRS


def test_a_quoted_caption_may_run_over_lines(write):
    path = write("table.csv", 'image,caption\na.png,"a cat\nasleep"\nb.png,"a ""dog"""\n')
    assert pairs(read_captions(path)) == [("a.png", "a cat\nasleep"), ("b.png", 'a "dog"')]


def test_a_tab_separated_caption_may_hold_quotes(write):
    path = write("x.tsv", 'a.png#0\t"stop" is on the sign, 5" high\nb.png#0\t"what\nc.png#0\ta cow\n')
    assert [text for _, text in pairs(read_captions(path))] == ['"stop" is on the sign, 5" high', '"what', "a cow"]


BAD_LINES = {
    "nope.png{n}\ta picture that is not there": "caption of an unknown picture",
    "\tno name": "caption of an unknown picture",
    "x" * 300 + "{n}\ta name too long for a file": "caption of an unknown picture",
    "a.png{n}\t   ": "empty caption",
    "no tab at all": "line without a caption",
    "a.png{n}\tH\udcfcndchen": "not UTF-8",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=lambda text: text[:12])
@pytest.mark.parametrize("kind", ["flickr", "table"])
def test_a_bad_line_is_skipped_and_listed_with_its_place(write, line, reason, kind):
    lines = (FLICKR if kind == "flickr" else TSV).splitlines()
    lines[2:2] = ["", line.format(n="#0" if kind == "flickr" else "")]  # a blank line, then line 4
    path = write("x.tsv", "\n".join(lines).encode(errors="surrogateescape"))
    captions = read_captions(path, max_skipped=0.3)
    assert pairs(captions) == PAIRS
    assert {why: found["count"] for why, found in captions.skipped.report().items()} == {reason: 1}
    assert f"{path}:4" in captions.skipped.reasons[reason][0]
    with pytest.raises(DataError, match=f"1 of 4 captions .*0.2.*{reason}.*{path}:4"):
        read_captions(path, max_skipped=0.2)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"image_id": 77, "caption": "x"}, "caption of an unknown picture"),
        ({"image_id": 9, "caption": " "}, "empty caption"),
        ({"image_id": 9, "caption": None}, "empty caption"),
    ],
)
def test_a_bad_coco_annotation_is_skipped_and_listed(write, entry, reason):
    path = write("x.json", json.dumps(COCO | {"annotations": [*COCO["annotations"], {"id": 31, **entry}]}))
    captions = read_captions(path, max_skipped=0.5)
    assert pairs(captions) == PAIRS
    assert captions.skipped.report()[reason]["count"] == 1
    assert "annotation 31" in captions.skipped.reasons[reason][0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "", "holds no captions"),
        ("x.csv", "\n\n", "holds no captions"),
        ("x.csv", "image,caption\n", "holds no captions"),
        ("x.csv", "picture,words\na.png,x\n", "has columns picture, words; expected 'image' and 'caption'"),
        ("x.csv", 'image,caption\na.png,"never closed\nb.png,swallowed\nc.png,swallowed\n', "x.csv"),
        ("x.csv", f'image,caption\na.png,"endless {"x" * 200_000}"\n', "x.csv"),
        ("x.json", "", "is no COCO captions file"),
        ("x.json", "[]", "is no COCO captions file"),
        ("x.json", '{"images": []}', "is no COCO captions file .*annotations"),
        ("x.json", '{"images": [], "annotations": []}', "holds no captions"),
        ("x.json", b"\xff\xfe{}", "is no COCO captions file"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "UTF-16",
)
def test_a_file_that_holds_nothing_useful_is_refused(write, name, content, message):
    with pytest.raises(DataError, match=message):
        read_captions(write(name, content))


@pytest.mark.parametrize("name", ["x.tsv.gz", "x.csv.gz", "x.json.gz"])
@pytest.mark.parametrize("broken", [b"not packed at all", gzip.compress(FLICKR.encode())[:-12]], ids=["plain", "cut"])
def test_a_broken_gzip_file_is_refused(tmp_path, images, name, broken):
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(DataError, match=name):
        read_captions(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path, images):
    with pytest.raises(DataError, match=r"no captions in .*expected one of captions\.tsv"):
        read_captions(tmp_path)
    with pytest.raises(DataError, match=r"no captions file at .*none\.tsv"):
        read_captions(tmp_path / "none.tsv")
    (tmp_path / "captions.tsv").write_text(FLICKR)
    with pytest.raises(DataError, match=r"no folder of pictures at .*nowhere; give --images"):
        read_captions(tmp_path, tmp_path / "nowhere")


def saved(images, texts, folder, **columns):
    import datasets

    files = [str(images / f"{name}.png") for name in "abc"]
    dataset = datasets.Dataset.from_dict({"image": files, "caption": texts, **columns})
    dataset.cast_column("image", datasets.Image()).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("texts", "expected", "count"),
    [
        (["one", " two ", "three"], [(0, "one"), (1, "two"), (2, "three")], 0),
        ([["one", "uno"], ["two"], ["three"]], [(0, "one"), (0, "uno"), (1, "two"), (2, "three")], 0),
        (["one", None, "three"], [(0, "one"), (2, "three")], 1),
        ([["one", ""], ["two", "  "], ["three"]], [(0, "one"), (1, "two"), (2, "three")], 2),
    ],
    ids=["text", "lists", "missing", "empty"],
)
def test_a_saved_data_set(tmp_path, images, texts, expected, count):
    captions = read_captions(saved(images, texts, tmp_path / "saved"), max_skipped=0.5)
    assert list(zip(captions.picture_of.tolist(), captions.texts, strict=True)) == expected
    assert [captions.pictures.load(row).width for row in range(3)] == [1, 2, 3]
    assert captions.skipped.count == count


def test_a_saved_data_set_that_does_not_serve(tmp_path, images):
    folder = saved(images, ["one", "", ""], tmp_path / "saved", empty=[""] * 3)
    with pytest.raises(DataError, match=r"2 of 3 captions of the data set are bad.*row 1"):
        read_captions(folder)
    with pytest.raises(DataError, match="'empty' holds no captions"):
        read_captions(folder, text_column="empty", max_skipped=1)
    with pytest.raises(DataError, match="has columns image, caption, empty; no 'text'"):
        read_captions(folder, text_column="text")


@given(st.data())
def test_choosing_pictures_keeps_their_captions_and_no_others(data):
    picture_of = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=20))
    kept = sorted(data.draw(st.sets(st.integers(0, 6), min_size=1)))
    ids = [f"{row}.png" for row in range(7)]
    texts = [f"caption {i}" for i in range(len(picture_of))]
    pictures = PictureFiles(ids, [Path(id_) for id_ in ids])
    captions = Captions(pictures, texts, np.array(picture_of, np.int64), Skipped())
    expected = [(ids[row], text) for row, text in zip(picture_of, texts, strict=True) if row in kept]
    for chosen in (captions.keep_pictures(np.array(kept)), captions.only({"absent.png", *(ids[row] for row in kept)})):
        assert pairs(chosen) == expected
        assert chosen.pictures.ids == [path.name for path in chosen.pictures.paths] == [ids[row] for row in kept]
        assert chosen.picture_of.dtype == np.int64


def test_a_split_of_other_pictures_is_refused(write, tmp_path):
    captions = read_captions(write("x.tsv", FLICKR))
    split = write("split.txt", "\na.png \n\nabsent.png\n")
    assert pairs(captions.only(read_ids(split))) == PAIRS[1:2]
    with pytest.raises(DataError, match="none of the 1 listed pictures is among the 2 captioned ones"):
        captions.only(["absent.png"])
    for bad in (tmp_path / "none.txt", write("latin.txt", b"\xff\n")):
        with pytest.raises(DataError, match=f"cannot read the list of pictures {bad}"):
            read_ids(bad)
