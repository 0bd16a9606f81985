"""The lines of progress, on a clock that advances by thirty seconds whenever it is read."""

from __future__ import annotations

import itertools

import pytest
from made import make_cell

from crossprop.experiments.progress import Progress, _clock

CELL = make_cell("ml", representation="elemental_fractions")


@pytest.fixture
def lines(monkeypatch):
    clock = itertools.count(step=30)
    monkeypatch.setattr("crossprop.experiments.progress.monotonic", lambda: next(clock))
    return []


def begun(lines, tasks, found=0, **options):
    progress = Progress("tiny", lines.append)  # the clock stands at 0
    for _ in range(found):
        progress.found()
    progress.expect("slme", tasks)
    progress.begin(**options)  # 30 seconds
    return progress


def test_line_says_what_is_done_how_much_is_left_and_for_how_long(lines):
    progress = begun(lines, 4)
    progress.step(CELL, "screened ml(EF)", 1.23456)  # 60: one task took 30 seconds, three are left
    progress.step(CELL, "fold_00 of ml(EF)", 2.0)  # 90: two took 60 seconds, two are left
    assert lines == [
        "tiny/slme [1/4, 0:30 gone, about 1:30 left] screened ml(EF): validation MAE 1.235 %",
        "tiny/slme [2/4, 1:00 gone, about 1:00 left] fold_00 of ml(EF): validation MAE 2 %",
    ]


def test_tasks_of_an_earlier_run_are_counted_but_do_not_shorten_the_estimate(lines):
    begun(lines, 4, found=2).step(CELL, "screened ml(EF)", 1.0)
    assert lines == [
        "tiny: 2 of 4 tasks are finished already, going on",
        "tiny/slme [3/4, 0:30 gone, about 0:30 left] screened ml(EF): validation MAE 1 %",
    ]


def test_neither_the_start_nor_tasks_in_progress_make_the_estimate_too_long(lines):
    progress = begun(lines, 11, workers=5)
    progress.spent(20.0)  # 60: ten seconds passed before it began
    progress.step(
        CELL, "screened ml(EF)", 1.0
    )  # 90: fifty seconds for this task and four half done ones, ten are left
    assert lines == ["tiny/slme [1/11, 1:00 gone, about 2:47 left] screened ml(EF): validation MAE 1 %"]


def test_expected_tasks_may_change_and_are_summed_over_the_targets(lines):
    progress = begun(lines, 9)
    progress.expect("slme", 2)
    progress.expect("spillage", 3)
    progress.step(make_cell("ml", target="spillage"), "FAILED ml")
    assert lines[0].startswith("tiny/spillage [1/5, 0:30 gone, about 2:00 left] ")


def test_end_says_how_busy_the_workers_were(lines):
    progress = begun(lines, 1, workers=2)
    progress.spent(30.0)  # 60
    progress.step(CELL, "screened ml(EF)", 1.0)  # 90
    progress.end()  # 120: thirty of two times ninety seconds
    assert lines[-1] == "tiny: 2 workers were busy 16.7 % of 1:30"
    idle = begun(lines, 1, found=1)
    idle.end()
    assert lines[-1] == "tiny: 1 of 1 tasks are finished already, going on"
    assert _clock(4000) == "1:06:40"
