"""A run on the Hugging Face Hub: the folder that is loaded, and its card; nothing else, and only when asked.

    sightread push grounded --to user/grounded --scores scores/text-only --scores scores/grounded --check

What can be loaded without running code goes up, and no other file. A bank, whose pictures have licences that are not
ours to give, stays here unless it is asked for; then it goes without the places where its pictures lie. Nor do the
places of what was skipped leave this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sightread.artifacts import MANIFEST, Artifact
from sightread.bank import KIND as BANK
from sightread.errors import ArtifactError, ConfigError
from sightread.hub.card import model_card
from sightread.hub.made import Made
from sightread.train import LOG

CARD = "README.md"
SUFFIXES = {".safetensors", ".json", ".jsonl", ".txt", ".model"}  # .model: sentencepiece's


def push_to_hub(
    run: Path | str, to: str, *, scores: Sequence[str | Path] = (), private: bool = False, with_bank: bool = False
) -> str:
    """Upload an encoder or vokenizer; returns the address of its page.

    Args:
        run: The folder of its run.
        to: The repository, user/name; it is made if it is not there.
        scores: For its card, see `model_card`.
        private: Whether a repository that is made is private.
        with_bank: Whether its bank goes with it.

    Raises:
        ConfigError: If the run is neither, or cannot do without its bank.
        ArtifactError: If the Hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    files = what_is_pushed(run, to, scores=scores, with_bank=with_bank)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    try:
        api = HfApi()
        url = api.create_repo(to, private=private, exist_ok=True)
        api.create_commit(to, operations, commit_message="Upload with sightread")
    except Exception as error:  # of the network, the name, or the user's rights
        raise ArtifactError(
            f"the Hub does not take {run} as {to}: {error}; are you logged in? (hf auth login)"
        ) from error
    return str(url)


def what_is_pushed(
    run: Path | str, to: str, *, scores: Sequence[str | Path] = (), with_bank: bool = False
) -> dict[str, str | bytes]:
    """What goes up: paths of files, or contents that differ from those here, by their path in the repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(to)
    except HFValidationError as error:
        raise ConfigError(f"--to {to}: {error}") from error
    made = Made.open(run)
    root, banks = made.checkpoint, _banks(made.checkpoint)
    if banks and not made.is_vokenizer and not with_bank:
        raise ConfigError(
            f"the encoder in {root} reads pictures of its bank, and is nothing without; the licence of the pictures is "
            "not ours to give: if it is yours, or theirs allow it, say --with-bank"
        )
    left_out = [] if with_bank else banks
    paths = [
        path for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix in SUFFIXES and path != root / LOG and not {*path.parents} & {*left_out}
    ]  # fmt: skip
    files = {path.relative_to(root).as_posix(): _content(path) for path in paths}
    return files | {CARD: str(model_card(made, scores, name=to, with_bank=with_bank)).encode()}


def _banks(root: Path) -> list[Path]:
    return [path.parent for path in root.rglob(MANIFEST) if Artifact.at(path.parent).kind == BANK]


def _content(path: Path) -> str | bytes:
    without = _WITHOUT_PLACES.get(path.name)
    return without(path.read_text()).encode() if without else str(path)


def _pictures(text: str) -> str:
    rows = [json.loads(row) for row in text.split("\n") if row]
    return "".join(json.dumps(row | {"path": ""}) + "\n" for row in rows)


def _manifest(text: str) -> str:
    header: dict[str, Any] = json.loads(text)
    for name, found in header.get("report", {}).items():
        if name.startswith("skipped") and isinstance(found, dict):
            header["report"][name] = {reason: {**entry, "first": []} for reason, entry in found.items()}
    return json.dumps(header, indent=1)


_WITHOUT_PLACES: dict[str, Callable[[str], str]] = {"pictures.jsonl": _pictures, MANIFEST: _manifest}
