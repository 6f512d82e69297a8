"""The positive control: `sightread demo`."""

from __future__ import annotations

from sightread.experiments.world import WorldExperiment


def demo() -> WorldExperiment:
    """Text alone, random vokens, voken classification and regression, and the oracle, on four worlds."""
    return WorldExperiment()
