"""The verbs of the command line, those of groups among them."""

import typer

from sightread.cli import app

CLI = typer.main.get_command(app)


def verbs(group=CLI, before=""):
    """Every verb by what is typed for it, as "analyze corpora"."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


VERBS = dict(verbs())
