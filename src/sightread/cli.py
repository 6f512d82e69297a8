"""The verbs. Each is thin: it reads its arguments, calls one function, and says where the result is."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.errors import ConfigError, SightreadError

app = typer.Typer(
    help="Text encoders that have seen what they read: ground a Hugging Face text encoder in pictures, and measure "
    "honestly whether it helped.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a former result in the output folder.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run in the output folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting as key=value, of this step or of Hugging Face's TrainingArguments; repeatable."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
CaptionsPath = Annotated[str, typer.Option("--captions", help="Captions file, folder, saved data set, or hf:NAME.")]
ImagesPath = Annotated[
    Path | None, typer.Option("--images", help="Folder of the pictures. [default: beside the captions]")
]
Only = Annotated[
    Path | None, typer.Option("--only", help="File that lists the picture ids to use, one a line: a split.")
]
VokenizerPath = Annotated[str, typer.Option("--vokenizer", help="Folder or Hub name of a vokenizer.")]
Cache = Annotated[Path | None, typer.Option("--cache", help="Folder that keeps picture features, computed once.")]
MaxSkipped = Annotated[float, typer.Option(help="Share of bad items above which it is an error.")]


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Register a verb. The user's fault is one line and exit 2; ours is a traceback and exit 1."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if function.__name__ != "world":  # which needs no model
                from sightread.train import quiet_progress

                quiet_progress()
            function(*args, **kwargs)
        except SightreadError as error:
            if _debug:
                traceback.print_exc()
            typer.echo(f"sightread: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("sightread: stopped; what was written is kept, go on with --resume", err=True)
            raise typer.Exit(130) from None
        except Exception:
            traceback.print_exc()
            typer.echo("sightread: this is a bug in sightread; please report it with the lines above", err=True)
            raise typer.Exit(1) from None

    return app.command(function.__name__)(run)


_debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors too.")] = False,
) -> None:
    global _debug  # noqa: PLW0603
    _debug = debug


@verb
def demo(
    out: Out = Path("demo"),
    seeds: Annotated[int, typer.Option(help="How many worlds; at least 3 for an interval that means something.")] = 3,
    workers: Annotated[int, typer.Option(help="Processes that share the cores.")] = 2,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Run the whole pipeline on the controlled world and write a report.

    Example: `sightread demo --out demo`
    """
    from sightread.artifacts import Artifact
    from sightread.recipes.world import DemoConfig, verdict
    from sightread.recipes.world import demo as run_demo

    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: an interval needs at least 2")
    config = DemoConfig(seeds=tuple(range(seeds)))
    artifact = Artifact.begin(out, "demo", config=config, overwrite=overwrite, resume=resume)
    typer.echo(f"{seeds} worlds, 5 encoders each, on {workers} processes; this takes some minutes")
    comparison = run_demo(config, out, workers=workers, say=typer.echo)
    artifact.finish({"verdict": verdict(comparison)})
    typer.echo(
        "\nAccuracy on held-out nouns (looks), and on tasks that need no vision; mean and 95 % interval over seeds\n"
    )
    typer.echo(f"{comparison.table()}\n\n{verdict(comparison)}\n\nreport: {(out / 'report.html').resolve()}")


@verb
def world(out: Out, seed: Seed = 0, overwrite: Overwrite = False, settings: Settings = None) -> None:
    """Write the controlled world as ordinary files.

    Example: `sightread world --seed 0 --out world`
    """
    from sightread.config import override
    from sightread.data.world import WorldConfig, write_world

    made = write_world(override(WorldConfig(seed=seed), settings or []), out, overwrite=overwrite)
    typer.echo(f"{len(made.scenes)} pictures, {len(made.corpus)} lines, {len(made.nouns)} nouns in {out}")


@verb
def bank(
    images: Annotated[str, typer.Option(help="Folder of pictures, saved data set, or hf:NAME.")],
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model.")],
    out: Out,
    size: Annotated[int | None, typer.Option(help="V, number of pictures. [default: all]")] = None,
    choose: Annotated[str, typer.Option(help="How to choose them: random or diverse.")] = "random",
    pooling: Annotated[str, typer.Option(help="Feature of the vision model: pooled or mean.")] = "pooled",
    seed: Seed = 0,
    image_column: Annotated[str, typer.Option(help="Image column of a data set.")] = "image",
    split: Annotated[str, typer.Option(help="Split of a data set.")] = "train",
    only: Only = None,
    cache: Cache = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
) -> None:
    """Build a bank of pictures.

    Example: `sightread bank --images photos --image-encoder microsoft/resnet-50 --size 50000 --out bank`
    """
    from sightread.artifacts import Artifact
    from sightread.bank import CHOICES, KIND, build_bank
    from sightread.config import check_choice
    from sightread.data.captions import read_ids
    from sightread.data.images import read_pictures
    from sightread.encoders.image import ImageEncoder

    check_choice("--choose", choose, CHOICES)
    pictures = read_pictures(images, column=image_column, split=split, only=read_ids(only) if only else None)
    encoder = ImageEncoder.from_pretrained(image_encoder, pooling)
    config = {"size": size, "choose": choose, "seed": seed, "image_encoder": image_encoder, "pooling": pooling}
    artifact = Artifact.begin(out, KIND, config=config, overwrite=overwrite)
    made, report = build_bank(
        pictures, encoder, size=size, choose=choose, seed=seed, cache=cache, max_skipped=max_skipped
    )
    made.save_into(artifact, report)
    _say_skipped(report["skipped"])
    typer.echo(f"{len(made)} pictures in {out}")


@verb
def match(
    captions: CaptionsPath,
    text_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a text encoder.")],
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model.")],
    out: Out,
    images: ImagesPath = None,
    bank: Annotated[Path | None, typer.Option(help="Pictures for the vokens. [default: those of the captions]")] = None,
    only: Only = None,
    cache: Cache = None,
    seed: Seed = 0,
    settings: Settings = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Learn from captions which pictures matter to which tokens: train a vokenizer.

    Example: `sightread match --captions captions.tsv --images images --text-encoder bert-base-uncased
    --image-encoder microsoft/resnet-50 --set objective=info_nce --set num_train_epochs=6 --out vokenizer`
    """
    from sightread.bank import ImageBank
    from sightread.config import override
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    config = override(matching.MatchingConfig(seed=seed), settings or [])
    pairs = _read_captions(captions, images, only, max_skipped)
    vokenizer = matching.train(
        config, pairs, out, text_encoder=TextEncoder.from_pretrained(text_encoder, config.layers),
        image_encoder=ImageEncoder.from_pretrained(image_encoder, config.pooling),
        bank=ImageBank.load(bank) if bank else None, cache=cache, max_skipped=max_skipped,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    _say_skipped(_report_of(out)["skipped"])
    typer.echo(f"vokenizer with {len(vokenizer.bank)} pictures in {out}")


@verb
def retrieval(
    vokenizer: VokenizerPath,
    captions: CaptionsPath,
    images: ImagesPath = None,
    only: Only = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the scores.")] = None,
    cache: Cache = None,
    max_skipped: MaxSkipped = 0.1,
) -> None:
    """Score a vokenizer: do tokens and sentences find their own picture?

    Example: `sightread retrieval --vokenizer vokenizer --captions captions.tsv --images images --json scores.json`
    """
    from sightread.analysis.retrieval import retrieval_scores
    from sightread.artifacts import write_atomic
    from sightread.vokenizer import Vokenizer

    pairs = _read_captions(captions, images, only, max_skipped)
    scores = retrieval_scores(Vokenizer.from_pretrained(vokenizer), pairs, cache=cache, max_skipped=max_skipped)
    if json_out:
        _writable(json_out)
        write_atomic(json_out, json.dumps(scores, indent=1))
    _say_skipped(scores["skipped"])
    typer.echo(f"{'among ' + str(scores['pictures']) + ' pictures':<22}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median':>8}")
    for name in ("tokens", "sentences", "chance"):
        row = scores[name]
        recalls = "".join(f"{100 * row[f'R@{k}']:>8.1f}" for k in (1, 5, 10))
        typer.echo(f"{name:<22}{recalls}{row['median_rank']:>8.0f}")


@verb
def vokenize(
    corpus: Annotated[str, typer.Option(help="Text file (.gz too), folder of them, saved data set, or hf:NAME.")],
    vokenizer: VokenizerPath,
    out: Out,
    text_column: Annotated[str, typer.Option(help="Text column of a data set.")] = "text",
    split: Annotated[str, typer.Option(help="Split of a data set.")] = "train",
    max_lines: Annotated[int | None, typer.Option(help="Read no more lines than this.")] = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Give every token of a corpus its picture.

    Example: `sightread vokenize --corpus wiki.txt.gz --vokenizer vokenizer --out vokens`
    """
    from sightread.data.corpora import Corpus
    from sightread.vokenization.job import vokenize as run_vokenize
    from sightread.vokenizer import Vokenizer

    lines = Corpus(corpus, text_column=text_column, split=split, max_lines=max_lines, max_skipped=max_skipped)
    made = run_vokenize(lines, Vokenizer.from_pretrained(vokenizer), out, overwrite=overwrite, resume=resume)
    report = made.artifact.report
    _say_skipped(report["skipped"])
    typer.echo(f"{report['tokens']} tokens in {report['lines']} lines, {report['seconds']:.0f} s, in {out}")


@verb
def revokenize(
    vokens: Annotated[Path, typer.Option(help="A voken corpus.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of the target's fast tokenizer.")],
    out: Out,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Carry a voken corpus over to another tokenizer.

    Example: `sightread revokenize --vokens vokens --tokenizer roberta-base --out vokens-roberta`
    """
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.encoders.text import load_tokenizer
    from sightread.vokenization.revokenize import revokenize as run_revokenize

    source = VokenCorpus(vokens)
    made = run_revokenize(source, load_tokenizer(tokenizer), out, overwrite=overwrite, resume=resume)
    report = made.artifact.report
    typer.echo(f"{report['tokens']} tokens, {report['no_voken']} of them without a voken, in {out}")


@verb
def pretrain(
    vokens: Annotated[Path, typer.Option(help="A voken corpus.")],
    start: Annotated[
        str, typer.Option(help="Checkpoint to go on from, or a Hugging Face config.json for fresh weights.")
    ],
    out: Out,
    objective: Annotated[str, typer.Option(help="mlm (the control), classification or regression.")] = "classification",
    bank: Annotated[Path | None, typer.Option(help="The vokenizer's bank; regression needs it.")] = None,
    match_compute_of: Annotated[
        Path | None, typer.Option(help="Take as many steps as cost the time of this run.")
    ] = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Pre-train an encoder with vokens, or its text-only control on the same data in the same order.

    Example: `sightread pretrain --vokens vokens --start bert-base-uncased --objective classification --out grounded`
    """
    from sightread.bank import ImageBank
    from sightread.config import check_choice, override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import mlm, voken
    from sightread.pretraining import PretrainingConfig

    check_choice("--objective", objective, ("mlm", *voken.KINDS))
    options = {"match_compute_of": match_compute_of, "overwrite": overwrite, "resume": resume}
    corpus = VokenCorpus(vokens)
    if objective == "mlm":
        mlm.train(override(PretrainingConfig(seed=seed), settings or []), corpus, out, start=start, **options)
    else:
        config = override(voken.VokenConfig(seed=seed, objective=objective), settings or [])
        voken.train(config, corpus, out, start=start, bank=ImageBank.load(bank) if bank else None, **options)
    report = _report_of(out)
    typer.echo(
        f"{report['steps']} steps, {report['seconds']:.0f} s; AutoModel.from_pretrained({str(out / 'encoder')!r})"
    )


@verb
def finetune(
    encoder: Annotated[str, typer.Option(help="Folder or Hub name of a text encoder.")],
    task: Annotated[str, typer.Option(help="rte, sst2, sick, or world for a folder of train/dev/test.tsv.")],
    data: Annotated[str, typer.Option(help="Folder of official files, saved data set, or hf:NAME.")],
    out: Out,
    seeds: Annotated[int, typer.Option(help="How many seeds, counted from 0.")] = 3,
    max_train: Annotated[int | None, typer.Option(help="Train on the first so many rows only.")] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Fine-tune an encoder on a task with several seeds; writes scores and every prediction.

    Example: `sightread finetune --encoder grounded/encoder --task rte --data glue/RTE --out scores`
    """
    from sightread.config import override
    from sightread.finetuning import FinetuningConfig, finetune_seeds
    from sightread.tasks.classification import Classification

    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least 1 is needed, and 5 for a claim")
    config = override(FinetuningConfig(), settings or [])
    work = Classification(task, data, max_train=max_train)
    summaries = finetune_seeds(
        encoder, work, seeds=range(seeds), config=config, out=out, overwrite=overwrite, resume=resume
    )
    for name, summary in summaries.items():
        typer.echo(f"{name:<18}{summary.median:.3f} median, mean {summary} over {len(summary.scores)} seeds")
    typer.echo(f"scores and predictions in {out}")


@verb
def show(
    sentence: Annotated[str, typer.Argument(help="The sentence.")],
    vokenizer: VokenizerPath,
    out: Annotated[Path, typer.Option(help="Where to write, without suffix.")] = Path("strip"),
    k: Annotated[int, typer.Option(help="Pictures a token.")] = 5,
) -> None:
    """Write what each token of a sentence sees: a self-contained HTML page and a PNG strip.

    Example: `sightread show "a dog jumps over a red fence" --vokenizer vokenizer`
    """
    from sightread.analysis.strips import write_strip
    from sightread.vokenizer import Vokenizer

    _writable(out)
    page, picture = write_strip(Vokenizer.from_pretrained(vokenizer), sentence, out, k)
    typer.echo(f"{page}\n{picture}")


def _read_captions(captions: str, images: Path | None, only: Path | None, max_skipped: float) -> Any:
    from sightread.data.captions import read_captions, read_ids

    pairs = read_captions(captions, images, max_skipped=max_skipped)
    return pairs.only(read_ids(only)) if only else pairs


def _report_of(out: Path) -> dict[str, Any]:
    from sightread.artifacts import MANIFEST

    report: dict[str, Any] = json.loads((out / MANIFEST).read_text())["report"]
    return report


def _say_skipped(report: dict[str, Any]) -> None:
    for reason, found in report.items():
        typer.echo(
            f"skipped {found['count']}: {reason} ({', '.join(found['first'][:3])}{', …' * (found['count'] > 3)})",
            err=True,
        )


def _writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error


if __name__ == "__main__":
    sys.exit(app())
