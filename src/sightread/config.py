"""Settings: frozen dataclasses, changed by typed `key=value` overrides.

Every method's config has a field `training`, keyword arguments of Hugging Face's `TrainingArguments` under their own
names. An override goes to the config's field of that name, else to `training`; `outer.inner=value` goes to a config
within the config.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sightread.errors import ConfigError

Config = TypeVar("Config")


def override(config: Config, assignments: Iterable[str]) -> Config:
    """A copy of a frozen config with `key=value` settings applied.

    Args:
        config: A dataclass instance, perhaps with a `training` mapping, or others within.
        assignments: Texts such as `"learning_rate=1e-4"`, or `"pretraining.max_length=64"`.

    Raises:
        ConfigError: Naming every fault at once: unknown keys (with a suggestion), values of the wrong type.
    """
    fields, training_fields = _fields(config), _training_fields() if hasattr(config, "training") else {}
    inner = {name: part for name in fields if dataclasses.is_dataclass(part := getattr(config, name))}
    nested = dict[str, list[str]]()
    values, training, faults = dict[str, Any](), dict[str, Any](), list[str]()
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        outer, dot, rest = key.partition(".")
        if not equals:
            faults.append(f"{assignment!r} is not of the form key=value")
        elif key in inner:
            faults.append(f"{key} holds settings: set one of them as {key}.NAME=value")
        elif key in fields:
            values[key] = value
        elif key in training_fields:
            training[key] = value
        elif dot and outer in inner:
            nested.setdefault(outer, []).append(f"{rest}={value}")
        else:
            faults.append(_unknown(key, fields, [*training_fields, *_dotted(inner)]))
    types = get_type_hints(type(config))
    values = {key: _typed(key, value, types[key], faults) for key, value in values.items()}
    training = {key: _typed(key, value, training_fields[key], faults) for key, value in training.items()}
    for name, within in nested.items():
        try:
            values[name] = override(inner[name], within)
        except ConfigError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise ConfigError("; ".join(faults))
    if training:
        values["training"] = {**getattr(config, "training", {}), **training}
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def check_training(names: Iterable[str], fields: Iterable[str]) -> None:
    """Raise `ConfigError` with a suggestion unless all are names of `TrainingArguments`; `fields` are the config's."""
    known = _training_fields()
    if faults := [_unknown(name, fields, known) for name in names if name not in known]:
        raise ConfigError("; ".join(faults))


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise `ConfigError` with a suggestion unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        close = difflib.get_close_matches(value, choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(choices)}{hint}")


def check_positive(*, or_zero: bool = False, **values: float) -> None:
    """Raise `ConfigError` unless all values are positive and finite, or zero where that will do."""
    for name, value in values.items():
        if not (0 < value < math.inf or (or_zero and value == 0)):
            raise ConfigError(f"{name}={value}: expected a positive number{' or zero' if or_zero else ''}")


def check_share(**values: float) -> None:
    """Raise `ConfigError` unless all values, probabilities or dropouts, are between 0 and 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name}={value}: expected between 0 and 1")


def _fields(config: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(config) if field.name != "training"]


def _dotted(inner: Mapping[str, Any]) -> Iterator[str]:
    """The settings of configs within a config."""
    for name, config in inner.items():
        known = [*_fields(config), *(_training_fields() if hasattr(config, "training") else ())]
        yield from (f"{name}.{setting}" for setting in known)


def _unknown(key: str, fields: Iterable[str], others: Iterable[str]) -> str:
    known = [*fields, *others]
    close = [name for name in known if name.endswith(f".{key}")] or difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"this step knows {', '.join(sorted(fields))}"
    return f"unknown setting {key!r}; {hint}"


def _typed(key: str, value: str, kind: Any, faults: list[str]) -> Any:
    if "None" in str(kind) and value.lower() == "none" and "str" not in str(kind).replace("tuple[str", ""):
        return None
    parsed: Any = [part for part in value.split(",") if part] if "tuple" in str(kind) else value
    try:
        return TypeAdapter(kind).validate_python(parsed)
    except ValidationError as error:
        faults.append(f"{key}={value}: {error.errors()[0]['msg'].lower()}")
        return None


def _training_fields() -> dict[str, Any]:
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    return {field.name: hints[field.name] for field in dataclasses.fields(TrainingArguments) if field.init}
