"""What was run, in a few tables: runs of one kind and name are one row, and only settings that differ stand in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sightread.pages.found import COMPARISON, FoundRun

COLUMNS = {"steps": "steps", "minutes": "minutes", "loss": "last loss"}
_SHOWN = 3  # different digests, or origins, that are written out


def what_was_run(runs: Sequence[FoundRun]) -> dict[str, Any]:
    """For the template: `kinds`, each with the settings that all its runs share, and a row for each name; `origins`."""
    kinds = dict[str, list[FoundRun]]()
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    origins = [", ".join(f"{name} {value}" for name, value in run.artifact.made_with.items()) for run in runs]
    return {
        "kinds": {kind: _of_kind(those) for kind, those in kinds.items()},
        "origins": [origin for origin in dict.fromkeys(origins) if origin], "of_unknown_origin": origins.count(""),
    }  # fmt: skip


def _of_kind(runs: Sequence[FoundRun]) -> dict[str, Any]:
    groups = dict[str, list[FoundRun]]()
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    values = defaultdict[str, set[str]](set)
    for run in runs:
        for name, value in run.settings.items():
            values[name].add(value)
    everywhere = {name for name in values if all(name in run.settings for run in runs)}
    shared = {name: values[name].copy().pop() for name in values if name in everywhere and len(values[name]) == 1}
    rows = _merged([_row(name, those, set(shared)) for name, those in groups.items()])
    filled = [column for column in COLUMNS if any(row[column] for row in rows)]
    return {"shared": _grouped(shared), "rows": rows, "columns": {name: COLUMNS[name] for name in filled}}


def _merged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that differ in nothing but their names as one."""
    found = dict[str, dict[str, Any]]()
    for row in rows:
        same = found.setdefault(repr({key: value for key, value in row.items() if key != "names"}), row)
        if same is not row:
            same["names"] += row["names"]
    return list(found.values())


def _grouped(settings: dict[str, str]) -> dict[str, dict[str, str]]:
    """Settings by what stands before their last dot."""
    groups = dict[str, dict[str, str]]()
    for name, value in settings.items():
        group, _, last = name.rpartition(".")
        groups.setdefault(group, {})[last] = value
    return groups


def _row(name: str, runs: Sequence[FoundRun], shared: set[str]) -> dict[str, Any]:
    own, inputs = dict[str, dict[str, None]](), dict[str, dict[str, None]]()
    for run in runs:
        for setting, value in run.settings.items():
            if setting not in shared:
                own.setdefault(setting, {})[value] = None
        for input_, digest in run.artifact.inputs.items():
            inputs.setdefault(input_, {})[_short(digest)] = None
    reports = [run.artifact.report for run in runs]
    seconds = [report["seconds"] for report in reports if isinstance(report.get("seconds"), int | float)]
    steps = {f"{report['steps']:,}" for report in reports if "steps" in report}
    finals = [run.log[-1]["loss"] for run in runs if run.log and "loss" in run.log[-1]]
    return {
        "names": [name], "count": len(runs), "steps": ", ".join(sorted(steps)),
        "minutes": f"{sum(seconds) / 60:,.1f}" if seconds else "",
        "loss": f"{sum(finals) / len(finals):.3f}" if finals and runs[0].kind != COMPARISON else "",
        "own": {setting: ", ".join(found) for setting, found in own.items()},
        "inputs": {input_: _some(list(found)) for input_, found in inputs.items()},
    }  # fmt: skip


def _short(digest: str) -> str:
    """The beginning of a digest; what is written out stays."""
    return digest[:12] if re.fullmatch("[0-9a-f]{64}", digest) else digest


def _some(digests: Sequence[str]) -> str:
    more = len(digests) - _SHOWN
    return ", ".join(digests[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
