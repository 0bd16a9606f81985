"""Threads shared by all compiled models: every task is done once, errors are heard, and callers take turns."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from waiting import PATIENCE, until

from crossprop.inference.compiled import available_threads, run_tasks


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_every_task_is_done_once(threads, n):
    done: list[int] = []
    run_tasks([partial(done.append, i) for i in range(n)], threads)
    assert sorted(done) == list(range(n))


@pytest.mark.parametrize("error", [ValueError("broken"), IndexError("broken"), KeyboardInterrupt("broken")])
def test_error_of_a_task_reaches_the_caller_and_ends_the_others(error):
    done: list[int] = []

    def fail():
        raise error

    def slow(i: int) -> None:
        time.sleep(0.005)
        done.append(i)

    with pytest.raises(type(error), match="broken"):
        run_tasks([fail, *(partial(slow, i) for i in range(999))], 2)
    assert len(done) < 999
    run_tasks([partial(done.append, -1)] * 2, 2)
    assert done[-2:] == [-1, -1], "the threads are alive"


def test_tasks_run_at_the_same_time_but_no_more_than_allowed():
    running, most, lock, together = [0], [0], threading.Lock(), threading.Barrier(3, timeout=PATIENCE)

    def task():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait()
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    run_tasks([task] * 30, 3)
    assert most[0] == 3


def test_small_job_does_not_wait_for_a_large_one_that_came_first():
    done: list[int] = []

    def task(i: int) -> None:
        time.sleep(0.01)
        done.append(i)

    large = threading.Thread(target=run_tasks, args=([partial(task, i) for i in range(300)], 2))
    large.start()
    until(lambda: done)
    run_tasks([partial(time.sleep, 0.001)] * 2, 2)
    assert len(done) < 200, "the small job's tasks took their turn"
    large.join()


def test_short_tasks_are_done_several_in_one_turn(monkeypatch):
    turns: list[object] = []
    submit = ThreadPoolExecutor.submit
    monkeypatch.setattr(
        ThreadPoolExecutor, "submit", lambda self, *given: (turns.append(given), submit(self, *given))[1]
    )
    run_tasks([lambda: None] * 2000, 2)
    assert 0 < len(turns) < 1000


def test_there_is_a_thread_for_every_core():
    assert available_threads() >= 1


def test_child_process_has_threads_of_its_own():
    run_tasks([partial(time.sleep, 0.0)] * 4, 2)
    child = os.fork()
    if not child:
        done: list[int] = []
        run_tasks([partial(done.append, i) for i in range(4)], 2)
        os._exit(0 if sorted(done) == [0, 1, 2, 3] else 1)
    deadline = time.monotonic() + PATIENCE
    while (state := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if not state[0]:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert state == (child, 0)
