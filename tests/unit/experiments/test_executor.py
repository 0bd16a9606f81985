"""Executors: worker processes that fail, die and are orphaned (`jax` is only named), and tasks in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pool_tasks
import psutil
import pytest
from waiting import PATIENCE, until

from crossprop.errors import CellError, ConfigError, StoreError
from crossprop.experiments import executor
from crossprop.experiments.executor import Failure, InlinePool, WorkerPool, use_keras
from crossprop.io import usable_cores
from crossprop.training.device import process_environment


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def run(tmp_path):
    """Runs tasks given as (name, what, further entries) and returns the answers by name."""

    def do(*tasks, workers=2, retries=1):
        with WorkerPool(pool_tasks.do, workers=workers, backend="jax", retries=retries) as pool:
            for name, what, *more in tasks:
                pool.submit(
                    {"folder": str(tmp_path), "name": name, "what": what, **(more[0] if more else {})}
                )
            return {task["name"]: result for task, result in pool.results()}

    return do


def test_workers_are_other_processes_with_one_thread_and_the_backend(run):
    told = run(("a", "describe"), ("b", "describe"))
    assert {answer[1:] for answer in told.values()} == {("jax", "1")}
    assert os.getpid() not in {answer[0] for answer in told.values()}


def test_task_that_raises_is_tried_again_and_then_reported_in_one_line(run, tmp_path):
    answers = run(("bad", "fail"), ("good", "answer", {"value": 1}), retries=2)
    assert answers == {"bad": Failure("CellError: no luck today"), "good": 1}
    assert pool_tasks.attempts(tmp_path, "bad") == 3


def test_task_that_raises_once_is_no_failure(run, tmp_path):
    assert run(("flaky", "fail_once")) == {"flaky": "second try"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("full_disk", "the disk is full"),
        ("disk_without_room", r"No space left on device.*network\.keras.*Free some space, then run again"),
    ],
)
def test_full_disk_of_a_worker_ends_everything(run, what, message):
    with pytest.raises(StoreError, match=message):
        run(("full", what), ("good", "answer", {"value": 1}))


def test_killed_worker_takes_only_its_own_task_with_it(run, tmp_path):
    beside = ("good0", "answer", {"value": 0, "seconds": 1})
    innocents = [(f"good{i}", "answer", {"value": i}) for i in range(1, 5)]
    answers = run(("culprit", "die", {"beside": "good0"}), beside, *innocents, workers=2, retries=1)
    assert answers == {
        "culprit": Failure(
            "its worker process was killed (by a user, or by the system because memory ran out)"
        ),
        **{f"good{i}": i for i in range(5)},
    }
    assert pool_tasks.attempts(tmp_path, "culprit") == 2  # retried once, alone
    assert [pool_tasks.attempts(tmp_path, f"good{i}") for i in range(5)] == [1] * 5


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_worker_that_is_killed_once_costs_no_task(run, ended_by):
    answers = run(("unlucky", "die_once", {"signal": ended_by}), ("good", "answer", {"value": 1}), retries=0)
    assert answers == {"unlucky": "alive", "good": 1}


@pytest.mark.parametrize(
    ("what", "more", "reason"),
    [
        ("die", {"signal": signal.SIGSEGV}, "its worker process died of SIGSEGV"),
        ("die", {"signal": signal.SIGTERM}, "its worker process died of SIGTERM"),
        ("exit", {}, "its worker process ended with code 3"),
    ],
)
def test_reason_tells_how_a_worker_ended(run, what, more, reason):
    assert run(("culprit", what, more), workers=1) == {"culprit": Failure(reason)}


def test_task_that_asks_for_too_much_memory_fails_and_the_others_finish(run, tmp_path):
    answers = run(
        ("greedy", "need_too_much"), ("silent", "run_out_of_memory"), ("good", "answer", {"value": 1})
    )
    assert answers["good"] == 1
    assert "out of memory (" in answers["greedy"].reason
    assert "Unable to allocate" in answers["greedy"].reason
    assert answers["silent"] == Failure("out of memory (MemoryError: nothing could be allocated)")
    assert pool_tasks.attempts(tmp_path, "silent") == 2


def test_task_without_memory_is_repeated_while_nothing_else_runs(run):
    others = [(f"other{i}", "work") for i in range(3)]
    # Two workers: the first task of `others` works while the greedy one begins.
    answers = run(others[0], ("greedy", "need_room"), *others[1:], workers=2, retries=1)
    assert answers["greedy"] == "enough room"


def test_error_that_cannot_be_sent_between_processes_is_the_tasks_own_failure(run, tmp_path):
    answers = run(("odd", "fail_oddly"), ("good", "answer", {"value": 1}), retries=0)
    assert answers == {"odd": Failure("_UnpicklableError: 1 and 2"), "good": 1}


def test_workers_that_cannot_start_their_backend_say_so(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no tensorflow here')")
    monkeypatch.syspath_prepend(tmp_path)  # workers search where their scheduler does
    with WorkerPool(pool_tasks.do, workers=1, backend="tensorflow", retries=0) as pool:
        pool.submit({"folder": str(tmp_path), "name": "a", "what": "answer", "value": 1})
        assert [result for _, result in pool.results()] == [Failure("ImportError: no tensorflow here")]


def test_workers_go_on_while_the_scheduler_is_busy(tmp_path):
    """The next tasks are handed out before the first result is dealt with."""
    with WorkerPool(pool_tasks.do, workers=1, backend="jax") as pool:
        for name in ("first", "second"):
            pool.submit({"folder": str(tmp_path), "name": name, "what": "answer", "value": 0})
        results = pool.results()
        assert next(results)[0]["name"] == "first"
        until(lambda: pool_tasks.attempts(tmp_path, "second") == 1)
        assert next(results)[0]["name"] == "second"


def test_worker_is_replaced_after_a_number_of_tasks(run, monkeypatch):
    monkeypatch.setattr(executor, "RECYCLED_AFTER", 2)
    told = run(*[(str(i), "describe") for i in range(5)], workers=1)
    pids = [told[str(i)][0] for i in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_worker_that_died_without_a_task_is_replaced(tmp_path):
    task = {"folder": str(tmp_path), "name": "t", "what": "describe"}
    with WorkerPool(pool_tasks.do, workers=1, backend="jax", retries=0) as pool:
        pool.submit(task)
        ((_, (pid, *_)),) = pool.results()
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([p for p in psutil.Process().children() if p.pid == pid], timeout=PATIENCE)
        pool.submit(task)
        ((_, (other, *_)),) = pool.results()
    assert other != pid


def test_tasks_of_higher_cost_start_first(tmp_path):
    with WorkerPool(pool_tasks.do, workers=1, backend="jax") as pool:
        for name, cost in (("cheap", 1.0), ("dear", 9.0), ("middle", 5.0)):
            pool.submit({"folder": str(tmp_path), "name": name, "what": "answer", "value": 0}, cost)
        assert [task["name"] for task, _ in pool.results()] == ["dear", "middle", "cheap"]


def test_tasks_can_be_added_while_results_are_read(tmp_path):
    task = {"folder": str(tmp_path), "name": "t", "what": "answer", "value": 0}
    with WorkerPool(pool_tasks.do, workers=1, backend="jax") as pool:
        pool.submit(task)
        seen = []
        for _, value in pool.results():
            seen.append(value)
            if value < 3:
                pool.submit(task | {"value": value + 1})
    assert seen == [0, 1, 2, 3]


def test_leaving_a_pool_ends_its_workers(tmp_path):
    task = {"folder": str(tmp_path), "name": "t", "what": "answer", "value": 0}
    with WorkerPool(pool_tasks.do, workers=2, backend="jax") as pool:
        pool.submit(task)
        pool.submit({**task, "name": "slow", "seconds": 300})
        for _ in pool.results():
            break
        workers = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
        assert workers
    assert not psutil.wait_procs(workers, timeout=PATIENCE)[1]


def test_workers_end_after_their_scheduler_was_killed(tmp_path):
    scheduler = subprocess.Popen([sys.executable, pool_tasks.__file__, str(tmp_path)])
    try:
        until(lambda: len(list(tmp_path.glob("task*"))) == 2 or scheduler.poll() is not None)
        assert scheduler.poll() is None
        workers = [psutil.Process(int(note.name.split(".")[1])) for note in tmp_path.glob("task*")]
        assert len({worker.pid for worker in workers}) == 2
    finally:
        scheduler.send_signal(signal.SIGKILL)
        scheduler.wait()
    assert not psutil.wait_procs(workers, timeout=PATIENCE)[1]


def test_number_of_workers_is_given_and_never_exceeds_the_cores():
    assert WorkerPool(pool_tasks.do, workers=1).workers == 1
    assert WorkerPool(pool_tasks.do).workers == usable_cores() >= 1
    assert WorkerPool(pool_tasks.do, workers=1000).workers == usable_cores()


def task(name: str) -> Any:
    return SimpleNamespace(needs_keras=False, name=name)


def test_dear_tasks_come_first_and_new_ones_may_join():
    with InlinePool(lambda given: given.name) as pool:
        pool.submit(task("cheap"), 1.0)
        pool.submit(task("dear"), 9.0)
        seen = []
        for done, result in pool.results():
            seen.append((done.name, result))
            if done.name == "dear":
                pool.submit(task("late"), 5.0)
    assert seen == [("dear", "dear"), ("late", "late"), ("cheap", "cheap")]


def test_a_failing_task_is_tried_again_and_then_a_failure():
    tries = []

    def run(given: Any) -> str:
        tries.append(given.name)
        if given.name == "never" or len(tries) == 1:
            raise CellError(f"attempt {len(tries)}\nof it")
        return "done"

    pool = InlinePool(run, retries=1)
    pool.submit(task("second time"), 2.0)
    pool.submit(task("never"), 1.0)
    assert [(done.name, result) for done, result in pool.results()] == [
        ("second time", "done"),
        ("never", Failure("CellError: attempt 4 of it")),
    ]


def test_what_cannot_be_stored_ends_everything():
    def run(given: Any) -> None:
        raise StoreError("the disk is full")

    pool = InlinePool(run, retries=3)
    pool.submit(task("a"))
    with pytest.raises(StoreError, match="disk is full"):
        list(pool.results())


def test_keras_on_another_backend_is_refused(monkeypatch):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(ConfigError, match=r"'torch'.*workers=2"):
        use_keras("tensorflow")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax")))
    use_keras("jax")
