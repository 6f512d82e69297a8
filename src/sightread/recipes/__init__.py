"""Complete configurations, as typed Python functions: `recipes.vokenization:table5` names one."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from inspect import isfunction, signature
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from sightread.config import check_choice

if TYPE_CHECKING:
    from sightread.experiments import Experiment


def is_recipe(name: str) -> bool:
    """Whether this is meant to name a recipe, rightly or not: `recipes`, `recipes.…` or `MODULE:NAME`, and no path."""
    return bool(re.fullmatch(r"recipes(\..*)?|\w+:\w+", name)) and not Path(name).exists()


def recipe_names() -> list[str]:
    """The names of all recipes, `recipes.MODULE:FUNCTION`."""
    return list(_recipes())


def load_recipe(name: str) -> Experiment:
    """The recipe of this name; raises `ConfigError`, with a list and a suggestion, if there is none."""
    recipes = _recipes()
    check_choice("the recipe", name, recipes)
    return recipes[name]()


def _recipes() -> dict[str, Callable[[], Experiment]]:
    """Public functions of the modules here that take nothing."""
    modules = {found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)}
    return {
        f"recipes.{short}:{name}": value
        for short, module in modules.items()
        for name, value in vars(module).items()
        if isfunction(value) and value.__module__ == module.__name__
        and not name.startswith("_") and not signature(value).parameters
    }  # fmt: skip
