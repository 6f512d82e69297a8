"""Arms of a comparison: how each is trained, on what all of them share.

An `Arm` is a row of a table, in words; `train` makes an encoder of it. What is there is left alone, so that a
comparison which was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sightread.artifacts import Artifact
from sightread.association.build import ASSOCIATIONS
from sightread.association.folder import load_association
from sightread.association.store import PictureStore
from sightread.config import check_choice, check_training
from sightread.data.regions import RegionStore
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import config_digest, load_tokenizer, tokenizer_digest, weights_digest
from sightread.errors import ConfigError
from sightread.experiments.ground import (
    FOUND,
    LEVELS,
    STORES,
    VOKENIZERS,
    Ground,
    association_path,
    pictures_path,
    store_path,
)
from sightread.experiments.jobs import check_order
from sightread.grounded import GroundingConfig
from sightread.methods import (
    associative,
    grounded_teacher,
    joint_masked,
    lexical_contrast,
    lm,
    unpaired,
    voken,
    weight_noise,
)
from sightread.pretraining import KIND, PretrainingConfig, is_fresh, start_model
from sightread.runtime import seed_everything

if TYPE_CHECKING:
    from sightread.data.captions import Captions


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An encoder of a comparison; see `check_arms`.

    Attributes:
        name: What it is called in tables.
        method: A key of `METHODS`.
        vokens: A key of `STORES`: what it reads.
        start: A key of `Ground.starts`: where it begins.
        pictures: One of `ASSOCIATIONS`: how an associative arm finds pictures.
        reads: Keys of `SOURCES`: what an unpaired arm reads.
        after: The arm that it rests on: a teacher, what noise imitates, or whose cost "lm" is to match.
        control: The arm it is compared with; by default the first.
        settings: Settings of the method, and `TrainingArguments`, that differ from what the arms share.
    """

    name: str
    method: str = "voken"
    vokens: str = "matched"
    start: str = "encoder"
    pictures: str = ""
    reads: tuple[str, ...] = ()
    after: str = ""
    control: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


TEXT_ONLY = Arm(name="text-only", method="lm", vokens="none")


class Method(NamedTuple):
    """How arms are trained.

    Attributes:
        train: What does it: arm, ground, folder.
        config: Its settings; None if it takes none, and reads nothing.
        rests: Whether it needs another arm.
    """

    train: Callable[[Arm, Ground, Path], None]
    config: type[PretrainingConfig] | None = None
    rests: bool = False


def check_arms(arms: Sequence[Arm], starts: Iterable[str], pretraining: PretrainingConfig) -> None:
    """Check, before any work, that arms can be trained in their order and compared.

    Args:
        arms: The arms.
        starts: Names of what they may start from.
        pretraining: Settings that they share.

    Raises:
        ConfigError: Naming the arm: if its method, vokens, start or control is unknown, if what it rests on does not
            stand before it, or if its method does not take its settings; or if two have one name.
    """
    check_order(arms)
    for arm in arms:
        try:
            check_choice("method", arm.method, METHODS)
            check_choice("vokens", arm.vokens, STORES)
            check_choice("start", arm.start, starts)
            if arm.pictures or arm.method == "associative":
                _check_pictures(arm)
            for source in arm.reads:
                check_choice("reads", source, SOURCES)
            if (arm.method == "unpaired") != bool(arm.reads):
                raise ConfigError("`reads` is for unpaired arms, and they need it")
            if arm.control:
                check_choice("control", arm.control, [other.name for other in arms])
            if METHODS[arm.method].rests and not arm.after:
                raise ConfigError(f"{arm.method} rests on another arm; name it in `after`")
            _config(arm, pretraining)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from None


def _check_pictures(arm: Arm) -> None:
    """Pictures are found for the text that all arms read, with the settings that they share."""
    check_choice("pictures", arm.pictures, ASSOCIATIONS)
    check_choice("vokens", arm.vokens, ("none",))
    free = {field.name for field in fields(GroundingConfig)} - {f.name for f in fields(PretrainingConfig)}
    if own := sorted({*arm.settings} - free):
        raise ConfigError(f"{', '.join(own)}: an arm that finds pictures has the settings that all share")
    if arm.settings.get("num_images", 1) > FOUND:
        raise ConfigError(f"num_images={arm.settings['num_images']}: pictures are found for {FOUND} at most")


def stores_of(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """The voken corpora that some arms read, each once: its kind, and the start whose tokenizer it has."""
    return sorted({(arm.vokens, arm.start) for arm in arms if METHODS[arm.method].config})


def pictures_of(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """The pictures that some arms read, each once: how they are found, and the start for whose tokenizer."""
    return sorted({(arm.pictures, arm.start) for arm in arms if arm.pictures})


def levels_of(arms: Iterable[Arm]) -> list[str]:
    """The levels of the vokenizers that some arms need."""
    arms = list(arms)
    needed = {LEVELS.get(kind) for kind, _ in [*stores_of(arms), *pictures_of(arms)]}
    return [level for level in VOKENIZERS if level in needed]


def train(arm: Arm, ground: Ground) -> Path:
    """Train an arm, if it has not been; returns the folder that `load_encoder` loads.

    Raises:
        ArtifactError: If the voken corpus that it reads has not been made; see `make_store`.
    """
    folder = ground.folder / arm.name
    METHODS[arm.method].train(arm, ground, folder)
    return folder / "encoder"


def _config(arm: Arm, shared: PretrainingConfig) -> Any:
    """The method's config: what the arms share, and what is this one's own; None if it has none."""
    kind = METHODS[arm.method].config
    if kind is None:
        if arm.settings:
            raise ConfigError(f"{arm.method} takes no settings; {', '.join(arm.settings)} was given")
        return None
    known = {f.name for f in fields(kind)} - {"training"}
    own = {name: value for name, value in arm.settings.items() if name in known}
    training = {name: value for name, value in arm.settings.items() if name not in known}
    check_training(training, known)
    alike = {f.name: getattr(shared, f.name) for f in fields(PretrainingConfig)}
    return kind(**{**alike, **own, "training": {**shared.training, **training}})


def _pretrain(train: Callable[..., Any], arm: Arm, ground: Ground, out: Path, **more: Any) -> None:
    corpus = VokenCorpus(store_path(arm.vokens, ground, arm.start))
    train(_config(arm, ground.pretraining), corpus, out, start=ground.starts[arm.start], resume=True, **more)


def _train_lm(arm: Arm, ground: Ground, out: Path) -> None:
    _pretrain(lm.train, arm, ground, out, match_compute_of=ground.folder / arm.after if arm.after else None)


def _train_voken(arm: Arm, ground: Ground, out: Path) -> None:
    of_features = _config(arm, ground.pretraining).objective in voken.OF_FEATURES
    _pretrain(voken.train, arm, ground, out, bank=ground.bank() if of_features else None)


def encoder_of_pictures(arm: Arm, ground: Ground) -> ImageEncoder:
    """The image encoder, which gives as many regions of a picture as the arm reads."""
    options, regions = dict(ground.image_options), arm.settings.get("num_regions", 1)
    return ImageEncoder.from_pretrained(
        ground.image_encoder, **options if regions == 1 else {**options, "pooling": f"regions-{regions}"}
    )


def _train_on_captions(train: Callable[..., Path]) -> Callable[[Arm, Ground, Path], None]:
    def trained(arm: Arm, ground: Ground, out: Path) -> None:
        regions = arm.settings.get("num_regions", 1)
        cache = ground.features if regions == 1 else ground.features.with_name(f"{ground.features.name}-{regions}")
        encoder = encoder_of_pictures(arm, ground)
        features, rows, _ = image_features(encoder, ground.captions.pictures, cache=cache)
        if encoder.num_regions > 1:
            features = features.reshape(len(features), encoder.num_regions, -1)
        _pretrain(train, arm, ground, out, captions=ground.captions.keep_pictures(rows), features=features)

    return trained


def _train_associative(arm: Arm, ground: Ground, out: Path) -> None:
    association = load_association(association_path(arm.pictures, ground, arm.start))
    pictures = PictureStore(pictures_path(arm.pictures, ground, arm.start))
    _pretrain(associative.train, arm, ground, out, association=association, pictures=pictures)


def _train_unpaired(arm: Arm, ground: Ground, out: Path) -> None:
    regions, captions = RegionStore(ground.regions), ground.captions
    known = captions.only(regions.ids)
    corpus = VokenCorpus(store_path(arm.vokens, ground, arm.start))
    sources = [SOURCES[name](known, corpus) for name in arm.reads]
    unpaired.train(
        _config(arm, ground.pretraining), out, start=ground.starts[arm.start], regions=regions, resume=True,
        **{name: source for given in sources for name, source in given.items()},
    )  # fmt: skip


SOURCES: Mapping[str, Callable[[Captions, VokenCorpus], dict[str, Any]]] = {
    "pairs": lambda captions, _: {"pairs": captions},
    "captions": lambda captions, _: {"texts": captions},
    "corpus": lambda _, corpus: {"texts": corpus},
    "pictures": lambda captions, _: {"pictures": captions.pictures.ids},
}
"""What an unpaired arm may read of captioned pictures and a corpus."""


def _distil(arm: Arm, ground: Ground, out: Path) -> None:
    _pretrain(grounded_teacher.train, arm, ground, out, teacher=ground.folder / arm.after / "encoder")


def _add_noise(arm: Arm, ground: Ground, out: Path) -> None:
    start, like = ground.starts[arm.start], ground.folder / arm.after
    weight_noise.add_noise(start, like, out, seed=ground.pretraining.seed, resume=True)


def _leave(arm: Arm, ground: Ground, out: Path) -> None:
    """The start itself, or fresh weights."""
    source, seed = ground.starts[arm.start], ground.pretraining.seed
    tokenizer = load_tokenizer(ground.tokenizer_of(arm.start) if is_fresh(source) else source)
    seed_everything(seed)
    model = start_model(source, tokenizer)
    inputs = {
        "start": weights_digest(model), "start_config": config_digest(model.encoder),
        "tokenizer": tokenizer_digest(tokenizer),
    }  # fmt: skip
    artifact = Artifact.begin(out, KIND, config={"seed": seed}, inputs=inputs, resume=True)
    if not artifact.finished:
        model.save_pretrained(artifact.path / "encoder", with_head=not model.fresh_head)
        tokenizer.save_pretrained(artifact.path / "encoder")
        artifact.finish()


METHODS: Mapping[str, Method] = {
    "lm": Method(_train_lm, PretrainingConfig),
    "voken": Method(_train_voken, voken.VokenConfig),
    "lexical contrast": Method(_train_on_captions(lexical_contrast.train), lexical_contrast.ContrastConfig),
    "joint": Method(_train_on_captions(joint_masked.train), joint_masked.JointConfig),
    "associative": Method(_train_associative, GroundingConfig),
    "unpaired": Method(_train_unpaired, unpaired.UnpairedConfig),
    "grounded teacher": Method(_distil, grounded_teacher.DistillationConfig, rests=True),
    "weight noise": Method(_add_noise, rests=True),
    "start": Method(_leave),
}
