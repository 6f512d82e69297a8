"""What made a result: this version of sightread, its commit where that is known, and the machine; for manifests."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def made_with() -> dict[str, str]:
    """Version, commit, Python and processor, and of the libraries that are in use the versions, and the instructions
    that torch uses. Nothing is imported to know."""
    torch: Any = sys.modules.get("torch")
    libraries = ("torch", "transformers", "tokenizers")
    found = {
        "sightread": _version(), "commit": commit(Path(__file__).parents[2]), "processor": processor(),
        "cores": str(os.cpu_count()), "python": platform.python_version(),
        **{name: getattr(sys.modules.get(name), "__version__", "") for name in libraries},
        "instructions": torch.backends.cpu.get_cpu_capability() if torch else "",
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


@cache
def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def commit(folder: Path) -> str:
    """The commit that a Git checkout stands at, "" where there is none; changes since then are not known."""
    git = folder / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [name]), "")
    except OSError:
        return ""


@cache
def _version() -> str:
    try:
        return version("sightread")
    except PackageNotFoundError:  # run from a folder of sources
        return ""
