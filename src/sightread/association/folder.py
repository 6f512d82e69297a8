"""Associations read back from disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.numpy

from sightread.artifacts import Artifact, check_fits
from sightread.association import ARRAYS, KIND, VALUES, Association, State
from sightread.association.captions import KeywordAssociation, SceneAssociation
from sightread.association.chance import LIKE, RandomAssociation
from sightread.association.encoders import DenseAssociation, VokenAssociation
from sightread.association.objects import ObjectAssociation
from sightread.association.semantic_visual import SemanticVisualAssociation
from sightread.bank import ImageBank
from sightread.config import check_choice
from sightread.errors import ArtifactError

_SAVED = (
    SceneAssociation, KeywordAssociation, ObjectAssociation, DenseAssociation, VokenAssociation,
    SemanticVisualAssociation, RandomAssociation,
)  # fmt: skip
KINDS: dict[str, type[Association]] = {association.kind: association for association in _SAVED}


def load_association(folder: Path | str) -> Association:
    """What `Association.save` wrote; it finds what the saved one did.

    Raises:
        ArtifactError: If the folder is no association, or damaged.
        MissingExtra: If it needs a tagger that is not installed.
    """
    artifact = Artifact.open(folder, KIND)
    path, kind = artifact.path, artifact.config["kind"]
    check_choice("kind of association", kind, KINDS)
    remedy = "make it again"
    try:
        arrays = safetensors.numpy.load_file(path / ARRAYS)
        values, folders = json.loads((path / VALUES).read_text()), {p.name: p for p in path.iterdir() if p.is_dir()}
        models: dict[str, Any] = {name: load_association(p) if name == LIKE else p for name, p in folders.items()}
        if LIKE in models:
            bank = models[LIKE].bank
        else:
            bank = ImageBank.load((path if "bank" in folders else folders["vokenizer"]) / "bank")
        association = KINDS[kind].from_state(bank, State(arrays, values, models))
    except (OSError, ValueError, KeyError, TypeError, IndexError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"the association {folder} is damaged ({error}); {remedy}") from error
    check_fits(f"the association {folder}", association.digest, artifact.inputs["association"], remedy)
    association.report = artifact.report
    return association
