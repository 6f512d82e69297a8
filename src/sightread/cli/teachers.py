"""The verbs of a teacher in text: a small CLIP, and a language encoder that is adapted to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
    captions_of,
    report_of,
    say_both_ways,
    say_skipped,
    say_trained,
    verb,
)
from sightread.cli.training import MatchComputeOf, Start, Text


@verb
def towers(
    captions: CaptionsPath,
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or Hub name of CLIP's tokenizer.")],
    out: Out,
    images: ImagesPath = None,
    only: Only = None,
    test: Annotated[Path | None, typer.Option(help="File that lists the picture ids to score them on.")] = None,
    pooling: Pooling = "pooled",
    view: View = "crop",
    cache: Cache = None,
    seed: Seed = 0,
    settings: Settings = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Learn a small CLIP from captioned pictures: a text tower, and a map of image features to its space.

    Example: `sightread towers --captions captions.tsv --only train.txt --test test.txt
    --image-encoder microsoft/resnet-50 --tokenizer openai/clip-vit-base-patch32 --out towers`
    """
    from sightread.analysis.both_ways import scores_both_ways
    from sightread.artifacts import write_atomic
    from sightread.config import override
    from sightread.encoders.features import image_features
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import load_tokenizer
    from sightread.methods import towers as method

    config = override(method.TowersConfig(seed=seed), settings or [])
    encoder = ImageEncoder.from_pretrained(image_encoder, pooling, view)
    held_out = captions_of(captions, images, test, max_skipped) if test else None  # before any work
    method.train(
        config, captions_of(captions, images, only, max_skipped, test), out, tokenizer=load_tokenizer(tokenizer),
        image_encoder=encoder, cache=cache, max_skipped=max_skipped, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(report_of(out)["skipped"])
    say_trained(out, "CLIPTextModelWithProjection.from_pretrained")
    if held_out:
        features, rows, skipped = image_features(encoder, held_out.pictures, max_skipped=max_skipped)
        say_skipped(skipped.report())
        held_out = held_out.keep_pictures(rows)
        texts, pictures = method.caption_vectors(out / "encoder", held_out, features)
        scores = scores_both_ways(texts, pictures, held_out.picture_of)
        write_atomic(out / "retrieval.json", json.dumps(scores, indent=1))
        say_both_ways(scores)


@verb
def xdbert(
    vokens: Text,
    clip: Annotated[str, typer.Option(help="Folder or Hub name of a CLIP or of its text tower.")],
    start: Start,
    out: Out,
    match_compute_of: MatchComputeOf = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Adapt a language encoder to CLIP's text tower, through a cross-modal encoder that reads both.

    Example: `sightread xdbert --vokens vokens --start bert-base-uncased --clip openai/clip-vit-base-patch32
    --out xdbert`
    """
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import distillation

    config = override(distillation.XdbertConfig(seed=seed), settings or [])
    distillation.train(
        config, VokenCorpus(vokens), out, start=start, clip=clip,
        match_compute_of=match_compute_of, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_trained(out)
    typer.echo(f"with CLIP: load_encoder({str(out / distillation.FULL)!r})")
