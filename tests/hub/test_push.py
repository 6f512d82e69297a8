"""What goes to the Hub: the checkpoint and its card, to the byte; and what never does."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from sightread.artifacts import Artifact
from sightread.association.chance import RandomAssociation
from sightread.bank import ImageBank
from sightread.errors import ArtifactError, ConfigError
from sightread.hub.push import push_to_hub, what_is_pushed
from sightread.methods.visual_awareness import AwarenessConfig, wrap
from sightread.vokenizer import Vokenizer


class LocalHub:
    """Stands in for the Hub: repositories are folders below `root`."""

    root: Path
    created: list

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.created.append((repo_id, private))
        return f"https://huggingface.co/{repo_id}"

    def create_commit(self, repo_id, operations, *, commit_message):
        assert commit_message
        for operation in operations:
            path = self.root / repo_id / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as content:
                path.write_bytes(content.read())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of the repositories."""
    monkeypatch.setattr(LocalHub, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(LocalHub, "created", [], raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", LocalHub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: str(tmp_path / "hub" / name))
    return tmp_path / "hub"


@pytest.fixture
def run(text_encoder_folder, tmp_path):
    """An encoder, with files beside and in its checkpoint that are no part of it."""
    artifact = Artifact.begin(tmp_path / "run", "encoder", inputs={"objective": "lm"})
    shutil.copytree(text_encoder_folder, tmp_path / "run" / "encoder")
    for name in ("log.jsonl", "encoder/pytorch_model.bin", "encoder/old.pkl", "encoder/notes.md"):
        (tmp_path / "run" / name).write_text("private")
    return artifact.finish()


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_encoder_goes_as_its_checkpoint_and_its_card(run, text_encoder_folder, hub):
    assert push_to_hub(run, "ada/plain", private=True) == "https://huggingface.co/ada/plain"
    assert LocalHub.created == [("ada/plain", True)]
    pushed = files(hub / "ada/plain")
    card = pushed.pop("README.md").decode()
    assert 'pipeline("fill-mask", model="ada/plain")' in card
    assert pushed == files(text_encoder_folder)


def test_a_vokenizer_goes_without_its_bank_and_reads_another(vokenizer_folder, hub):
    push_to_hub(vokenizer_folder, "ada/vokenizer")
    there, here = files(hub / "ada/vokenizer"), files(vokenizer_folder)
    kept = {name for name in here if not name.startswith("bank/") and name != "log.jsonl"}
    assert set(there) == kept | {"README.md"}
    assert all(there[name] == here[name] for name in kept if name.endswith(".safetensors"))
    bank = ImageBank.load(vokenizer_folder / "bank")
    again = Vokenizer.from_pretrained("ada/vokenizer", bank)
    expected = Vokenizer.from_pretrained(vokenizer_folder)(["the red box"])[0]
    assert [token.image_ids for token in again(["the red box"])[0]] == [token.image_ids for token in expected]


def test_a_bank_goes_if_asked_and_no_place_of_this_machine(vokenizer_folder, hub, tmp_path):
    folder = shutil.copytree(vokenizer_folder, tmp_path / "vokenizer")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["report"]["skipped"] = {"no picture": {"count": 7, "first": ["/home/ada/secret.jpg"]}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    push_to_hub(folder, "ada/vokenizer", with_bank=True)
    assert json.loads((hub / "ada/vokenizer/manifest.json").read_text())["report"]["skipped"] == {
        "no picture": {"count": 7, "first": []}
    }
    paths = ImageBank.load(folder / "bank").paths
    everything = b"".join(files(hub / "ada/vokenizer").values())
    assert all(paths)
    assert not any(path.encode() in everything for path in [*paths, "/home/ada/secret.jpg"])
    again, before = (Vokenizer.from_pretrained(name) for name in ("ada/vokenizer", vokenizer_folder))
    assert again.bank.digest == before.bank.digest
    assert "no pictures; these remain their owners'" in (hub / "ada/vokenizer/README.md").read_text()


def test_an_encoder_that_reads_its_bank_says_so(text_encoder_folder, tmp_path, hub):
    features = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    association = RandomAssociation(ImageBank([str(i) for i in range(5)], features, [""] * 5))
    run = wrap(AwarenessConfig(num_images=2, heads=2), text_encoder_folder, association, tmp_path / "aware")
    with pytest.raises(ConfigError, match="--with-bank"):
        push_to_hub(run, "ada/aware")
    assert not LocalHub.created
    there = what_is_pushed(run, "ada/aware", with_bank=True)
    assert "association/bank/bank.safetensors" in there
    assert b"library_name: sightread" in there["README.md"]
    assert b"load_encoder(" in there["README.md"]


def test_what_the_hub_refuses_is_an_error_of_ours(run, monkeypatch):
    with pytest.raises(ConfigError, match="--to"):
        push_to_hub(run, "not a name")
    with pytest.raises(ArtifactError, match="logged in"):
        push_to_hub(run, "ada/plain")  # the suite runs offline
