"""Complete configurations, as typed Python functions: `recipes.vokenization:table5` names one."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import CO_VARARGS, isfunction
from pkgutil import iter_modules
from typing import Any

from sightread.config import check_choice
from sightread.errors import ConfigError

_NAME = re.compile(r"recipes\.(\w+):(\w+)")


def is_recipe(name: str) -> bool:
    """Whether this is how a recipe is named."""
    return _NAME.fullmatch(name) is not None


def load_recipe(name: str) -> Any:
    """The recipe of this name, `recipes.MODULE:FUNCTION`; raises `ConfigError`, with a suggestion, if there is none."""
    found = _NAME.fullmatch(name)
    if not found:
        raise ConfigError(f"{name!r} is no recipe; expected recipes.MODULE:NAME")
    check_choice("the recipe's module", found[1], [module.name for module in iter_modules(__path__)])
    module = import_module(f"{__name__}.{found[1]}")
    makers = {name: value for name, value in vars(module).items() if _makes_a_recipe(value)}
    check_choice(f"the recipe of recipes.{found[1]}", found[2], makers)
    return makers[found[2]]()


def _makes_a_recipe(value: Any) -> bool:
    returned = getattr(value, "__annotations__", {}).get("return", "")
    return isfunction(value) and str(returned).endswith("Experiment") and not value.__code__.co_flags & CO_VARARGS
