"""What the benchmarks share: the fastest of several runs, this machine's matrix rate, one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sightread.runtime import machine

SHAPES = ((1024, 64, 512), (512, 64, 1024), (1024, 384, 1536), (1024, 1536, 384), (1024, 1024, 1024))
Row = tuple[str, str]
"""What was measured, and the number with its unit."""


def fastest(run: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def matrix_rate(dtype: torch.dtype = torch.float32, seconds: float = 2.0) -> float:
    """Floating-point operations a second, on all cores, of the products of the best of `SHAPES`.

    Over some time, as a processor can do more for a moment than it can go on doing.
    """
    rates = []
    for n, k, m in SHAPES:
        a, b = torch.randn(n, k, dtype=dtype), torch.randn(k, m, dtype=dtype)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / len(SHAPES):
            a @ b
            count += 1
        rates.append(2 * count * n * k * m / (time.perf_counter() - began))
    return max(rates)


def kilobytes(file: str, field: str) -> int:
    """A field of a file of /proc; ru_maxrss is no use, as a process begins with its parent's."""
    line = next(line for line in Path("/proc", file).read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])


def measure(run: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Seconds and megabytes."""
    before, seconds = kilobytes("self/status", "VmRSS"), []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds), (kilobytes("self/status", "VmHWM") - before) / 1024


def table(rows: Sequence[Row]) -> None:
    """Print the machine and the rows."""
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name, number in rows:
        print(f"{name:<56}{number}", flush=True)
