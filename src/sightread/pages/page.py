"""One self-contained HTML page about any runs: `sightread report`, and the end of `demo` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.analysis.strips import as_html, voken_strip
from sightread.artifacts import write_atomic
from sightread.compare import Comparison, RunComparison, compare_runs
from sightread.data.voken_corpus import KIND as VOKEN_CORPUS
from sightread.data.voken_corpus import VokenCorpus
from sightread.pages.found import COMPARISON, FoundRun, labelled
from sightread.pages.scored import follow
from sightread.pages.settings import what_was_run
from sightread.pages.tables import of_tasks, of_worlds
from sightread.templates import render
from sightread.templates.curves import Curve, curves
from sightread.vokenizer import KIND as VOKENIZER

if TYPE_CHECKING:
    from sightread.vokenizer import Vokenizer

PAGE = "report.html"  # in the folder of a comparison
RESULTS = "results.json"  # of a comparison on the controlled world
SENTENCES = ("A dog runs across the grass.", "Two people stand on a street.")
_TOKENS = 16  # of a line of a corpus that is shown, at most


def write_page(
    places: Sequence[str], out: Path, *, tasks: RunComparison | None = None, vokenizer: Vokenizer | None = None,
    sentences: Sequence[str] = (), title: str = "",
) -> Path:  # fmt: skip
    """Write the page.

    Args:
        places: Folders of runs, scores and comparisons, each perhaps as `label=folder`. The encoder whose scores come
            first is what the others are compared with.
        out: The file.
        tasks: All scores there, if they have been compared.
        vokenizer: Shows its vokens; by default the first vokenizer that is found.
        sentences: Of which tokens; by default those of a comparison, or two short lines of a voken corpus that is
            found, else two of ours.
        title: Heading; by default that of a comparison, or the names of the places.

    Raises:
        ArtifactError: If a folder holds nothing to report.
        DataError: If scores cannot be read, or not be told apart.
    """
    found = follow(places)
    told = [run for run in found.runs if run.kind == COMPARISON]
    worlds = [(run.artifact.report, world) for run in told if (world := _results(run))]
    tasks = tasks or (compare_runs(found.scores, controls=found.controls) if found.scores else None)
    arms = _arms(found.runs, tasks, [world for _, world in worlds])
    names = ", ".join(labelled(place)[0] or Path(place).name for place in places)
    page = render(
        "report.html", title=title or _said(told, "title", names),
        verdicts=[*(report["verdict"] for report, _ in worlds), *(tasks.verdicts() if tasks else ())],
        notes=found.notes,
        worlds=[of_worlds(world, arms) | {"explanation": report.get("explanation", "")} for report, world in worlds],
        tasks=of_tasks(tasks, arms) if tasks else None, table="" if worlds or tasks else _said(told, "table", ""),
        curves=_curves(found.runs, arms),
        strips=_strips(found.runs, vokenizer, sentences or _said(told, "sentences", ()) or _lines(found.runs)),
        seen="" if sentences else _said(told, "seen", ""),
        skipped=[(run.place, *entry) for run in found.runs for entry in run.skipped],
        faults=[*((run.place, fault) for run in found.runs for fault in run.faults), *_diverged(worlds)],
        unfinished=[run.place for run in found.runs if not run.artifact.finished], ran=what_was_run(found.runs),
    )  # fmt: skip
    write_atomic(out, page)
    return out


def _said(comparisons: Sequence[FoundRun], name: str, otherwise: Any) -> Any:
    """What the first comparison that says something says."""
    return next((run.artifact.report[name] for run in comparisons if run.artifact.report.get(name)), otherwise)


def _results(run: FoundRun) -> Comparison | None:
    """What a comparison on the controlled world wrote of its scores."""
    path = run.artifact.path / RESULTS
    text = path.read_text() if path.is_file() else ""
    return Comparison.from_json(text) if text and "arms" in json.loads(text) else None


def _arms(runs: Sequence[FoundRun], tasks: RunComparison | None, worlds: Sequence[Comparison]) -> list[str]:
    """All encoders, in the order of their colours: those that are compared, then all else that was trained."""
    compared = [*(tasks.arms if tasks else ()), *(arm for world in worlds for arm in world.scores)]
    return list(dict.fromkeys([*compared, *(run.name for run in runs if run.curves)]))


def _curves(runs: Sequence[FoundRun], arms: Sequence[str]) -> dict[str, Any]:
    """Panels by what was trained and which loss, and the colour of each run that is in one."""
    drawn, panels = [run for run in runs if run.curves], list[dict[str, Any]]()
    for kind, several in groupby(sorted(drawn, key=lambda run: run.kind), key=lambda run: run.kind):
        of_kind = list(several)
        for loss in dict.fromkeys(name for run in of_kind for name in run.curves):
            lines = [Curve(arms.index(run.name), run.curves[loss]) for run in of_kind if run.curves.get(loss)]
            if lines:
                panels.append({"title": f"{kind}: {loss.replace('_', ' ')}", "axes": curves(lines)})
    return {"panels": panels, "colors": {arm: i for i, arm in enumerate(arms) if any(arm == run.name for run in drawn)}}


def _strips(
    runs: Sequence[FoundRun], vokenizer: Vokenizer | None, sentences: Sequence[str]
) -> list[list[dict[str, Any]]]:
    from sightread.vokenizer import Vokenizer

    folders = [run.artifact.path for run in runs if run.kind == VOKENIZER and run.artifact.finished]
    if vokenizer is None and not folders:
        return []
    shows = vokenizer or Vokenizer.from_pretrained(folders[0])
    return [[as_html(token) for token in voken_strip(shows, sentence)] for sentence in sentences or SENTENCES]


def _lines(runs: Sequence[FoundRun]) -> list[str]:
    """Two short lines of the first voken corpus."""
    for run in runs:
        if run.kind == VOKEN_CORPUS and run.artifact.finished:
            lines = (line for line in VokenCorpus(run.artifact.path) if 4 < len(line.token_ids) <= _TOKENS)
            short = (line.text for line in lines if line.text[0].isalnum())  # no headings
            return [line for line, _ in zip(short, range(2), strict=False)]
    return []


def _diverged(worlds: Sequence[tuple[Any, Comparison]]) -> list[tuple[str, str]]:
    found = [(arm, faults) for _, world in worlds for arm, faults in world.diverged.items() if faults]
    return [(arm, f"diverged: {', '.join(faults)}") for arm, faults in found]
