"""Device, seeds, threads; the only reader of environment variables."""

import os
import random
from pathlib import Path

import numpy as np


def data_root() -> Path | None:
    """The folder of real data and weights named by `SIGHTREAD_DATA`, or None where it is unset or absent."""
    value = os.environ.get("SIGHTREAD_DATA")
    return Path(value) if value and Path(value).is_dir() else None


def default_device() -> str:
    """`SIGHTREAD_DEVICE` if set, else "cuda" where there is a GPU, else "cpu"."""
    import torch

    return os.environ.get("SIGHTREAD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def keyed_rng(*key: int) -> np.random.Generator:
    """A generator that depends on its key alone, e.g. (seed, epoch, example).

    Masks and negatives drawn from it are the same whatever ran before, which is what makes a resumed run
    equal to an uninterrupted one, and an arm comparable with its control.
    """
    return np.random.default_rng(key)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, for initial weights and dropout."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (other libraries draw from it)
    torch.manual_seed(seed)


def use_threads(count: int) -> None:
    """Let torch use `count` threads in this process; for workers that share the cores."""
    import torch

    torch.set_num_threads(count)


def machine() -> dict[str, str]:
    """What ran this, for manifests and reports: processor, cores, GPU, versions."""
    import platform

    import torch
    import transformers

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
