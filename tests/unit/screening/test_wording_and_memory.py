"""What a screening says about itself, and how it fits into the memory it may have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from crossprop.errors import ScreeningError
from crossprop.screening import run
from crossprop.screening.result import ScreenResult
from crossprop.screening.run import duration, logged, progress_bar, summary, table

GIB = 1 << 30


@pytest.fixture
def result():
    top = pd.DataFrame(
        {
            "rank": [1, 2],
            "position": [7, 3],
            "formula": ["FeB", "Fe2B"],
            "n_elements": [2, 2],
            "bulk": [310.0, 240.0],
            "bulk_lower": [290.0, 220.0],
            "bulk_upper": [330.0, 260.0],
            "bulk_in_domain": [True, False],
            "note": ["", "bulk: far from everything"],
        }
    )
    note = {
        "counts": {"positions": 40, "predicted": 30, "kept": 2},
        "seconds": 12.0,
        "predicted_per_second": 2.5,
        "peak_memory_gib": 0.5,
        "known": {"bulk": (1.0, 249.7)},
        "models": {"bulk": {"unit": "GPa"}},
        "ranking": {
            "rank": "ei",
            "objectives": [{"quantity": "bulk", "goal": "maximize"}],
            "best": 249.7,
            "rows": 2,
        },
    }
    return ScreenResult(Path("o"), note, top)


def test_summary_warns_of_what_the_models_cannot_know(result):
    text = summary(result)
    assert "30 compositions predicted in 12 s" in text
    assert "expected improvement of bulk (more is better) over 249.7" in text
    assert "1 of the best 2 lie outside the training domain" in text
    assert "1 of the best 2 have a bulk beyond all values in its model's data (1 to 249.7 GPa)" in text


def test_summary_is_silent_where_an_end_of_the_known_values_is_missed_by_a_hair(result):
    result.top["bulk"] = [0.9, 250.0]
    assert "beyond all values" not in summary(result)


def test_table_shows_values_with_their_intervals(result):
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(table(result.top, 80))
    text = console.export_text()
    assert "310 (290…330)" in text
    assert [line.split("│")[-2].strip() for line in text.splitlines() if "Fe" in line] == ["yes", "no"]


@pytest.mark.parametrize("width", [10, 32, 38, 39, 44, 45, 60, 80, 200])
def test_formulas_stay_whole_however_narrow_the_terminal(result, width):
    top = result.top.assign(formula=["Na2Sr7Al6F34", "Fe2B"], gap=0.5, gap_lower=0.0, gap_upper=1.25)
    made = table(top.assign(gap_in_domain=True), width)
    console = Console(width=max(width, 40), record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(made)
    text = console.export_text()
    assert "Na2Sr7Al6F34" in text
    assert ("310 (290…330)" in text) == (width >= 80)
    assert ("further columns: bulk, gap" in " ".join(text.split())) == (width < 39)
    assert ("further columns: gap" in text) == (39 <= width < 45)


def test_nothing_found_says_what_to_do(result):
    for counts, part in (((0, 0), "nothing was left to predict"), ((30, 0), "nothing met the condition")):
        result.note["counts"] |= dict(zip(("predicted", "kept"), counts, strict=True))
        assert part in summary(result)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.01, "1 s"),
        (89, "89 s"),
        (600, "10 min"),
        (7200, "2.0 h"),
        (400_000, "4.6 days"),
        (3.8e8, "12 years"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_threads_and_rows_shrink_until_they_fit(monkeypatch):
    monkeypatch.setattr(run, "resident", lambda: GIB)
    assert run.fitting(4, 2048, GIB // 8, 2 * GIB) == (4, 2048)
    assert run.fitting(4, 2048, GIB // 2, 2 * GIB) == (4, 1024)
    assert run.fitting(4, 64, GIB // 2, 2 * GIB) == (2, 64)
    assert run.fitting(4, 2048, 100 * GIB, 2 * GIB) == (1, 64)
    with pytest.raises(ScreeningError, match="Raise --memory"):
        run.fitting(4, 2048, 1, GIB // 2)


def test_limit_is_what_was_asked_for_or_half_of_what_is_free(monkeypatch):
    assert run.allowed(1.5) == 1.5 * GIB
    assert run.resident() < run.allowed(None) < run.resident() + 1e15
    assert run.peak() >= run.resident() // 2


def test_no_bar_where_there_is_no_terminal(capsys):
    with progress_bar(10, 0, shown=True) as report:
        report(5, 2)
    assert capsys.readouterr() == ("", "")


def test_log_gets_a_line_a_minute_with_the_time_left(capsys):
    now = iter([0.0, 30.0, 61.0, 62.0, 125.0])
    report = logged(1000, 100, clock=lambda: next(now))
    for position, kept in ((150, 1), (200, 2), (210, 3), (300, 4)):
        report(position, kept)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "20.0% of 1,000 positions, 2 kept, about 8 min left",
        "30.0% of 1,000 positions, 4 kept, about 7 min left",
    ]
