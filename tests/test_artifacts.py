import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightread.artifacts import RUN, Artifact, check_fits, digest, digest_folder, write_atomic
from sightread.errors import ArtifactError


@dataclass(frozen=True)
class Config:
    seed: int = 0
    layers: tuple[int, ...] = (0, -1)


def finished(out, kind="bank", **settings):
    artifact = Artifact.begin(out, kind, config=Config(), inputs={"corpus": "c0ffee"}, **settings)
    (out / "vectors.bin").write_bytes(b"\0\1\2")
    artifact.finish({"pictures": 3})
    return artifact


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail(*_):
    raise OSError(5, "disk pulled out")


def test_begun_and_finished_it_opens_with_what_was_put_in(tmp_path):
    made = finished(tmp_path / "a" / "bank")
    opened = Artifact.open(made.path, "bank")
    assert (opened.kind, opened.inputs, opened.report) == ("bank", {"corpus": "c0ffee"}, {"pictures": 3})
    assert opened.config == {"seed": 0, "layers": [0, -1]}
    assert opened.finished
    assert names(made.path) == ["manifest.json", "vectors.bin"]


@pytest.mark.parametrize("is_finished", [False, True])
def test_an_occupied_folder_is_refused_and_the_ways_out_named(tmp_path, is_finished):
    artifact = Artifact.begin(tmp_path, "bank")
    if is_finished:
        artifact.finish()
    before = digest_folder(tmp_path)
    with pytest.raises(ArtifactError, match=r"finished bank.*--resume.*--overwrite"):
        Artifact.begin(tmp_path, "bank")
    assert digest_folder(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": Config(seed=1)}, ["seed", "0", "now 1"]),
        ({"config": Config(layers=(0,))}, ["layers", "[0, -1]", "now [0]"]),
        ({"inputs": {"corpus": "decaf"}}, ["corpus", "c0ffee", "decaf"]),
        ({"inputs": {}}, ["corpus", "c0ffee", "None"]),
        ({"kind": "vokenizer"}, ["bank", "vokenizer"]),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_resume_refuses_and_names_what_differs(tmp_path, change, named, is_finished):
    same = {"kind": "bank", "config": Config(), "inputs": {"corpus": "c0ffee"}}
    artifact = Artifact.begin(tmp_path, **same)
    if is_finished:
        artifact.finish()
    with pytest.raises(ArtifactError, match="cannot be resumed") as caught:
        Artifact.begin(tmp_path, **same | change, resume=True)
    assert all(word in str(caught.value) for word in named)


def test_resume_takes_up_where_it_was_left(tmp_path):
    Artifact.begin(tmp_path, "bank", config=Config(), resume=True)  # nothing there: simply begins
    (tmp_path / "shard").write_text("done")
    again = Artifact.begin(tmp_path, "bank", config=Config(), resume=True)
    assert not again.finished
    assert (tmp_path / "shard").read_text() == "done"
    again.finish({"shards": 1})
    once_more = Artifact.begin(tmp_path, "bank", config=Config(), resume=True)
    assert once_more.finished
    assert once_more.report == {"shards": 1}


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_is_free_may_be_another_on_resume_and_leaves_the_folder_unfinished(tmp_path, is_finished):
    artifact = Artifact.begin(tmp_path, "bank", config=Config())
    if is_finished:
        artifact.finish({"shards": 1})
    with pytest.raises(ArtifactError, match=r"begun with another layers \(\[0, -1\], now \[0\]\)"):
        Artifact.begin(tmp_path, "bank", config=Config(seed=1, layers=(0,)), resume=True, free=("seed",))
    assert Artifact.begin(tmp_path, "bank", config=Config(), resume=True, free=("seed",)).finished == is_finished
    again = Artifact.begin(tmp_path, "bank", config=Config(seed=1), resume=True, free=("seed",))
    assert (again.finished, again.config["seed"]) == (False, 1)
    again.finish()
    assert Artifact.open(tmp_path, "bank").config["seed"] == 1
    assert not (tmp_path / RUN).exists()


def test_overwrite_replaces_all_that_a_former_run_left(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    finished(out)
    (out / "sub").mkdir()
    (out / "sub" / "old").write_text("old")
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("keep")
    (out / "link").symlink_to(elsewhere)
    Artifact.begin(out, "bank", overwrite=True)
    assert names(out) == ["run.json"]
    assert (elsewhere / "precious").read_text() == "keep"


def test_overwrite_never_replaces_another_kind(tmp_path):
    finished(tmp_path)
    with pytest.raises(ArtifactError, match="holds a bank, and a vokenizer does not replace it"):
        Artifact.begin(tmp_path, "vokenizer", overwrite=True)
    assert Artifact.open(tmp_path, "bank").finished


def test_who_goes_on_with_other_versions_is_warned(tmp_path, recwarn):
    Artifact.begin(tmp_path, "bank")
    Artifact.begin(tmp_path, "bank", resume=True)
    assert not recwarn.list
    header = json.loads((tmp_path / RUN).read_text())
    header["begun_with"] |= {"sightread": "0.0", "commit": "c0ffee"}
    (tmp_path / RUN).write_text(json.dumps(header))
    with pytest.warns(UserWarning, match=r"was begun with sightread 0\.0, now [^,]*: what is made now may differ"):
        Artifact.begin(tmp_path, "bank", resume=True)


@pytest.mark.parametrize("flag", ["overwrite", "resume"])
@pytest.mark.parametrize(
    "theirs",
    [
        {"thesis.tex": "ten years"},
        {"manifest.json": '{"name": "a web page", "icons": []}', "page.html": "ten years"},
        {"run.json": "[1, 2]", "log": "ten years"},
    ],
    ids=["no manifest", "manifest of another program", "run of another program"],
)
def test_a_folder_that_is_not_ours_is_left_alone(tmp_path, theirs, flag):
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ArtifactError):
        Artifact.begin(tmp_path, "bank", **{flag: True})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == theirs


def test_an_interrupted_overwrite_is_unfinished_and_can_be_repeated(tmp_path, monkeypatch):
    finished(tmp_path)
    (tmp_path / "sub").mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", fail)
        with pytest.raises(ArtifactError, match="disk pulled out"):
            Artifact.begin(tmp_path, "bank", overwrite=True)
    with pytest.raises(ArtifactError, match="no finished bank"):
        Artifact.open(tmp_path, "bank")
    assert not Artifact.begin(tmp_path, "bank", overwrite=True).finished


def test_an_unfinished_folder_does_not_open(tmp_path):
    Artifact.begin(tmp_path, "bank")
    with pytest.raises(ArtifactError, match=r"unfinished.*--resume"):
        Artifact.open(tmp_path, "bank")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kind": "vokenizer"}, "is a vokenizer, expected a bank"), ({"format": 99}, "format 99.*upgrade")],
)
def test_open_refuses_another_kind_and_a_newer_format(tmp_path, changes, message):
    finished(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(tmp_path, "bank")


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"kind": "bank"}'])
def test_open_refuses_a_manifest_it_cannot_read(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ArtifactError, match="cannot be read"):
        Artifact.open(tmp_path, "bank")


def test_open_refuses_what_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no folder"):
        Artifact.open(tmp_path / "nowhere", "bank")
    with pytest.raises(ArtifactError, match="no sightread folder"):
        Artifact.open(tmp_path, "bank")


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_an_unwritable_output_is_the_users_fault(tmp_path, below):
    (tmp_path / "file").write_text("a file, even root cannot make a folder of it")
    with pytest.raises(ArtifactError, match=r"cannot write to .*file.*--out"):
        Artifact.begin(tmp_path / "file" / below, "bank")


def test_write_atomic_writes_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomic(path, "first")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk pulled out"):
        write_atomic(path, "second, and longer")
    assert path.read_text() == "first"


def test_digest_counts_borders_and_takes_text_as_utf8():
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest()}) == 5
    assert digest("é") == digest("é".encode())


@pytest.mark.parametrize(
    "edit",
    [
        lambda at: (at / "sub" / "b").write_bytes(b"\0\1\3"),
        lambda at: (at / "a").rename(at / "A"),
        lambda at: (at / "a").rename(at / "sub" / "a"),
        lambda at: (at / "new").touch(),
        lambda at: (at / "a").unlink(),
    ],
    ids=["byte", "name", "place", "added", "removed"],
)
def test_digest_of_a_folder_changes_with_its_contents(tmp_path, edit):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "sub" / "b").write_bytes(b"\0\1\2")
    before = digest_folder(tmp_path)
    edit(tmp_path)
    assert digest_folder(tmp_path) != before


def test_digest_of_a_folder_knows_neither_its_manifest_nor_the_order_of_its_files(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_text(name)
    before, rglob = digest_folder(tmp_path), Path.rglob
    (tmp_path / "manifest.json").write_text("{}")
    assert digest_folder(tmp_path) == before
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: sorted(rglob(self, pattern), reverse=True))
    assert digest_folder(tmp_path) == before


def test_check_fits_names_the_thing_and_the_remedy():
    check_fits("the bank", "1" * 64, "1" * 64, "unused")
    with pytest.raises(ArtifactError, match=r"the bank does not fit.*111.*222.*build it again"):
        check_fits("the bank", "1" * 64, "2" * 64, "build it again")


def test_out_may_be_text(tmp_path):
    assert Artifact.begin(str(tmp_path / "x"), "bank").path == Path(tmp_path / "x")


def test_killed_while_it_was_begun_it_can_be_begun_again(tmp_path):
    (tmp_path / ".run.json.123.tmp").write_text("{")
    assert not Artifact.begin(tmp_path, "bank").finished
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_killed_while_it_was_finished_it_is_tidied_on_resume(tmp_path):
    run = (Artifact.begin(tmp_path, "bank").path / "run.json").read_text()
    Artifact.begin(tmp_path, "bank", resume=True).finish()
    (tmp_path / "run.json").write_text(run)
    (tmp_path / "checkpoints").mkdir()
    assert Artifact.begin(tmp_path, "bank", resume=True).finished
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_overwrite_and_resume_contradict_each_other(tmp_path):
    Artifact.begin(tmp_path, "bank")
    with pytest.raises(ArtifactError, match="give one of them"):
        Artifact.begin(tmp_path, "bank", overwrite=True, resume=True)


def test_a_disk_that_is_full_at_the_end_is_told(tmp_path, monkeypatch):
    artifact = Artifact.begin(tmp_path, "bank")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ArtifactError, match=r"cannot write .*manifest.json: No space left.*--resume"):
        artifact.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
