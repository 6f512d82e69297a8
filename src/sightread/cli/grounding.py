"""The verbs that lead to a vokenizer: worlds, banks, captioned pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sightread.cli.app import (
    Cache,
    CaptionsPath,
    ImagesPath,
    MaxSkipped,
    Only,
    Out,
    Overwrite,
    Pooling,
    Resume,
    Seed,
    Settings,
    View,
    VokenizerPath,
    captions_of,
    check_writable,
    report_of,
    run_recipe,
    say_skipped,
    verb,
)
from sightread.errors import ConfigError

Images = Annotated[str, typer.Option("--images", help="Folder of pictures, saved data set, or hf:NAME.")]
Size = Annotated[int | None, typer.Option("--size", help="V, number of pictures. [default: all]")]
Choose = Annotated[str, typer.Option(help="How to choose them: random or diverse.")]
ImageColumn = Annotated[str, typer.Option(help="Image column of a data set.")]
Split = Annotated[str, typer.Option(help="Split of a data set.")]


@verb
def demo(
    out: Out = Path("demo"),
    seeds: Annotated[int, typer.Option(help="How many worlds; of three the interval is often too wide to tell.")] = 4,
    workers: Annotated[int, typer.Option(help="Processes that share the cores.", min=1)] = 2,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Run the whole pipeline on the controlled world and write a report.

    Example: `sightread demo --out demo`
    """
    from sightread.recipes.world import demo as recipe

    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: an interval needs at least 2")
    worlds = replace(recipe(), seeds=tuple(range(seeds)))
    typer.echo(f"{seeds} worlds, {len(worlds.arms)} encoders each, on {workers} processes; this takes some minutes")
    run_recipe(worlds, out, workers=workers, overwrite=overwrite, resume=resume)


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
    images: Images,
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model.")],
    out: Out,
    size: Size = None,
    choose: Choose = "random",
    pooling: Pooling = "pooled",
    view: View = "crop",
    seed: Seed = 0,
    image_column: ImageColumn = "image",
    split: Split = "train",
    only: Only = None,
    cache: Cache = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
) -> None:
    """Build a bank of pictures.

    Example: `sightread bank --images photos --image-encoder microsoft/resnet-50 --size 50000 --out bank`
    """
    from sightread.artifacts import Artifact
    from sightread.bank import KIND, build_bank
    from sightread.encoders.image import ImageEncoder

    pictures = _pictures(images, image_column, split, only, choose)
    encoder = ImageEncoder.from_pretrained(image_encoder, pooling, view)
    chosen: dict[str, Any] = {"size": size, "choose": choose, "seed": seed}
    config = {**chosen, "image_encoder": image_encoder, "pooling": pooling, "view": view}
    artifact = Artifact.begin(out, KIND, config=config, overwrite=overwrite)
    made, report = build_bank(pictures, encoder, **chosen, cache=cache, max_skipped=max_skipped)
    made.save_into(artifact, report)
    say_skipped(report["skipped"])
    typer.echo(f"{len(made)} pictures in {out}")


def _pictures(images: str, column: str, split: str, only: Path | None, choose: str) -> Any:
    """The pictures that a bank is chosen from, once it is known that the way to choose is one."""
    from sightread.bank import CHOICES
    from sightread.config import check_choice
    from sightread.data.captions import read_ids
    from sightread.data.images import read_pictures

    check_choice("--choose", choose, CHOICES)
    return read_pictures(images, column=column, split=split, only=read_ids(only) if only else None)


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

    With --set level=sentence the tokens of a sentence share its picture.

    Example: `sightread match --captions captions.tsv --images images --text-encoder bert-base-uncased
    --image-encoder microsoft/resnet-50 --set objective=info_nce --set num_train_epochs=6 --out vokenizer`
    """
    from sightread.bank import ImageBank
    from sightread.config import override
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    config = override(matching.MatchingConfig(seed=seed), settings or [])
    pairs = captions_of(captions, images, only, max_skipped)
    vokenizer = matching.train(
        config, pairs, out, text_encoder=TextEncoder.from_pretrained(text_encoder, config.layers),
        image_encoder=ImageEncoder.from_pretrained(image_encoder, config.pooling, config.view),
        bank=ImageBank.load(bank) if bank else None, cache=cache, max_skipped=max_skipped,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(report_of(out)["skipped"])
    typer.echo(f"vokenizer with {len(vokenizer.bank)} pictures in {out}")


@verb
def clip(
    model: Annotated[str, typer.Option(help="Folder or Hub name of a CLIP or SigLIP.")],
    images: Images,
    out: Out,
    level: Annotated[str, typer.Option(help="What looks for a picture: token or sentence.")] = "token",
    size: Size = None,
    choose: Choose = "random",
    seed: Seed = 0,
    image_column: ImageColumn = "image",
    split: Split = "train",
    only: Only = None,
    cache: Cache = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
) -> None:
    """Make a vokenizer of a CLIP or SigLIP, without training.

    Example: `sightread clip --model openai/clip-vit-base-patch32 --images photos --size 50000 --out vokenizer`
    """
    from sightread.artifacts import Artifact
    from sightread.bank import build_bank
    from sightread.config import check_choice
    from sightread.encoders.clip import ClipTowers
    from sightread.encoders.features import LEVELS
    from sightread.vokenizer import KIND, Vokenizer

    check_choice("--level", level, LEVELS)
    pictures, towers = _pictures(images, image_column, split, only, choose), ClipTowers.from_pretrained(model)
    chosen: dict[str, Any] = {"size": size, "choose": choose, "seed": seed}
    artifact = Artifact.begin(out, KIND, config={**chosen, "model": model, "level": level}, overwrite=overwrite)
    made, report = build_bank(pictures, towers.image_encoder, **chosen, cache=cache, max_skipped=max_skipped)
    Vokenizer.from_clip(towers, made, level).save_into(artifact, report)
    say_skipped(report["skipped"])
    typer.echo(f"vokenizer with {len(made)} pictures in {out}")


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

    pairs = captions_of(captions, images, only, max_skipped)
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
