"""Pictures by chance: the control of all that seeks them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightread.artifacts import digest
from sightread.association import Association, State
from sightread.bank import ImageBank
from sightread.errors import ConfigError
from sightread.runtime import keyed_rng

LIKE = "like"


class RandomAssociation(Association):
    """K pictures drawn for each text, by the text and a seed alone; none for a text of nothing but spaces.

    Args:
        bank: The pictures.
        like: The association, of the same bank, that it is the control of: every text has as many pictures as that
            one finds for it.
        seed: The seed.

    Raises:
        ConfigError: If the bank is not that of `like`.
    """

    kind = "random"

    def __init__(self, bank: ImageBank, like: Association | None = None, seed: int = 0) -> None:
        if like and like.bank.digest != bank.digest:
            raise ConfigError("pictures by chance are the control of an association of another bank; give its own bank")
        self.bank, self.like, self.seed, self.nested = bank, like, seed, not like or like.nested

    def find(self, texts: Sequence[str], k: int) -> np.ndarray:
        """Draw; the first pictures are the same however many are asked for."""
        there = self.like.find(texts, k) >= 0 if self.like else np.array([[bool(text.strip())] * k for text in texts])
        found = np.full((len(texts), k), -1, dtype=np.int64)
        for row in np.flatnonzero(there.any(axis=1)).tolist():
            found[row] = keyed_rng(self.seed, int(digest(texts[row])[:16], 16)).permutation(len(self.bank))[:k]
        return np.where(there, found, -1)

    def state(self) -> State:
        """The seed, and what it is the control of."""
        if not self.like:
            return State(values={"seed": self.seed})
        return State(values={"seed": self.seed, LIKE: self.like.digest}, models={LIKE: self.like})

    @classmethod
    def from_state(cls, bank: ImageBank, state: State) -> RandomAssociation:
        """The association that had this state; what it is the control of is loaded already."""
        return cls(bank, state.models.get(LIKE), state.values["seed"])
