"""A comparison of scores folders for every reader: terminal, Markdown, LaTeX, CSV, JSON; the page is `pages`'.

All tables are made of the same `Line`s, so that no two of them disagree. A number that does not exist is a "–", and a
note says why.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from sightread.artifacts import write_atomic
from sightread.compare import LEVEL, Cell, RunComparison
from sightread.statistics import Difference

HEADER = ("encoder", "mean", "95 %", "median", "seeds", "difference", "95 %", "p", "p (Holm)", "")
TITLE, NONE = "Encoders compared", "–"
_LATEX = str.maketrans(
    {char: "\\" + char for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"\textsuperscript{\dag}"}
    | {"−": "$-$", "–": "--", "<": "$<$", ">": "$>$", "↓": r"$\downarrow$", "|": r"\textbar{}"}
)
_MARKDOWN = str.maketrans({char: "\\" + char for char in "\\`*_<|"})


@dataclass(frozen=True)
class Line:
    """A row of a table: an encoder on a task, in words, in the order of `HEADER`."""

    encoder: str
    mean: str
    interval: str
    median: str
    seeds: str
    difference: str
    difference_interval: str
    p: str
    adjusted: str
    verdict: str


def line(cell: Cell) -> Line:
    """A cell in words. A dagger stands at the mean if runs diverged."""
    digits = _digits(cell)
    summary, runs, apart = cell.summary, cell.runs, cell.difference
    return Line(
        encoder=runs.arm,
        mean=f"{summary.mean:.{digits}f}" + "†" * bool(runs.diverged),
        interval=_interval(summary.low, summary.high, f".{digits}f"),
        median=f"{summary.median:.{digits}f}",
        seeds=str(len(summary.scores)),
        difference=_signed(f"{apart.mean:+.{digits}f}") if apart else NONE,
        difference_interval=_interval(apart.low, apart.high, f"+.{digits}f") if apart else NONE,
        p=_p_value(cell.p),
        adjusted=_p_value(cell.adjusted),
        verdict=cell.verdict,
    )


def heading(cell: Cell) -> str:
    """What a task's numbers are: score, rows, and an arrow where lower is better."""
    metric = cell.runs.metric
    return f"{metric.main}{' ↓' * metric.lower_is_better}, {len(cell.runs.gold)} rows"


def explanation(control: str) -> str:
    """How the numbers were made, in a paragraph."""
    return (
        "Mean over seeds with Student's 95 % interval, and the median. "
        f"Differences to {control} are paired by seed and by example. "
        "Their interval is a bootstrap over both, so it allows for other trainings and other examples. "
        "p is that of a two-sided permutation test over examples, which takes the trained models as they are; "
        "it is adjusted by Holm over the tasks of an encoder. "
        f"A difference is called better or worse only if that is below {LEVEL} and the interval leaves out 0. "
        "† marks encoders of which runs diverged; these are counted."
    )


def as_text(comparison: RunComparison) -> str:
    """A block of aligned lines for each task, then the notes."""
    blocks = []
    for column in comparison.columns:
        cells = comparison.column(column)
        rows = _aligned([HEADER, *(astuple(line(cell)) for cell in cells)])
        blocks.append("\n".join([f"{column}: {heading(cells[0])}", *(f"  {row}".rstrip() for row in rows)]))
    return "\n\n".join([*blocks, *filter(None, ["\n".join(comparison.notes())])])


def as_markdown(comparison: RunComparison) -> str:
    """One table, with what it means before and the notes after it."""
    lines = [["task", "score", *HEADER], ["---"] * 3 + ["---:"] * 8 + ["---"]]
    for column in comparison.columns:
        cells = comparison.column(column)
        firsts = [[column, heading(cells[0])]] + [["", ""]] * (len(cells) - 1)
        lines += [
            list(map(_markdown, [*first, *astuple(line(cell))])) for first, cell in zip(firsts, cells, strict=True)
        ]
    table = "\n".join(f"| {' | '.join(entries)} |" for entries in lines)
    how = _markdown(explanation(comparison.control))
    parts = [f"# {TITLE}", _listed(comparison.verdicts()), how, table, _listed(comparison.notes())]
    return "\n\n".join(filter(None, parts)) + "\n"


def as_latex(comparison: RunComparison) -> str:
    r"""A table environment; needs `\usepackage{booktabs}`."""
    blocks = [_latex_block(column, comparison.column(column)) for column in comparison.columns]
    lines = [
        r"\begin{table*}", r"\centering\small", r"\begin{tabular}{llrrrrrrrrl}", r"\toprule",
        " & ".join(map(_latex, ("task", *HEADER))) + r" \\", r"\midrule",
        "\n\\midrule\n".join(blocks),
        r"\bottomrule", r"\end{tabular}",
        rf"\caption{{{_latex(' '.join([explanation(comparison.control), *comparison.notes()]))}}}", r"\end{table*}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def as_csv(comparison: RunComparison) -> str:
    """Tidy: a line for every encoder, task, seed and score, computed from the predictions."""
    header = ["encoder", "checkpoint", "task", "seed", "score", "value", "is_main", "diverged"]
    runs = [cell.runs for cell in comparison.cells.values()]
    rows = [
        [one.arm, one.encoder, one.column, seed, score, value, int(score == one.metric.main), one.diverged.get(seed)]
        for one in runs
        for seed, scores in one.scores.items()
        for score, value in scores.items()
    ]
    return _csv([header, *rows])


def as_summary_csv(comparison: RunComparison) -> str:
    """A line for every encoder and task: its main score over seeds and the difference to the control."""
    rows = [_summary_of(cell) for cell in comparison.cells.values()]
    return _csv([list(rows[0]), *(list(row.values()) for row in rows)])


def as_json(comparison: RunComparison) -> str:
    """Everything, numbers unrounded, null where there is none."""
    return json.dumps(
        {
            "control": comparison.arms[0],
            "controls": comparison.controls,
            "verdicts": comparison.verdicts(),
            "explanation": explanation(comparison.control),
            "notes": comparison.notes(),
            "results": [
                {**_summary_of(cell), "scores": cell.runs.scores, "diverged": cell.runs.diverged}
                for cell in comparison.cells.values()
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def write_comparison(out: Path, comparison: RunComparison) -> list[Path]:
    """Write `comparison.{md,tex,csv,json}` and `comparison-summary.csv` into a folder; returns their paths."""
    tables = {
        "comparison.md": as_markdown, "comparison.tex": as_latex, "comparison.csv": as_csv,
        "comparison-summary.csv": as_summary_csv, "comparison.json": as_json,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for name, write in tables.items():
        write_atomic(out / name, write(comparison))
    return [out / name for name in tables]


def _digits(cell: Cell) -> int:
    return 2 if cell.runs.metric.main == "bleu" else 3


def _interval(low: float | None, high: float | None, form: str) -> str:
    return NONE if low is None or high is None else _signed(f"[{low:{form}}, {high:{form}}]")


def _signed(number: str) -> str:
    return number.replace("-", "−")


def _p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _latex_block(column: str, cells: Sequence[Cell]) -> str:
    firsts = [column, f"({heading(cells[0])})"] + [""] * len(cells)
    rows = [[_latex(first), *map(_latex, astuple(line(cell)))] for first, cell in zip(firsts, cells, strict=False)]
    return "\n".join(" & ".join(row) + r" \\" for row in rows)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_markdown(sentence)}" for sentence in sentences)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _summary_of(cell: Cell) -> dict[str, Any]:
    summary, names = asdict(cell.summary), ("mean", "median", "std", "low", "high")
    apart = asdict(cell.difference) if cell.difference else dict.fromkeys(Difference.__dataclass_fields__)
    return {
        "encoder": cell.runs.arm, "checkpoint": cell.runs.encoder, "task": cell.runs.column,
        "score": cell.runs.metric.main, "rows": len(cell.runs.gold), "seeds": len(cell.summary.scores),
        "num_diverged": len(cell.runs.diverged), **{name: summary[name] for name in names},
        "paired_seeds": len(cell.seeds), "difference": apart["mean"], "difference_low": apart["low"],
        "difference_high": apart["high"], "p_bootstrap": apart["p"], "p_permutation": cell.p, "p_holm": cell.adjusted,
        "verdict": cell.verdict,
    }  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns aligned: the first and the last to the left, numbers to the right."""
    widths = [max(map(len, entries)) for entries in zip(*rows, strict=True)]
    sides = ["<", *[">"] * (len(widths) - 2), "<"]
    return ["  ".join(f"{e:{side}{w}}" for e, side, w in zip(row, sides, widths, strict=True)) for row in rows]
