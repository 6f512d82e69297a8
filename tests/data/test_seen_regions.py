import numpy as np
import pytest
import torch

from regions_fixture import make_regions
from sightread.contracts import IGNORED
from sightread.data.regions import Part, Regions, write_regions
from sightread.data.seen_regions import SeenRegions
from sightread.encoders.text import build_byte_tokenizer, build_word_tokenizer

LONG = "x" * 20  # one subword a letter
TAGS = ("dog", "red box", "tennis racket", "cat", "", LONG)


@pytest.fixture(scope="module")
def words():
    return build_word_tokenizer(["dog red box tennis racket cat"])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_regions(tmp_path_factory.mktemp("regions") / "store", [f"p{i}" for i in range(40)], tags=TAGS, most=7)


@pytest.mark.parametrize("most", [2, 36])
def test_a_picture_is_its_best_regions_and_the_subwords_of_their_tags(store, words, most):
    seen = SeenRegions(store, words, most=most)
    for row in range(len(store)):
        all_, found = store[row], seen.of(row)
        best = sorted(range(len(all_.tags)), key=lambda i: (-all_.scores[i], i))[:most]
        assert np.array_equal(found["region_vectors"], all_.vectors[best])
        assert np.array_equal(found["region_boxes"], all_.boxes[best])
        assert np.array_equal(found["region_scores"], all_.scores[best])
        tags = [all_.tags[i] for i in best]
        assert found["region_names"].tolist() == [store.names.index(tag) if tag else IGNORED for tag in tags]
        for place, tag in enumerate(tags):
            pieces = found["tag_ids"][found["tag_regions"] == place].tolist()
            assert words.convert_ids_to_tokens(pieces) == (tag.split() if tag != LONG else [])
        assert all(found[name].dtype == np.int64 for name in ("tag_ids", "tag_regions", "region_names"))


def test_a_tag_of_many_pieces_stands_without_and_is_counted(store, words):
    assert SeenRegions(store, words).skipped_tags == 1
    seen = SeenRegions(store, words, most_pieces=20)
    assert seen.skipped_tags == 0
    assert max(np.bincount(seen.of(row)["tag_regions"]).max(initial=0) for row in range(len(store))) == 20


def test_no_tags_are_no_subwords(store, words):
    seen = SeenRegions(store, words, tags=False)
    assert seen.skipped_tags == 0
    for row in range(len(store)):
        found = seen.of(row)
        assert not len(found["tag_ids"])
        assert len(found["region_boxes"]) == len(store[row].tags)
        assert np.array_equal(found["region_names"], SeenRegions(store, words).of(row)["region_names"])


def test_a_tag_is_read_as_the_word_within_a_line(store):
    tokenizer = build_byte_tokenizer(["a dog and a cat , a red box , a tennis racket"] * 9, 400)
    ids = SeenRegions(store, tokenizer).of(next(row for row in range(40) if "dog" in store[row].tags))["tag_ids"]
    assert set(tokenizer("a dog", add_special_tokens=False)["input_ids"][1:]) <= set(ids.tolist())


def test_pictures_side_by_side(store, words):
    seen = SeenRegions(store, words)
    pictures = [seen.of(row) for row in range(len(store))]
    batch = SeenRegions.collate(pictures)
    assert set(batch) == {"tag_ids", "tag_regions", "region_vectors", "region_boxes", "region_mask"}
    kinds = {name: value.dtype for name, value in batch.items()}
    assert kinds.pop("region_vectors") == kinds.pop("region_boxes") == torch.float32
    assert set(kinds.values()) == {torch.int64}
    for row, picture in enumerate(pictures):
        count, pieces = len(picture["region_boxes"]), len(picture["tag_ids"])
        assert batch["region_mask"][row].tolist() == [1] * count + [0] * (batch["region_mask"].shape[1] - count)
        assert batch["tag_regions"][row].tolist() == [
            *picture["tag_regions"],
            *[-1] * (batch["tag_ids"].shape[1] - pieces),
        ]
        assert batch["tag_ids"][row, pieces:].sum() == batch["region_vectors"][row, count:].abs().sum() == 0
        for name in ("region_vectors", "region_boxes"):
            assert np.array_equal(batch[name][row, :count], picture[name])


def test_pictures_without_regions(tmp_path, words):
    none = Regions(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32), [], np.zeros(0, np.float32))
    store = write_regions([lambda: Part(["a", "b"], [none, none])], tmp_path / "store", width=3)
    seen = SeenRegions(store, words)
    batch = SeenRegions.collate([seen.of(0), seen.of(1)])
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {"tag_ids": (2, 0), "tag_regions": (2, 0), "region_vectors": (2, 0, 3), "region_boxes": (2, 0, 4),
                      "region_mask": (2, 0)}  # fmt: skip
