"""The verbs of voken corpora."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.app import (
    EngineName,
    ImagesPath,
    MaxSkipped,
    Only,
    Out,
    Overwrite,
    Resume,
    Seed,
    VokenizerPath,
    Workers,
    captions_of,
    check_writable,
    named,
    say_skipped,
    verb,
)
from sightread.errors import ConfigError


@verb
def passages(
    corpus: Annotated[list[str], typer.Option(help="Text file, folder, saved data set, or hf:NAME; repeatable.")],
    out: Out,
    max_words: Annotated[int, typer.Option(help="Words of a passage, at most.")] = 128,
    seed: Seed = 0,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
) -> None:
    """Cut corpora into passages, a line each, and split these at random into train, dev and test, 90, 5, 5 in 100.

    Example: `sightread passages --corpus wiki.txt.gz --corpus books --out passages`
    """
    from sightread.data.corpora import Corpus
    from sightread.data.passages import write_passages

    read = [Corpus(source, max_skipped=max_skipped) for source in corpus]
    counts = write_passages(read, out, max_words=max_words, seed=seed, overwrite=overwrite)
    for part in read:
        say_skipped(part.skipped.report())
    typer.echo(f"{', '.join(f'{count:,} {split}' for split, count in counts.items())} in {out}")


@verb
def vokenize(
    corpus: Annotated[str, typer.Option(help="Text file (.gz too), folder of them, saved data set, or hf:NAME.")],
    vokenizer: VokenizerPath,
    out: Out,
    text_column: Annotated[str, typer.Option(help="Text column of a data set.")] = "text",
    split: Annotated[str, typer.Option(help="Split of a data set.")] = "train",
    max_lines: Annotated[int | None, typer.Option(help="Read no more lines than this.", min=1)] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens read at once. [default: the vokenizer's]")] = None,
    precision: Annotated[str, typer.Option(help="Of encoding: fp32, or bf16 where the hardware has it.")] = "fp32",
    index: Annotated[str, typer.Option(help="exact, or flat, ivf or hnsw of FAISS (sightread\\[faiss]).")] = "exact",
    top: Annotated[int, typer.Option(help="Best pictures to keep of each token, with scores: soft vokens.", min=1)] = 1,
    verify: Annotated[int, typer.Option(help="Random lines to compute again by brute force.", min=0)] = 0,
    workers: Workers = None,
    engine: EngineName = "local",
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Give every token of a corpus its picture.

    It may be killed at any moment: run again with --resume, it makes what is missing, to the same bytes.

    Example: `sightread vokenize --corpus wiki.txt.gz --vokenizer vokenizer --out vokens`
    """
    from sightread.config import check_choice
    from sightread.data.corpora import Corpus
    from sightread.runtime import has_fast_bf16
    from sightread.vokenization.job import engine_of
    from sightread.vokenization.job import vokenize as run_vokenize
    from sightread.vokenization.verify import index_recall
    from sightread.vokenization.verify import verify as run_verify
    from sightread.vokenizer import PRECISIONS, Vokenizer

    check_choice("--precision", precision, PRECISIONS)
    if precision == "bf16" and not has_fast_bf16():
        typer.echo("this machine has no instructions for bf16; fp32 is exact, and faster here", err=True)
    lines = Corpus(corpus, text_column=text_column, split=split, max_lines=max_lines, max_skipped=max_skipped)
    reader = Vokenizer.from_pretrained(vokenizer).reading(max_length=max_length, index=index)
    made = run_vokenize(
        lines, reader, out, precision=precision, top=top, engine=engine_of(engine, workers),
        say=partial(typer.echo, err=True), overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(made.artifact.report["skipped"])
    typer.echo(
        f"{made.num_tokens:,} tokens in {len(made):,} lines and {len(made.shards):,} shards, {precision}, in {out}"
    )
    if index != "exact" and made.num_tokens:
        checked = min(len(made), 200)
        typer.echo(
            f"index {index} finds the best picture of {index_recall(made, reader, checked):.1%} of the tokens of "
            f"{checked} lines"
        )
    if verify:
        typer.echo(str(run_verify(made, reader, verify)))


@verb
def baseline(
    vokens: Annotated[Path, typer.Option(help="A voken corpus.")],
    kind: Annotated[str, typer.Option(help="random, shuffle, tokens or term-frequency.")],
    out: Out,
    captions: Annotated[str | None, typer.Option(help="term-frequency: captions file, folder, or data set.")] = None,
    images: ImagesPath = None,
    only: Only = None,
    bank: Annotated[Path | None, typer.Option(help="term-frequency: the bank whose pictures are captioned.")] = None,
    temperature: Annotated[float, typer.Option(help="term-frequency: of the Boltzmann distribution.")] = 0.01,
    seed: Seed = 0,
    workers: Workers = None,
    engine: EngineName = "local",
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Give every token of a voken corpus a picture by a simple rule, to compare with.

    Example: `sightread baseline --vokens vokens --kind random --out random-vokens`
    """
    from sightread.bank import ImageBank
    from sightread.config import check_choice
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.encoders.text import load_tokenizer
    from sightread.vokenization.baselines import BASELINES
    from sightread.vokenization.job import engine_of

    check_choice("--kind", kind, BASELINES)
    counted, settings = kind == "term-frequency", dict[str, Any]()
    if (bool(captions), bool(bank)) != (counted, counted):
        raise ConfigError(f"--kind {kind}: term-frequency needs --captions and --bank, the other kinds take neither")
    if captions and bank:
        pairs = captions_of(captions, images, only, max_skipped)
        say_skipped(pairs.skipped.report())
        settings = {"captions": pairs, "bank": ImageBank.load(bank), "temperature": temperature}
    if kind != "tokens":
        settings["seed"] = seed
    made = BASELINES[kind](
        VokenCorpus(vokens), load_tokenizer(vokens / "tokenizer"), out, engine=engine_of(engine, workers),
        say=partial(typer.echo, err=True), overwrite=overwrite, resume=resume, **settings,
    )  # fmt: skip
    typer.echo(f"{made.num_tokens:,} tokens, their vokens by {kind} among {made.num_vokens:,}, in {out}")


@verb
def revokenize(
    vokens: Annotated[Path, typer.Option(help="A voken corpus.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of the target's fast tokenizer.")],
    out: Out,
    workers: Workers = None,
    engine: EngineName = "local",
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Carry a voken corpus over to another tokenizer.

    Example: `sightread revokenize --vokens vokens --tokenizer roberta-base --out vokens-roberta`
    """
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.encoders.text import load_tokenizer
    from sightread.vokenization.job import engine_of
    from sightread.vokenization.revokenize import revokenize as run_revokenize

    source = VokenCorpus(vokens)
    made = run_revokenize(
        source, load_tokenizer(tokenizer), out, engine=engine_of(engine, workers), say=partial(typer.echo, err=True),
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    without = made.artifact.report["no_voken"]
    typer.echo(f"{made.num_tokens:,} tokens, {without:,} of them without a voken, in {out}")


@verb
def show(
    sentence: Annotated[str, typer.Argument(help="The sentence.")],
    vokenizer: Annotated[str | None, typer.Option(help="Folder or Hub name of a vokenizer.")] = None,
    association: Annotated[
        list[str] | None, typer.Option(help="Instead: an association as name=folder; repeatable, side by side.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write, without suffix.")] = Path("strip"),
    k: Annotated[int, typer.Option(help="Pictures a token, or a sentence.")] = 5,
) -> None:
    """Write what each token of a sentence sees, or what associations find for it: a self-contained page and a PNG.

    Example: `sightread show "a dog jumps over a red fence" --vokenizer vokenizer`
    """
    from sightread.analysis.found import write_found
    from sightread.analysis.strips import write_strip
    from sightread.association.folder import load_association
    from sightread.vokenizer import Vokenizer

    check_writable(out)
    if vokenizer and not association:
        page, picture = write_strip(Vokenizer.from_pretrained(vokenizer), sentence, out, k)
    elif association and not vokenizer:
        folders = dict(named(pair, "--association") for pair in association)
        found = {name: load_association(folder) for name, folder in folders.items()}
        page, picture = write_found(found, [sentence], out, k)
    else:
        raise ConfigError("give --vokenizer, or --association, but not both")
    typer.echo(f"{page}\n{picture}")
