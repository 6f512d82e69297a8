"""What arms need before any of them is trained: settings that can be, voken corpora, associations, vokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from sightread.config import check_choice
from sightread.errors import ConfigError
from sightread.experiments.arms import Arm
from sightread.experiments.ground import ASSOCIATIONS, FOUND, LEVELS, STORES, VOKENIZERS, found_for
from sightread.experiments.jobs import check_order
from sightread.experiments.trainers import METHODS, SOURCES, config_of, reads_text
from sightread.grounded import GroundingConfig
from sightread.pretraining import PretrainingConfig

ASSOCIATIVE = "associative"
LOOKING = (ASSOCIATIVE, "aware")  # the methods that find pictures


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
            if arm.pictures or arm.method in LOOKING:
                _check_pictures(arm)
            for source in arm.reads:
                check_choice("reads", source, SOURCES)
            if (arm.method == "unpaired") != bool(arm.reads):
                raise ConfigError("`reads` is for unpaired arms, and they need it")
            if arm.control:
                check_choice("control", arm.control, [other.name for other in arms])
            if METHODS[arm.method].rests and not arm.after:
                raise ConfigError(f"{arm.method} rests on another arm; name it in `after`")
            config_of(arm, pretraining)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from None


def _check_pictures(arm: Arm) -> None:
    """Pictures of what training reads are found for the text that all arms read, with the settings that they share."""
    check_choice("pictures", arm.pictures, ASSOCIATIONS)
    check_choice("method of an arm that finds pictures", arm.method, LOOKING)
    if arm.method != ASSOCIATIVE:
        return
    check_choice("vokens", arm.vokens, ("none",))
    free = {field.name for field in fields(GroundingConfig)} - {f.name for f in fields(PretrainingConfig)}
    if own := sorted({*arm.settings} - free):
        raise ConfigError(f"{', '.join(own)}: an arm that finds pictures has the settings that all share")
    if arm.settings.get("num_images", 1) > FOUND:
        raise ConfigError(f"num_images={arm.settings['num_images']}: pictures are found for {FOUND} at most")


def stores_of(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """The voken corpora that some arms read, each once: its kind, and the start whose tokenizer it has."""
    return sorted({(arm.vokens, arm.start) for arm in arms if reads_text(arm)})


def pictures_of(arms: Iterable[Arm]) -> list[tuple[str, str, int]]:
    """The pictures that some arms read in training, each once: how found, for whose start and tokenizer, how many."""
    return sorted({(arm.pictures, arm.start, found_for(arm)) for arm in arms if arm.method == ASSOCIATIVE})


def associations_of(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """The associations that some arms ask, each once: its kind, and the start for whose tokenizer."""
    return sorted({(arm.pictures, arm.start) for arm in arms if arm.pictures})


def levels_of(arms: Iterable[Arm]) -> list[str]:
    """The levels of the vokenizers that some arms need."""
    arms = list(arms)
    needed = {LEVELS.get(kind) for kind, _ in [*stores_of(arms), *associations_of(arms)]}
    return [level for level in VOKENIZERS if level in needed]
