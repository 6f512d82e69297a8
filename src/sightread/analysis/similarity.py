"""How alike are two encoders? Projection-weighted canonical correlation (Morcos et al. 2018, section 3).

Of two matrices X (N, D) and Y (N, D') with a row a sentence, both centred: canonical correlation analysis finds
directions of X and of Y that correlate as much as can be, one after the other, each uncorrelated with those before.
With h_i the i-th direction of X, ρ_i its correlation and x_j the columns of X,

    PWCCA = Σ α_i ρ_i / Σ α_i,    α_i = Σ_j |⟨h_i, x_j⟩|

so that directions count as much as they account for of X. Random vectors score above zero, the more so the fewer the
sentences: `similarities` gives theirs beside all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sightread.analysis.figures import FAINT, INK, new_figure, save
from sightread.encoders.features import token_features
from sightread.encoders.text import TextEncoder
from sightread.errors import ConfigError, DataError
from sightread.runtime import keyed_rng

RANDOM = "random"


def pwcca(x: np.ndarray, y: np.ndarray) -> float:
    """Similarity of x (N, D) to y (N, D'), 0 to 1; weighted by x, and so not symmetric.

    Raises:
        DataError: If there are not more rows than columns in both together, as then everything correlates; or if a
            matrix is constant.
    """
    if len(x) <= x.shape[1] + y.shape[1]:
        raise DataError(
            f"{len(x)} rows of {x.shape[1]} and {y.shape[1]} numbers: with so few, whatever they are, some directions "
            f"correlate perfectly; give more than {x.shape[1] + y.shape[1]} sentences"
        )
    centred = x - x.mean(axis=0, dtype=np.float64)
    of_x, of_y = _basis(centred), _basis(y - y.mean(axis=0, dtype=np.float64))
    directions, correlations, _ = np.linalg.svd(of_x.T @ of_y, full_matrices=False)
    weights = np.abs((of_x @ directions).T @ centred).sum(axis=1)
    return float((weights * correlations.clip(max=1)).sum() / weights.sum())


def _basis(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those of x (N, D), but for directions lost in rounding."""
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    kept = values > values.max() * max(x.shape) * np.finfo(np.float32).eps  # encoders compute in single precision
    if not kept.any():
        raise DataError("all vectors are one and the same, and correlate with nothing")
    return left[:, kept]


def sentence_vectors(encoder: TextEncoder, sentences: Sequence[str]) -> np.ndarray:
    """The mean of each sentence's token states, special tokens left out, float64 (N, D); zero where it has none."""
    found = token_features(encoder, sentences)
    sums = np.zeros((len(sentences), encoder.width))
    np.add.at(sums, found.sentence_of, found.vectors.astype(np.float64))
    return sums / np.bincount(found.sentence_of, minlength=len(sentences)).clip(min=1)[:, None]


def similarities(
    encoders: Mapping[str, TextEncoder], sentences: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """PWCCA of each encoder to every other, and to vectors drawn from a normal distribution, the control.

    Args:
        encoders: Encoders by name, each with a tokenizer of its own.
        sentences: What both read.
        seed: Seed of the random vectors, each as wide as the encoder that is compared with them.

    Raises:
        ConfigError: If an encoder is called as these are.
    """
    if RANDOM in encoders:
        raise ConfigError(f"{RANDOM!r} is what random vectors are called; give that encoder another label")
    vectors = {name: sentence_vectors(encoder, sentences) for name, encoder in encoders.items()}
    found = dict[str, dict[str, float]]()
    for name, x in vectors.items():
        drawn = keyed_rng(seed).standard_normal(x.shape)
        found[name] = {other: pwcca(x, y) for other, y in (vectors | {RANDOM: drawn}).items() if other != name}
    return found


def draw(found: Mapping[str, Mapping[str, float]], out: Path) -> list[Path]:
    """The similarities as a square of numbers, darker where encoders are more alike.

    Args:
        found: As `similarities` gives it.
        out: Where, without a suffix.

    Returns:
        The files `out`.svg and `out`.pdf.
    """
    names, others = list(found), [*found, RANDOM]
    cells = np.array([[found[name].get(other, np.nan) for other in others] for name in names])
    figure = new_figure(1.9 + 0.9 * len(others), 1.2 + 0.7 * len(names))
    axes = figure.add_subplot(xticks=range(len(others)), yticks=range(len(names)))
    axes.set_xticklabels(others, rotation=30, ha="right")
    axes.set_yticklabels(names)
    axes.imshow(cells, cmap="cividis_r", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            color = "white" if value > 0.6 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_title("PWCCA of row to column", fontsize=10, color=FAINT)
    return save(figure, out)


def as_markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    """The similarities as a table: of each row to the columns, weighted by the row."""
    others = [*found, RANDOM]
    lines = [["", *others], ["---", *["---:"] * len(others)]]
    lines += [[name, *(f"{row[o]:.3f}" if o in row else "–" for o in others)] for name, row in found.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
