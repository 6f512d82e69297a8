"""The verbs that look into text, vokens and encoders; each follows the word analyze."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sightread.cli.app import Out, Overwrite, Workers, app, named, report_of, say_skipped, verb

analyze = typer.Typer(
    help="Look into corpora, vokens and encoders: the statistics and figures of the papers.", no_args_is_help=True
)
app.add_typer(analyze, name="analyze")
analysis = partial(verb, of=analyze)


@analysis
def corpora(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS",
            help="name=place: text as for vokenize, or captions (.json, .tsv, .csv); a name may have several places.",
        ),
    ],
    out: Out,
    reference: Annotated[
        str | None, typer.Option(help="The corpus that the others are compared with. [default: the first]")
    ] = None,
    captions: Annotated[str | None, typer.Option(help="The corpus whose frequent types are grounded.")] = None,
    types: Annotated[Path | None, typer.Option(help="Or a file of grounded types, as another run wrote it.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a fast tokenizer. [default: words and punctuation marks]")
    ] = None,
    stop_words: Annotated[
        Path | None, typer.Option(help="File of words that are never grounded, one a line. [default: ours]")
    ] = None,
    marks: Annotated[bool, typer.Option("--marks", help="Punctuation marks may be grounded, as in the paper.")] = False,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell how far corpora lie from captions: sizes, divergence, grounding ratio.

    Example: `sightread analyze corpora wiki=wiki.txt.gz coco=captions_val2017.json --captions coco --out corpora`
    """
    from sightread.analysis.corpora import CorporaConfig, analyze_corpora
    from sightread.analysis.corpus import as_markdown
    from sightread.runtime import num_cores

    folders = dict[str, list[str]]()
    for name, place in (named(pair, "CORPUS") for pair in places):
        folders.setdefault(name, []).append(place)
    config = CorporaConfig(
        reference=reference or next(iter(folders)), captions=captions or "", types=str(types or ""),
        tokenizer=tokenizer or "", stop_words=str(stop_words or ""), marks=marks,
    )  # fmt: skip
    rows = analyze_corpora(
        config, folders, out, workers=workers or num_cores(), overwrite=overwrite, say=partial(typer.echo, err=True)
    )
    say_skipped(report_of(out)["skipped"])
    typer.echo(f"{as_markdown(rows)}\n{report_of(out)['types']:,} grounded types; {out / 'corpora.md'}")


@analysis
def vokens(
    vokens: Annotated[Path, typer.Argument(metavar="VOKENS", help="A voken corpus; of --top 2 or more, for scores.")],
    out: Out,
    norms: Annotated[
        Path | None, typer.Option(help="Folder with lexicons/brysbaert_concreteness.tsv, to compare scores with it.")
    ] = None,
    least: Annotated[int, typer.Option(help="Tokens of a type, at least, to be among the extremes.", min=1)] = 50,
    overwrite: Overwrite = False,
) -> None:
    """Tell how many pictures the types of a voken corpus have, and which types are grounded.

    Example: `sightread analyze vokens vokens --norms data --out voken-statistics`
    """
    from sightread.analysis.voken_folder import write_voken_statistics
    from sightread.probes.files import read_norms

    ratings = {word: norm.concreteness for word, norm in read_norms(norms).items()} if norms else None
    typer.echo(write_voken_statistics(vokens, out, ratings=ratings, least=least, overwrite=overwrite))
