"""The writer thread: it keeps nobody waiting, waits for a store that is away, and tells of every other error."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from crossprop.errors import TrackingError
from crossprop.experiments import results
from crossprop.experiments.results import BackgroundRecorder, StoreOutOfReachError


@pytest.fixture(autouse=True)
def pauses_are_short(monkeypatch):
    monkeypatch.setattr(results, "FIRST_PAUSE_SECONDS", 0.01)


def outcome(cell: str):
    return SimpleNamespace(result=SimpleNamespace(cell=cell))


class Store:
    """A recorder that can be closed, away for a number of calls, or broken at some cell."""

    def __init__(self, *, away: int = 0, broken_at: str = ""):
        self.away, self.broken_at = away, broken_at
        self.cells: list[str] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.open.set()

    def record(self, outcome):
        self.threads.add(threading.get_ident())
        self.open.wait(30)
        if self.away:
            self.away -= 1
            raise StoreOutOfReachError("nothing answers at http://tracking.")
        if outcome.result.cell == self.broken_at:
            raise TrackingError("the disk is full")
        self.cells.append(outcome.result.cell)
        return f"run-{outcome.result.cell}"


def study(work, store, **options):
    with BackgroundRecorder(store, write=lambda line: None, **options) as recorder:
        work(recorder)


def test_cells_are_written_by_one_thread_of_its_own_and_submitting_does_not_wait_for_it():
    store = Store()
    store.open.clear()
    with BackgroundRecorder(store) as recorder:
        for cell in "abc":
            recorder.submit(outcome(cell))
        assert store.cells == []
        store.open.set()
        assert recorder.finish() == {"a": "run-a", "b": "run-b", "c": "run-c"}
        recorder.submit(outcome("d"))  # leaving without finishing writes everything, too
    assert store.cells == ["a", "b", "c", "d"]
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads


@pytest.mark.parametrize("asked", ["submit", "check", "finish"])
def test_error_of_the_writer_ends_the_study_as_it_was_and_early(asked):
    store = Store(broken_at="b")

    def endless(recorder):
        recorder.submit(outcome("a"))
        recorder.submit(outcome("b"))
        for _ in range(1000):
            recorder.submit(outcome("c")) if asked == "submit" else getattr(recorder, asked)()
            time.sleep(0.01)
        raise AssertionError("the study was not told")

    with pytest.raises(TrackingError, match=r"^the disk is full$"):
        study(endless, store)
    assert store.cells == ["a"]


def test_store_that_is_away_for_a_while_costs_no_cell_and_is_told_of_once():
    store, lines = Store(away=4), list[str]()
    with BackgroundRecorder(store, write=lines.append) as recorder:
        for cell in "ab":
            recorder.submit(outcome(cell))
        assert recorder.finish() == {"a": "run-a", "b": "run-b"}
    assert len(lines) == 2
    assert lines[0].startswith("nothing answers at http://tracking. The study goes on meanwhile")
    assert "tried again for 15 minutes" in lines[0]
    assert "answers again" in lines[1]


def test_patience_ends_with_the_stores_own_error():
    started = time.monotonic()
    with pytest.raises(StoreOutOfReachError, match=r"^nothing answers"):
        study(lambda recorder: recorder.submit(outcome("a")), Store(away=10**9), patience=0.2)
    assert time.monotonic() - started >= 0.2


def test_error_of_the_study_leaves_the_queue_to_the_next_run(monkeypatch):
    monkeypatch.setattr(results, "FIRST_PAUSE_SECONDS", 250.0)
    store = Store(away=1)

    def interrupted(recorder):
        for cell in "abc":
            recorder.submit(outcome(cell))
        while store.away:
            time.sleep(0.01)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        study(interrupted, store)
    assert time.monotonic() - started < 250  # the pause is cut short
    assert store.cells == []
