"""The verbs that look into encoders, and into what they answered; each follows the word analyze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.analysis import analysis
from sightread.cli.app import Out, Overwrite, Seed, check_writable, named
from sightread.errors import ConfigError

Encoders = Annotated[
    list[str], typer.Argument(metavar="ENCODER", help="Checkpoint: a folder or Hub name; label=folder names it.")
]
TextPlace = Annotated[str, typer.Option(help="Text as for vokenize, or captions (.json, .tsv, .csv).")]


@analysis
def similarity(
    encoders: Encoders,
    text: TextPlace,
    out: Out,
    max_sentences: Annotated[int, typer.Option(help="Sentences that are read.", min=1)] = 4000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell how alike encoders read the same sentences, by projection-weighted canonical correlation (PWCCA).

    Example: `sightread analyze similarity text=runs/text-only/encoder vokens=runs/grounded/encoder --text wiki.txt.gz
    --out similarity`
    """
    from itertools import islice

    from sightread.analysis import similarity as alike
    from sightread.analysis.counting import Texts
    from sightread.analysis.folder import write_analysis
    from sightread.analysis.ngrams import sentences_of
    from sightread.encoders.text import TextEncoder
    from sightread.probes.run import labelled

    names, texts = labelled(encoders), Texts([text])
    config = {"encoders": names, "max_sentences": max_sentences, "seed": seed, "text": texts.digest}

    def find() -> dict[str, dict[str, float]]:
        sentences = list(islice((part for line in texts for part in sentences_of(line)), max_sentences))
        read = {label: TextEncoder.from_pretrained(name) for label, name in names.items()}
        return alike.similarities(read, sentences, seed=seed)

    said = write_analysis(
        out, "similarity", config, find, table=alike.as_markdown, numbers=dict, draw=alike.draw, overwrite=overwrite
    )
    typer.echo(f"{said}\n{out / 'similarity.svg'}")


@analysis
def weights(
    encoders: Encoders,
    start: Annotated[str, typer.Option(help="Checkpoint that all of them were trained from.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Tell how far training carried encoders from their start, layer by layer.

    Example: `sightread analyze weights runs/grounded runs/noise --start bert-base-uncased --out weights`
    """
    from sightread.analysis import weights as far
    from sightread.analysis.folder import write_analysis
    from sightread.modules.language_model import LanguageModel
    from sightread.probes.run import labelled

    names = labelled(encoders)

    def find() -> dict[str, dict[str, far.Distance]]:
        began = LanguageModel.from_pretrained(start)
        ended = ((label, LanguageModel.from_pretrained(_checkpoint(name))) for label, name in names.items())
        return {label: far.by_layer(far.distances(began, model)) for label, model in ended}

    config = {"encoders": names, "start": start}
    said = write_analysis(
        out, "weights", config, find, table=far.as_markdown, numbers=dict, draw=far.draw, overwrite=overwrite
    )
    typer.echo(f"{said}\n{out / 'weights.svg'}")


@analysis
def modalities(
    encoders: Encoders,
    regions: Annotated[Path, typer.Option(help="Regions of pictures, as `sightread regions` writes them.")],
    text: TextPlace,
    out: Out,
    things: Annotated[int, typer.Option(help="How many tags, the most frequent ones.", min=2)] = 15,
    each: Annotated[int, typer.Option(help="States of a thing and modality, at most.", min=1)] = 50,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell whether the word, the tag and the region of one thing lie together, and draw them in the plane.

    Example: `sightread analyze modalities runs/unpaired/encoder --regions regions --text captions.tsv --out modalities`
    """
    from sightread.analysis.counting import Texts
    from sightread.analysis.modality_table import write_modalities
    from sightread.probes.run import labelled

    typer.echo(
        write_modalities(
            labelled(encoders), regions, list(Texts([text])), out, things=things, each=each, seed=seed,
            overwrite=overwrite,
        )
    )  # fmt: skip


@analysis
def attention(
    sentence: Annotated[str, typer.Argument(help="The sentence.")],
    encoder: Annotated[str, typer.Option(help="Encoder of xdbert (full), associative, joint or aware.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write, without suffix.")] = Path("attention"),
) -> None:
    """Draw what each token looks at: the words of CLIP, or the pictures that are found.

    Example: `sightread analyze attention "a dog jumps over a red fence" --encoder xdbert/full --out attention`
    """
    from sightread.analysis.attention import attention_of, draw

    check_writable(out)
    for path in draw(attention_of(encoder, sentence), out):
        typer.echo(path)


@analysis
def gain(
    scores: Annotated[
        list[str], typer.Argument(metavar="SCORES", help="Scores of the control, then of the encoder, as for compare.")
    ],
    data: Annotated[list[str], typer.Option(help="Data of a task as name=folder; repeatable.")],
    types: Annotated[Path, typer.Option(help="Grounded types, as analyze corpora writes them.")],
    out: Out,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell whether an encoder gains over its control on texts with more grounded words: over tasks, and over items.

    Example: `sightread analyze gain scores/text-only scores/grounded --data rte=glue/RTE --data sst2=glue/SST-2
    --types corpora/grounded-types.tsv --out gain`
    """
    from sightread.analysis import gain as gains
    from sightread.analysis.folder import write_analysis
    from sightread.analysis.grounded_types import read_types
    from sightread.artifacts import digest_file

    if len(scores) != 2:
        raise ConfigError(f"{len(scores)} folders of scores; expected two, the control's and the encoder's")
    folders, known = dict(named(pair, "--data") for pair in data), read_types(types)
    pairs = _pairs(scores, folders)
    config = {"scores": scores, "data": folders, "types": digest_file(types), "seed": seed}
    said = write_analysis(
        out, "gain", config,
        lambda: [gains.gain_of(mine, control, texts, known, seed=seed) for mine, control, texts in pairs],
        table=gains.as_markdown, numbers=gains.as_dicts, draw=gains.draw, overwrite=overwrite,
    )  # fmt: skip
    typer.echo(f"{said}\n{out / 'gain.svg'}")


def _pairs(scores: list[str], folders: dict[str, str]) -> list[tuple[Any, Any, list[Any]]]:
    """Of each task whose data is given: runs of the encoder, of the control, and what they read."""
    from sightread.runs import read_runs
    from sightread.tasks import load_task

    control, mine = (read_runs([place]) for place in scores)
    found = []
    for runs in mine:
        task, _, split = runs.column.partition(" (")
        others = [other for other in control if other.column == runs.column]
        if task in folders and others:
            rows = load_task(task, folders[task]).load(split.removesuffix(")") or "test")
            found.append((runs, others[0], [row.inputs for row in rows if row.gold is not None]))
    if not found:
        raise ConfigError(
            f"both hold no scores of {', '.join(folders)}; the encoder has {', '.join(run.column for run in mine)}"
        )
    return found


def _checkpoint(name: str) -> str:
    """The encoder of a run, or what is one itself."""
    return str(Path(name) / "encoder") if (Path(name) / "encoder").is_dir() else name
