"""Jobs that rest on one another, shared among processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sightread.errors import ConfigError
from sightread.runtime import worker_pool


@dataclass(frozen=True)
class Job:
    """A call.

    Attributes:
        name: What it is called.
        function: What is called; importable, so that another process finds it.
        arguments: With what.
        after: Name of the job that it rests on; "" for none.
    """

    name: str
    function: Callable[..., Any]
    arguments: Sequence[Any] = field(default_factory=tuple)
    after: str = ""


class Done(NamedTuple):
    """A job that is done, and what it returned."""

    job: Job
    result: Any


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[Done]:
    """Run jobs, each once the one that it rests on is done.

    Args:
        jobs: The jobs, none before the one that it rests on.
        workers: Processes that share the cores; with one, all is done here.

    Raises:
        ConfigError: As `check_order`.
    """
    check_order(jobs)
    following = {name: [job for job in jobs if job.after == name] for name in ["", *(job.name for job in jobs)]}
    return _run_here(following) if workers == 1 else _run_apart(following, workers)


def check_order(named: Sequence[Any]) -> None:
    """Raise `ConfigError` if two jobs have one name, or one does not stand after the one that it rests on.

    Args:
        named: Whatever has a `name` and an `after`.
    """
    before = list[str]()
    for job in named:
        if job.name in before:
            raise ConfigError(f"{job.name!r} stands twice; give each a name of its own")
        if job.after and job.after not in before:
            known = ", ".join(before) or "nothing"
            raise ConfigError(f"{job.name!r} rests on {job.after!r}, which must stand before it; there stands {known}")
        before.append(job.name)


def _run_here(following: dict[str, list[Job]]) -> Iterator[Done]:
    waiting = following[""]
    while waiting:
        job, *waiting = waiting
        yield Done(job, job.function(*job.arguments))
        waiting = following[job.name] + waiting


def _run_apart(following: dict[str, list[Job]], workers: int) -> Iterator[Done]:
    before = set(multiprocessing.active_children())
    pool = worker_pool(workers)

    def submit(jobs: Sequence[Job]) -> dict[Future[Any], Job]:
        return {pool.submit(job.function, *job.arguments): job for job in jobs}

    try:
        running = submit(following[""])
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, result = running.pop(future), future.result()
                running |= submit(following[job.name])
                yield Done(job, result)
        pool.shutdown()  # a process that ends by itself gives back its semaphores, tqdm's among them
    finally:  # after a fault, or Ctrl-C, nothing that waits is begun, and nothing that runs is waited for
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
