"""The verbs that measure an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.app import (
    Out,
    Overwrite,
    Resume,
    Settings,
    check_writable,
    named,
    report_of,
    run_recipe,
    say_skipped,
    verb,
)
from sightread.errors import ConfigError


@verb
def finetune(
    encoder: Annotated[str, typer.Option(help="Folder or Hub name of a text encoder.")],
    task: Annotated[
        str,
        typer.Option(
            help="Data set: sst2, rte, stsb, squad2, swag, conll2003, vqa2, …; or world for a folder of "
            "train/dev/test.tsv."
        ),
    ],
    data: Annotated[str, typer.Option(help="Folder of official files, saved data set, or hf:NAME.")],
    out: Out,
    preset: Annotated[
        str, typer.Option(help="bert, few-rows, vokenization, grounding-strategies, xdbert or visual-awareness.")
    ] = "bert",
    seeds: Annotated[
        int | None, typer.Option(help="How many seeds, counted from 0; --resume adds some. [default: as the preset]")
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Score on this data set too, as name=folder: advglue-sst2=AdvGLUE.")
    ] = None,
    carve: Annotated[
        str | None, typer.Option(help="Cut this split into train, dev and test, where there is no training split.")
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(help="Regions of the pictures of a task about pictures; --set task.most=20 reads fewer."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the seeds and the cores; on a CPU only.")] = 1,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Fine-tune an encoder on a task with several seeds; writes scores and every prediction.

    Example: `sightread finetune --encoder grounded/encoder --task rte --data glue/RTE --out scores`
    """
    from sightread.config import check_choice, override
    from sightread.experiments.presets import PRESETS
    from sightread.finetuning import finetune_seeds
    from sightread.tasks import load_task

    check_choice("--preset", preset, PRESETS)
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least 1 is needed, and 5 for a claim")
    runs = PRESETS[preset].runs(task) if seeds is None else range(seeds)
    ours = [setting.removeprefix("task.") for setting in settings or [] if setting.startswith("task.")]
    config = override(PRESETS[preset].settings(task), [s for s in settings or [] if not s.startswith("task.")])
    seen: dict[str, Any] = {"regions": regions, "settings": ours}
    work = load_task(task, data, carve=carve or "", **seen)
    others = {name: load_task(name, folder, **seen) for name, folder in (named(pair, "--also") for pair in also or [])}
    summaries = finetune_seeds(
        encoder, work, seeds=runs, config=config, out=out, also=others, workers=workers, overwrite=overwrite,
        resume=resume,
    )  # fmt: skip
    report = report_of(out)
    say_skipped(report.get("skipped", {}))
    for name, what in (("cut", "texts longer than max_length and cut"), ("clip_cut", "tokens that CLIP cannot read")):
        if found := ", ".join(f"{count} of {split}" for split, count in report.get(name, {}).items()):
            typer.echo(f"{what}: {found}", err=True)
    _say_scores(summaries, report)
    typer.echo(f"scores and predictions in {out}")


@verb
def translate(
    dataset: Annotated[str, typer.Option(help="multi30k, wmt14 or wmt16.")],
    data: Annotated[str, typer.Option(help="Folder of line-aligned files, saved data set, or hf:NAME.")],
    out: Out,
    preset: Annotated[str, typer.Option(help="small, for a laptop, or base, as Vaswani et al.")] = "small",
    seeds: Annotated[int, typer.Option(help="How many seeds, counted from 0.")] = 1,
    association: Annotated[
        Path | None, typer.Option(help="Folder of an association: the encoder looks at the pictures that it finds.")
    ] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep each seed's model in its folder.")] = False,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train a Transformer to translate, with several seeds; writes BLEU, chrF and every translation.

    Example: `sightread translate --dataset multi30k --data multi30k --out scores`
    """
    from sightread.association.folder import load_association
    from sightread.config import check_choice, override
    from sightread.data.parallel import ParallelText
    from sightread.tasks.translation import PRESETS, train

    check_choice("--preset", preset, PRESETS)
    summaries = train(
        override(PRESETS[preset], settings or []), ParallelText(dataset, data), out, seeds=range(seeds),
        association=load_association(association) if association else None, keep_models=keep_models,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    report = report_of(out)
    say_skipped(report["skipped"])
    _say_scores(summaries, report)
    typer.echo(f"{', '.join(report['signatures'].values())}\nscores and translations in {out}")


@verb
def probe(
    encoders: Annotated[
        list[str], typer.Argument(metavar="ENCODER", help="Checkpoint: a folder or Hub name; label=folder names it.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that holds probes/ and lexicons/, and perhaps a world/.")],
    out: Out,
    probes: Annotated[str | None, typer.Option(help="Names of probes, parted by commas. [default: all]")] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Ask encoders, untrained, what things look like, which words are alike, and what is grammatical: one table.

    Example: `sightread probe bert-base-uncased grounded=run/encoder --data data --out probes`
    """
    from sightread.artifacts import write_atomic
    from sightread.config import override
    from sightread.probes.results import ProbeConfig, as_csv, table
    from sightread.probes.run import labelled
    from sightread.probes.run import probe as run_probe

    config, names, results = override(ProbeConfig(), settings or []), probes.split(",") if probes else None, []
    for label, name in labelled(encoders).items():
        results += run_probe(
            name, data, names, label=label, config=config, out=out / label, overwrite=overwrite, resume=resume
        )
    write_atomic(out / "probes.md", table(results) + "\n")
    write_atomic(out / "probes.csv", as_csv(results))
    typer.echo(f"{table(results)}\n\n{out / 'probes.csv'} has the details, {out}/*/*/answers.jsonl every answer")


@verb
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Scores folder, or a folder that holds some; label=folder names it. Or one recipe that makes them, "
            "recipes.MODULE:NAME; what there is, the bare word recipes tells.",
        ),
    ],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="Folder of a recipe's data, where it needs some.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the cores in a recipe.", min=1)] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A recipe's setting as key=value: seeds=0,1 or, within, pretraining.max_steps=9; repeatable."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="An arm of a recipe, and what it rests on and is compared with; repeatable. [default: all]"),
    ] = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Compare encoders with the first one named, from their predictions alone: scores, intervals, tests.

    A recipe first trains its arms and fine-tunes them. With --resume what is done is not done again, and there may be
    other arms, seeds or tasks than before.

    Example: `sightread compare scores/text-only scores/grounded --out comparison`

    Example: `sightread compare recipes.vokenization:table5 --workers 2 --out table5`
    """
    from sightread.artifacts import Artifact
    from sightread.compare import compare_runs
    from sightread.config import override
    from sightread.experiments.arms import chosen
    from sightread.pages.page import PAGE, write_page
    from sightread.recipes import is_recipe, load_recipe
    from sightread.report import TITLE, as_text, write_comparison
    from sightread.runs import read_runs

    if any(map(is_recipe, runs)):
        if len(runs) > 1:
            raise ConfigError(f"one recipe at a time, and nothing beside it; {len(runs)} names were given")
        recipe: Any = override(load_recipe(runs[0]), settings or [])
        recipe = replace(recipe, arms=chosen(recipe.arms, arm)) if arm else recipe
        run_recipe(recipe, out, data=data, workers=workers, overwrite=overwrite, resume=resume)
        return
    if data or settings or arm or resume:
        raise ConfigError("--data, --set, --arm and --resume are for recipes; scores folders are only read")
    read = read_runs(runs)
    artifact = Artifact.begin(out, "comparison", config={"runs": runs}, overwrite=overwrite)
    comparison = compare_runs(read)
    write_comparison(out, comparison)
    artifact.finish({"title": TITLE, "verdicts": comparison.verdicts(), "notes": comparison.notes()})
    page = write_page([str(out)], out / PAGE, tasks=comparison)
    typer.echo("\n\n".join([as_text(comparison), "\n".join(comparison.verdicts())]))
    typer.echo(f"\nreport: {page.resolve()}")


def _say_scores(summaries: dict[str, Any], report: dict[str, Any]) -> None:
    if found := report.get("pictures"):
        rate, without = f"{found['texts_per_second']:.0f} a second", f"{found['without_picture']:.1%} without one"
        typer.echo(f"pictures sought for {found['distinct']:,} texts, {rate}; {without}")
    for name, summary in summaries.items():
        if name != "diverged":
            typer.echo(f"{name:<24}{summary.median:.3f} median, mean {summary} over {len(summary.scores)} seeds")
    for seed, reason in report["diverged"].items():
        typer.echo(f"seed {seed} diverged: {reason}", err=True)


@verb
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folder of a run, of scores, of a comparison, or one that holds some, as the demo's; label=folder "
            "names it.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    vokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a vokenizer to show. [default: the first that is found]")
    ] = None,
    sentence: Annotated[list[str] | None, typer.Option(help="A sentence whose vokens are shown; repeatable.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page. [default: the names of the runs]")] = None,
) -> None:
    """Write one self-contained page about runs: scores, learning curves, vokens, settings, what went wrong.

    Example: `sightread report runs/text-only runs/grounded scores --out report.html`
    """
    from sightread.pages.page import write_page
    from sightread.vokenizer import Vokenizer

    check_writable(out)
    shows = Vokenizer.from_pretrained(vokenizer) if vokenizer else None
    typer.echo(write_page(runs, out, vokenizer=shows, sentences=sentence or (), title=title or "").resolve())
