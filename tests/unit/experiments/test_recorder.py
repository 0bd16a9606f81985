"""The writer thread: it keeps nobody waiting, waits for a store that is away, and tells of every other error."""

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


class Store:
    """A recorder that can be closed, away for a number of calls, or broken at some cell."""

    def __init__(self, *, away: int = 0, broken_at: str = ""):
        self.away, self.broken_at = away, broken_at
        self.cells: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, outcome):
        self.open.wait(30)
        if self.away:
            self.away -= 1
            raise StoreOutOfReachError("nothing answers at http://tracking.")
        if outcome.result.cell == self.broken_at:
            raise TrackingError("the disk is full")
        self.cells.append(outcome.result.cell)
        return f"run-{outcome.result.cell}"


def submit(recorder, cells):
    for cell in cells:
        recorder.submit(SimpleNamespace(result=SimpleNamespace(cell=cell)))


def test_cells_are_written_in_their_order_and_submitting_does_not_wait_for_it():
    store = Store()
    store.open.clear()
    with BackgroundRecorder(store) as recorder:
        submit(recorder, "abc")
        assert store.cells == []
        store.open.set()
        assert recorder.finish() == {"a": "run-a", "b": "run-b", "c": "run-c"}
        submit(recorder, "d")  # leaving without finishing writes everything, too
    assert store.cells == ["a", "b", "c", "d"]


def test_error_of_the_writer_ends_the_study_as_it_was_and_early():
    store = Store(broken_at="b")

    def study():
        with BackgroundRecorder(store) as recorder:
            submit(recorder, "ab")
            for _ in range(1000):
                submit(recorder, "c")
                time.sleep(0.01)
            raise AssertionError("the study was not told")

    with pytest.raises(TrackingError, match=r"^the disk is full$"):
        study()
    assert store.cells == ["a"]


def test_store_that_is_away_for_a_while_costs_no_cell_and_its_error_ends_the_patience():
    lines = list[str]()
    with BackgroundRecorder(Store(away=4), write=lines.append) as recorder:
        submit(recorder, "ab")
        assert recorder.finish() == {"a": "run-a", "b": "run-b"}
    assert len(lines) == 2
    assert lines[0].startswith("nothing answers at http://tracking. The study goes on meanwhile")
    assert "answers again" in lines[1]
    recorder = BackgroundRecorder(Store(away=10**9), patience=0.2, write=lines.append)
    with pytest.raises(StoreOutOfReachError, match=r"^nothing answers"), recorder:
        submit(recorder, "a")


def test_error_of_the_study_leaves_the_queue_to_the_next_run_without_a_pause(monkeypatch):
    monkeypatch.setattr(results, "FIRST_PAUSE_SECONDS", 250.0)
    store, started = Store(away=1), time.monotonic()

    def interrupted():
        with BackgroundRecorder(store, write=lambda line: None) as recorder:
            submit(recorder, "abc")
            while store.away:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 250
    assert store.cells == []
