"""Device, seeds, threads; the only reader of environment variables."""

import os
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sightread.origin import processor

T = TypeVar("T")


def data_root() -> Path | None:
    """The folder of real data and weights named by `SIGHTREAD_DATA`, or None where it is unset or absent."""
    value = os.environ.get("SIGHTREAD_DATA")
    return Path(value) if value and Path(value).is_dir() else None


def ray_address() -> str:
    """`RAY_ADDRESS`, the cluster that Ray joins; "" if it is not set."""
    return os.environ.get("RAY_ADDRESS", "")


def default_device() -> str:
    """`SIGHTREAD_DEVICE` if set, else "cuda" where there is a GPU, else "cpu"."""
    import torch

    return os.environ.get("SIGHTREAD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_devices() -> int:
    """The GPUs, or where there is none the cores that this process may use; 1 of any other kind, or if it is named by
    its number."""
    import torch

    return {"cuda": torch.cuda.device_count(), "cpu": num_cores()}.get(default_device(), 1)


def has_fast_bf16(device: str | None = None) -> bool:
    """Whether a device, by default ours, multiplies in bfloat16, rather than by way of single precision."""
    import torch

    if (device or default_device()).startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


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


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes that share the cores, each with its part of the threads."""
    threads = max(num_cores() // workers, 1)
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=use_threads, initargs=(threads,))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, so that sums are taken in one order whatever the machine has."""
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(former)


class Clock:
    """Adds up how long each stage of a work took.

    Attributes:
        seconds: By stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what runs within."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; what it takes to make each is timed."""
        iterator, end = iter(items), object()
        while True:
            with self(stage):
                item: Any = next(iterator, end)
            if item is end:
                return
            yield item


def quiet_progress() -> None:
    """Keep the printing of Transformers and its Trainer out of the way of runs that tell how they go themselves."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def machine() -> dict[str, str]:
    """What ran this, for manifests and reports: processor, cores, GPU, versions."""
    import platform

    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
