"""What the benchmarks share: the fastest of several runs, this machine's matrix rate, one table."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sightread.runtime import default_device, machine

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
    """Floating-point operations a second, on all cores or our GPU, of the products of the best of `SHAPES`.

    Over some time, as a processor can do more for a moment than it can go on doing.
    """
    rates, device = [], default_device()
    for n, k, m in SHAPES:
        a, b = torch.randn(n, k, dtype=dtype, device=device), torch.randn(k, m, dtype=dtype, device=device)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / len(SHAPES):
            for _ in range(100 if device != "cpu" else 1):
                a @ b
                count += 1
            if device != "cpu":
                torch.cuda.synchronize()
        rates.append(2 * count * n * k * m / (time.perf_counter() - began))
    return max(rates)


def kilobytes(file: str, field: str) -> int:
    """A field of a file of /proc; ru_maxrss is no use, as a process begins with its parent's."""
    line = next(line for line in Path("/proc", file).read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])


def watched(process: subprocess.Popen[Any]) -> float:
    """Waits for a process; the megabytes of itself or the largest of its children, whichever are more."""
    most = 0
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with suppress(OSError, StopIteration):  # it ends
            for pid in (process.pid, *children.read_text().split()):
                most = max(most, kilobytes(f"{pid}/status", "VmHWM"))
        time.sleep(0.1)
    return most / 1024


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
