"""The lines of progress, on a clock that advances by thirty seconds whenever it is read."""

from __future__ import annotations

import itertools

import pytest
from made import make_cell

from crossprop.experiments.progress import Progress

CELL = make_cell("ml", representation="elemental_fractions")


@pytest.fixture
def begun(monkeypatch):
    """Begins a study of a target with so many tasks at 30 seconds; returns it with its lines."""
    clock = itertools.count(step=30)
    monkeypatch.setattr("crossprop.experiments.progress.monotonic", lambda: next(clock))

    def begin(tasks, found=0, **options):
        progress = Progress("tiny", (lines := []).append)
        for _ in range(found):
            progress.found()
        progress.expect("slme", tasks)
        progress.begin(**options)
        return progress, lines

    return begin


def test_line_says_what_is_done_how_much_is_left_and_for_how_long(begun):
    progress, lines = begun(4)
    progress.step(CELL, "screened ml(EF)", 1.23456)  # 60: one task took 30 seconds, three are left
    progress.step(CELL, "fold_00 of ml(EF)", 2.0)  # 90: two took 60 seconds, two are left
    progress.expect("slme", 2)
    progress.expect("spillage", 3)
    progress.step(make_cell("ml", target="spillage"), "FAILED ml")  # 120: three took 90 seconds, two are left
    assert lines == [
        "tiny/slme [1/4, 0:30 gone, about 1:30 left] screened ml(EF): validation MAE 1.235 %",
        "tiny/slme [2/4, 1:00 gone, about 1:00 left] fold_00 of ml(EF): validation MAE 2 %",
        "tiny/spillage [3/5, 1:30 gone, about 1:00 left] FAILED ml",
    ]


def test_neither_start_nor_earlier_runs_nor_tasks_in_progress_distort_the_estimate(begun):
    progress, lines = begun(13, found=2, workers=5)
    progress.spent(20.0)  # 60: ten seconds passed before it began
    # 90: fifty seconds for this task and four half done ones, ten are left
    progress.step(CELL, "screened ml(EF)", 1.0)
    progress.end()  # 120: twenty of five times ninety seconds
    assert lines == [
        "tiny: 2 of 13 tasks are finished already, going on",
        "tiny/slme [3/13, 1:00 gone, about 2:47 left] screened ml(EF): validation MAE 1 %",
        "tiny: 5 workers were busy 4.4 % of 1:30",
    ]
