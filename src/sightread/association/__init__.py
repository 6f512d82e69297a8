"""Associations: K pictures of a bank for each text, sought by its words or its meaning (Sileo 2021).

A cross-modal encoder reads them beside the text. All keep to one contract, that of `Association`.

| kind | class | the pictures of a text |
| --- | --- | --- |
| scene | `captions.SceneAssociation` | those with a caption most like it, by bags of word vectors |
| keyword | `captions.KeywordAssociation` | those whose captions hold most of its keywords (Zhang et al. 2020) |
| object | `objects.ObjectAssociation` | one for each concept among its nouns |
| dense | `encoders.DenseAssociation` | those with a key most like it, by any text encoder |
| voken | `encoders.VokenAssociation` | the vokens of its tokens |
| semantic-visual | `semantic_visual.SemanticVisualAssociation` | the nearest in a space of texts and pictures |
| synthesis | `encoders.SynthesisAssociation` | one that is made for it |
| random | `chance.RandomAssociation` | drawn by lot: the control |

`folder.load_association` reads what `save` wrote; `store.associate` seeks the pictures of a corpus once and for all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import Artifact, digest, write_atomic
from sightread.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from sightread.bank import ImageBank

KIND = "association"
ARRAYS, VALUES = "arrays.safetensors", "values.json"
TEXTS_AT_ONCE = 128  # bounds what is held of each of them


@dataclass(frozen=True)
class State:
    """What an association, or an encoder of its texts, is made of beside the bank.

    Attributes:
        arrays: By name.
        values: JSON values by name.
        models: By name what has `save_pretrained`; as it is read back, the folder where it was saved. Their digests are
            among the values.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: State) -> State:
        pairs = ((self.arrays, other.arrays), (self.values, other.values), (self.models, other.models))
        return State(*({**mine, **theirs} for mine, theirs in pairs))


class Association:
    """What seeks pictures for texts.

    Attributes:
        kind: Its name in the table above.
        bank: The pictures.
        nested: Whether the first of many pictures are those that it finds if it is asked for fewer.
        report: What its making found.
    """

    kind: str
    bank: ImageBank
    nested: bool = True
    report: Mapping[str, Any] = {}

    def retrieve(self, texts: Sequence[str], k: int) -> np.ndarray:
        """The best pictures of each text, whatever the other texts are.

        Args:
            texts: N texts.
            k: How many pictures, at most V.

        Returns:
            Rows of the bank, int64 (N, K), best first, none twice, of equal ones the lowest row first; -1 where
            there is no picture.

        Raises:
            ConfigError: If k is not between 1 and V.
        """
        import numpy as np

        if isinstance(texts, str):
            raise ConfigError(f"{texts!r} is one string; give a list of texts")
        if not 1 <= k <= len(self.bank):
            raise ConfigError(f"k={k}: expected between 1 and the {len(self.bank)} pictures of the bank")
        parts = [self.find(texts[at : at + TEXTS_AT_ONCE], k) for at in range(0, len(texts), TEXTS_AT_ONCE)]
        return np.concatenate([np.zeros((0, k), np.int64), *parts])

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """`retrieve` for a few texts, at least one, and a k that is allowed."""
        raise NotImplementedError

    def state(self) -> State:
        """What it is made of; raises `ArtifactError` if that cannot be written."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> Association:
        """The association that had this state."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Digest of all that it rests on."""
        return self._digest(self.state())

    def _digest(self, state: State) -> str:
        arrays = [part for n, a in sorted(state.arrays.items()) for part in (n, f"{a.dtype} {a.shape}", a.tobytes())]
        return digest(self.kind, self.bank.digest, json.dumps(dict(state.values), sort_keys=True), *arrays)

    def save(self, out: Path | str, *, overwrite: bool = False) -> Path:
        """Write it, the bank inside, into a folder that `load_association` reads."""
        self.state()  # raises before a folder is begun
        return self.save_into(Artifact.begin(out, KIND, config={"kind": self.kind}, overwrite=overwrite))

    def save_pretrained(self, folder: Path) -> None:
        """Write it within what rests on it."""
        self.save(folder, overwrite=folder.exists())

    def save_into(self, artifact: Artifact) -> Path:
        """Fill and finish a folder that was begun as an association of this kind."""
        import numpy as np
        import safetensors.numpy

        state = self.state()
        artifact.inputs |= {"bank": self.bank.digest, "association": self._digest(state)}
        arrays = {name: np.ascontiguousarray(array) for name, array in state.arrays.items()}
        write_atomic(artifact.path / ARRAYS, safetensors.numpy.save(arrays))
        write_atomic(artifact.path / VALUES, json.dumps(dict(state.values)))
        for name, model in state.models.items():
            model.save_pretrained(artifact.path / name)
        if all(getattr(model, "bank", None) is not self.bank for model in state.models.values()):  # they have it
            self.bank.save(artifact.path / "bank")
        return artifact.finish(self.report)
