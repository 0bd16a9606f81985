from __future__ import annotations

import itertools

import pytest

from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.progress import Progress


@pytest.fixture
def cell(tiny_params):
    return enumerate_cells(tiny_params(), "slme", "%", "d", {"formation_energy": "f"})[1]


@pytest.fixture
def lines(monkeypatch):
    clock = itertools.count(step=30)
    monkeypatch.setattr("crossprop.experiments.progress.monotonic", lambda: next(clock))
    return []


def test_line_says_what_is_done_how_much_is_left_and_for_how_long(cell, lines):
    progress = Progress("tiny", 4, lines.append)  # the clock stands at 0
    progress.begin()  # 30 seconds
    progress.screened(cell, 1.23456)  # 60: one piece took 30 seconds, three are left
    progress.fitted(cell, "fold_00", 2.0)  # 90: two took 60 seconds, two are left
    assert lines == [
        "tiny/slme [1/4, 0:30 gone, about 1:30 left] screened ml(EF): validation MAE 1.235 %",
        "tiny/slme [2/4, 1:00 gone, about 1:00 left] fold_00 of ml(EF): validation MAE 2 %",
    ]


def test_what_an_earlier_run_finished_is_counted_but_does_not_hurry_the_estimate(cell, lines):
    progress = Progress("tiny", 4, lines.append)
    progress.found()
    progress.found()
    progress.begin()
    progress.screened(cell, 1.0)
    assert lines == [
        "tiny: 2 of 4 pieces are finished already, going on",
        "tiny/slme [3/4, 0:30 gone, about 0:30 left] screened ml(EF): validation MAE 1 %",
    ]


def test_neither_the_start_nor_the_work_in_hand_of_other_workers_makes_the_estimate_too_long(cell, lines):
    progress = Progress("tiny", 11, lines.append)
    progress.begin(workers=5)  # 30 seconds
    progress.spent(20.0)  # 60: ten seconds passed before it began
    progress.screened(
        cell, 1.0
    )  # 90: fifty seconds of work for this piece and four half done ones, ten are left
    assert lines == ["tiny/slme [1/11, 1:00 gone, about 2:47 left] screened ml(EF): validation MAE 1 %"]


def test_failure_is_shown_and_counted(cell, lines):
    progress = Progress("tiny", 1, lines.append)
    progress.begin()
    progress.failed(cell, "CellError: no luck")
    assert lines == ["tiny/slme [1/1, 0:30 gone, about 0:00 left] FAILED ml(EF): CellError: no luck"]


def test_pieces_that_are_not_needed_are_not_waited_for(cell, lines):
    progress = Progress("tiny", 9, lines.append)
    progress.begin()
    progress.expect_fewer(7)
    progress.screened(cell, 1.0)
    assert lines[0].startswith("tiny/slme [1/2, 0:30 gone, about 0:30 left] ")


def test_pieces_that_turn_out_to_be_needed_are_waited_for(cell, lines):
    progress = Progress("tiny", 1, lines.append)
    progress.begin()
    progress.expect_more()
    progress.expect_more()
    progress.fitted(cell, "fold_01.strict", 1.0)
    assert lines[0].startswith("tiny/slme [1/3, 0:30 gone, about 1:00 left] fold_01.strict of ml(EF)")


def test_blend_counts_as_a_piece(cell, lines):
    progress = Progress("tiny", 2, lines.append)
    progress.begin()
    progress.blended(cell, 0.5)
    assert lines[0].startswith("tiny/slme [1/2, ")


def test_line_names_the_target_of_the_piece(tiny_params, lines):
    params = tiny_params(targets=["slme", "spillage"])
    progress = Progress("tiny", 2, lines.append)
    progress.begin()
    for target in ("spillage", "slme"):
        cell = enumerate_cells(params, target, "", "d", {"formation_energy": "f"})[1]
        progress.screened(cell, 1.0)
    assert [line.split(" ")[0] for line in lines] == ["tiny/spillage", "tiny/slme"]


def test_hours_are_shown_as_such(cell, monkeypatch):
    lines, clock = [], itertools.count(step=4000)
    monkeypatch.setattr("crossprop.experiments.progress.monotonic", lambda: next(clock))
    progress = Progress("t", 1, lines.append)
    progress.begin()
    progress.screened(cell, 1.0)
    assert "1:06:40 gone" in lines[0]
