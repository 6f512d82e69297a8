import os
import signal
import sys
import time

import pytest

from sightread.data.corpora import Corpus
from sightread.errors import DataError, MissingExtra, SightreadError
from sightread.vokenization.engines import here
from sightread.vokenization.job import cut, engine_of
from sightread.vokenization.work import Vokenize
from sightread.vokenizer import Vokenizer

WORKERS = 2


@pytest.fixture
def ray(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("start_log_monitor", "start_monitor"):  # an interpreter each, for what no test reads
        monkeypatch.setattr(f"ray._private.node.Node.{name}", lambda _: None)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    yield ray
    assert not ray.is_initialized()


class Troubled:
    """Work that kills its worker the first time it makes shard 3, and complains of a shard without lines, once the test
    has all others."""

    def __init__(self, work, folder):
        self.work, self.num_vokens, self.killed, self.rest = work, work.num_vokens, folder / "killed", folder / "rest"

    def __call__(self, index, task, clock):
        if index == 3 and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if task is None:
            while not self.rest.exists():
                time.sleep(0.01)
            raise DataError("a line is bad; mend it")
        return self.work(index, task, clock)


def essence(made):
    return made.index, made.data, made.counts.tokens, made.counts.used.tolist(), made.counts.pairs.tolist()


@pytest.mark.slow
@pytest.mark.timeout(400)  # seven interpreters begin, one after another where the machine is busy
def test_the_same_shards_though_a_worker_is_killed(ray, vokenizer_folder, world_folder, tmp_path):
    work = Vokenize(Vokenizer.from_pretrained(vokenizer_folder))
    tasks = list(enumerate(cut(Corpus(world_folder / "corpus.txt"), 150)))
    assert len(tasks) > 4 * WORKERS
    read, found, pending, addresses = [], [], [], set()

    def run():
        stream = (read.append(task) or task for task in [*tasks, (len(tasks), None)])
        for made in engine_of("ray", WORKERS)(Troubled(work, tmp_path), stream):
            found.append(essence(made))
            pending.append(len(read) - len(found))
            addresses.update(node["NodeManagerAddress"] for node in ray.nodes())
            if len(found) == len(tasks):
                (tmp_path / "rest").touch()

    with pytest.raises(DataError, match=r"^a line is bad; mend it"):
        run()
    assert (tmp_path / "killed").exists()
    assert sorted(found) == [essence(made) for made in here(work, tasks)]
    assert max(pending) <= 2 * WORKERS  # the stream is not read ahead
    assert addresses == {"127.0.0.1"}  # a cluster of ours is not open to the network


def die(index, task, clock):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_always_die_are_given_up(ray, monkeypatch):
    from sightread.vokenization import ray_engine

    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    with pytest.raises(SightreadError, match=r"cannot keep a worker alive.*--resume"):
        list(ray_engine.on_ray(die, [(0, ["a box"])], workers=1))


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sightread.vokenization.ray_engine", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'sightread\[ray\]'"):
        engine_of("ray", 2)


def test_an_address_where_nothing_answers_is_told_at_once(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # port 9 throws away what it is sent, where it is there at all
    with pytest.raises(SightreadError, match=r"no connection to the Ray cluster .*refused.*unset RAY_ADDRESS"):
        next(engine_of("ray", 1)(None, iter(())))
