"""Jobs run once the ones that they rest on are done, whoever runs them."""

import multiprocessing.util
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sightread.errors import ConfigError
from sightread.experiments import jobs
from sightread.experiments.jobs import Job, run_jobs

AFTER = {"a": "", "b": "", "after b": "b", "after a": "a", "last": "after a"}


@pytest.fixture(params=[1, 2])
def workers(request, monkeypatch):
    """One, here; or two, which are threads, as processes are slow to start."""
    monkeypatch.setattr(jobs, "worker_pool", ThreadPoolExecutor)
    return request.param


def test_every_job_runs_once_and_after_the_one_it_rests_on(workers):
    ran = []
    done = list(run_jobs([Job(name, lambda n: ran.append(n) or n.upper(), (name,), AFTER[name]) for name in AFTER],
                         workers))  # fmt: skip
    assert {job.name: result for job, result in done} == {name: name.upper() for name in AFTER}
    assert sorted(ran) == sorted(AFTER)
    for order in (ran, [job.name for job, _ in done]):
        assert all(order.index(AFTER[name]) < order.index(name) for name in AFTER if AFTER[name])


def test_with_one_worker_what_follows_a_job_comes_next():
    done = run_jobs([Job(name, str, after=after) for name, after in AFTER.items()], 1)
    assert [job.name for job, _ in done] == ["a", "after a", "last", "b", "after b"]


def test_two_workers_work_at_once(monkeypatch):
    monkeypatch.setattr(jobs, "worker_pool", ThreadPoolExecutor)
    meeting = threading.Barrier(2, timeout=10)
    assert len(list(run_jobs([Job(name, meeting.wait) for name in "ab"], 2))) == 2


def test_the_first_fault_ends_it(workers):
    done = run_jobs([Job("good", str), Job("bad", int, ("x",)), Job("never", str, after="bad")], workers)
    with pytest.raises(ValueError, match="invalid literal"):
        list(done)


def test_a_fault_is_told_at_once_and_what_waits_is_dropped(monkeypatch):
    monkeypatch.setattr(jobs, "worker_pool", ThreadPoolExecutor)
    free, begun = threading.Event(), []
    waiting = [Job(f"waits {i}", lambda i=i: begun.append(i) or free.wait(10)) for i in range(5)]
    done = run_jobs([Job("bad", int, ("x",)), *waiting], 2)
    began = time.monotonic()
    with pytest.raises(ValueError, match="invalid literal"):
        list(done)
    assert time.monotonic() - began < 5
    free.set()
    assert len(begun) <= 2  # one on each thread


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("a", ""), ("a", "")], "'a' stands twice"),
        ([("a", ""), ("b", "c")], "'b' rests on 'c', which must stand before it; there stands a"),
        ([("b", "a"), ("a", "")], "'b' rests on 'a', which must stand before it; there stands nothing"),
        ([("a", "a")], "'a' rests on 'a'"),
    ],
)
def test_jobs_that_could_never_run_are_refused_before_any_does(given, message):
    with pytest.raises(ConfigError, match=message):
        run_jobs([Job(name, pytest.fail, after=after) for name, after in given], 1)


@pytest.mark.slow
def test_processes_of_their_own():
    found = dict(run_jobs([Job("a", os.getpid), Job("b", os.getpid, after="a")], 2))
    assert os.getpid() not in found.values()


@pytest.mark.slow
def test_processes_end_by_themselves_when_all_is_done(tmp_path):
    """They give back what they hold, tqdm's semaphores among it."""
    assert len([*run_jobs([Job("a", tidy_up, (tmp_path / "tidied",))], 2)]) == 1
    assert (tmp_path / "tidied").exists()


def tidy_up(file):
    multiprocessing.util.Finalize(None, file.touch, exitpriority=0)


@pytest.mark.slow
def test_processes_that_still_work_are_ended_with_the_first_fault():
    began = time.monotonic()
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_jobs([Job("bad", int, ("x",)), *(Job(f"long {i}", time.sleep, (60,)) for i in range(3))], 2))
    assert time.monotonic() - began < 20
