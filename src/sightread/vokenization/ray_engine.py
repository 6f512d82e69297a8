"""Shards from a Ray cluster: one actor a CPU, or a GPU.

Ray Data reads its source on the workers and cannot be fed by a stream that grows in this process; hence plain actors.
Ray replaces those that are lost and repeats their tasks.
"""

from __future__ import annotations

import signal
import socket
import threading
from typing import Any

from sightread.errors import ConfigError, MissingExtra, SightreadError
from sightread.runtime import default_device, ray_address
from sightread.vokenization.engines import Made, Shards, Tasks, make
from sightread.vokenization.work import Work

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util import ActorPool
except ImportError as missing:
    raise MissingExtra("--engine ray needs Ray: pip install 'sightread[ray]'") from missing

RETRIES = 3  # of a task whose worker was lost; what killed four workers would kill them all


class _Maker:
    """Makes shards in a process of its own; fetches the work once."""

    work: Work | None = None

    def make(self, shipped: list[Any], index: int, task: Any) -> Made:
        self.work = self.work or ray.get(shipped[0])
        return make(self.work, index, task)


def on_ray(work: Work, tasks: Tasks, *, workers: int | None = None) -> Shards:
    """Make the shards on a Ray cluster.

    It is the cluster that this process is connected to; or the one named by `RAY_ADDRESS`, or begun on this machine by
    `ray start`; or a local one that ends with the job. Where this process computes on a GPU, each worker takes one.
    Tasks that are paths are read by the workers; what they make comes back to this process.

    Args:
        work: How a shard is made.
        tasks: Read no further than two tasks a worker.
        workers: Actors; None for one a CPU of the cluster, or one a GPU.

    Raises:
        ConfigError: If the cluster has no CPU, or no GPU.
        SightreadError: What the work raises; or if there is no connection, or workers die again and again.
    """
    kind = "GPU" if default_device().startswith("cuda") else "CPU"
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(workers)
        count = workers or int(ray.cluster_resources().get(kind, 0))
        if not count:
            raise ConfigError(f"the Ray cluster has no {kind}: add a machine with one, or set SIGHTREAD_DEVICE")
        maker: Any = ray.remote(
            num_cpus=1, num_gpus=int(kind == "GPU"), max_restarts=-1, max_task_retries=RETRIES
        )(_Maker)  # fmt: skip
        shipped = [ray.put(work)]  # in a list, so that it is not unpacked for every task
        pool = ActorPool([maker.remote() for _ in range(count)] * 2)  # twice: while it works, one task waits
        for task in tasks:
            if not pool.has_free():
                yield pool.get_next_unordered()
            pool.submit(lambda actor, task: actor.make.remote(shipped, *task), task)
        while pool.has_next():
            while pool.pop_idle():
                pass  # nothing refers to it, so it ends: room for one whose machine was lost
            yield pool.get_next_unordered()
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, SightreadError) else error) from None
    except RayError as error:
        raise SightreadError(
            "Ray cannot keep a worker alive (--debug shows why); what is written is kept: run again with --resume. "
            "Every machine needs the same sightread, and memory for its workers: else take fewer --workers"
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _connect(workers: int | None) -> None:
    """Join the cluster that is there, or begin one of so many CPUs."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # one that we begin listens on 127.0.0.1 alone
    quietly: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        _check_answers(ray_address())
        try:
            ray.init(num_cpus=workers, **quietly)
        except ValueError:  # a cluster that is there has its own number
            ray.init(**quietly)
    except (OSError, ValueError) as error:
        raise SightreadError(
            f"no connection to the Ray cluster ({error}): see that it is up and RAY_ADDRESS right; or, for a local "
            "one, unset RAY_ADDRESS and run `ray stop`"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # which Ray takes over


def _check_answers(address: str) -> None:
    """Raise `OSError` if nothing answers at `host:port`, where Ray itself would wait for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
