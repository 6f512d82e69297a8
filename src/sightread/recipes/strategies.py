"""Transferred and associative grounding (Sileo 2021), compared.

    sightread compare recipes.strategies:world --out strategies

| recipe | compared |
| --- | --- |
| world | transferred and associative grounding on the controlled world, each with its control |
"""

from __future__ import annotations

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.world import WorldExperiment

CAPTIONS = {"captions_per_block": 4}  # one a block is too few for a world: what pictures look like is hardly learnt
TRANSFERRED = tuple(
    Arm(name=name, method="joint", vokens="none", start=TEXT_ONLY.name, settings={"strategy": strategy, **CAPTIONS},
        control="" if strategy == "none" else "no pictures of captions")
    for name, strategy in (
        ("no pictures of captions", "none"), ("text to image", "t2i"), ("image to text", "i2t"), ("both ways", "both"),
    )
)  # fmt: skip
ASSOCIATIVE = tuple(
    Arm(name=f"pictures by {kind}" if images else "no pictures of text", method="associative", vokens="none",
        start=TEXT_ONLY.name, pictures=kind, settings={"num_images": images},
        control="no pictures of text" if images else "")
    for kind, images in (("scene", 0), ("scene", 4), ("object", 4), ("keyword", 4), ("dense", 4), ("voken", 4))
)  # fmt: skip


def world() -> WorldExperiment:
    """Transferred and associative grounding on the controlled world."""
    return WorldExperiment(seeds=(0, 1, 2), arms=(TEXT_ONLY, *TRANSFERRED, *ASSOCIATIVE))
