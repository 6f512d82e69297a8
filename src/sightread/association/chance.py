"""Pictures by chance: the control of all that seeks them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightread.artifacts import digest
from sightread.association import Association, State
from sightread.bank import ImageBank
from sightread.runtime import keyed_rng


class RandomAssociation(Association):
    """K pictures drawn for each text, by the text and a seed alone; none for a text of nothing but spaces.

    Args:
        bank: The pictures.
        seed: The seed.
    """

    kind = "random"

    def __init__(self, bank: ImageBank, seed: int = 0) -> None:
        self.bank, self.seed = bank, seed

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """Draw; the first pictures are the same however many are asked for."""
        found = np.full((len(texts), k), -1, dtype=np.int64)
        for row, text in enumerate(texts):
            if text.strip():
                found[row] = keyed_rng(self.seed, int(digest(text)[:16], 16)).permutation(len(self.bank))[:k]
        return found

    def state(self) -> State:
        """The seed."""
        return State(values={"seed": self.seed})

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> RandomAssociation:
        """The association that had this state."""
        return cls(bank, state.values["seed"])
