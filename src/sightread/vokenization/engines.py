"""Where shards are made: in this process, in several, or (`ray_engine`) on several machines.

An engine takes work and a stream of tasks, and yields the shards in whatever order they are ready. It asks for no more
tasks than its workers can chew on, so that memory does not grow with the corpus. Every shard is made by one thread, so
that its bytes are the same whoever makes it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from sightread.data.voken_corpus import shard_bytes
from sightread.errors import SightreadError
from sightread.runtime import Clock, default_device, one_thread
from sightread.vokenization.summary import Counts, count
from sightread.vokenization.work import Work


@dataclass(frozen=True)
class Made:
    """A shard as a worker hands it over.

    Attributes:
        index: Its number.
        data: The Parquet file.
        counts: What it holds.
        seconds: How long each stage took.
    """

    index: int
    data: bytes
    counts: Counts
    seconds: dict[str, float]


Tasks = Iterable[tuple[int, Any]]
Shards = Generator[Made, None, None]
Engine = Callable[[Work, Tasks], Shards]


def make(work: Work, index: int, task: Any) -> Made:
    """Make one shard, with one thread."""
    clock = Clock()
    with one_thread():
        try:
            shard = work(index, task, clock)
        except Exception as error:
            error.add_note(f"in shard {index}, of {str(task)[:100]}")
            raise
        with clock("writing"):
            data = shard_bytes(shard, work.num_vokens)
            counts = count((len(shard), shard.token_ids, shard.voken_ids), index, work.num_vokens)
    return Made(index, data, counts, clock.seconds)


def here(work: Work, tasks: Tasks) -> Shards:
    """Make the shards one after another in this process."""
    for index, task in tasks:
        yield make(work, index, task)


def in_processes(work: Work, tasks: Tasks, *, workers: int) -> Shards:
    """Make the shards in several processes of this machine, one a core, or one a GPU.

    Raises:
        SightreadError: If a worker dies.
    """
    on_cpu = default_device() == "cpu"
    # A forked worker shares the weights and need not import torch again; CUDA does not survive a fork
    context = multiprocessing.get_context("fork" if on_cpu and sys.platform == "linux" else "spawn")
    if not on_cpu:
        work.to("cpu")  # from where each worker takes it to its own GPU
    before = set(multiprocessing.active_children())
    numbers = None if on_cpu else context.Value("i", 0)
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (work, numbers, os.getpid()))
    try:
        waiting: set[Future[Made]] = set()
        for index, task in tasks:
            waiting.add(pool.submit(_make_here, index, task))
            if len(waiting) > workers + 1:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise SightreadError(
            "a worker died, perhaps for lack of memory; what is written is kept: run again with --resume, "
            f"and with fewer --workers than {workers} if it was memory"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()  # an idle one has nothing to lose, and a busy one's shard is made again on resume
        if not on_cpu:
            work.to(default_device())


_work: Work


def _begin_worker(work: Work, numbers: Any, parent: int) -> None:
    global _work  # noqa: PLW0603
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    if numbers is not None:
        with numbers.get_lock():
            number, numbers.value = numbers.value % torch.cuda.device_count(), numbers.value + 1
        torch.cuda.set_device(number)
        work.to(f"cuda:{number}")
    _work = work


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _make_here(index: int, task: Any) -> Made:
    return make(_work, index, task)
