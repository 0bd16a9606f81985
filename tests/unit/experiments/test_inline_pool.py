"""The pool that works in this process."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from crossprop.errors import CellError, ConfigError, StoreError
from crossprop.experiments.executor import Failure, InlinePool, use_keras


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
