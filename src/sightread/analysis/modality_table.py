"""How near words, tags and regions of things lie in several encoders, as a table, numbers and drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sightread.analysis.modalities import Nearness, collect, draw, nearness, without_tags
from sightread.artifacts import Artifact, write_atomic
from sightread.data.regions import RegionStore
from sightread.data.seen_regions import SeenRegions
from sightread.encoders.text import load_tokenizer
from sightread.modules.single_stream import SingleStream

ALL, WITHOUT_TAGS = "all", "without tags"


def write_modalities(
    encoders: Mapping[str, str], regions: Path, texts: Sequence[str], out: Path | str, *, things: int = 15,
    each: int = 50, seed: int = 0, overwrite: bool = False,
) -> str:  # fmt: skip
    """Write how near the states of things are in some models, `modalities.{md,json}`, and a drawing of each.

    Args:
        encoders: Checkpoints that have seen regions, by label.
        regions: A folder of regions.
        texts: Sentences.
        out: The folder.
        things: As for `collect`.
        each: Likewise.
        seed: Likewise, and of t-SNE.
        overwrite: Replace what is there.

    Returns:
        The table.
    """
    store = RegionStore(regions)
    config = {"encoders": dict(encoders), "things": things, "each": each, "seed": seed}
    artifact = Artifact.begin(out, "modalities", config=config, inputs={"regions": store.digest}, overwrite=overwrite)
    rows = dict[str, dict[str, Nearness]]()
    for label, name in encoders.items():
        model, tokenizer = SingleStream.from_pretrained(name, store.width), load_tokenizer(name)
        seen = SeenRegions(store, tokenizer)
        states = collect(model, seen, tokenizer, texts, things=things, each=each, seed=seed)
        rows[label] = {ALL: nearness(states), WITHOUT_TAGS: nearness(without_tags(states))}
        draw(states, artifact.path / label, seed=seed)
    lines = [["encoder", "purity", "chance", "silhouette"], ["---", *["---:"] * 3]]
    lines += [
        [f"{label}, {part}", *(f"{number:.2f}".replace("-", "−") for number in found)]
        for label, parts in rows.items()
        for part, found in parts.items()
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    write_atomic(artifact.path / "modalities.md", table)
    numbers = {label: {part: found._asdict() for part, found in parts.items()} for label, parts in rows.items()}
    write_atomic(artifact.path / "modalities.json", json.dumps(numbers, indent=1))
    artifact.finish()
    return table
