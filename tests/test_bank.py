import copy
import os
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightread.bank import ImageBank, build_bank, choose_rows, recall, unit_rows
from sightread.data.images import PictureFiles
from sightread.encoders.image import ImageEncoder
from sightread.errors import ArtifactError, ConfigError, DataError, ShapeError


def random_bank(count=12, width=5, seed=0):
    features = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return ImageBank([f"picture-{i}" for i in range(count)], features, [f"/p/{i}.png" for i in range(count)])


def signs(count, width, seed):
    """Rows of ±1, which all have the same length and exactly tied products."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], (count, width)).astype(np.float32)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 20), k=st.integers(1, 20))
def test_nearest_equals_brute_force_with_many_ties(seed, count, k):
    k = min(k, count)
    keys, queries = signs(count, 4, seed), signs(6, 4, seed + 1)  # 16 different rows at most
    bank = ImageBank([str(i) for i in range(count)], keys, [""] * count)
    scores, rows = bank.nearest(queries, k)
    exact = queries.astype(np.float64) @ keys.T.astype(np.float64) / 2  # the bank's rows are halved to length one
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, expected, axis=1))


def test_a_chosen_index_stays_with_the_pictures_and_is_built_anew():
    bank, queries = random_bank().with_index("flat"), np.eye(5, dtype=np.float32)
    assert {some.index for some in (bank, bank.select([3, 1]), bank.with_vectors(bank.vectors))} == {"flat"}
    assert bank.with_index("exact").index == random_bank().index == "exact"
    bank = bank.with_index("exact")
    before = bank.nearest(queries)
    turned = bank.with_vectors(unit_rows(bank.vectors[:, ::-1]))
    assert torch.equal(turned.nearest(queries[:, ::-1].copy())[1], before[1])
    assert torch.equal(copy.deepcopy(bank).nearest(queries)[1], before[1])  # as it reaches another process
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        bank.with_index("exakt")


def test_recall_is_the_share_of_first_pictures_found():
    bank, queries = random_bank(), np.eye(5, dtype=np.float32)
    assert recall(bank, queries) == 1
    missing = bank.with_index("exact")
    scores, rows = bank.nearest(queries)
    rows = rows.clone()
    rows[2:4] = (rows[2:4] + 1) % len(bank)
    missing.nearest = lambda _, k=1: (scores, rows)
    assert recall(missing, queries) == pytest.approx(3 / 5)


def test_nearest_takes_tensors_and_arrays_alike():
    bank, queries = random_bank(), np.random.default_rng(1).standard_normal((7, 5))
    for a, b in zip(bank.nearest(queries, 3), bank.nearest(torch.from_numpy(queries).float(), 3), strict=True):
        assert torch.equal(a, b)


def test_nearest_refuses_what_does_not_fit():
    bank = random_bank()
    with pytest.raises(ConfigError, match=r"k=13.*12 pictures"):
        bank.nearest(np.ones((1, 5)), 13)
    with pytest.raises(ShapeError, match=r"\(1, 4\)"):
        bank.nearest(np.ones((1, 4)))
    with pytest.raises(ShapeError, match="finite"):
        bank.nearest(np.full((1, 5), np.nan))
    assert bank.nearest(np.zeros((0, 5)), 2)[1].shape == (0, 2)


@settings(max_examples=40)
@given(st.lists(st.text(), min_size=1, max_size=6, unique=True), st.integers(0, 100))
@example(["line\u2028separator", "next\x85line", "caf\u00e9 \U0001f600"], 0)
def test_a_bank_survives_the_disk_bit_for_bit(tmp_path_factory, ids, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((len(ids), 4)).astype(np.float32)
    bank = ImageBank(ids, features, ids[::-1], unit_rows(rng.standard_normal((len(ids), 3))))
    loaded = ImageBank.load(bank.save(tmp_path_factory.mktemp("bank")))
    assert (loaded.ids, loaded.paths) == (bank.ids, bank.paths)
    assert loaded.features.tobytes() == bank.features.tobytes()
    assert loaded.vectors.tobytes() == bank.vectors.tobytes()
    assert loaded.digest == bank.digest


def test_the_digest_covers_ids_order_and_features_but_not_places():
    bank = random_bank()
    others = [
        ImageBank([*bank.ids[:-1], "other"], bank.features, bank.paths),
        ImageBank(bank.ids, bank.features * np.float32(1.001), bank.paths),
        ImageBank(bank.ids[::-1], bank.features, bank.paths),
        bank.select([1, 0, *range(2, 12)]),
        bank.select(range(11)),
    ]
    assert len({bank.digest, *(other.digest for other in others)}) == 6
    assert ImageBank(bank.ids, bank.features, ["elsewhere"] * 12).digest == bank.digest
    assert bank.with_vectors(unit_rows(bank.features[:, :2])).digest == bank.digest


def test_select_keeps_rows_together():
    bank = random_bank()
    chosen = bank.with_vectors(unit_rows(bank.features[:, ::-1])).select([7, 0, 7 - 4])
    assert (chosen.ids, chosen.paths) == (["picture-7", "picture-0", "picture-3"], ["/p/7.png", "/p/0.png", "/p/3.png"])
    np.testing.assert_array_equal(chosen.features, bank.features[[7, 0, 3]])
    np.testing.assert_array_equal(chosen.vectors, unit_rows(bank.features[:, ::-1])[[7, 0, 3]])


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "no vectors": lambda bank: (bank / "bank.safetensors").unlink(),
    "torn vectors": lambda bank: truncate(bank / "bank.safetensors"),
    "empty vectors": lambda bank: (bank / "bank.safetensors").write_bytes(b""),
    "no pictures": lambda bank: (bank / "pictures.jsonl").unlink(),
    "torn pictures": lambda bank: truncate(bank / "pictures.jsonl"),
    "binary pictures": lambda bank: (bank / "pictures.jsonl").write_bytes(b"\xff\xfe"),
    "nameless pictures": lambda bank: (bank / "pictures.jsonl").write_text('{"path": ""}\n' * 12),
    "pictures of another shape": lambda bank: (bank / "pictures.jsonl").write_text("[1]\n" * 12),
    "too few pictures": lambda bank: (bank / "pictures.jsonl").write_text('{"id": "a", "path": ""}\n'),
    "no manifest": lambda bank: (bank / "manifest.json").unlink(),
    "torn manifest": lambda bank: truncate(bank / "manifest.json"),
    "another kind": lambda bank: (bank / "manifest.json").write_text(
        (bank / "manifest.json").read_text().replace('"bank"', '"scores"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bank_is_refused(tmp_path, damage):
    folder = random_bank().save(tmp_path / "bank")
    DAMAGE[damage](folder)
    with pytest.raises(ArtifactError):
        ImageBank.load(folder)


def test_saving_over_a_bank_needs_leave(tmp_path):
    folder = random_bank().save(tmp_path / "bank")
    with pytest.raises(ArtifactError, match="already holds a finished bank"):
        random_bank(seed=1).save(folder)
    random_bank(seed=1).save(folder, overwrite=True)
    assert ImageBank.load(folder).digest == random_bank(seed=1).digest


def test_ids_must_be_unique_and_vectors_of_length_one():
    features = np.eye(3, dtype=np.float32)
    with pytest.raises(ConfigError, match="same id"):
        ImageBank(["a", "b", "a"], features, [""] * 3)
    with pytest.raises(ArtifactError, match="unit rows"):
        ImageBank(["a", "b", "c"], features, [""] * 3, 2 * features)
    with pytest.raises(ArtifactError, match="unit rows"):
        ImageBank(["a", "b", "c"], np.diag([1.0, 0, 1]), [""] * 3)
    with pytest.raises(ArtifactError, match="3 ids has 2 features"):
        ImageBank(["a", "b", "c"], features[:2], [""] * 3)


@given(st.integers(0, 10**6))
def test_unit_rows_equal_double_precision(seed):
    x = np.random.default_rng(seed).standard_normal((4, 3)) * np.array([[1e-6], [1], [1e6], [0]])
    expected = x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-300)
    np.testing.assert_allclose(unit_rows(x), expected, rtol=1e-5, atol=1e-7)


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 30),
    size=st.integers(1, 30),
    choose=st.sampled_from(["random", "diverse"]),
)
def test_choices_are_sorted_without_repeats_and_follow_from_the_seed(seed, count, size, choose):
    size = min(size, count)
    vectors = unit_rows(np.random.default_rng(1).integers(-1, 2, (count, 3)) + 0.5)  # many of them equal
    rows = choose_rows(vectors, size, choose, seed)
    assert len(rows) == len(set(rows.tolist())) == size
    assert sorted(rows) == rows.tolist()
    assert rows.min() >= 0
    assert rows.max() < count
    np.testing.assert_array_equal(choose_rows(vectors, size, choose, seed), rows)


def test_random_choices_differ_between_seeds_and_reach_every_row():
    vectors = np.ones((30, 1), np.float32)
    draws = [choose_rows(vectors, 5, "random", seed) for seed in range(100)]
    assert len({tuple(rows) for rows in draws}) > 90
    counts = np.bincount(np.concatenate(draws), minlength=30)
    assert counts.min() > 5
    assert counts.max() < 35  # 16.7 expected


def radius(vectors, rows):
    """How far the worst placed vector is from the nearest chosen one."""
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None, rows].astype(np.float64), axis=-1)
    return distances.min(axis=1).max()


@given(seed=st.integers(0, 10**4), size=st.integers(1, 15))
def test_diverse_is_the_greedy_k_center_choice(seed, size):
    vectors = unit_rows(np.random.default_rng(seed).standard_normal((25, 4)))
    chosen = choose_rows(vectors, size, "diverse", seed)
    possible = []
    for first in chosen:  # the random beginning is one of them
        rows = [int(first)]
        while len(rows) < size:
            nearest = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None, rows], axis=-1).min(axis=1)
            rows.append(int(nearest.argmax()))
        possible.append(sorted(rows))
    assert chosen.tolist() in possible
    assert radius(vectors, chosen) <= 2 * radius(vectors, choose_rows(vectors, size, "random", seed))  # Gonzalez 1985


@pytest.mark.parametrize("seed", range(5))
def test_diverse_reaches_small_clusters_that_chance_misses(seed):
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(8), [200, *[2] * 7], axis=0)
    vectors = unit_rows(centres + 0.02 * rng.standard_normal(centres.shape))
    chosen = choose_rows(vectors, 8, "diverse", seed)
    assert sorted(centres[chosen].argmax(axis=1)) == list(range(8))
    assert radius(vectors, chosen) < 0.3
    assert radius(vectors, choose_rows(vectors, 8, "random", seed)) > 1


@pytest.mark.parametrize("choose", ["random", "diverse"])
@pytest.mark.parametrize("size", [0, 4])
def test_a_size_that_cannot_be_had_is_refused(choose, size):
    with pytest.raises(ConfigError, match=f"{size} pictures.*there are 3"):
        choose_rows(np.eye(3, dtype=np.float32), size, choose, 0)


def test_an_unknown_choice_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'diverse'"):
        choose_rows(np.eye(3, dtype=np.float32), 2, "divers", 0)


@pytest.fixture(scope="module")
def encoder(image_encoder_folder):
    return ImageEncoder.from_pretrained(image_encoder_folder)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of one colour each, the fourth and the last broken."""
    for i in range(12):
        Image.new("RGB", (32, 32), (20 * i, 255 - 20 * i, 90)).save(tmp_path / f"{i:02d}.png")
    truncate(tmp_path / "03.png")
    (tmp_path / "11.png").write_text("no picture")
    return tmp_path


def test_a_bank_of_a_folder_skips_and_reports_broken_pictures(folder, encoder):
    pictures = PictureFiles.from_folder(folder)
    bank, report = build_bank(pictures, encoder, max_skipped=0.2)
    assert bank.ids == [f"{i:02d}.png" for i in range(11) if i != 3]
    assert bank.paths == [str((folder / id_).resolve()) for id_ in bank.ids]
    assert sum(found["count"] for found in report["skipped"].values()) == 2
    assert sorted(place for found in report["skipped"].values() for place in found["first"]) == ["03.png", "11.png"]
    for row in (0, 3, 9):
        with torch.no_grad():
            alone = encoder(encoder.preprocess([Image.open(bank.paths[row])])).numpy()
        np.testing.assert_allclose(bank.features[row], alone[0], atol=1e-5)
        np.testing.assert_allclose(bank.vectors[row], (alone / np.linalg.norm(alone))[0], atol=1e-5)


def test_too_many_broken_pictures_are_an_error(folder, encoder):
    with pytest.raises(DataError, match=r"2 of 12 pictures are bad.*0\.1"):
        build_bank(PictureFiles.from_folder(folder), encoder)


@pytest.mark.parametrize("choose", ["random", "diverse"])
def test_a_smaller_bank_holds_the_chosen_pictures(folder, encoder, choose):
    pictures = PictureFiles.from_folder(folder)
    every, _ = build_bank(pictures, encoder, max_skipped=0.2)
    bank, _ = build_bank(pictures, encoder, size=4, choose=choose, seed=5, max_skipped=0.2)
    rows = choose_rows(every.vectors, 4, choose, 5)
    assert bank.ids == [every.ids[row] for row in rows]
    np.testing.assert_array_equal(bank.features, every.features[rows])
    with pytest.raises(ConfigError, match="there are 10"):
        build_bank(pictures, encoder, size=11, choose=choose, max_skipped=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode here")
def test_a_file_name_that_is_not_utf8_is_as_good_as_another(tmp_path, encoder):
    names = [os.fsdecode(b"caf\xe9.png"), "plain.png"]
    for name in names:
        Image.new("RGB", (32, 32), (200, 30, 90)).save(tmp_path / name)
    bank, _ = build_bank(PictureFiles.from_folder(tmp_path), encoder)
    loaded = ImageBank.load(bank.save(tmp_path / "bank"))
    assert sorted(loaded.ids) == sorted(names)
    assert loaded.digest == bank.digest
