"""One self-contained HTML page about any runs: `sightread report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread import compare, report
from sightread.analysis.strips import as_html, voken_strip
from sightread.artifacts import write_atomic
from sightread.compare import Comparison, compare_runs
from sightread.data.voken_corpus import KIND as VOKEN_CORPUS
from sightread.data.voken_corpus import VokenCorpus
from sightread.pages.found import COMPARISON, FoundRun, find_runs, labelled
from sightread.pages.settings import what_was_run
from sightread.runs import TaskRuns, read_runs
from sightread.scores import KIND as SCORES
from sightread.templates import render
from sightread.templates.curves import Curve, curves
from sightread.vokenizer import KIND as VOKENIZER

if TYPE_CHECKING:
    from sightread.vokenizer import Vokenizer

RESULTS = "results.json"  # of a comparison on the controlled world
SENTENCES = ("A dog runs across the grass.", "Two people stand on a street.")
_TOKENS = 16  # of a line of a corpus that is shown, at most


def write_page(
    places: Sequence[str], out: Path, *, vokenizer: Vokenizer | None = None, sentences: Sequence[str] = (),
    title: str = "",
) -> Path:  # fmt: skip
    """Write the page.

    Args:
        places: Folders of runs, scores and comparisons, each perhaps as `label=folder`. The encoder whose scores come
            first is what the others are compared with.
        out: The file.
        vokenizer: Shows its vokens; by default the first vokenizer that is found.
        sentences: Of which tokens; by default two short lines of a voken corpus that is found, else two of ours.
        title: Heading; by default the names of the places.

    Raises:
        ArtifactError: If a folder holds nothing to report.
        DataError: If scores cannot be read, or not be told apart.
    """
    runs = find_runs(places)
    told = [run for run in runs if run.kind == COMPARISON]
    worlds = [Comparison.from_json(text) for text in map(_results, told) if text]
    scores, notes = _scores(places, runs)
    tasks = compare_runs(scores) if scores else None
    arms = list(dict.fromkeys([*(tasks.arms if tasks else ()), *(arm for world in worlds for arm in world.scores)]))
    arms += [name for name in dict.fromkeys(run.name for run in runs if run.curves) if name not in arms]
    verdicts = [run.artifact.report["verdict"] for run in told if "verdict" in run.artifact.report]
    page = render(
        "runs.html", title=title or ", ".join(labelled(place)[0] or Path(place).name for place in places),
        verdicts=[*verdicts, *(tasks.verdicts() if tasks else ())], notes=notes,
        worlds=[compare.html_values(world) for world in worlds],
        tasks=report.html_values(tasks, arms) if tasks else None,
        curves=_curves(runs, arms), strips=_strips(runs, vokenizer, sentences),
        skipped=[(run.place, *entry) for run in runs for entry in run.skipped],
        faults=[*((run.place, fault) for run in runs for fault in run.faults), *_diverged(worlds)],
        unfinished=[run.place for run in runs if not run.artifact.finished], ran=what_was_run(runs),
    )  # fmt: skip
    write_atomic(out, page)
    return out


def _results(run: FoundRun) -> str:
    """What a comparison on the controlled world wrote of its scores."""
    path = run.artifact.path / RESULTS
    text = path.read_text() if path.is_file() else ""
    return text if text and "arms" in json.loads(text) else ""


def _scores(places: Sequence[str], runs: Sequence[FoundRun]) -> tuple[list[TaskRuns], list[str]]:
    """The scores that are found, or that a comparison was made of; and where scores are missing now."""
    labels = {labelled(place)[1].resolve(): labelled(place)[0] for place in places}
    found, notes = dict[Path, str](), list[str]()
    for run in runs:
        if run.kind == SCORES and run.artifact.finished:
            path = run.artifact.path
            label = next((labels[above] for above in [path.resolve(), *path.resolve().parents] if above in labels), "")
            found.setdefault(path.resolve(), f"{label}={path}" if label else str(path))
        elif run.kind == COMPARISON:
            for place in run.artifact.config.get("runs", ()):
                path = labelled(place)[1]
                if path.is_dir():
                    found.setdefault(path.resolve(), place)
                else:
                    notes.append(f"{run.place} compared {place}, which is not there now.")
    return read_runs(list(found.values())) if found else [], notes


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
    read = sentences or _lines(runs) or SENTENCES
    return [[as_html(token) for token in voken_strip(shows, sentence)] for sentence in read]


def _lines(runs: Sequence[FoundRun]) -> list[str]:
    """Two short lines of the first voken corpus."""
    for run in runs:
        if run.kind == VOKEN_CORPUS and run.artifact.finished:
            lines = (line for line in VokenCorpus(run.artifact.path) if 4 < len(line.token_ids) <= _TOKENS)
            short = (line.text for line in lines if line.text[0].isalnum())  # no headings
            return [line for line, _ in zip(short, range(2), strict=False)]
    return []


def _diverged(worlds: Sequence[Comparison]) -> list[tuple[str, str]]:
    return [(arm, fault) for world in worlds for arm, faults in world.diverged.items() for fault in faults]
