"""The model card of a run: what its manifest says, and the scores that it is given.

    sightread card grounded --scores scores/text-only --scores scores/grounded --out README.md

Nothing is claimed that is not in a manifest, in predictions or in the weights: which scores are the model's own follows
from the digest of its weights, and their means and intervals are computed anew, as by `compare`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightread import templates
from sightread.artifacts import Artifact
from sightread.compare import Cell, RunComparison, compare_runs
from sightread.encoders.text import weights_digest
from sightread.errors import ConfigError, DataError
from sightread.grounded import load_encoder
from sightread.hub.made import Made
from sightread.report import as_markdown, line
from sightread.runs import TaskRuns, read_runs
from sightread.scores import KIND as SCORES

TASK_TYPES = {  # the Hub's names of kinds of task, by ours of scoring them
    "correlation": "sentence-similarity", "rank_correlation": "sentence-similarity", "span": "question-answering",
    "span_or_none": "question-answering", "choice": "multiple-choice", "entities": "token-classification",
    "target": "token-classification", "vqa": "visual-question-answering", "ranks": "text-to-image-retrieval",
    "referring": "visual-grounding", "translation": "translation",
}  # fmt: skip
USES = {"MaskedLM": ("fill-mask", '"a dog {mask}."'), "CausalLM": ("text-generation", '"a dog"'),
        "LMHeadModel": ("text-generation", '"a dog"')}  # fmt: skip
READING = ("feature-extraction", '"a dog jumps"')


def model_card(made: Made, scores: Sequence[str | Path] = (), *, name: str = "", with_bank: bool = False) -> Any:
    """The card of a run, a `huggingface_hub.ModelCard`; `str` of it is the file.

    Args:
        made: The run.
        scores: Of an encoder: scores folders, as for `compare`, the control's first if there is one. Of a vokenizer:
            files that `sightread retrieval --json` wrote.
        name: What the model is called: its repository; by default the run's folder.
        with_bank: Of a vokenizer: whether its bank goes with it.

    Raises:
        ConfigError: If no score is of this encoder.
        DataError: If scores cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    name = name or made.artifact.path.resolve().name
    tag, example = _use(made)
    results = list[Any]()
    comparison = compare_runs(read_runs(scores)) if scores and not made.is_vokenizer else None
    if comparison:
        results = [_result(cell) for cell in own_cells(made, comparison)]
    data = ModelCardData(
        library_name="sightread" if made.is_ours else "transformers", tags=["sightread", "visual-grounding"],
        base_model=made.artifact.report.get("base_models") or None,
        pipeline_tag=None if made.is_vokenizer else tag, model_name=name, eval_results=results or None,
    )  # fmt: skip
    table = as_markdown(comparison).partition("\n\n")[2] if comparison else "\n\n".join(map(_retrieval, scores))
    return ModelCard.from_template(
        data, str(Path(templates.__file__).with_name("card.md.j2")), name=name, pipeline_tag=tag, example=example,
        what="A vokenizer" if made.is_vokenizer else "A text encoder", method=made.method, module=made.module,
        bank=("given" if with_bank else "left out") if made.is_vokenizer else "", is_ours=made.is_ours,
        config=made.artifact.config, inputs=made.artifact.inputs, found=_found(made.artifact), scores=table.strip(),
        limits=limits(made, comparison, with_bank), settings=json.dumps(made.artifact.config, indent=1),
        made_with=", ".join(f"{part} {version}" for part, version in made.artifact.made_with.items()),
    )  # fmt: skip


def own_cells(made: Made, comparison: RunComparison) -> list[Cell]:
    """The scores that are this encoder's; raises `ConfigError` if there are none."""
    digest = weights_digest(load_encoder(made.checkpoint))
    own = [cell for cell in comparison.cells.values() if _is_of(cell.runs, made.checkpoint, digest)]
    if not own:
        others = ", ".join(comparison.arms)
        raise ConfigError(f"none of the scores ({others}) is of the encoder in {made.checkpoint}; fine-tune that one")
    return own


def _is_of(runs: TaskRuns, checkpoint: Path, digest: str) -> bool:
    inputs = Artifact.open(runs.folder, SCORES).inputs
    if "regions" in inputs:  # the digest there is of visual parts, too, perhaps fresh ones
        return Path(runs.encoder).resolve() == checkpoint.resolve()
    return inputs.get("encoder") == digest


def limits(made: Made, comparison: RunComparison | None, with_bank: bool) -> list[str]:
    """What a reader must not take the model, or its scores, for."""
    told = ["It has the gaps and prejudices of what it began with and of the data above; nothing was done about them."]
    if made.is_vokenizer and with_bank:
        told.append("Its bank holds features and names of pictures, no pictures; these remain their owners'.")
    elif made.is_vokenizer:
        told.append("Its bank is left out: the licence of the pictures is not ours to give.")
    elif comparison is None:
        told.append("Without scores, nothing here shows what it is good for.")
    elif len(comparison.arms) == 1:
        told.append("It is compared with no control, so its scores do not show whether pictures helped.")
    if comparison and "seed" in made.artifact.config:
        told.append("It was trained once: intervals are over fine-tuning, and over examples, not over pre-training.")
    told.append(
        "No licence is named: what it began with, the text and the pictures have theirs, which may bind its use."
    )
    return told


def _use(made: Made) -> tuple[str, str]:
    """The pipeline that takes it, and what to give to that."""
    kind = "".join((made.config.get("architectures") or [""])[:1])
    tag, example = next((use for end, use in USES.items() if kind.endswith(end) and not made.is_ours), READING)
    if "{mask}" not in example:
        return tag, example
    from sightread.encoders.text import load_tokenizer

    return tag, example.format(mask=load_tokenizer(made.checkpoint).mask_token)


def _found(artifact: Artifact) -> str:
    """The numbers that its making found, and what was left out."""
    numbers = {name: value for name, value in artifact.report.items() if isinstance(value, int | float)}
    said = [f"{value:,.0f} {name}" for name, value in numbers.items()]
    skipped = artifact.report.get("skipped") or {}
    said += [f"{found['count']:,} left out: {reason}" for reason, found in skipped.items()]
    return f"Its making: {', '.join(said)}." if said else ""


def _result(cell: Cell) -> Any:
    """A score as the Hub knows it: the mean over seeds, the interval in words."""
    from huggingface_hub import EvalResult

    runs, told = cell.runs, line(cell)
    seeds = f"mean of {told.seeds} seeds, 95 % {told.interval}" if cell.summary.low is not None else "a single seed"
    return EvalResult(
        task_type=TASK_TYPES.get(runs.metric_name, "text-classification"), dataset_type=runs.column,
        dataset_name=runs.column, metric_type=runs.metric.main, metric_value=round(cell.summary.mean, 6),
        metric_name=f"{runs.metric.main} ({seeds})",
    )  # fmt: skip


def _retrieval(path: str | Path) -> str:
    """A table of what `sightread retrieval --json` wrote."""
    try:
        found = json.loads(Path(path).read_text())
        lines = list[str]()
        for name in ("tokens", "sentences", "chance"):
            recalls = [f"{100 * found[name][score]:.1f}" for score in ("R@1", "R@5", "R@10")]
            lines.append(f"| {' | '.join([name, *recalls])} | {found[name]['median_rank']:.0f} |")
        queries = " and ".join(f"{found[name]['queries']:,} {name}" for name in ("tokens", "sentences"))
        head = f"{queries} looked for their picture among {found['pictures']:,}; in %, without an interval:"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no file of `sightread retrieval --json` ({type(error).__name__}: {error})"
        ) from error
    return "\n".join([head, "", "| | R@1 | R@5 | R@10 | median rank |", "| --- | ---: | ---: | ---: | ---: |", *lines])
