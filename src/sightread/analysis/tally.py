"""How often each of many numbers occurs, added up part by part in the memory of those that are different."""

from __future__ import annotations

import numpy as np

Tallied = tuple[np.ndarray, np.ndarray]
"""Different numbers, int64, not negative, sorted, and how often each occurs, int64."""


def tally(keys: np.ndarray) -> Tallied:
    """How often each number occurs in int64 (N,)."""
    ordered = np.sort(keys)
    begins = first_of_each(ordered)
    return ordered[begins], np.diff(begins, append=len(ordered))


def first_of_each(ordered: np.ndarray) -> np.ndarray:
    """Where each different number begins in sorted ones that are not negative, int64."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


class Tally:
    """Tallies added up."""

    def __init__(self) -> None:
        self._held: list[Tallied] = []

    def add(self, tallied: Tallied) -> None:
        """Take in the next part; its numbers need not be sorted."""
        self._held.append(tallied)
        # Parts of about one size are merged, so that none is moved more often than the logarithm of their sum
        while len(self._held) > 1 and 2 * len(self._held[-1][0]) > len(self._held[-2][0]):
            self._merge(2)

    def total(self) -> Tallied:
        """What was added."""
        if self._held:
            self._merge(len(self._held))
        return self._held[0] if self._held else (np.zeros(0, np.int64), np.zeros(0, np.int64))

    def _merge(self, last: int) -> None:
        keys, times = (np.concatenate(parts) for parts in zip(*self._held[-last:], strict=True))
        order = np.argsort(keys, kind="stable")
        begins = first_of_each(keys[order])
        self._held[-last:] = [(keys[order][begins], np.add.reduceat(times[order], begins) if len(begins) else times)]
