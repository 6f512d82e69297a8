"""The verb of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.app import ImagesPath, MaxSkipped, captions_of, say_skipped, verb
from sightread.errors import ConfigError


@verb
def serve(
    vokenizer: Annotated[
        list[str],
        typer.Option(help="Folder or Hub name of a vokenizer, or name=folder; repeatable, shown side by side."),
    ],
    bank: Annotated[
        Path | None, typer.Option(help="A bank of the same image encoder. [default: each vokenizer's own]")
    ] = None,
    captions: Annotated[
        str | None, typer.Option(help="Captions of the pictures, to be shown; they also tell which words are grounded.")
    ] = None,
    images: ImagesPath = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A voken corpus, to look up which of its tokens chose a picture.")
    ] = None,
    probes: Annotated[
        list[str] | None, typer.Option(help="What `probe` wrote, or label=folder; repeatable, to compare answers.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="At which port; 0: at one that is free.", min=0, max=65535)] = 8000,
    check: Annotated[bool, typer.Option("--check", help="Load everything, say what would be shown, and end.")] = False,
    max_skipped: MaxSkipped = 0.1,
) -> None:
    """Serve a page: type a sentence and see its vokens. It can be stopped at any time.

    Example: `sightread serve --vokenizer vokenizer --captions captions.tsv`
    """
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.web.probed import read_answers
    from sightread.web.server import hosts_of, import_uvicorn, is_local, listen
    from sightread.web.server import serve as run_server

    import_uvicorn()
    from sightread.web.exhibit import Exhibit

    listening = listen(host, port)  # before anything is loaded
    pairs = captions_of(captions, images, None, max_skipped) if captions else None
    say_skipped(pairs.skipped.report() if pairs else {})
    shown = Exhibit(
        vokenizers=_vokenizers(vokenizer, bank), corpus=VokenCorpus(corpus) if corpus else None,
        answers=read_answers(probes or []), **(_captioned(pairs) if pairs else {}),
    )  # fmt: skip
    shown.check()
    pictures = ", ".join(f"{name} ({len(gallery):,} pictures)" for name, gallery in shown.galleries.items())
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    typer.echo(f"{pictures} at {address}{'' if check else '; Ctrl-C ends it'}")
    if not is_local(host):
        typer.echo(f"whoever reaches {host} can ask, and see all pictures: there is no password", err=True)
    if not check:
        run_server(shown, listening, hosts_of(host))


def _vokenizers(given: list[str], bank: Path | None) -> dict[str, Any]:
    """Vokenizers by name: what is given, or the folder's own."""
    from sightread.bank import ImageBank
    from sightread.vokenizer import Vokenizer

    pictures, found = ImageBank.load(bank) if bank else None, dict[str, Any]()
    for pair in given:
        name, _, folder = pair.rpartition("=") if not Path(pair).is_dir() else ("", "", pair)
        name = name or Path(folder).name
        if name in found:
            raise ConfigError(f"two vokenizers are called {name!r}; name them: --vokenizer name=folder")
        found[name] = Vokenizer.from_pretrained(folder, pictures)
    return found


def _captioned(pairs: Any) -> dict[str, Any]:
    """Captions by picture, and which words they ground."""
    from sightread.analysis.counting import count_all
    from sightread.analysis.grounded_types import grounded_types

    of = dict[str, list[str]]()
    for text, row in zip(pairs.texts, pairs.picture_of.tolist(), strict=True):
        of.setdefault(pairs.pictures.ids[row], []).append(text)
    return {"captions": of, "is_grounded": grounded_types(count_all(pairs.texts, {})).__contains__}
