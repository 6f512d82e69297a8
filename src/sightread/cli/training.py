"""The verbs that train an encoder on a voken corpus, and its controls."""

from __future__ import annotations

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
    captioned_features,
    captions_of,
    report_of,
    say_trained,
    verb,
)

Text = Annotated[Path, typer.Option("--vokens", help="A voken corpus; its vokens are not read.")]
Start = Annotated[
    str, typer.Option("--start", help="Checkpoint to go on from; config.json, or new:bert-6L-512H, for fresh weights.")
]
MatchComputeOf = Annotated[
    Path | None, typer.Option("--match-compute-of", help="Take as many steps as cost what those of this run did.")
]


@verb
def pretrain(
    vokens: Annotated[Path, typer.Option(help="A voken corpus.")],
    start: Start,
    out: Out,
    objective: Annotated[
        str, typer.Option(help="lm (the control), classification, soft, regression or contrastive.")
    ] = "classification",
    bank: Annotated[Path | None, typer.Option(help="The vokenizer's bank; regression and contrast need it.")] = None,
    match_compute_of: MatchComputeOf = None,
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
    from sightread.methods import lm, voken
    from sightread.pretraining import PretrainingConfig

    check_choice("--objective", objective, ("lm", *voken.KINDS))
    options = {"match_compute_of": match_compute_of, "overwrite": overwrite, "resume": resume}
    corpus = VokenCorpus(vokens)
    if objective == "lm":
        lm.train(override(PretrainingConfig(seed=seed), settings or []), corpus, out, start=start, **options)
    else:
        config = override(voken.VokenConfig(seed=seed, objective=objective), settings or [])
        voken.train(config, corpus, out, start=start, bank=ImageBank.load(bank) if bank else None, **options)
    say_trained(out)


@verb
def contrast(
    vokens: Text,
    captions: CaptionsPath,
    image_encoder: Annotated[str, typer.Option(help="Folder or Hub name of a vision model.")],
    start: Start,
    out: Out,
    images: ImagesPath = None,
    only: Only = None,
    pooling: Pooling = "pooled",
    view: View = "crop",
    cache: Cache = None,
    match_compute_of: MatchComputeOf = None,
    seed: Seed = 0,
    settings: Settings = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Pre-train an encoder whose early states of captions' words find their pictures.

    Example: `sightread contrast --vokens vokens --captions captions.tsv --image-encoder microsoft/resnet-50
    --start bert-base-uncased --out grounded`
    """
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import lexical_contrast

    config = override(lexical_contrast.ContrastConfig(seed=seed), settings or [])
    pairs = captions_of(captions, images, only, max_skipped)
    pairs, features = captioned_features(pairs, image_encoder, pooling, view, cache, max_skipped)
    lexical_contrast.train(
        config, VokenCorpus(vokens), out, start=start, captions=pairs, features=features,
        match_compute_of=match_compute_of, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_trained(out)


@verb
def distill(
    vokens: Text,
    teacher: Annotated[str, typer.Option(help="Folder or Hub name of the teacher.")],
    start: Start,
    out: Out,
    match_compute_of: MatchComputeOf = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Pre-train an encoder on text with the states of a teacher that has seen pictures.

    Example: `sightread distill --vokens vokens --teacher grounded/encoder --start bert-base-uncased --out student`
    """
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import grounded_teacher

    config = override(grounded_teacher.DistillationConfig(seed=seed), settings or [])
    grounded_teacher.train(
        config, VokenCorpus(vokens), out, start=start, teacher=teacher,
        match_compute_of=match_compute_of, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_trained(out)


@verb
def noise(
    start: Annotated[str, typer.Option(help="Checkpoint that the other was trained from.")],
    like: Annotated[str, typer.Option(help="A finished run of pre-training, or a checkpoint.")],
    out: Out,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Write a control: a checkpoint with noise as large as what training changed in another.

    Example: `sightread noise --start bert-base-uncased --like grounded --out noise`
    """
    from sightread.methods.weight_noise import add_noise

    add_noise(start, like, out, seed=seed, overwrite=overwrite, resume=resume)
    distance = report_of(out)["distance"]
    typer.echo(f"{distance:.4g} away from {start}; AutoModel.from_pretrained({str(out / 'encoder')!r})")
