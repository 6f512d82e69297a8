"""Arms of a comparison: an `Arm` is a row of a table, in words. `trainers.train` makes an encoder of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightread.config import check_choice


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An encoder of a comparison; see `needs.check_arms`.

    Attributes:
        name: What it is called in tables.
        method: A key of `METHODS`.
        vokens: A key of `STORES`: what it reads.
        start: A key of `Ground.starts`: where it begins.
        pictures: One of `ASSOCIATIONS`: how an associative or aware arm finds pictures.
        reads: Keys of `SOURCES`: what an unpaired arm reads.
        after: The arm that it rests on: a teacher, CLIP, what noise imitates, or whose cost "lm" is to match.
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


def chosen(arms: Sequence[Arm], names: Collection[str]) -> tuple[Arm, ...]:
    """The arms of these names, with what they rest on and are compared with; raises `ConfigError` if there is none."""
    known = {arm.name: arm for arm in arms}
    for name in names:
        check_choice("arm", name, known)
    wanted, more = set[str](), {arms[0].name, *names}
    while more:
        wanted |= more
        more = {other for name in more for other in (known[name].after, known[name].control) if other in known} - wanted
    return tuple(arm for arm in arms if arm.name in wanted)
