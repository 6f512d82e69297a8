"""The verb that finds regions in pictures, or takes over those that others found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightread.cli.app import MaxSkipped, Only, Out, Overwrite, Resume, report_of, say_skipped, verb
from sightread.errors import ConfigError


@verb
def regions(
    out: Out,
    images: Annotated[
        str | None, typer.Option(help="Folder of pictures, saved data set, or hf:NAME; with --detector.")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="Folder or Hub name of a detector, Hugging Face's or ONNX, or a file of given boxes."),
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a vision model. [default: regions without vectors]")
    ] = None,
    pooling: Annotated[str, typer.Option(help="roi: one pass a picture; crop: one pass a region.")] = "roi",
    threshold: Annotated[
        float | None, typer.Option(help="Least confidence of a region. [default: the detector's]")
    ] = None,
    only: Only = None,
    features: Annotated[
        Path | None, typer.Option(help="In place of all these: features that others computed, .tsv, .npz or .h5.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="File of the names of their classes, one a line.")] = None,
    most: Annotated[int, typer.Option(help="Regions of a picture, those of highest confidence.", min=1)] = 36,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Find the regions of pictures: a box, a tag and a vector of each.

    Example: `sightread regions --images photos --detector facebook/detr-resnet-50 --image-encoder microsoft/resnet-50
    --out regions`
    """
    from sightread.data.captions import read_ids
    from sightread.data.images import read_pictures
    from sightread.data.region_files import import_regions
    from sightread.encoders.detectors import load_detector
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.region_vectors import build_regions

    to_find = (images, detector, image_encoder, threshold, only)
    finds = pooling != "roi" or any(given is not None for given in to_find)
    if finds if features else names or not (images and detector):
        raise ConfigError("regions are found in --images by a --detector, or come from --features (and --names)")
    if features:
        import_regions(
            features, out, names=names, most=most, max_skipped=max_skipped, overwrite=overwrite, resume=resume
        )
    else:
        pictures = read_pictures(str(images), only=read_ids(only) if only else None)
        encoder = ImageEncoder.from_pretrained(image_encoder, view="whole") if image_encoder else None
        build_regions(
            pictures, load_detector(str(detector), threshold), encoder, out, pooling=pooling, most=most,
            max_skipped=max_skipped, overwrite=overwrite, resume=resume,
            say=lambda line: typer.echo(line, err=True),
        )  # fmt: skip
    report = report_of(out)
    say_skipped(report["skipped"] | report["skipped_boxes"])
    typer.echo(
        f"{report['pictures']} pictures with {report['regions_per_picture']:.1f} regions each, "
        f"{report['without_regions']} without, in {out}"
    )
