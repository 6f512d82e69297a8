"""What all figures share: Matplotlib, if it is installed, colours that everybody can tell apart, vector files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightread.errors import MissingExtra

COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000", "#999933")
"""Okabe and Ito's (2008), but for their yellow, which is faint on white."""
INK, FAINT = "#1d2433", "#6b7385"


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches; raises `MissingExtra` if Matplotlib is not installed."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise MissingExtra("drawing needs Matplotlib: pip install 'sightread[plot]'") from error
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, out: Path, *suffixes: str) -> list[Path]:
    """Write a figure as `out`.svg and `out`.pdf, or with other suffixes; the same figure gives the same bytes."""
    import matplotlib

    paths = [out.with_name(out.name + suffix) for suffix in suffixes or (".svg", ".pdf")]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        with matplotlib.rc_context({"svg.hashsalt": "sightread", "svg.fonttype": "none", "pdf.fonttype": 42}):
            figure.savefig(path, metadata=dateless, dpi=150)
    return paths


def bare(axes: Any) -> None:
    """Leave an axes only what says something: its lower and left side."""
    axes.spines[["top", "right"]].set_visible(False)
