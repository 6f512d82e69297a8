"""Encoders trained on one ground and compared: `world` on the controlled world, `real` on real data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class Outcome(NamedTuple):
    """What an experiment found, and what the page about it is to say; its manifest keeps all.

    Attributes:
        table: Its scores, as text.
        verdict: What they say.
        title: Heading of the page.
        explanation: How the scores were taken.
        sentences: Whose vokens the page shows.
        seen: What is to be seen there.
        scores: Scores folders below its own, in the order of the arms, as `arm=folder`.
        controls: Arms whose control is another than the first.
        seconds: Of work, by all processes.
    """

    table: str
    verdict: str
    title: str = ""
    explanation: str = ""
    sentences: Sequence[str] = ()
    seen: str = ""
    scores: Sequence[str] = ()
    controls: Mapping[str, str] = {}
    seconds: float | None = None


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
