"""Every kind of association on disk, and what they found kept."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from small_banks import make_captions, random_texts, random_vectors

from sightread.artifacts import digest_folder
from sightread.association import VALUES
from sightread.association.captions import KeywordAssociation, SceneAssociation
from sightread.association.chance import RandomAssociation
from sightread.association.encoders import DenseAssociation, MeanVectors, SynthesisAssociation, VokenAssociation
from sightread.association.folder import KINDS, load_association
from sightread.association.objects import NounIndex, ObjectAssociation, spacy_tagger
from sightread.association.store import PictureStore, associate, shard_path
from sightread.encoders.text import TextEncoder
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.vokenizer import Vokenizer

TEXTS = ["", "zyx", *random_texts(np.random.default_rng(5), 40)]


@pytest.fixture(scope="module")
def associations(vokenizer_folder, text_encoder_folder):
    """One of each kind, on the world's pictures with captions of the tests' words."""
    rng, vokenizer = np.random.default_rng(0), Vokenizer.from_pretrained(vokenizer_folder)
    bank, words = vokenizer.bank, random_vectors(rng)
    captions = make_captions([(id_, text) for id_ in bank.ids[3:] for text in random_texts(rng, 2)])
    made = {
        "scene": SceneAssociation.of_captions(bank, captions, words),
        "keyword": KeywordAssociation.of_captions(bank, captions, 3),
        "object": ObjectAssociation(NounIndex.of_captions(bank, captions), words, seed=7),
        "dense": DenseAssociation.of_vokenizer(vokenizer),
        "voken": VokenAssociation(vokenizer),
        "random": RandomAssociation(bank, seed=3),
    }
    encode = MeanVectors(TextEncoder.from_pretrained(text_encoder_folder, (-2,)))
    return made | {"dense, of captions": DenseAssociation.of_captions(bank, captions, encode)}


@pytest.fixture(params=["scene", "keyword", "object", "dense", "voken", "random", "dense, of captions"])
def association(request, associations):
    return associations[request.param]


def test_every_kind_is_here(associations):
    there = {association.kind for association in associations.values()}
    assert there == KINDS.keys() - {"semantic-visual"}  # which has a file of its own


def test_a_text_finds_the_same_in_any_company(association):
    together = association.retrieve(TEXTS, 3)
    order = np.random.default_rng(1).permutation(len(TEXTS))
    assert (association.retrieve([TEXTS[i] for i in order], 3) == together[order]).all()
    alone = [association.retrieve([text], 3)[0] for text in TEXTS]
    assert (np.stack(alone) == together).all()
    assert (association.retrieve(TEXTS * 4, 3) == np.tile(together, (4, 1))).all()
    assert together.dtype == np.int64
    assert (together[0] == -1).all()
    assert (together[:, 0] >= 0).any()


def test_the_first_of_many_pictures_are_those_of_fewer_or_it_says_so(association):
    many = association.retrieve(TEXTS, 6)
    fewer = [(association.retrieve(TEXTS, k) == many[:, :k]).all() for k in range(1, 6)]
    assert all(fewer) == association.nested


def test_chance_is_nested_as_what_it_is_the_control_of(associations):
    of = {kind: RandomAssociation(associations[kind].bank, like=associations[kind]) for kind in ("scene", "object")}
    assert {kind: control.nested for kind, control in of.items()} == {"scene": True, "object": False}


def test_what_is_loaded_finds_the_same(association, tmp_path):
    loaded = load_association(association.save(tmp_path / "association"))
    assert type(loaded) is type(association)
    assert (loaded.retrieve(TEXTS, 4) == association.retrieve(TEXTS, 4)).all()
    assert loaded.digest == association.digest
    assert loaded.report == json.loads(json.dumps(association.report))
    assert loaded.bank.digest == association.bank.digest


def test_the_digest_tells_associations_apart(associations):
    scene, keyword, objects = (associations[kind] for kind in ("scene", "keyword", "object"))
    others = [
        *associations.values(),
        SceneAssociation(scene.bank, scene.encoder, scene.keys[::-1], scene.rows),
        SceneAssociation(scene.bank, scene.encoder, scene.keys, scene.rows[::-1]),
        SceneAssociation(scene.bank, random_vectors(np.random.default_rng(9)), scene.keys, scene.rows),
        SceneAssociation(scene.bank.select(range(23, -1, -1)), scene.encoder, scene.keys, scene.rows),
        DenseAssociation(scene.bank, scene.encoder, scene.keys, scene.rows),
        KeywordAssociation(keyword.bank, keyword.words, keyword.named, 4),
        ObjectAssociation(objects.index, objects.words, seed=8),
    ]
    assert len({other.digest for other in others}) == len(others)


def test_a_damaged_folder_is_told(associations, tmp_path):
    association = associations["keyword"]
    folder = association.save(tmp_path / "association")
    values = json.loads((folder / VALUES).read_text())
    for content, match in (
        (json.dumps(values | {"k_words": 2}), "the association .* does not fit.*make it again"),
        ("{", "is damaged"),
        ("{}", "is damaged"),
    ):
        (folder / VALUES).write_text(content)
        with pytest.raises(ArtifactError, match=match):
            load_association(folder)
    with pytest.raises(ArtifactError, match="is a bank, expected an association"):
        load_association(folder / "bank")


def test_what_is_a_function_is_not_saved(associations, tmp_path, monkeypatch):
    scene, objects = associations["scene"], associations["object"]
    bare = DenseAssociation(scene.bank, lambda texts: np.ones((len(texts), 3)), scene.keys, scene.rows)
    tagging = ObjectAssociation(objects.index, objects.words, tagger=str.split)
    for association, match in (
        (bare, "its encoder is a function"), (tagging, "its tagger is a function"),
        (SynthesisAssociation(lambda text: None, None), "are not saved"),
    ):  # fmt: skip
        with pytest.raises(ArtifactError, match=match):
            association.save(tmp_path / "association")
        assert not (tmp_path / "association").exists()
    noun = SimpleNamespace(lemma_=objects.index.entries[0].lemmas[0], pos_="NOUN")
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda model: lambda text: [noun]))
    known = ObjectAssociation(objects.index, objects.words, tagger=spacy_tagger("some_model"))
    loaded = load_association(known.save(tmp_path / "association"))
    assert loaded.tagger.name == "spacy some_model"
    assert loaded.retrieve(["any"], 1).tolist() == known.retrieve(["any"], 1).tolist() != [[-1]]


def test_what_was_found_is_kept_once_and_read_back(association, tmp_path):
    queries = [*TEXTS, *TEXTS[::-1]]
    store = PictureStore(associate(iter(queries), association, 3, tmp_path / "pictures", shard_size=7))
    assert (store.rows(queries, 3) == association.retrieve(queries, 3)).all()
    if association.nested:
        assert (store.rows(TEXTS[5:6], 2) == association.retrieve(TEXTS[5:6], 2)).all()
    else:
        with pytest.raises(
            ConfigError, match=r"k=2: by object other pictures are found if fewer are asked for .*find 2"
        ):
            store.rows(TEXTS[5:6], 2)
    assert store.rows([], 3).shape == (0, 3)
    distinct = list(dict.fromkeys(TEXTS))
    report = store.artifact.report
    assert (report["queries"], report["distinct"], len(store)) == (2 * len(TEXTS), len(distinct), len(distinct))
    assert report["words"] == sum(len(text.split()) for text in distinct)
    assert report["without_picture"] == np.mean(association.retrieve(distinct, 1) < 0)
    assert report["words_per_second"] / report["texts_per_second"] == pytest.approx(report["words"] / len(distinct))
    assert len(list(store.artifact.path.glob("shard-*"))) == report["shards"] == -(-len(distinct) // 7)
    store.check_association(association)
    with pytest.raises(ConfigError, match=r"k=4.*the 3 pictures that are kept"):
        store.rows(TEXTS, 4)
    with pytest.raises(ArtifactError, match=r"no pictures for 'other'.*make them again"):
        store.rows(["dog", "other"], 3)


def test_resumed_it_equals_an_uninterrupted_one(associations, tmp_path):
    scene = associations["scene"]
    whole = associate(TEXTS, scene, 2, tmp_path / "whole", shard_size=6)

    class Stopping(SceneAssociation):
        calls = 0

        def find(self, texts, k):
            Stopping.calls += 1
            if Stopping.calls == 4:
                raise InterruptedError
            return super().find(texts, k)

    out, stopping = tmp_path / "out", Stopping(scene.bank, scene.encoder, scene.keys, scene.rows)
    with pytest.raises(InterruptedError):
        associate(TEXTS, stopping, 2, out, shard_size=6)
    shard_path(out, 1).unlink()
    with pytest.raises(ArtifactError, match="cannot be resumed: it was begun with other texts"):
        associate(["other", *TEXTS], scene, 2, out, shard_size=6, resume=True)
    with pytest.raises(ArtifactError, match="was begun with another k"):
        associate(TEXTS, scene, 3, out, shard_size=6, resume=True)
    with pytest.raises(ArtifactError, match="--resume to go on, --overwrite"):
        associate(TEXTS, scene, 2, out, shard_size=6)
    associate(TEXTS, stopping, 2, out, shard_size=6, resume=True)
    assert digest_folder(out) == digest_folder(whole)
    assert PictureStore(out).digest == PictureStore(whole).digest
    calls = Stopping.calls
    associate(TEXTS, stopping, 2, out, shard_size=6, resume=True)
    assert Stopping.calls == calls
    other = PictureStore(associate(TEXTS, associations["keyword"], 2, out, overwrite=True))
    assert other.digest != PictureStore(whole).digest
    with pytest.raises(ArtifactError, match="the association does not fit"):
        other.check_association(scene)
    shard_path(out, 0).write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="cannot be read"):
        PictureStore(out)


def test_nothing_to_seek_and_too_many_pictures_are_refused(associations, tmp_path):
    with pytest.raises(ConfigError, match=r"k=25.*the 24 pictures"):
        associate(TEXTS, associations["scene"], 25, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no text to seek pictures for"):
        associate([], associations["scene"], 2, tmp_path / "out")
