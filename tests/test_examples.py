"""The examples run, each for itself, on one core, and say what they found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "vokenize_a_text.py": r"but a \w+ is .*\nthe +-?[\d.]+  .*\n(?s:.*) tokens with their vokens",
    "ground_and_finetune.py": r"text-only(?s:.*)grounded",
    "own_arm.py": r"text-only .*\nunmasked tokens alone (?s:.*)\.html",
}


def test_all_are_run():
    assert set(SAYS) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.slow
@pytest.mark.timeout(900)  # less than a minute on an idle core
@pytest.mark.parametrize("name", SAYS)
def test_examples_run(name, tmp_path):
    command, one_core = [sys.executable, EXAMPLES / name, tmp_path / "made"], {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=one_core)
    assert said.returncode == 0, said.stderr
    assert re.search(SAYS[name], said.stdout), said.stdout
