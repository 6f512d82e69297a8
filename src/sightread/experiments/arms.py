"""Arms of a comparison: how each is trained, on what all of them share.

An `Arm` is a row of a table, in words; `train` makes an encoder of it. What is there is left alone, so that a
comparison which was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sightread.artifacts import MANIFEST, Artifact
from sightread.config import check_choice, check_training
from sightread.experiments.ground import STORES, Ground, make_store
from sightread.pretraining import KIND, PretrainingConfig, is_fresh, start_model
from sightread.runtime import seed_everything


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An encoder of a comparison.

    Attributes:
        name: What it is called in tables.
        method: A key of `METHODS`.
        vokens: A key of `STORES`: what it reads.
        start: A key of `Ground.starts`: where it begins.
        after: The arm that it rests on: a teacher, what noise imitates, or whose cost "lm" is to match.
        control: The arm it is compared with; by default the first.
        settings: Settings of the method, and `TrainingArguments`, that differ from what the arms share.
    """

    name: str
    method: str = "voken"
    vokens: str = "matched"
    start: str = "encoder"
    after: str = ""
    control: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("vokens", self.vokens, STORES)


def levels_of(arms: Sequence[Arm]) -> list[str]:
    """The levels of the vokenizers that some arms need."""
    return ["token", *({"sentence"} & {arm.vokens for arm in arms})]


def stores_of(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """The voken corpora that some arms read, each once: its kind, and the start whose tokenizer it has."""
    return sorted({(arm.vokens, arm.start) for arm in arms if arm.method not in ("start", "weight noise")})


def train(arm: Arm, ground: Ground) -> Path:
    """Train an arm, if it has not been; returns the folder that `AutoModel` loads."""
    folder = ground.folder / arm.name
    METHODS[arm.method](arm, ground, folder)
    return folder / "encoder"


def _config(arm: Arm, ground: Ground, kind: type[PretrainingConfig]) -> Any:
    """The method's config: what the arms share, and what is this one's own."""
    known = {f.name for f in fields(kind)} - {"training"}
    own = {name: value for name, value in arm.settings.items() if name in known}
    training = {name: value for name, value in arm.settings.items() if name not in known}
    check_training(training, known)
    shared = {f.name: getattr(ground.pretraining, f.name) for f in fields(PretrainingConfig)}
    return kind(**{**shared, **own, "training": {**ground.pretraining.training, **training}})


def _train_lm(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import lm

    matched = {"match_compute_of": ground.folder / arm.after} if arm.after else {}
    config = _config(arm, ground, PretrainingConfig)
    lm.train(
        config, make_store(arm.vokens, ground, arm.start), out, start=ground.starts[arm.start], resume=True, **matched
    )


def _train_voken(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import voken

    config = _config(arm, ground, voken.VokenConfig)
    bank = ground.bank() if config.objective in voken.OF_FEATURES else None
    voken.train(
        config, make_store(arm.vokens, ground, arm.start), out, start=ground.starts[arm.start], bank=bank, resume=True
    )


def _train_contrast(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.encoders.features import image_features
    from sightread.encoders.image import ImageEncoder
    from sightread.methods import lexical_contrast

    encoder = ImageEncoder.from_pretrained(ground.image_encoder, **ground.image_options)
    features, rows, _ = image_features(encoder, ground.captions.pictures, cache=ground.features)
    lexical_contrast.train(
        _config(arm, ground, lexical_contrast.ContrastConfig), make_store(arm.vokens, ground, arm.start), out,
        start=ground.starts[arm.start], captions=ground.captions.keep_pictures(rows), features=features, resume=True,
    )  # fmt: skip


def _distil(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import grounded_teacher

    grounded_teacher.train(
        _config(arm, ground, grounded_teacher.DistillationConfig), make_store(arm.vokens, ground, arm.start), out,
        start=ground.starts[arm.start], teacher=ground.folder / arm.after / "encoder", resume=True,
    )  # fmt: skip


def _add_noise(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods.weight_noise import add_noise

    if not (out / MANIFEST).is_file():
        add_noise(
            ground.starts[arm.start], ground.folder / arm.after, out, seed=ground.pretraining.seed, overwrite=True
        )


def _leave(arm: Arm, ground: Ground, out: Path) -> None:
    """The start itself, or fresh weights."""
    from sightread.encoders.text import load_tokenizer

    source = ground.starts[arm.start]
    tokenizer = load_tokenizer(ground.tokenizers.get(arm.start, ground.tokenizer) if is_fresh(source) else source)
    artifact = Artifact.begin(out, KIND, config={"start": str(source)}, resume=True)
    if not artifact.finished:
        seed_everything(ground.pretraining.seed)
        start_model(source, tokenizer).save_pretrained(artifact.path / "encoder")
        tokenizer.save_pretrained(artifact.path / "encoder")
        artifact.finish({})


METHODS: Mapping[str, Callable[[Arm, Ground, Path], None]] = {
    "lm": _train_lm, "voken": _train_voken, "lexical contrast": _train_contrast, "grounded teacher": _distil,
    "weight noise": _add_noise, "start": _leave,
}  # fmt: skip
