"""The verbs of pictures at the reader's elbow: the embedding that finds them, encoders that look at them."""

from __future__ import annotations

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
    Resume,
    Seed,
    Settings,
    captions_of,
    check_writable,
    report_of,
    say_both_ways,
    say_skipped,
    verb,
)
from sightread.cli.pictures import AssociationPath
from sightread.errors import ConfigError


@verb
def embed(
    captions: CaptionsPath,
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model with a feature map.")],
    out: Out,
    words: Annotated[Path | None, typer.Option(help="Word vectors, word2vec, GloVe or fastText.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Or a text encoder, folder or Hub name.")] = None,
    images: ImagesPath = None,
    only: Only = None,
    held_out: Annotated[
        Path | None, typer.Option(help="File that lists the picture ids to score it on, both ways, one a line.")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Folder of the pictures to be found. [default: the captioned ones]")
    ] = None,
    cache: Cache = None,
    seed: Seed = 0,
    settings: Settings = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Learn from captions which pictures are like which sentences: train a semantic-visual embedding.

    With --set reader=mean a text is the mean of its tokens instead of what a GRU makes of them.

    Example: `sightread embed --captions captions.tsv --images images --only split_train.txt
    --held-out split_test.txt --words glove.txt --image-encoder microsoft/resnet-50 --out embedding`
    """
    from sightread.analysis.both_ways import both_ways
    from sightread.association.encoders import MeanVectors
    from sightread.association.words import WordVectors
    from sightread.config import override
    from sightread.data.images import read_pictures
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import semantic_visual

    if bool(words) == bool(text_encoder):
        raise ConfigError("give --words or --text-encoder, one of them")
    config = override(semantic_visual.EmbeddingConfig(seed=seed), settings or [])
    source: Any = (
        WordVectors.read(words, max_skipped=max_skipped)
        if words
        else MeanVectors(TextEncoder.from_pretrained(str(text_encoder)))
    )
    test = captions_of(captions, images, held_out, max_skipped) if held_out else None
    made = semantic_visual.train(
        config, captions_of(captions, images, only, max_skipped, held_out), out, words=source,
        image_encoder=ImageEncoder.from_pretrained(image_encoder), cache=cache, max_skipped=max_skipped,
        pictures=read_pictures(pictures) if pictures else None, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(report_of(out)["skipped"])
    if test:
        scores = both_ways(made.embedding, test, cache=cache and cache / "held-out", max_skipped=max_skipped)
        say_skipped(scores.pop("skipped"))
        say_both_ways(scores)
    typer.echo(f"pictures by semantic-visual, of a bank of {len(made.bank)}, in {out / semantic_visual.ASSOCIATION}")


@verb
def aware(
    start: Annotated[str, typer.Option(help="Folder or Hub name of a text encoder.")],
    association: AssociationPath,
    out: Out,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Put pictures at the elbow of an encoder: it looks, in every task, at those that an association finds.

    With --set num_images=8, --set gated=true. An association by random is the control.

    Example: `sightread aware --start bert-base-uncased --association embedding/association --out aware`
    """
    from sightread.association.folder import load_association
    from sightread.config import override
    from sightread.methods import visual_awareness

    config = override(visual_awareness.AwarenessConfig(seed=seed), settings or [])
    visual_awareness.wrap(config, start, load_association(association), out, overwrite=overwrite, resume=resume)
    typer.echo(f"{config.num_images} pictures a text; sightread.load_encoder({str(out / 'encoder')!r})")


@verb
def locate(
    association: AssociationPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Words or phrases to look for.")] = None,
    image: Annotated[Path | None, typer.Option(help="The picture to look for them in.")] = None,
    out: Annotated[Path, typer.Option("--out", help="File to write, numbered, without suffix.")] = Path("heat"),
    boxes: Annotated[Path | None, typer.Option(help="File of boxes, for the pointing game.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of their pictures.")] = None,
    max_skipped: MaxSkipped = 0.1,
) -> None:
    """Show where in a picture a semantic-visual embedding sees a word; or, with --boxes, score how often it is right.

    Example: `sightread locate dog 'red ball' --association embedding/association --image park.jpg --out heat`

    Example: `sightread locate --association embedding/association --boxes instances.json --images images`
    """
    from sightread.analysis.localisation import pointing_game, write_overlays
    from sightread.association.folder import load_association
    from sightread.association.semantic_visual import embedding_of
    from sightread.data.given_boxes import GivenBoxes
    from sightread.data.images import open_picture, read_pictures

    if bool(texts) != bool(image) or bool(boxes) != bool(images) or not (image or boxes):
        raise ConfigError("give words and --image to see where they are, or --boxes and --images to score")
    embedding = embedding_of(load_association(association))
    if texts and image:
        check_writable(out)
        for path in write_overlays(embedding, open_picture(image), texts, out):
            typer.echo(path)
    if boxes and images:
        scores = pointing_game(embedding, read_pictures(images), GivenBoxes(boxes), max_skipped=max_skipped)
        say_skipped(scores["skipped"])
        typer.echo(
            f"{100 * scores['accuracy']:.1f} % of {scores['questions']} names in {scores['pictures']} pictures; "
            f"the centre {100 * scores['centre']:.1f} %"
        )
