"""How arms are trained, by the method that they name. What is there is left alone, so that a comparison which was
stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from sightread.artifacts import Artifact
from sightread.association.folder import load_association
from sightread.association.store import PictureStore
from sightread.config import check_training
from sightread.data.regions import RegionStore
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.features import image_features
from sightread.encoders.image import ImageEncoder
from sightread.encoders.text import config_digest, load_tokenizer, tokenizer_digest, weights_digest
from sightread.errors import ConfigError
from sightread.experiments.arms import Arm
from sightread.experiments.ground import Ground, association_path, found_for, pictures_path, store_path
from sightread.grounded import GroundingConfig, load_encoder
from sightread.methods import (
    associative,
    distillation,
    grounded_teacher,
    joint_masked,
    lexical_contrast,
    lm,
    towers,
    unpaired,
    visual_awareness,
    voken,
    weight_noise,
)
from sightread.pretraining import KIND, PretrainingConfig, is_fresh, start_model
from sightread.runtime import seed_everything

if TYPE_CHECKING:
    from sightread.data.captions import Captions


class Method(NamedTuple):
    """How arms are trained.

    Attributes:
        train: What does it: arm, ground, folder.
        config: Its settings; None if it takes none, and reads nothing.
        rests: Whether it needs another arm.
    """

    train: Callable[[Arm, Ground, Path], None]
    config: type[PretrainingConfig | visual_awareness.AwarenessConfig] | None = None
    rests: bool = False


def reads_text(arm: Arm) -> bool:
    """Whether it is pre-trained on a voken corpus."""
    return issubclass(METHODS[arm.method].config or object, PretrainingConfig)


def config_of(arm: Arm, shared: PretrainingConfig) -> Any:
    """The method's config: what the arms share, and what is this one's own; None if it has none."""
    kind = METHODS[arm.method].config
    if kind is None:
        if arm.settings:
            raise ConfigError(f"{arm.method} takes no settings; {', '.join(arm.settings)} was given")
        return None
    known = {f.name for f in fields(kind)} - {"training"}
    own = {name: value for name, value in arm.settings.items() if name in known}
    training = {name: value for name, value in arm.settings.items() if name not in known}
    if reads_text(arm):
        check_training(training, known)
        training = {"training": {**shared.training, **training}}
    alike = {f.name: getattr(shared, f.name) for f in fields(PretrainingConfig) if f.name in known}
    return kind(**{**alike, **own, **training})


def _pretrain(train: Callable[..., Any], arm: Arm, ground: Ground, out: Path, **more: Any) -> None:
    corpus = VokenCorpus(store_path(arm.vokens, ground, arm.start))
    train(config_of(arm, ground.pretraining), corpus, out, start=ground.starts[arm.start], resume=True, **more)


def _train_lm(arm: Arm, ground: Ground, out: Path) -> None:
    _pretrain(lm.train, arm, ground, out, match_compute_of=ground.folder / arm.after if arm.after else None)


def _train_voken(arm: Arm, ground: Ground, out: Path) -> None:
    of_features = config_of(arm, ground.pretraining).objective in voken.OF_FEATURES
    _pretrain(voken.train, arm, ground, out, bank=ground.bank() if of_features else None)


def encoder_of_pictures(arm: Arm, ground: Ground) -> ImageEncoder:
    """The image encoder, which gives as many regions of a picture as the arm reads."""
    regions = arm.settings.get("num_regions", 1)
    return _image_encoder(ground, **{} if regions == 1 else {"pooling": f"regions-{regions}"})


def _image_encoder(ground: Ground, **options: str) -> ImageEncoder:
    return ImageEncoder.from_pretrained(ground.image_encoder, **{**ground.image_options, **options})


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
    pictures = PictureStore(pictures_path(arm.pictures, ground, arm.start, found_for(arm)))
    _pretrain(associative.train, arm, ground, out, association=association, pictures=pictures)


def _train_unpaired(arm: Arm, ground: Ground, out: Path) -> None:
    regions, captions = RegionStore(ground.regions), ground.captions
    known = captions.only(regions.ids)
    corpus = VokenCorpus(store_path(arm.vokens, ground, arm.start))
    sources = [SOURCES[name](known, corpus) for name in arm.reads]
    unpaired.train(
        config_of(arm, ground.pretraining), out, start=ground.starts[arm.start], regions=regions, resume=True,
        **{name: source for given in sources for name, source in given.items()},
    )  # fmt: skip


SOURCES: Mapping[str, Callable[[Captions, VokenCorpus], dict[str, Any]]] = {
    "pairs": lambda captions, _: {"pairs": captions},
    "captions": lambda captions, _: {"texts": captions},
    "corpus": lambda _, corpus: {"texts": corpus},
    "pictures": lambda captions, _: {"pictures": captions.pictures.ids},
}
"""What an unpaired arm may read of captioned pictures and a corpus."""


def _train_towers(arm: Arm, ground: Ground, out: Path) -> None:
    towers.train(
        replace(ground.towers, seed=ground.pretraining.seed), ground.captions, out,
        tokenizer=load_tokenizer(ground.clip_tokenizer or ground.tokenizer), image_encoder=_image_encoder(ground),
        cache=ground.features, resume=True,
    )  # fmt: skip


def _train_xdbert(arm: Arm, ground: Ground, out: Path) -> None:
    _pretrain(distillation.train, arm, ground, out, clip=ground.folder / arm.after / "encoder")


def _put_pictures(arm: Arm, ground: Ground, out: Path) -> None:
    association = load_association(association_path(arm.pictures, ground, arm.start))
    config = config_of(arm, ground.pretraining)
    visual_awareness.wrap(config, ground.starts[arm.start], association, out, resume=True)


def _distil(arm: Arm, ground: Ground, out: Path) -> None:
    _pretrain(grounded_teacher.train, arm, ground, out, teacher=ground.folder / arm.after / "encoder")


def _add_noise(arm: Arm, ground: Ground, out: Path) -> None:
    start, like = ground.starts[arm.start], ground.folder / arm.after
    weight_noise.add_noise(start, like, out, seed=ground.pretraining.seed, resume=True)


def _leave(arm: Arm, ground: Ground, out: Path) -> None:
    """The start itself, or fresh weights."""
    source = ground.starts[arm.start]
    tokenizer = load_tokenizer(ground.tokenizer_of(arm.start) if is_fresh(source) else source)
    seed_everything(ground.pretraining.seed)
    model = start_model(source, tokenizer)
    save = partial(model.save_pretrained, with_head=not model.fresh_head)
    _save(model, model.encoder, tokenizer, ground, out, save)


def _leave_clip(arm: Arm, ground: Ground, out: Path) -> None:
    """The text tower of the start, which is a CLIP."""
    source = ground.starts[arm.start]
    tower = distillation.load_clip(source)
    _save(tower, tower, load_tokenizer(source), ground, out, tower.save_pretrained)


def _leave_full(arm: Arm, ground: Ground, out: Path) -> None:
    """All of what `after` was trained in, CLIP included."""
    full = ground.folder / arm.after / distillation.FULL
    encoder = load_encoder(full)
    _save(encoder, encoder, load_tokenizer(full), ground, out, encoder.save_pretrained)


def _save(
    model: nn.Module, encoder: Any, tokenizer: Any, ground: Ground, out: Path, save: Callable[[Path], Any]
) -> None:
    inputs = {
        "start": weights_digest(model), "start_config": config_digest(encoder),
        "tokenizer": tokenizer_digest(tokenizer),
    }  # fmt: skip
    artifact = Artifact.begin(out, KIND, config={"seed": ground.pretraining.seed}, inputs=inputs, resume=True)
    if not artifact.finished:
        save(artifact.path / "encoder")
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
    "towers": Method(_train_towers),
    "clip": Method(_leave_clip),
    "xdbert": Method(_train_xdbert, distillation.XdbertConfig, rests=True),
    "xbert": Method(_leave_full, rests=True),
    "aware": Method(_put_pictures, visual_awareness.AwarenessConfig),
    "start": Method(_leave),
}


def train(arm: Arm, ground: Ground) -> Path:
    """Train an arm, if it has not been; returns the folder that `load_encoder` loads.

    Raises:
        ArtifactError: If the voken corpus that it reads has not been made; see `make_store`.
    """
    folder = ground.folder / arm.name
    METHODS[arm.method].train(arm, ground, folder)
    return folder / "encoder"
