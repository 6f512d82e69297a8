import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cosine

from regions_fixture import make_regions
from sightread.analysis.modalities import MODALITIES, States, collect, draw, nearness
from sightread.analysis.modality_table import write_modalities
from sightread.data.seen_regions import SeenRegions
from sightread.errors import DataError, MissingExtra
from sightread.modules.single_stream import SingleStream

rng = np.random.default_rng(0)


def made(noise, things=3, each=4):
    """States around one direction a thing; `noise` times as far from it as things are from each other."""
    classes, modalities = np.repeat(np.arange(things), 3 * each), np.tile(np.arange(3), things * each)
    vectors = 2 * np.eye(things, 8)[classes] + noise * rng.normal(size=(len(classes), 8))
    return States(vectors.astype(np.float32), classes, modalities, [f"thing {i}" for i in range(things)])


def test_purity_is_counted_among_other_modalities():
    states = made(1.0)
    hits, chances = [], []
    for i in np.flatnonzero(states.modalities > 0):
        vector = states.vectors[i]
        others = [j for j in range(len(states.classes)) if states.modalities[j] != states.modalities[i]]
        nearest = min(others, key=lambda j: cosine(vector, states.vectors[j]))
        hits.append(states.classes[nearest] == states.classes[i])
        chances.append(np.mean([states.classes[j] == states.classes[i] for j in others]))
    purity, chance, silhouette = nearness(states)
    assert purity == pytest.approx(np.mean(hits))
    assert chance == pytest.approx(np.mean(chances))
    assert 0 < purity < 1
    assert nearness(made(0.01))[::2] == pytest.approx((1, 1), abs=0.01)
    assert silhouette == pytest.approx(naive_silhouette(states), abs=1e-5)


def naive_silhouette(states):
    total = 0.0
    for i, vector in enumerate(states.vectors):
        away = [
            np.mean([cosine(vector, v) for j, v in enumerate(states.vectors) if states.classes[j] == c and j != i])
            for c in range(3)
        ]
        own = away.pop(states.classes[i])
        total += (min(away) - own) / max(min(away), own)
    return total / len(states.vectors)


@pytest.mark.parametrize("column", ["classes", "modalities"])
def test_one_thing_or_modality_has_no_nearness(column):
    states = made(1.0)
    getattr(states, column)[:] = 0
    with pytest.raises(DataError, match="two things at least"):
        nearness(states)


@pytest.fixture(scope="module")
def model(text_encoder_folder):
    return SingleStream.from_pretrained(text_encoder_folder, region_width=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    tags = ("garden", "red box", "lamp", "", "never named")
    return make_regions(tmp_path_factory.mktemp("regions") / "store", map(str, range(30)), tags=tags)


@pytest.fixture(scope="module")
def texts():
    return ["the red box is in the garden .", "a lampshade", "Anna saw a RED BOX .", "a lamp , a lamp", "a chair ."]


def test_states_are_those_of_the_things(model, store, tokenizer, texts):
    seen = SeenRegions(store, tokenizer)
    states = collect(model, seen, tokenizer, texts, things=4, each=1000)
    assert sorted(states.names) == ["garden", "lamp", "never named", "red box"]
    count = {
        (name, modality): int(((states.classes == c) & (states.modalities == m)).sum())
        for c, name in enumerate(states.names)
        for m, modality in enumerate(MODALITIES)
    }
    for name in states.names:
        assert count[name, "region"] == store.counts[name]
        assert count[name, "tag"] == (store.counts[name] if name in seen._pieces else 0)
    assert [count[name, "word"] for name in ("garden", "lamp", "never named", "red box")] == [1, 1, 0, 2]
    thing = states.names.index("garden")
    (word,) = states.vectors[(states.classes == thing) & (states.modalities == 0)]
    encoded = tokenizer(texts[0], return_tensors="pt")
    with torch.no_grad():
        expected = model(encoded["input_ids"], encoded["attention_mask"]).last_hidden_state[0]
    at = encoded["input_ids"][0].tolist().index(tokenizer.convert_tokens_to_ids("garden"))
    np.testing.assert_allclose(word, expected[at], atol=1e-5)


def test_region_and_tag_are_read_in_their_picture(model, store, tokenizer):
    seen = SeenRegions(store, tokenizer)
    states = collect(model, seen, tokenizer, [], things=1, each=1000, batch_size=7)
    empty, expected = tokenizer("", return_tensors="pt")["input_ids"], {"region": [], "tag": []}
    for row in range(len(store)):
        picture = seen.of(row)
        batch = {
            name: torch.from_numpy(picture[name])[None] for name in SeenRegions.collate([picture]) if name in picture
        }
        with torch.no_grad():
            out = model(empty, torch.ones_like(empty), **batch)
        for place, name in enumerate(picture["region_names"]):
            if name >= 0 and store.names[name] == states.names[0]:
                expected["region"].append(out.regions[0, place].numpy())
                expected["tag"].append(out.tags[0, picture["tag_regions"] == place].mean(0).numpy())
    for modality, vectors in expected.items():
        found = states.vectors[states.modalities == MODALITIES.index(modality)]
        order = [np.abs(found - vector).max(axis=1).argmin() for vector in vectors]
        assert sorted(order) == list(range(len(found)))
        np.testing.assert_allclose(found[order], vectors, atol=1e-5)


def test_no_more_are_taken_than_asked_for(model, store, tokenizer, texts):
    states = collect(model, SeenRegions(store, tokenizer), tokenizer, texts * 9, things=2, each=3)
    numbers = np.bincount(states.classes * 3 + states.modalities, minlength=6)
    assert len(states.names) == 2
    assert numbers.max() == 3
    with pytest.raises(DataError, match="neither text nor pictures"):
        collect(model, SeenRegions(store, tokenizer), tokenizer, texts, each=0)


def test_a_drawing_is_two_files(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    states = made(0.5, things=10, each=2)
    vector, pixels = draw(states, tmp_path / "states")
    svg = vector.read_text()
    assert all(f">{word}<" in svg for word in (*states.names, *MODALITIES))
    assert "<image" not in svg  # points and words only
    assert Image.open(pixels).size[0] > 500
    before = vector.read_bytes()
    assert draw(states, tmp_path / "again")[0].read_bytes() == before
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"sightread\[plot\]"):
        draw(states, tmp_path / "never")


def test_several_encoders_are_told_and_drawn(model, store, tokenizer, texts, tmp_path):
    pytest.importorskip("matplotlib")
    for seed in (0, 1):
        SingleStream(model.language, 6).save_pretrained(tmp_path / str(seed))
        tokenizer.save_pretrained(tmp_path / str(seed))
    encoders = {"one": str(tmp_path / "0"), "other": str(tmp_path / "1")}
    table = write_modalities(encoders, store.path, texts, tmp_path / "out", things=4, each=5)
    assert table.count("without tags") == 2
    numbers = json.loads((tmp_path / "out" / "modalities.json").read_text())
    assert f"| one, all | {numbers['one']['all']['purity']:.2f} |" in table
    assert {path.name for path in (tmp_path / "out").glob("o*.*g")} == {
        f"{n}.{s}" for n in encoders for s in ("svg", "png")
    }
