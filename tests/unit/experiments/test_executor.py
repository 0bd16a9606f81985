"""Executors: worker processes that fail, die and are orphaned (`jax` is only named), and tasks in this process."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pool_tasks
import psutil
import pytest
from waiting import PATIENCE, until

from crossprop.errors import CellError, ConfigError, StoreError
from crossprop.experiments import executor
from crossprop.experiments.executor import Failure, InlinePool, WorkerPool, use_keras
from crossprop.io import usable_cores

pytestmark = pytest.mark.usefixtures("environment_is_restored")
KILLED = "its worker process was killed (by a user, or by the system because memory ran out)"


@pytest.fixture
def run(task):
    """Runs tasks given as (name, what, further entries) and returns the answers by name."""

    def do(*tasks, workers=2, retries=1, backend="jax"):
        with WorkerPool(pool_tasks.do, workers=workers, backend=backend, retries=retries) as pool:
            for name, what, *more in tasks:
                pool.submit(task(name, what, **(more[0] if more else {})))
            return {task["name"]: result for task, result in pool.results()}

    return do


def test_workers_are_other_processes_with_one_thread_and_the_backend(run):
    told = run(("a", "describe"), ("b", "describe"))
    assert {answer[1:] for answer in told.values()} == {("jax", "1")}
    assert os.getpid() not in {answer[0] for answer in told.values()}
    assert [WorkerPool(pool_tasks.do, workers=n).workers for n in (0, 1000)] == [usable_cores()] * 2


def test_task_that_raises_is_tried_again_and_then_reported_in_one_line(run, tmp_path):
    tasks = (("bad", "fail"), ("flaky", "fail_once"), ("good", "answer"), ("odd", "fail_oddly"))
    assert run(*tasks, retries=2) == {
        "bad": Failure("CellError: no luck today"),
        "flaky": "second try",
        "good": "done",
        "odd": Failure("_UnpicklableError: 1 and 2"),
    }
    assert pool_tasks.attempts(tmp_path, "bad") == 3


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        (("die_once", {}), "alive"),
        (("die", {"signal": signal.SIGKILL}), Failure(KILLED)),
        (("die", {"signal": signal.SIGSEGV}), Failure("its worker process died of SIGSEGV")),
        (("exit", {}), Failure("its worker process ended with code 3")),
    ],
)
def test_worker_that_dies_once_costs_no_task_and_the_reason_tells_how_it_ended(run, tmp_path, what, answer):
    answers = run(("unlucky", *what), ("good", "answer"), workers=1, retries=0)
    assert answers == {"unlucky": answer, "good": "done"}
    assert [pool_tasks.attempts(tmp_path, name) for name in ("unlucky", "good")] == [2, 1]


def test_task_without_memory_is_repeated_while_nothing_else_runs_and_then_fails(run, tmp_path):
    # Two workers: the first task of `work` works while the one that needs room begins.
    tasks = (("first", "work"), ("large", "need_room"), ("second", "work"), ("greedy", "need_too_much"))
    answers = run(*tasks, retries=0)  # whatever they say
    assert answers["large"] == "enough room"
    assert "out of memory (" in answers["greedy"].reason
    assert "Unable to allocate" in answers["greedy"].reason
    assert pool_tasks.attempts(tmp_path, "greedy") == 2


def test_worker_is_replaced_after_a_number_of_tasks_or_when_it_dies_without_one(task, monkeypatch):
    monkeypatch.setattr(executor, "RECYCLED_AFTER", 2)
    with WorkerPool(pool_tasks.do, workers=1, backend="jax", retries=0) as pool:

        def pids(tasks):
            for i in range(tasks):
                pool.submit(task(str(i), "describe"))
            return [pid for _, (pid, *_) in pool.results()]

        first, second, third = pids(3)
        assert first == second != third
        os.kill(third, signal.SIGKILL)
        psutil.wait_procs([p for p in psutil.Process().children() if p.pid == third], timeout=PATIENCE)
        assert pids(1) != [third]


def test_dear_tasks_start_first_new_ones_may_join_and_leaving_ends_the_workers(task, tmp_path):
    with WorkerPool(pool_tasks.do, workers=1, backend="jax") as pool:
        for name, cost in (("cheap", 1.0), ("dear", 9.0), ("middle", 5.0)):
            pool.submit(task(name), cost)
        seen = []
        for done, _ in pool.results():
            seen.append(done["name"])
            if seen == ["dear"]:
                until(lambda: pool_tasks.attempts(tmp_path, "middle") == 1)  # it was handed out before
                pool.submit(task("late"), 3.0)
        assert seen == ["dear", "middle", "late", "cheap"]
        workers = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
        assert workers
    assert not psutil.wait_procs(workers, timeout=PATIENCE)[1]


def test_workers_end_after_their_scheduler_was_killed(tmp_path):
    scheduler = subprocess.Popen([sys.executable, pool_tasks.__file__, str(tmp_path)])
    try:
        until(lambda: len(list(tmp_path.glob("task*"))) == 2 or scheduler.poll() is not None)
        assert scheduler.poll() is None
        workers = [psutil.Process(int(note.name.split(".")[1])) for note in tmp_path.glob("task*")]
    finally:
        scheduler.kill()
        scheduler.wait()
    assert not psutil.wait_procs(workers, timeout=PATIENCE)[1]


def test_inline_pool_takes_dear_tasks_first_tries_again_and_ends_where_nothing_can_be_stored():
    tries = []

    def run(given):
        tries.append(given.name)
        if given.name == "full":
            raise StoreError("the disk is full")
        if given.name == "never" or len(tries) == 1:
            raise CellError(f"attempt {len(tries)}\nof it")
        return "done"

    pool = InlinePool(run, retries=1)
    for cost, name in enumerate(("full", "never", "second time")):
        pool.submit(SimpleNamespace(needs_keras=False, name=name), cost)
    results = pool.results()
    assert next(results)[1] == "done"
    assert next(results)[1] == Failure("CellError: attempt 4 of it")
    with pytest.raises(StoreError, match="disk is full"):
        next(results)
    assert tries == ["second time"] * 2 + ["never"] * 2 + ["full"]


def test_keras_on_another_backend_is_refused(monkeypatch):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(ConfigError, match=r"'torch'.*workers=2"):
        use_keras("tensorflow")
    use_keras("torch")
