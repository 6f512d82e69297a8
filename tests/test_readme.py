"""What the texts say can be typed: every command parses, every target, imported name and link exists."""

import ast
import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

import sightread
from sightread.recipes import load_recipe
from verbs import CLI, VERBS

ROOT = Path(__file__).parent.parent
SRC = Path(sightread.__file__).parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("**/*.md"))

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\S*/)?sightread (?=[\w-])(?P<words>(?:.*\\\n)*.*)$", re.MULTILINE)
MENTION = re.compile(r"`sightread (?P<words>[a-z-][^`]*)`")


def markdown_texts():
    """(place, commands to type, prose) of the README and the docs."""
    for path in [README, *DOCS]:
        text = path.read_text()
        fenced = "\n".join(body for _, body in FENCE.findall(text))
        yield path.relative_to(ROOT).as_posix(), fenced, FENCE.sub("", text)


def docstring_texts():
    """The same of all docstrings: what is indented is to type; a help's example is in backticks."""
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                typed = "\n".join(line.strip() for line in text.splitlines() if line.startswith("    "))
                yield f"{path.relative_to(ROOT)} {getattr(node, 'name', '')}".strip(), typed, text


def commands():
    """(place, words after `sightread`, whether it is meant to be typed as it is)."""
    for place, typed, prose in [*markdown_texts(), *docstring_texts()]:
        for pattern, text in ((COMMAND, typed), (MENTION, prose)):
            for match in pattern.finditer(text):
                words = shlex.split(match["words"].replace("\\\n", " "), comments=True)
                end = next((i for i, word in enumerate(words) if word in {"|", ">", "&&", ";", "(or:"}), len(words))
                yield place, words[:end], pattern is COMMAND or "Example: `sightread" in text
    recipes = re.findall(r"\$\(BIN\)/sightread (.+)", (ROOT / "Makefile").read_text())
    yield from (("Makefile", shlex.split(words), True) for words in recipes)


COMMANDS = list(commands())


def verb_of(words):
    """The verb that a command begins with: a word, or two where the first is a group."""
    return " ".join(words[: 1 if words[0] in VERBS else 2])


@pytest.mark.parametrize(("place", "words", "complete"), COMMANDS, ids=[f"{c[0]}: {' '.join(c[1])}" for c in COMMANDS])
def test_commands_parse(place, words, complete):
    options = {option for parameter in CLI.params for option in parameter.opts} | {"--help", "-h"}
    while words and words[0] in options:
        words = words[1:]
    if not words:
        return
    verb = verb_of(words)
    arguments = words[len(verb.split()) :]
    assert verb in VERBS, f"{place}: no verb {verb!r}; there are {', '.join(VERBS)}"
    command = VERBS[verb]
    known = {option for parameter in command.params for option in parameter.opts} | options
    given = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert given <= known, f"{place}: `sightread {verb}` has no {', '.join(given - known)}"
    if complete and not given & {"--help", "-h"} and not {"...", "…"} & set(arguments):
        context = command.make_context(verb, arguments)  # raises where an option lacks its value, or is required
        check_settings(verb, context.params)


def check_settings(verb, parameters):
    """Each `--set key=value` must be a setting of that step."""
    from sightread.config import override
    from sightread.data.world import WorldConfig
    from sightread.finetuning import FinetuningConfig
    from sightread.grounded import GroundingConfig
    from sightread.methods.grounded_teacher import DistillationConfig
    from sightread.methods.joint_masked import JointConfig
    from sightread.methods.lexical_contrast import ContrastConfig
    from sightread.methods.matching import MatchingConfig
    from sightread.methods.unpaired import UnpairedConfig
    from sightread.methods.voken import VokenConfig
    from sightread.probes.results import ProbeConfig
    from sightread.tasks.translation import TranslationConfig

    configs = {
        "world": WorldConfig, "match": MatchingConfig, "pretrain": VokenConfig, "contrast": ContrastConfig,
        "distill": DistillationConfig, "finetune": FinetuningConfig, "translate": TranslationConfig,
        "probe": ProbeConfig, "joint": JointConfig, "associative": GroundingConfig, "find": GroundingConfig,
        "unpaired": UnpairedConfig,
    }  # fmt: skip
    if settings := parameters.get("settings"):
        override(load_recipe(parameters["runs"][0]) if verb == "compare" else configs[verb](), settings)


def test_the_readme_shows_commands():
    typed = [words[0] for place, words, complete in COMMANDS if place == "README.md" and complete]
    assert set(typed) & set(CLI.commands), "README.md has no `sightread` command in a fenced block"


def test_every_verb_shows_an_example():
    helped = {p.split()[-1]: verb_of(words) for p, words, _ in COMMANDS if p.startswith("src/sightread/cli/")}
    assert helped == {verb.split()[-1]: verb for verb in VERBS}


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(path.read_text() for path in [README, *DOCS])
    named = set(re.findall(r"(?:`|^\$? ?)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named <= targets, f"README or docs name make {', '.join(named - targets)}"
    assert "demo" in targets


def programs():
    """(place, code) of the Python blocks of README and docs, and of the examples."""
    for path in [README, *DOCS]:
        yield from ((path.name, body) for kind, body in FENCE.findall(path.read_text()) if kind in {"python", "py"})
    yield from ((path.name, path.read_text()) for path in sorted((ROOT / "examples").glob("*.py")))


@pytest.mark.parametrize(("place", "code"), programs())
def test_python_blocks_compile_and_their_names_exist(place, code):
    tree = ast.parse(code)
    compile(tree, place, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "sightread":
            module = importlib.import_module(node.module)
            missing = [a.name for a in node.names if not (hasattr(module, a.name) or submodule(node.module, a.name))]
            assert not missing, f"{place} imports {missing} from {node.module}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sightread":
            assert hasattr(sightread, node.attr), f"{place} uses sightread.{node.attr}"


def submodule(package, name):
    return find_spec(f"{package}.{name}") is not None


TEXTS = "\n".join(text for _, *pair in [*markdown_texts(), *docstring_texts()] for text in pair)


def test_modules_to_run_exist():
    assert not [name for name in re.findall(r"python -m (sightread[\w.]*)", TEXTS) if find_spec(name) is None]


RECIPES = sorted(set(re.findall(r"\brecipes\.[a-z]\w*:[a-z]\w*", TEXTS)))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_are_named_exist(name):
    load_recipe(name)


def test_recipes_are_named():
    assert {"recipes.vokenization:table5", "recipes.flickr8k:flickr8k"} <= set(RECIPES)
