import itertools
from collections import Counter

import numpy as np
import pytest

from regions_fixture import TAGS, make_regions, random_regions
from sightread.data.regions import Detections, Part, Regions, RegionStore, best_boxes, write_regions
from sightread.data.skipped import Skipped
from sightread.errors import ArtifactError, DataError, ShapeError


def part_of(ids, *regions):
    return lambda: Part(list(ids), list(regions))


def some(count, width=3, seed=0):
    return random_regions(np.random.default_rng(seed), count, width)


def equal(one, other):
    arrays = zip((one.boxes, one.vectors, one.scores), (other.boxes, other.vectors, other.scores), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays) and list(one.tags) == list(other.tags)


@pytest.mark.parametrize("width", [5, 0])
def test_what_is_written_is_read(tmp_path, width):
    regions = [some(count, width, seed) for seed, count in enumerate([2, 0, 7, 0, 0, 1])]
    parts = [part_of("ab", *regions[:2]), part_of("cde", *regions[2:5]), part_of("", *[]), part_of("f", regions[5])]
    store = write_regions(parts, tmp_path / "store", width=width)
    for opened in (store, RegionStore(tmp_path / "store")):
        assert (len(opened), opened.width, opened.ids) == (6, width, list("abcdef"))
        assert all(equal(found, given) for found, given in zip(opened, regions, strict=True))
        assert equal(opened[-1], regions[5])
        borne = Counter(tag for of in regions for tag in of.tags if tag)
        assert (opened.names, opened.counts) == (sorted(borne), borne)
        assert opened.row_of == {id_: row for row, id_ in enumerate("abcdef")}
        assert opened.digest == store.digest
    report = store.artifact.report
    counted = {name: report[name] for name in ("pictures", "regions", "regions_per_picture", "without_regions")}
    assert counted == {"pictures": 6, "regions": 10, "regions_per_picture": 10 / 6, "without_regions": 3}


def test_rows_are_those_of_the_ids_or_the_missing_are_named(tmp_path):
    store = make_regions(tmp_path / "store", ["x", "y", "z"])
    assert store.rows(["z", "x", "z"]).tolist() == [2, 0, 2]
    assert store.rows([]).dtype == np.int64
    with pytest.raises(DataError, match=r"2 of 3 pictures have no regions .*first: 'w'"):
        store.rows(["w", "x", "v"])


def test_every_difference_is_another_digest(tmp_path):
    given = some(2)
    others = [
        given,
        given._replace(boxes=given.boxes / 2),
        given._replace(vectors=given.vectors + 1),
        given._replace(tags=["dog", "bird"]),
        given._replace(scores=given.scores / 2),
    ]
    digests = [
        write_regions([part_of("a", of)], tmp_path / str(i), width=3).digest for i, of in enumerate([*others, given])
    ]
    assert len(set(digests)) == len(others)
    assert digests[0] == digests[-1]


def test_a_job_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path):
    def parts(made, until):
        for index in range(3):
            yield lambda index=index: make(index, made, until)

    def make(index, made, until):
        if index == until:
            raise KeyboardInterrupt
        made.append(index)
        part = Part([f"p{index}"], [some(index, 3, index)])
        part.skipped.add("broken picture", f"broken-{index}")
        part.skipped_boxes.add("box of nothing", f"p{index}")
        return part

    whole, resumed, made = tmp_path / "whole", tmp_path / "resumed", []
    write_regions(parts([], -1), whole, width=3, max_skipped=0.5)
    with pytest.raises(KeyboardInterrupt):
        write_regions(parts(made, 2), resumed, width=3, max_skipped=0.5)
    (resumed / "shard-00001.parquet").unlink()  # killed after the vectors, before the rest
    write_regions(parts(made, -1), resumed, width=3, max_skipped=0.5, resume=True)
    assert made == [0, 1, 1, 2]
    assert {path.name: path.read_bytes() for path in resumed.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    report = RegionStore(resumed).artifact.report
    assert report["skipped"] == {"broken picture": {"count": 3, "first": [f"broken-{i}" for i in range(3)]}}
    assert report["skipped_boxes"] == {"box of nothing": {"count": 3, "first": ["p0", "p1", "p2"]}}


def test_a_finished_store_is_taken_as_it_is(tmp_path):
    make_regions(tmp_path / "store", "ab", width=2)
    again = write_regions([lambda: pytest.fail("made again")], tmp_path / "store", width=2, resume=True)
    assert again.ids == ["a", "b"]


FAULTS = {
    "one is twice": ([part_of("a", some(1)), part_of("a", some(1))], DataError, "'a' is there twice"),
    "none": ([], DataError, "no picture"),
    "width": ([part_of("a", some(2, width=4))], ShapeError, r"regions of a: .*\(2, 4\).*\(2, 3\)"),
    "tags": ([part_of("a", some(2)._replace(tags=["dog"]))], ShapeError, "regions of a"),
    "boxes": ([part_of("a", some(2)._replace(boxes=np.zeros((2, 5), np.float32)))], ShapeError, "regions of a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(tmp_path, fault):
    parts, error, message = FAULTS[fault]
    with pytest.raises(error, match=message):
        write_regions(parts, tmp_path / "store", width=3)
    with pytest.raises(ArtifactError, match="unfinished"):
        RegionStore(tmp_path / "store")


@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
def test_a_torn_file_is_named(tmp_path, suffix):
    make_regions(tmp_path / "store", "abcd", most=9)
    (tmp_path / "store" / f"shard-00001.{suffix}").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=rf"shard-00001\.{suffix} cannot be read"):
        list(RegionStore(tmp_path / "store"))


def test_too_many_skipped_pictures_are_an_error(tmp_path):
    part = Part(["a"], [some(1)])
    part.skipped.add("broken picture", "b")
    with pytest.raises(DataError, match=r"1 of 2 pictures are bad.*broken picture: 1 \(first: b\)"):
        write_regions([lambda: part], tmp_path / "store", width=3, max_skipped=0.4)
    assert write_regions([lambda: part], tmp_path / "store", width=3, max_skipped=0.5, resume=True).ids == ["a"]


@pytest.mark.parametrize("most", [1, 3, 99])
def test_the_best_boxes_are_cut_off_and_sorted(most):
    inside, over, outside, flat, undefined = (
        [0.1, 0.2, 0.3, 0.4], [-0.5, 0.5, 0.5, 1.5], [1.1, 0, 1.2, 1], [0.2, 0.2, 0.2, 0.9], [0, 0, np.nan, 1],
    )  # fmt: skip
    boxes, scores = [outside, over, inside, flat, undefined, inside], [0.9, 0.2, 0.8, 0.7, 0.6, 0.8]
    found, skipped = Detections(np.array(boxes), list("abcdef"), np.array(scores)), Skipped()
    best, rows = best_boxes(found, most, "picture", skipped)
    assert rows.tolist() == [2, 5, 1][:most]
    np.testing.assert_array_equal(best.boxes, np.array([inside, inside, [0, 0.5, 0.5, 1]], np.float32)[:most])
    assert best.tags == list("cfb")[:most]
    np.testing.assert_array_equal(best.scores, np.array([0.8, 0.8, 0.2], np.float32)[:most])
    assert skipped.report() == {"box with no area within the picture": {"count": 3, "first": ["picture"] * 3}}


def test_the_fixture_makes_what_it_says(tmp_path):
    store = make_regions(tmp_path / "a", map(str, range(40)), width=7, seed=3, most=5)
    assert {len(regions.tags) for regions in store} == set(range(6))
    assert store.names == sorted(set(TAGS) - {""})
    again = make_regions(tmp_path / "b", map(str, range(40)), width=7, seed=3, most=5)
    assert store.digest == again.digest != make_regions(tmp_path / "c", map(str, range(40)), width=7, seed=4).digest
    boxes = np.array(list(itertools.chain.from_iterable(regions.boxes for regions in store)))
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert isinstance(store[0], Regions)
