"""Encoders trained on one ground and compared: `world` on the controlled world, `real` on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol


class Outcome(NamedTuple):
    """What an experiment found.

    Attributes:
        table: Its scores, as text.
        verdict: What they say.
        report: The page about them.
    """

    table: str
    verdict: str
    report: Path


class Experiment(Protocol):
    """A comparison, its settings frozen."""

    def check(self, data: Path | None) -> None:
        """Raise a `SightreadError` before any work if the comparison cannot be run.

        Args:
            data: As for `run`.
        """
        ...

    def run(self, out: Path, *, data: Path | None, workers: int, say: Callable[[str], None]) -> Outcome:
        """Train, fine-tune and compare its arms; stages that are done in `out` are not done again.

        Args:
            out: Folder.
            data: Folder of its data, if it needs some.
            workers: Processes that share the cores.
            say: Called with a line at every step.
        """
        ...
