"""Probe an encoder: every probe by name, each finished one kept on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sightread.artifacts import Artifact, digest, digest_folder, write_atomic
from sightread.config import check_choice
from sightread.encoders.text import tokenizer_digest, weights_digest
from sightread.errors import ConfigError, DataError
from sightread.probes.attributes import probe_attributes
from sightread.probes.encoder import ProbedEncoder
from sightread.probes.files import MissingData
from sightread.probes.grammar import probe_grammar
from sightread.probes.questions import QUESTION_SETS
from sightread.probes.results import ProbeConfig, ProbeResult
from sightread.probes.words import WORD_PAIRS, probe_concreteness, probe_similarity
from sightread.probes.world import WORLD_TASKS, probe_world

KIND = "probe"
ANSWERS = "answers.jsonl"

PROBES: dict[str, Callable[[ProbedEncoder, Path, ProbeConfig], list[ProbeResult]]] = {
    **{name: partial(probe_attributes, name=name) for name in QUESTION_SETS},
    "concreteness": probe_concreteness,
    **{name: partial(probe_similarity, name=name) for name in WORD_PAIRS},
    "blimp": probe_grammar,
    **{f"world_{name}": partial(probe_world, name=name) for name in WORLD_TASKS},
}


def probe(
    encoder: str | Path,
    data: Path | str,
    names: Sequence[str] | None = None,
    *,
    label: str | None = None,
    config: ProbeConfig = ProbeConfig(),  # noqa: B008 (it is frozen)
    out: Path | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> list[ProbeResult]:
    """Put an encoder to the probes.

    Args:
        encoder: Folder or Hub name of a checkpoint, with a masked-LM head or without.
        data: Folder that holds `probes/` and `lexicons/`; a probe whose files are missing is skipped and named.
        names: Keys of `PROBES`; all if none are given.
        label: What to call the encoder.
        config: Settings.
        out: Folder that keeps each finished probe in a folder of its own, with the answer to every item.
        overwrite: Replace what is in those folders.
        resume: Take results from those folders where they are finished, for the same encoder, data and settings.

    Raises:
        ConfigError: If a name is unknown.
        ArtifactError: If the encoder cannot be loaded, or `out` holds results and neither flag is given.
        DataError: If there is no folder `data`, or a file in it is malformed, naming the line.
    """
    for name in names or ():
        check_choice("probe", name, PROBES)
    if not (data := Path(data)).is_dir():
        raise DataError(f"no folder {data}; expected one that holds probes/ and lexicons/")
    loaded = ProbedEncoder.from_pretrained(encoder, label)
    if out is None:
        return [result for name in names or PROBES for result in _run(name, loaded, data, config)]
    flags: Any = {"config": config, "inputs": _inputs(loaded, data), "overwrite": overwrite, "resume": resume}
    folders = {name: Artifact.begin(Path(out) / name, KIND, **flags) for name in names or PROBES}  # or fail before work
    for name, artifact in folders.items():
        if not artifact.finished:
            _write(artifact, _run(name, loaded, data, config))
    kept = [result for artifact in folders.values() for result in artifact.report["results"]]
    return [ProbeResult(**{**result, "encoder": loaded.label}) for result in kept]


def labelled(encoders: Sequence[str]) -> dict[str, str]:
    """Checkpoints by label: of "label=folder" the label, else the last part of the path that says something.

    Raises:
        ConfigError: If two have the same label.
    """
    found = dict[str, str]()
    for given in encoders:
        label, equals, name = given.partition("=")
        if not equals:
            parts = [part for part in Path(given).parts if part not in {"encoder", "model", "/"}]  # `pretrain` adds one
            label, name = parts[-1] if parts else given, given
        if label in found:
            raise ConfigError(f"two encoders are called {label!r}; name them: label=folder")
        found[label] = name
    return found


def _inputs(encoder: ProbedEncoder, data: Path) -> dict[str, str]:
    folders = [data / "probes", data / "lexicons", data / "world" / "tasks"]
    return {
        "encoder": weights_digest(encoder.masked_lm or encoder.text_encoder),
        "tokenizer": tokenizer_digest(encoder.tokenizer),
        "data": digest(*map(digest_folder, folders)),
    }


def _run(name: str, encoder: ProbedEncoder, data: Path, config: ProbeConfig) -> list[ProbeResult]:
    try:
        return PROBES[name](encoder, data, config)
    except MissingData as missing:
        return [ProbeResult(probe=name, encoder=encoder.label, note=f"skipped: {missing}")]


def _write(artifact: Artifact, results: Sequence[ProbeResult]) -> None:
    lines = [json.dumps({"score": result.score, **answer}) for result in results for answer in result.answers]
    write_atomic(artifact.path / ANSWERS, "".join(f"{line}\n" for line in lines))
    bare = [dataclasses.replace(result, answers=()) for result in results]
    artifact.finish({"results": [dataclasses.asdict(result) for result in bare]})
