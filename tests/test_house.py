"""The house stands: imports go down only, names are kept, importing costs nothing, and what is forbidden is absent."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sightread

SRC = Path(sightread.__file__).parent
TREES = {path.relative_to(SRC).as_posix(): ast.parse(path.read_text()) for path in sorted(SRC.rglob("*.py"))}

LEVELS = (  # from the ground up; a module imports what lies strictly below it
    "errors origin squad",
    "artifacts checks config contracts metrics runtime templates",
    "statistics",
    "scores",
    "data runs",
    "encoders",
    "modules",
    "bank train task_model",
    "vokenizer pretraining",
    "association",
    "grounded xbert",
    "finetuning aware",
    "methods vokenization tasks probes analysis",
    "compare",
    "report web",
    "hub pages",
    "experiments",
    "recipes",
    "cli",
)
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names.split()}
# but no method, task or recipe a fellow
FELLOWS_MAY_MEET = {
    "association", "cli", "data", "encoders", "experiments", "hub", "modules", "vokenization", "probes", "analysis",
    "pages", "templates", "web",
}  # fmt: skip

PUBLIC_NAMES = [
    "Corpus", "ImageBank", "ImageEncoder", "SightreadError", "TextEncoder", "VokenCorpus", "Vokenizer", "__version__",
    "build_bank", "finetune", "finetune_seeds", "fit", "load_encoder", "read_captions", "revokenize", "vokenize",
]  # fmt: skip

FORBIDDEN = {  # what, and why never
    r"pickle": "runs code when loaded",
    r"(?<!safetensors\.)torch\.load\b": "is pickle",
    r"(?<![.\w])eval\(": "runs what it is given",
    r"(?<![.\w])exec\(": "runs what it is given",
    r"shell=True": "runs what it is given",
    r"0\.0\.0\.0": "opens the machine to its network",
}


def imports(file):
    """Dotted names below `sightread` that a file imports, inside functions too."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "sightread"):
            assert not node.level, f"{file}:{node.lineno} imports relatively"
            inside = node.module.removeprefix("sightread").lstrip(".")
            for name in (f"{inside}.{alias.name}".lstrip(".") for alias in node.names):
                yield name if module_file(name) else inside
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("sightread.") for a in node.names if a.name.startswith("sightread"))


def module_file(dotted):
    """The file of a module or package below `sightread`, or None."""
    stem = dotted.replace(".", "/")
    return next((file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in TREES), None)


def top(path):
    """What a file or module belongs to: its package folder, or itself."""
    return path.removesuffix(".py").replace(".", "/").split("/")[0]


def modules_after(code):
    """Top-level modules that are loaded after running `code` in a fresh interpreter."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_every_file_has_its_place():
    assert {top(file) for file in TREES} - {"__init__"} == set(LEVEL_OF)


@pytest.mark.parametrize("file", [file for file in TREES if file != "__init__.py"])
def test_imports_go_down_only(file):
    mine = top(file)
    for name in imports(file):
        theirs = top(name)
        assert theirs in LEVEL_OF, f"{file} imports {name}, which has no place in the house"
        fellow = theirs == mine and mine in FELLOWS_MAY_MEET
        assert fellow or LEVEL_OF[theirs] < LEVEL_OF[mine], f"{file} imports {name}, which is not below it"


def test_no_import_cycles():
    graph = {file: {module_file(name) for name in imports(file)} for file in TREES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("errors.py") < order.index("cli/__init__.py")


@pytest.mark.parametrize("module", ["sightread", "sightread.cli"])
def test_importing_loads_nothing_heavy(module):
    loaded = modules_after(f"import {module}")
    assert "sightread" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "numpy", "scipy", "sklearn", "pyarrow", "PIL", "pydantic"}


def test_public_names_are_frozen():
    assert sorted(sightread.__all__) == PUBLIC_NAMES == sorted(dir(sightread))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_names_resolve(name):
    getattr(sightread, name)  # now its module is imported, and may hide the name behind a folder's
    assert name == "__version__" or callable(getattr(sightread, name))


def test_unknown_names_get_the_list():
    with pytest.raises(AttributeError, match=r"'nope'.*ImageBank.*vokenize"):
        sightread.nope  # noqa: B018


@pytest.mark.parametrize("file", TREES)
def test_public_names_have_docstrings(file):
    assert ast.get_docstring(TREES[file]), file
    bare = [node.name for node in public_definitions(TREES[file]) if not ast.get_docstring(node)]
    assert not bare, f"{file}: no docstring for {', '.join(bare)}"


def public_definitions(scope):
    """Public functions and classes of a module, and the public methods of its public classes."""
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def code_of(tree):
    """A module's code written anew, without comments and docstrings, which may speak of what is forbidden."""
    bare = ast.parse(ast.unparse(tree))
    for node in ast.walk(bare):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(...)
    return ast.unparse(bare)


CODE = {file: code_of(tree) for file, tree in TREES.items()}


@pytest.mark.parametrize(("pattern", "reason"), FORBIDDEN.items())
def test_the_forbidden_never_occurs(pattern, reason):
    assert not [file for file, code in CODE.items() if re.search(pattern, code)], reason


@pytest.mark.parametrize("line", ["import pickle", "torch.load(x)", "eval(x)", "run(x, shell = True)", "h = '0.0.0.0'"])
def test_the_forbidden_would_be_found(line):
    assert any(re.search(pattern, code_of(ast.parse(line))) for pattern in FORBIDDEN)


def test_one_reader_of_the_environment():
    readers = [file for file, code in CODE.items() if re.search(r"\benviron\b|\bgetenv\b", code)]
    assert readers == ["runtime.py"]
