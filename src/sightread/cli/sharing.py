"""The verbs that give a run away: its model card, and its place on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightread.cli.app import Overwrite, check_writable, verb
from sightread.errors import ConfigError

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of an encoder's or vokenizer's training.")]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        help="Scores folders as for compare, the control's first, label=folder names one; of a vokenizer: files of "
        "retrieval --json. Repeatable."
    ),
]
WithBank = Annotated[
    bool,
    typer.Option("--with-bank", help="The bank goes along: only if the licence of its pictures allows that."),
]


@verb
def card(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="The Markdown file to write.")],
    scores: Scores = None,
    name: Annotated[str | None, typer.Option(help="What the model is called. [default: as its folder]")] = None,
    with_bank: WithBank = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a model card: method, data, scores with intervals, limits, settings.

    Example: `sightread card grounded --scores scores/text-only --scores scores/grounded --out README.md`
    """
    from sightread.artifacts import write_atomic
    from sightread.hub.card import model_card
    from sightread.hub.made import Made

    if out.exists() and not overwrite:
        raise ConfigError(f"{out} is there; give --overwrite to replace it, or another --out")
    check_writable(out)
    write_atomic(out, str(model_card(Made.open(run), scores or (), name=name or "", with_bank=with_bank)))
    typer.echo(out.resolve())


@verb
def push(
    run: Run,
    to: Annotated[str, typer.Option(help="Repository of the Hugging Face Hub: user/name.")],
    scores: Scores = None,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    with_bank: WithBank = False,
    check: Annotated[bool, typer.Option("--check", help="Say what would go up, and upload nothing.")] = False,
) -> None:
    """Upload an encoder or vokenizer to the Hugging Face Hub, with its model card.

    Example: `sightread push grounded --to user/grounded --scores scores/text-only --scores scores/grounded --private`
    """
    from sightread.hub.push import push_to_hub, what_is_pushed

    if check:
        files = what_is_pushed(run, to, scores=scores or (), with_bank=with_bank)
        typer.echo("\n".join([f"{len(files)} files would go to {to}:", *sorted(files)]))
    else:
        typer.echo(push_to_hub(run, to, scores=scores or (), private=private, with_bank=with_bank))
