"""What a run made, and by which method, as far as its manifest tells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from sightread.artifacts import Artifact
from sightread.errors import ArtifactError, ConfigError
from sightread.pretraining import KIND as ENCODER
from sightread.vokenizer import KIND as VOKENIZER

METHODS = {  # a setting or an input that only this method has; of several the first
    ENCODER: {
        "teacher": "methods.grounded_teacher", "like": "methods.weight_noise",
        "clip_tokenizer": "methods.distillation", "association": "methods.visual_awareness",
        "regions": "methods.unpaired", "pictures": "methods.associative", "strategy": "methods.joint_masked",
        "captions": "methods.lexical_contrast", "vokens": "methods.voken", "objective": "methods.lm",
    },
    VOKENIZER: {"captions": "methods.matching", "model": "encoders.clip"},
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A finished encoder or vokenizer.

    Attributes:
        artifact: Its manifest.
    """

    artifact: Artifact

    @classmethod
    def open(cls, run: Path | str) -> Made:
        """Open a run.

        Raises:
            ArtifactError: If it is unfinished, or no run.
            ConfigError: If it made something else.
        """
        artifact = Artifact.at(Path(run))
        if artifact.kind not in METHODS:
            raise ConfigError(f"{run} holds a result of kind {artifact.kind}; expected one of {', '.join(METHODS)}")
        return cls(Artifact.open(run, artifact.kind))

    @property
    def is_vokenizer(self) -> bool:
        """Whether it is a vokenizer; else it is an encoder."""
        return self.artifact.kind == VOKENIZER

    @property
    def checkpoint(self) -> Path:
        """The folder that is loaded."""
        return self.artifact.path if self.is_vokenizer else self.artifact.path / "encoder"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The `config.json` of an encoder; empty for a vokenizer, which has one a part."""
        if self.is_vokenizer:
            return {}
        try:
            found: dict[str, Any] = json.loads((self.checkpoint / "config.json").read_text())
            return found
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{self.checkpoint} holds no model ({error}); make it again") from error

    @property
    def is_ours(self) -> bool:
        """Whether only sightread loads it; else it is an ordinary checkpoint."""
        return self.is_vokenizer or str(self.config.get("model_type")).startswith("sightread-")

    @property
    def module(self) -> str:
        """The module of the method, below `sightread`; "" if the manifest does not tell."""
        signs = {**self.artifact.inputs, **self.artifact.config}
        return next((module for sign, module in METHODS[self.artifact.kind].items() if sign in signs), "")

    @property
    def method(self) -> str:
        """The method in a sentence: the first of its module."""
        text = import_module(f"sightread.{self.module}").__doc__ if self.module else ""
        return " ".join((text or "").strip().partition("\n\n")[0].split())
