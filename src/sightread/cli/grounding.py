"""The verbs that ground an encoder: from captioned pictures and a corpus to a checkpoint."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.app import (
    Cache,
    CaptionsPath,
    EngineName,
    ImagesPath,
    MaxSkipped,
    Only,
    Out,
    Overwrite,
    Resume,
    Seed,
    Settings,
    VokenizerPath,
    Workers,
    check_writable,
    report_of,
    say_skipped,
    verb,
)
from sightread.errors import ConfigError


@verb
def demo(
    out: Out = Path("demo"),
    seeds: Annotated[int, typer.Option(help="How many worlds; of three the interval is often too wide to tell.")] = 4,
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
    view: Annotated[str, typer.Option(help="What it sees of a picture: crop, whole or both.")] = "crop",
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
    encoder = ImageEncoder.from_pretrained(image_encoder, pooling, view)
    config = {
        "size": size,
        "choose": choose,
        "seed": seed,
        "image_encoder": image_encoder,
        "pooling": pooling,
        "view": view,
    }
    artifact = Artifact.begin(out, KIND, config=config, overwrite=overwrite)
    made, report = build_bank(
        pictures, encoder, size=size, choose=choose, seed=seed, cache=cache, max_skipped=max_skipped
    )
    made.save_into(artifact, report)
    say_skipped(report["skipped"])
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
        image_encoder=ImageEncoder.from_pretrained(image_encoder, config.pooling, config.view),
        bank=ImageBank.load(bank) if bank else None, cache=cache, max_skipped=max_skipped,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(report_of(out)["skipped"])
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
        check_writable(json_out)
        write_atomic(json_out, json.dumps(scores, indent=1))
    say_skipped(scores["skipped"])
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
    max_length: Annotated[int | None, typer.Option(help="Tokens read at once. [default: the vokenizer's]")] = None,
    precision: Annotated[str, typer.Option(help="Of encoding: fp32, or bf16 where the hardware has it.")] = "fp32",
    index: Annotated[str, typer.Option(help="exact, or flat, ivf or hnsw of FAISS (sightread\\[faiss]).")] = "exact",
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
        lines, reader, out, precision=precision, engine=engine_of(engine, workers), say=partial(typer.echo, err=True),
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(made.artifact.report["skipped"])
    typer.echo(
        f"{made.num_tokens:,} tokens in {len(made):,} lines and {len(made.shards):,} shards, {precision}, in {out}"
    )
    if index != "exact":
        typer.echo(
            f"index {index} finds the best picture of {index_recall(made, reader):.1%} of the tokens of 200 lines"
        )
    if verify:
        typer.echo(str(run_verify(made, reader, verify)))


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
    report = report_of(out)
    typer.echo(
        f"{report['steps']} steps, {report['seconds']:.0f} s; AutoModel.from_pretrained({str(out / 'encoder')!r})"
    )


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

    check_writable(out)
    page, picture = write_strip(Vokenizer.from_pretrained(vokenizer), sentence, out, k)
    typer.echo(f"{page}\n{picture}")


def _read_captions(captions: str, images: Path | None, only: Path | None, max_skipped: float) -> Any:
    from sightread.data.captions import read_captions, read_ids

    pairs = read_captions(captions, images, max_skipped=max_skipped)
    return pairs.only(read_ids(only)) if only else pairs
