"""The recipes: each is made of things that exist, and is run by `sightread compare`."""

from dataclasses import dataclass
from inspect import getmembers
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightread.artifacts import MANIFEST
from sightread.cli import app
from sightread.config import override
from sightread.errors import ConfigError
from sightread.experiments import Outcome
from sightread.experiments.arms import METHODS, _config
from sightread.experiments.ground import Ground
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import TEXT_ONLY, WorldExperiment
from sightread.methods.grounded_teacher import DistillationConfig
from sightread.methods.lexical_contrast import ContrastConfig
from sightread.methods.voken import VokenConfig
from sightread.pretraining import PretrainingConfig
from sightread.recipes import _makes_a_recipe, flickr8k, is_recipe, load_recipe, vokenization, world
from sightread.runtime import data_root
from sightread.train import training_arguments

CONFIGS = {
    "lm": PretrainingConfig, "voken": VokenConfig, "lexical contrast": ContrastConfig,
    "grounded teacher": DistillationConfig,
}  # fmt: skip
RECIPES = [
    f"recipes.{module.__name__.split('.')[-1]}:{name}"
    for module in (vokenization, world, flickr8k) for name, _ in getmembers(module, _makes_a_recipe)
]  # fmt: skip
TABLES = [f"table{number}" for number in range(2, 7)]


def test_every_comparison_of_the_paper_is_there():
    named = [*TABLES, *(f"paper_{table}" for table in TABLES), "objectives", "controls", "rivals", "everything"]
    assert {f"recipes.vokenization:{name}" for name in named} <= set(RECIPES)
    assert {"recipes.world:demo", "recipes.flickr8k:flickr8k"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_made_of_what_exists(name):
    recipe = load_recipe(name)
    assert recipe == load_recipe(name)
    arms = [arm.name for arm in recipe.arms]
    assert len(set(arms)) == len(arms) > 1
    starts = recipe.starts if isinstance(recipe, RealExperiment) else {*recipe.encoders, TEXT_ONLY.name}
    for place, arm in enumerate(recipe.arms):
        assert arm.start in starts
        assert {arm.control, arm.after} <= {"", *arms[:place]}
        assert bool(arm.after) or arm.method not in ("weight noise", "grounded teacher")
    if isinstance(recipe, RealExperiment):
        assert set(recipe.tokenizers) <= set(recipe.starts)
        assert recipe.tasks


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_those_of_their_methods(name, tmp_path):
    recipe = load_recipe(name)
    ground = object.__new__(Ground)
    object.__setattr__(ground, "pretraining", recipe.pretraining)
    for arm in recipe.arms:
        if arm.method in CONFIGS:
            config = _config(arm, ground, CONFIGS[arm.method])
            made = {**vars(config), **config.training}
            assert made.items() >= dict(arm.settings).items()
            training_arguments(tmp_path, config.training | {"bf16": False}, seed=0)
    assert set(CONFIGS) | {"weight noise", "start"} == set(METHODS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recipes.vokenisation:table5", "module is 'vokenisation'.*did you mean 'vokenization'"),
        ("recipes.vokenization:tabel5", "did you mean 'table5'"),
        ("recipes.vokenization:_paper", "recipe of recipes.vokenization is '_paper'"),
        ("recipes.vokenization:TABLE_5", "'TABLE_5', expected one of table2"),
        ("table5", "'table5' is no recipe; expected recipes.MODULE:NAME"),
    ],
)
def test_a_recipe_that_is_none_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(name)
    assert is_recipe(name) == name.startswith("recipes.")


@dataclass(frozen=True)
class Tiny:
    """An experiment that writes what it was given."""

    seeds: tuple[int, ...] = (0, 1)

    def run(self, out, *, data, workers, say):
        (out / "page.html").write_text(f"{self.seeds} {data} {workers}")
        say("step")
        return Outcome("the table", "the verdict", out / "page.html")


@pytest.fixture
def compare(monkeypatch, tmp_path):
    """`sightread compare …` into a folder, where every recipe is the tiny one."""
    monkeypatch.setattr("sightread.recipes.load_recipe", lambda _: Tiny())

    def run(words):
        return CliRunner().invoke(app, ["compare", *words.split(), "--out", str(tmp_path / "out")])

    return run


def test_compare_runs_a_recipe(compare, tmp_path):
    result = compare(f"recipes.a:b --set seeds=3,4 --workers 2 --data {tmp_path}")
    assert result.exit_code == 0, result.output
    page = tmp_path / "out" / "page.html"
    assert result.stdout == f"step\n\nthe table\n\nthe verdict\n\nreport: {page}\n"
    assert page.read_text() == f"(3, 4) {tmp_path} 2"
    again = compare("recipes.a:b --set seeds=3,4 --resume")
    assert again.exit_code == 0, again.output
    assert page.read_text() == f"(3, 4) {data_root()} 1"
    manifest = (tmp_path / "out" / MANIFEST).read_text()
    for words, message in {
        "recipes.a:b": "already holds a finished comparison",
        "recipes.a:b --resume": "was begun with another seeds",
        "recipes.a:b --set sseds=3": "did you mean 'seeds'",
        "recipes.a:b recipes.a:c": "one recipe at a time; 2 were given",
    }.items():
        refused = compare(words)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.output
    assert (tmp_path / "out" / MANIFEST).read_text() == manifest


@pytest.mark.parametrize("words", ["--data .", "--resume", "--set seeds=3"])
def test_what_is_for_recipes_is_refused_with_scores(compare, words, tmp_path):
    result = compare(f"{tmp_path} {words}")
    assert (result.exit_code, "are for recipes" in result.stderr) == (2, True)
    assert not Path(tmp_path / "out").exists()


def test_settings_of_experiments_can_be_overridden():
    recipe = override(load_recipe("recipes.flickr8k:flickr8k"), ["text_encoder=minilm", "num_train=none", "seeds=7"])
    assert (recipe.text_encoder, recipe.num_train, recipe.seeds) == ("minilm", None, (7,))
    assert override(WorldExperiment(), ["num_pictures=20"]).num_pictures == 20
