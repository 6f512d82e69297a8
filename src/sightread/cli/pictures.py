"""The verbs of encoders that read text beside pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    captioned_features,
    captions_of,
    report_of,
    say_skipped,
    say_trained,
    verb,
)
from sightread.cli.training import MatchComputeOf, Start, Text
from sightread.errors import ConfigError

_PARTS = ("bank", "captions", "words", "synsets", "definitions", "tagger", "text_encoder", "vokenizer", "like")
AssociationPath = Annotated[Path, typer.Option("--association", help="Folder of an association.")]


@verb
def joint(
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
    """Train an encoder to read captions beside their pictures; in tasks a placeholder stands for the picture.

    With --set strategy=t2i, i2t, both, or none (the control). With --pooling regions-16 a picture is 16 regions.

    Example: `sightread joint --vokens vokens --captions captions.tsv --image-encoder microsoft/resnet-50
    --start albert-base-v2 --out grounded`
    """
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import joint_masked

    config = override(joint_masked.JointConfig(seed=seed), settings or [])
    pairs = captions_of(captions, images, only, max_skipped)
    pairs, features = captioned_features(pairs, image_encoder, pooling, view, cache, max_skipped)
    if config.num_regions == 1:  # not given: as many as there are
        config = replace(config, num_regions=features.shape[1])
    joint_masked.train(
        config, VokenCorpus(vokens), out, start=start, captions=pairs, features=features,
        match_compute_of=match_compute_of, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    _say_grounded(out)


@verb
def associate(
    context: typer.Context,
    kind: Annotated[str, typer.Option(help="scene, object, keyword, dense, voken, or random, the control.")],
    out: Out,
    bank: Annotated[Path | None, typer.Option(help="The pictures; all kinds but voken need it.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="Captions of the bank's pictures: scene, keyword, dense, object.")
    ] = None,
    images: ImagesPath = None,
    words: Annotated[
        Path | None, typer.Option(help="Word vectors, word2vec, GloVe or fastText: scene, object.")
    ] = None,
    synsets: Annotated[Path | None, typer.Option(help="File of wnid and lemmas of the bank's synsets: object.")] = None,
    definitions: Annotated[Path | None, typer.Option(help="File of their definitions: object.")] = None,
    tagger: Annotated[
        str | None, typer.Option(help="What finds nouns, spacy, nltk, or 'spacy MODEL': object. [default: its lemmas]")
    ] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Folder or Hub name of a text encoder: dense.")] = None,
    vokenizer: Annotated[str | None, typer.Option(help="Folder or Hub name of a vokenizer: voken.")] = None,
    like: Annotated[Path | None, typer.Option(help="Draw as many as this association finds: random.")] = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
) -> None:
    """Make an association, which finds pictures of a bank for any text.

    Example: `sightread associate --kind scene --bank bank --captions captions.tsv --words glove.txt --out association`
    """
    from sightread.artifacts import Artifact
    from sightread.association import KIND
    from sightread.association.build import build_association, check_parts
    from sightread.association.encoders import MeanVectors
    from sightread.association.folder import load_association
    from sightread.association.objects import named_tagger
    from sightread.association.words import WordVectors
    from sightread.bank import ImageBank
    from sightread.encoders.text import TextEncoder
    from sightread.vokenizer import Vokenizer

    control_of = load_association(like) if like else None
    pictures: Any = ImageBank.load(bank) if bank else control_of and control_of.bank
    pairs: Any = captions_of(captions, images, None, max_skipped) if captions else None

    makers: dict[str, tuple[Any, Callable[[], Any]]] = {  # what is given, and what is made of it
        "bank": (pictures, lambda: pictures),
        "captions": (pairs, lambda: pairs),
        "words": (words, lambda: WordVectors.read(str(words), max_skipped=max_skipped)),
        "nouns": (pictures and (synsets or pairs), lambda: _nouns(pictures, pairs, synsets, definitions)),
        "tagger": (tagger, lambda: named_tagger(str(tagger))),
        "text_encoder": (text_encoder, lambda: MeanVectors(TextEncoder.from_pretrained(str(text_encoder)))),
        "vokenizer": (vokenizer, lambda: Vokenizer.from_pretrained(str(vokenizer))),
        "like": (control_of, lambda: control_of),
    }
    parts = {name: make for name, (given, make) in makers.items() if given}
    check_parts(kind, parts)  # before a folder is begun
    _check_used(kind, context.params)
    artifact = Artifact.begin(out, KIND, config={"kind": kind}, overwrite=overwrite)
    made = build_association(kind, **parts)
    made.save_into(artifact)
    say_skipped(report_of(out).get("skipped", {}))
    typer.echo(f"pictures by {kind}, of a bank of {len(made.bank)}, in {out}")


def _check_used(kind: str, options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if an option is given that this kind of association has no use for."""
    from sightread.association.build import parts_of

    used, nouns = {*parts_of(kind)}, {"synsets", "definitions"} if options["synsets"] else {"captions"}
    used |= {"bank", *nouns} if "nouns" in used else set()
    given = [name for name in _PARTS if options[name] and name not in used]
    if idle := [f"--{name.replace('_', '-')}" for name in given]:
        raise ConfigError(f"an association by {kind} has no use for {', '.join(idle)}; leave it out")


def _nouns(pictures: Any, captions: Any, synsets: Path | None, definitions: Path | None) -> Any:
    """What the pictures of a bank show, by their synsets if these are given, else by their captions."""
    from sightread.association.objects import NounIndex

    if synsets:
        return NounIndex.of_synsets(pictures, synsets, definitions)
    return NounIndex.of_captions(pictures, captions)


@verb
def find(
    vokens: Text,
    association: AssociationPath,
    out: Out,
    top: Annotated[int, typer.Option(help="Pictures of each block; an encoder may read fewer.", min=1)] = 16,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Find pictures for every block of text that `associative` will read, by the words that are not masked.

    Seed and settings are those of `associative`.

    Example: `sightread find --vokens vokens --association association --top 16 --out pictures`
    """
    from sightread.association.folder import load_association
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.grounded import GroundingConfig
    from sightread.methods import associative as method

    config = override(GroundingConfig(seed=seed), settings or [])
    made = load_association(association)
    method.find(config, VokenCorpus(vokens), made, out, count=top, overwrite=overwrite, resume=resume)
    report = report_of(out)
    typer.echo(
        f"{report['distinct']} texts, {report['words_per_second']:.0f} words/s, "
        f"{100 * report['without_picture']:.1f} % without a picture, in {out}"
    )


@verb
def associative(
    vokens: Text,
    start: Start,
    association: AssociationPath,
    pictures: Annotated[Path, typer.Option(help="What `find` found with it.")],
    out: Out,
    match_compute_of: MatchComputeOf = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train an encoder to read text beside the pictures that an association finds for it, in tasks, too.

    With --set num_images=0 it is its control.

    Example: `sightread associative --vokens vokens --start albert-base-v2 --association association --pictures pictures
    --set num_images=16 --out grounded`
    """
    from sightread.association.folder import load_association
    from sightread.association.store import PictureStore
    from sightread.config import override
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.grounded import GroundingConfig
    from sightread.methods import associative as method

    config = override(GroundingConfig(seed=seed), settings or [])
    method.train(
        config, VokenCorpus(vokens), out, start=start, association=load_association(association),
        pictures=PictureStore(pictures), match_compute_of=match_compute_of, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    _say_grounded(out)


@verb
def unpaired(
    start: Start,
    regions: Annotated[Path, typer.Option(help="Folder of the regions of pictures.")],
    out: Out,
    captions: Annotated[
        Path | None, typer.Option(help="Captions file; of its pictures the regions are all that is read.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A voken corpus that is read as text alone, in the place of captions.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs/--apart", help="Read captions beside their pictures, or never beside them.")
    ] = False,
    all_pictures: Annotated[
        bool, typer.Option("--all-pictures", help="Read the pictures without captions, too. [default: if none has any]")
    ] = False,
    tags: Annotated[
        bool, typer.Option("--tags/--no-tags", help="Read the regions' tags, or the regions alone.")
    ] = True,
    only: Only = None,
    match_compute_of: MatchComputeOf = None,
    seed: Seed = 0,
    settings: Settings = None,
    max_skipped: MaxSkipped = 0.1,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train an encoder to read words, and regions of pictures with their tags, that need not belong together.

    Example: `sightread unpaired --start bert-base-uncased --regions regions --captions captions.tsv --out unpaired`
    """
    from sightread.config import override
    from sightread.data.captions import read_ids
    from sightread.data.regions import RegionStore
    from sightread.data.unpaired import captions_of_regions
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import unpaired as method

    if pairs and not captions:
        raise ConfigError("--pairs: there is nothing to read beside pictures; give --captions")
    config, store = override(method.UnpairedConfig(seed=seed, tags=tags), settings or []), RegionStore(regions)
    captioned = captions_of_regions(captions, store, max_skipped) if captions else None
    captioned = captioned.only(read_ids(only)) if captioned and only else captioned
    theirs = captioned.pictures.ids if captioned else []
    beside = set(theirs if pairs else ())
    if all_pictures or not captioned:
        wanted = set(read_ids(only) if only else store.ids)
        alone = [id_ for id_ in store.ids if id_ in wanted and id_ not in beside]
        if only and not (alone or beside):
            raise ConfigError(f"none of the pictures of {only} is in {regions}, where they are as {store.ids[0]}")
    else:
        alone = [] if pairs else theirs
    method.train(
        config, out, start=start, regions=store, pairs=captioned if pairs else None, pictures=alone,
        texts=VokenCorpus(corpus) if corpus else None if pairs else captioned, match_compute_of=match_compute_of,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    say_skipped(captioned.skipped.report() if captioned else {})
    say_trained(out, "SingleStream.from_pretrained")


def _say_grounded(out: Path) -> None:
    say_trained(out, "sightread.load_encoder")
