"""The frame of the command line: its errors, and the options that verbs share."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
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
Workers = Annotated[
    int | None, typer.Option(help="Processes that share the work. [default: one a core, or one a GPU]", min=1)
]
EngineName = Annotated[
    str, typer.Option("--engine", help="local: this machine; ray: the Ray cluster (needs sightread\\[ray]).")
]
Pooling = Annotated[str, typer.Option(help="Feature of the vision model: pooled, mean, or regions-16 and the like.")]
View = Annotated[str, typer.Option(help="What it sees of a picture: crop, whole or both.")]
MaxSkipped = Annotated[float, typer.Option(help="Share of bad items above which it is an error.")]


def verb(function: Callable[..., None], *, of: typer.Typer = app) -> Callable[..., None]:
    """Register a verb, `of` a group. The user's fault is one line and exit 2; ours is a traceback and exit 1."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if function.__name__ not in _WITHOUT_MODEL:
                from sightread.runtime import quiet_progress

                quiet_progress()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, _terminate)
            if kwargs.get("overwrite"):
                _check_kept(**kwargs)
            function(*args, **kwargs)
        except SightreadError as error:
            if _debug:
                traceback.print_exc()
            typer.echo(f"sightread: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("sightread: stopped; what was written is kept, go on with --resume", err=True)
            raise typer.Exit(143 if _terminated else 130) from None
        except Exception:
            traceback.print_exc()
            typer.echo("sightread: this is a bug in sightread; please report it with the lines above", err=True)
            raise typer.Exit(1) from None

    return of.command(function.__name__)(run)


def _check_kept(*, out: Path, cache: Any = None, **read: Any) -> None:
    """Raise `ConfigError` if what is to be read lies in the folder that is to be replaced; but for a cache, which is
    made again."""
    for value in read.values():
        for name in value if isinstance(value, list) else [value]:
            path = str(name).rpartition("=")[2]
            if isinstance(name, str | Path) and _lies_in(out, path):
                raise ConfigError(f"--overwrite would delete {path}, which is to be read; choose another --out")


def _lies_in(folder: Path, name: str) -> bool:
    try:
        return bool(name) and Path(name).resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name of the Hub, or text
        return False


def _terminate(*_: object) -> None:
    """SIGTERM ends a run as Ctrl-C does, but for the exit code."""
    global _terminated  # noqa: PLW0603
    _terminated = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough
    raise KeyboardInterrupt


_debug = _terminated = False
_WITHOUT_MODEL = {"world", "compare", "corpora"}  # verbs that need not wait until Transformers is imported


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors too.")] = False,
) -> None:
    global _debug  # noqa: PLW0603
    _debug = debug


def report_of(out: Path) -> dict[str, Any]:
    """What the making of a finished folder found."""
    from sightread.artifacts import MANIFEST

    report: dict[str, Any] = json.loads((out / MANIFEST).read_text())["report"]
    return report


def say_both_ways(scores: Mapping[str, Mapping[str, float]]) -> None:
    """What of texts and pictures finds what it belongs to, as `scores_both_ways` gives it."""
    typer.echo(f"{'seek':<12}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median':>8}")
    for name, row in scores.items():
        recalls = "".join(f"{100 * row[f'R@{k}']:>8.1f}" for k in (1, 5, 10))
        typer.echo(f"{name:<12}{recalls}{row['median_rank']:>8.0f}")


def say_skipped(report: dict[str, Any]) -> None:
    """Tell on standard error what was skipped, and the first places."""
    for reason, found in report.items():
        typer.echo(
            f"skipped {found['count']}: {reason} ({', '.join(found['first'][:3])}{', …' * (found['count'] > 3)})",
            err=True,
        )


def run_recipe(
    recipe: Any, out: Path, *, data: Path | None = None, workers: int, overwrite: bool, resume: bool
) -> None:
    """Run a recipe into a folder, if that has not been done, say what it found, and write the page about it."""
    from sightread.artifacts import Artifact
    from sightread.pages.page import PAGE, write_page

    recipe.check(data)
    page = out / PAGE
    free = ("arms", "seeds", "tasks", "test_split")  # each arm and task has a folder, and what is read no test
    artifact = Artifact.begin(out, "comparison", config=recipe, overwrite=overwrite, resume=resume, free=free)
    if artifact.finished:
        typer.echo(f"{out} is finished, and nothing is left to do")
    else:
        page.unlink(missing_ok=True)
        artifact.finish(recipe.run(out, data=data, workers=workers, say=typer.echo)._asdict())
    found = artifact.report
    typer.echo(f"\n{found['table']}\n\n{found['verdict']}\n")
    if not page.is_file():
        write_page([str(out)], page)
    typer.echo(f"report: {page.resolve()}")


def captions_of(
    captions: str, images: Path | None, only: Path | None, max_skipped: float, held_out: Path | None = None
) -> Any:
    """Captions, of all pictures or of those listed, but for those that are listed as held out."""
    from sightread.data.captions import read_captions, read_ids

    pairs = read_captions(captions, images, max_skipped=max_skipped)
    pairs = pairs.only(read_ids(only)) if only else pairs
    if not held_out:
        return pairs
    learnt = pairs.only({*pairs.pictures.ids} - {*read_ids(held_out)})
    if kept_apart := len(pairs.pictures) - len(learnt.pictures):
        typer.echo(f"{kept_apart:,} held-out pictures are not learnt from", err=True)
    return learnt


def captioned_features(
    pairs: Any, image_encoder: str, pooling: str, view: str, cache: Path | None, max_skipped: float
) -> tuple[Any, Any]:
    """Captions, of the pictures that can be decoded, and their regions, float32 (V, N, F); tells what was skipped."""
    from sightread.encoders.features import image_features
    from sightread.encoders.image import ImageEncoder

    encoder = ImageEncoder.from_pretrained(image_encoder, pooling, view)
    features, rows, skipped = image_features(encoder, pairs.pictures, cache=cache, max_skipped=max_skipped)
    pairs = pairs.keep_pictures(rows)
    skipped.merge(pairs.skipped)
    say_skipped(skipped.report())
    return pairs, features.reshape(len(features), encoder.num_regions, -1)


def say_trained(out: Path, loader: str = "AutoModel.from_pretrained") -> None:
    """Tell how long training took, and how its result is loaded."""
    report = report_of(out)
    typer.echo(f"{report['steps']} steps, {report['seconds']:.0f} s; {loader}({str(out / 'encoder')!r})")


def named(pair: str, option: str) -> tuple[str, str]:
    """The parts of `name=folder`; raises `ConfigError` naming the option."""
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} {pair!r} is not of the form name=folder")
    return name, value


def check_writable(path: Path) -> None:
    """Raise `ConfigError` before the work and not after it, if a file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error
