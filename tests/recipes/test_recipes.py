"""The recipes: each is made of things that exist, and is run by `sightread compare`."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightread.artifacts import MANIFEST, Artifact
from sightread.cli import app
from sightread.config import override
from sightread.errors import ConfigError
from sightread.experiments import Outcome
from sightread.experiments.arms import TEXT_ONLY, Arm, chosen
from sightread.experiments.needs import check_arms
from sightread.experiments.one_world import trained
from sightread.experiments.real import RealExperiment
from sightread.experiments.trainers import METHODS, config_of
from sightread.experiments.world import WorldExperiment
from sightread.recipes import is_recipe, load_recipe, recipe_names
from sightread.train import training_arguments

RECIPES = recipe_names()
TABLES = [f"table{number}" for number in range(2, 7)]


def test_every_comparison_of_the_paper_is_there():
    named = [*TABLES, *(f"paper_{table}" for table in TABLES), "objectives", "controls", "rivals", "everything"]
    assert {f"recipes.vokenization:{name}" for name in named} <= set(RECIPES)
    assert {"recipes.world:demo", "recipes.flickr8k:flickr8k"} <= set(RECIPES)
    assert not [name for name in RECIPES if ":_" in name or name.endswith(":replace")]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_made_of_what_exists(name):
    recipe = load_recipe(name)
    assert recipe == load_recipe(name)
    assert len(recipe.arms) > 1
    starts = recipe.starts if isinstance(recipe, RealExperiment) else {*recipe.encoders, TEXT_ONLY.name}
    check_arms([trained(arm) for arm in recipe.arms], starts, recipe.pretraining)
    if isinstance(recipe, RealExperiment):
        assert set(recipe.tokenizers) <= set(recipe.starts)
        assert recipe.tasks or recipe.test_corpus or recipe.passages


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_those_of_their_methods(name, tmp_path):
    recipe = load_recipe(name)
    for arm in map(trained, recipe.arms):
        if METHODS[arm.method].config:
            config = config_of(arm, recipe.pretraining)
            training = getattr(config, "training", {})
            assert {**vars(config), **training}.items() >= dict(arm.settings).items()
            training_arguments(tmp_path, {**training, "bf16": False}, seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recipes.vokenisation:table5", "did you mean 'recipes.vokenization:table5'"),
        ("recipes.vokenization:tabel5", "did you mean 'recipes.vokenization:table5'"),
        ("recipes.vokenization.table5", "did you mean 'recipes.vokenization:table5'"),
        ("vokenization:table5", "did you mean 'recipes.vokenization:table5'"),
        ("recipes.vokenization:_paper", "recipe is 'recipes.vokenization:_paper', expected one of recipes.flickr8k:"),
        ("recipes.vokenization:TABLE_5", "expected one of .*recipes.vokenization:table2"),
        ("recipes.vokenization", "expected one of .*recipes.vokenization:table2, .*, recipes.world:demo"),
        ("recipes", "expected one of .*recipes.vokenization:table2"),
    ],
)
def test_a_recipe_that_is_none_is_refused(name, message):
    assert is_recipe(name)
    with pytest.raises(ConfigError, match=message):
        load_recipe(name)


def test_found_pictures_are_held_against_pictures_by_chance():
    for name in ("world", "aware"):
        controls = {arm.name: arm.control for arm in load_recipe(f"recipes.teachers:{name}").arms}
        assert controls["found pictures"] == "pictures by chance"


@pytest.mark.parametrize("name", ["table5", "scores", "label=scores", "runs/recipes.old", "recipes/old", "label=c:d"])
def test_what_is_no_recipe_is_scores(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert not is_recipe(name)
    for folder in ("recipes", "recipes.old", "old:new"):
        assert is_recipe(folder)
        Path(folder).mkdir()
        assert not is_recipe(folder)


ARMS = tuple(
    Arm(name=name, after=after, control=control)
    for name, after, control in (("a", "", ""), ("b", "", ""), ("c", "b", ""), ("d", "", "e"), ("e", "b", ""))
)


@dataclass(frozen=True)
class Tiny:
    """An experiment that writes what it was given."""

    seeds: tuple[int, ...] = (0, 1)
    size: int = 1
    arms: tuple[Arm, ...] = ARMS

    def check(self, data):
        if not self.seeds:
            raise ConfigError("no seeds")

    def run(self, out, *, data, workers, say):
        say(f"step {self.seeds} {data} {workers} {' '.join(arm.name for arm in self.arms)}")
        return Outcome("the table", "the verdict")


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
    page, step = tmp_path / "out" / "report.html", f"step (3, 4) {tmp_path} 2 a b c d e"
    assert result.stdout == f"{step}\n\nthe table\n\nthe verdict\n\nreport: {page}\n"
    assert "<pre>the table</pre>" in page.read_text()
    page.write_text("seen")
    again = compare("recipes.a:b --set seeds=3,4 --resume")
    assert again.exit_code == 0, again.output
    finished = f"{tmp_path / 'out'} is finished, and nothing is left to do"
    assert again.stdout == result.stdout.replace(step, finished)
    assert page.read_text() == "seen", "what was found is told, and not found again"
    page.unlink()  # as if it had been killed before
    assert compare("recipes.a:b --set seeds=3,4 --resume").stdout == again.stdout
    assert "<pre>the table</pre>" in page.read_text()
    manifest = (tmp_path / "out" / MANIFEST).read_text()
    for words, message in {
        "recipes.a:b": "already holds a finished comparison",
        "recipes.a:b --set size=2 --resume": "was begun with another size (1, now 2)",
        "recipes.a:b --set sseds=3": "did you mean 'seeds'",
        "recipes.a:b recipes.a:c": "one recipe at a time, and nothing beside it; 2 names were given",
        "scores recipes.a:c": "one recipe at a time",
    }.items():
        refused = compare(words)
        assert (refused.exit_code, message in refused.stderr) == (2, True), refused.output
    assert (tmp_path / "out" / MANIFEST).read_text() == manifest


@pytest.mark.parametrize(
    ("names", "expected"), [(["a"], "a"), (["b"], "ab"), (["c"], "abc"), (["d"], "abde"), (["c", "d"], "abcde")]
)
def test_an_arm_comes_with_what_it_rests_on_and_is_compared_with(names, expected):
    assert "".join(arm.name for arm in chosen(ARMS, names)) == expected


def test_other_arms_and_seeds_go_on_in_the_same_folder(compare, tmp_path):
    assert "step (0, 1) None 1 a b c\n" in compare("recipes.a:b --arm c").stdout
    for words, step in (("--arm b", "(0, 1) None 1 a b"), ("--arm b --set seeds=5", "(5,) None 1 a b")):
        for said in (f"step {step}\n", "is finished"):
            result = compare(f"recipes.a:b {words} --resume")
            assert (result.exit_code, said in result.stdout) == (0, True), result.output
    assert Artifact.open(tmp_path / "out", "comparison").config["seeds"] == [5]
    refused = compare("recipes.a:b --arm bb --overwrite")
    assert (refused.exit_code, "arm is 'bb', expected one of a, b, c" in refused.stderr) == (2, True)


def test_what_fails_at_once_leaves_nothing_in_the_way(compare, tmp_path):
    refused = compare("recipes.a:b --set seeds=")
    assert (refused.exit_code, "no seeds" in refused.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    assert compare("recipes.a:b").exit_code == 0


@pytest.mark.parametrize("words", ["--data .", "--resume", "--set seeds=3", "--arm a"])
def test_what_is_for_recipes_is_refused_with_scores(compare, words, tmp_path):
    result = compare(f"{tmp_path} {words}")
    assert (result.exit_code, "are for recipes" in result.stderr) == (2, True)
    assert not Path(tmp_path / "out").exists()


def test_settings_of_experiments_can_be_overridden():
    recipe = override(load_recipe("recipes.flickr8k:flickr8k"), ["text_encoder=minilm", "num_train=none", "seeds=7"])
    assert (recipe.text_encoder, recipe.num_train, recipe.seeds) == ("minilm", None, (7,))
    world = override(WorldExperiment(), ["num_pictures=20", "world.num_scenes=40", "pretraining.num_train_epochs=1"])
    assert (world.num_pictures, world.world.num_scenes, world.pretraining.training["num_train_epochs"]) == (20, 40, 1)
    with pytest.raises(ConfigError, match=r"did you mean .*'matching.max_steps'.* or 'pretraining.max_steps'"):
        override(WorldExperiment(), ["max_steps=1"])
    with pytest.raises(ConfigError, match="pretraining holds settings: set one of them as"):
        override(WorldExperiment(), ["pretraining=1"])
    table = override(load_recipe("recipes.strategies:table2"), ["base.max_steps=5"])
    assert (table.base.training["max_steps"], table.pretraining.training["max_steps"]) == (5, 100)
