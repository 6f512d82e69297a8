import base64
import sys

import numpy as np
import pytest

from sightread.data.region_files import import_regions
from sightread.data.regions import RegionStore
from sightread.errors import DataError, MissingExtra

NAMES = "yolk\ndog,dogs\nred kite\n"
rng = np.random.default_rng(0)


def picture(name, count, width=4):
    """What a detector found in a picture of 200 x 100 pixels, in the fields' own types."""
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
    return {
        "img_id": name, "img_h": 100, "img_w": 200, "objects_id": rng.integers(3, size=count),
        "objects_conf": rng.random(count).astype(np.float32), "attrs_id": rng.integers(9, size=count),
        "attrs_conf": rng.random(count).astype(np.float32), "num_boxes": count,
        "boxes": (corners * [200, 100, 200, 100]).astype(np.float32),
        "features": rng.normal(size=(count, width)).astype(np.float32),
    }  # fmt: skip


PICTURES = [picture("a", 3), picture("b", 0), picture("c", 5)]


def cell(value):
    return base64.b64encode(value.tobytes()).decode() if isinstance(value, np.ndarray) else str(value)


def as_tsv(path, pictures):
    path.write_text("".join("\t".join(map(cell, fields.values())) + "\n" for fields in pictures))


def as_short_tsv(path, pictures):
    names = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
    as_tsv(path, [{name: fields[name] for name in names} for fields in pictures])


def together(pictures):
    single, ragged = ("img_id", "img_h", "img_w", "num_boxes"), ("objects_id", "objects_conf", "boxes", "features")
    return {name: np.array([fields[name] for fields in pictures]) for name in single} | {
        name: np.concatenate([fields[name] for fields in pictures]) for name in ragged
    }


def as_npz(path, pictures):
    np.savez_compressed(path, **together(pictures))


def as_padded_npz(path, pictures):
    def padded(values):
        return np.pad(values, [(0, 6 - len(values)), *[(0, 0)] * (values.ndim - 1)])

    ragged = ("objects_id", "objects_conf", "boxes", "features")
    np.savez(
        path, **together(pictures) | {name: np.stack([padded(fields[name]) for fields in pictures]) for name in ragged}
    )


def as_h5(path, pictures):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in together(pictures).items():
            file[name] = values.astype("S") if values.dtype.kind == "U" else values


def as_npz_folder(path, pictures):
    path.mkdir()
    other = {"img_h": "image_h", "img_w": "image_w", "boxes": "bbox", "features": "x"}
    for fields in pictures:
        known = {other.get(name, name): value for name, value in fields.items() if name not in ("img_id", "num_boxes")}
        np.savez(path / fields["img_id"], **known)


FORMS = {
    "x.tsv": as_tsv, "y.npz": as_npz, "padded.npz": as_padded_npz, "x.h5": as_h5, "folder": as_npz_folder,
}  # fmt: skip


def check(found, fields, most, tags=("yolk", "dog", "red kite")):
    order = sorted(range(fields["num_boxes"]), key=lambda i: -fields["objects_conf"][i])[:most]
    np.testing.assert_allclose(found.boxes, [fields["boxes"][i] / [200, 100, 200, 100] for i in order] or found.boxes)
    np.testing.assert_array_equal(found.vectors, [fields["features"][i] for i in order] or found.vectors)
    np.testing.assert_array_equal(found.scores, [fields["objects_conf"][i] for i in order])
    assert list(found.tags) == [tags[fields["objects_id"][i]] for i in order]
    assert found.vectors.shape == (len(order), 4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most", [2, 36])
def test_every_form_says_the_same(tmp_path, form, most):
    FORMS[form](tmp_path / form, PICTURES)
    (tmp_path / "names.txt").write_text(NAMES)
    store = import_regions(tmp_path / form, tmp_path / "store", names=tmp_path / "names.txt", most=most)
    assert (store.ids, store.width) == (["a", "b", "c"], 4)
    for found, fields in zip(store, PICTURES, strict=True):
        check(found, fields, most)


def test_without_names_or_classes_there_are_no_tags(tmp_path):
    as_tsv(tmp_path / "x.tsv", PICTURES)
    as_short_tsv(tmp_path / "short.tsv", PICTURES)
    check(import_regions(tmp_path / "x.tsv", tmp_path / "a")[2], PICTURES[2], 36, tags=["", "", ""])
    found = import_regions(tmp_path / "short.tsv", tmp_path / "b")[2]
    np.testing.assert_array_equal(found.vectors, PICTURES[2]["features"])  # as they come: no box is surer than another
    assert found.scores.tolist() == [1] * 5
    assert import_regions(tmp_path / "x.tsv", tmp_path / "a", resume=True).names == []


def bad(**changes):
    return {**picture("bad", 2), **changes}


FAULTS = {
    "width": (picture("bad", 2, width=3), "not as expected: 6 numbers for 2 boxes x 4"),
    "count": (bad(num_boxes=3), "not as expected: 8 numbers for 3 boxes x 4"),
    "boxes": (bad(boxes=np.zeros((1, 4), np.float32)), "not as expected: 4 numbers for 2 boxes x 4"),
    "class": (bad(objects_id=np.array([0, 3])), "a class that is none of the 3 named ones"),
    "nan": (
        bad(features=np.full((2, 4), np.nan, np.float32)),
        "a size below 1, or features or scores that are not",
    ),
    "size": (bad(img_w=0), "a size below 1, or features or scores that are not"),
    "number": (bad(img_w="wide"), "not as expected: invalid literal for int"),
    "base64": (bad(boxes="###"), "an array that is not base64, or torn"),
    "columns": ({"img_id": "bad", "img_h": 3}, "2 columns, expected 6 or 10"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_picture_is_listed_and_the_others_are_read(tmp_path, fault):
    fields, reason = FAULTS[fault]
    as_tsv(tmp_path / "x.tsv", [PICTURES[0], fields, PICTURES[2]])
    (tmp_path / "names.txt").write_text(NAMES)
    store = import_regions(tmp_path / "x.tsv", tmp_path / "store", names=tmp_path / "names.txt", max_skipped=0.4)
    assert store.ids == ["a", "c"]
    ((told, found),) = store.artifact.report["skipped"].items()
    assert told.startswith(reason)
    assert found == {"count": 1, "first": ["bad"]}
    with pytest.raises(DataError, match="1 of 3 pictures are bad"):
        import_regions(tmp_path / "x.tsv", tmp_path / "other", names=tmp_path / "names.txt", max_skipped=0.3)


def test_what_cannot_be_read_at_all_is_told(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    as_npz(tmp_path / "short.npz", [PICTURES[0] | {"num_boxes": 2}])
    (tmp_path / "torn.npz").write_bytes(b"PK torn")
    (tmp_path / "text.tsv").write_text("a\tb\n")
    for name, message in {
        "nothing": "no file or folder", "other.npz": "other.npz has .*; no boxes, img_h", "torn.npz": "broken file",
        "short.npz": "objects_id has 3 rows, expected 2", "text.tsv": "no picture in .*text.tsv has features",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            import_regions(tmp_path / name, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"sightread\[h5\]"):
        import_regions(tmp_path / "x.h5", tmp_path / "store")


def test_many_pictures_are_many_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("sightread.data.region_files.SHARD_SIZE", 2)
    as_tsv(tmp_path / "x.tsv", PICTURES)
    import_regions(tmp_path / "x.tsv", tmp_path / "store")
    assert RegionStore(tmp_path / "store").artifact.report["shards"] == 2
    assert RegionStore(tmp_path / "store").ids == ["a", "b", "c"]
