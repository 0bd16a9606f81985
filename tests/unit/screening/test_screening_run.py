"""What a screening prints, and how it keeps within its memory."""

import io
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from crossprop.screening import summary as module
from crossprop.screening.result import ScreenResult
from crossprop.screening.summary import progress_bar, summary, table


@pytest.fixture
def result(linear):
    """Two top rows of a ranking by a property whose model knows values from 0 to 100 with an error of 3."""
    described, _ = linear("bulk", "Fe", data=("Fe", "Al"))
    rows = {"rank": [1, 2], "position": [7, 3], "formula": ["FeB", "Fe2B"], "n_elements": [2, 2]}
    rows |= {"bulk": [310.0, 240.25], "bulk_lower": [290.0, 220.0], "bulk_upper": [330.0, 260.0]}
    rows |= {"bulk_in_domain": [True, False], "note": ["", "bulk: far from everything"]}
    objective = {"quantity": "bulk", "goal": "maximize"}
    note = {
        "counts": {"positions": 40, "predicted": 30, "kept": 2},
        "seconds": 12.0,
        "predicted_per_second": 2.5,
        "peak_memory_gib": 0.5,
        "models": {"bulk": asdict(described)},
        "ranking": {"rank": "value", "best": None, "objectives": [objective]},
    }
    return ScreenResult(Path("o"), note, pd.DataFrame(rows))


def text_of(result):
    return "\n".join(summary(result))


def test_summary_warns_of_what_the_models_cannot_know(result):
    result.top["bulk"] = [310.0, 99.0]
    result.note["ranking"] |= {"rank": "ei", "best": 100.0}
    text = text_of(result)
    assert "30 compositions predicted in 12 s" in text
    assert "expected improvement of bulk (more is better) over 100 GPa" in text
    assert "1 of the best 2 lie outside the training domain" in text
    assert "1 of the best 2 have a bulk beyond all values in its model's data (0 to 100 GPa)" in text
    result.top["bulk"] = [-0.9, 100.9]  # beyond by rounding only
    assert "beyond all values" not in text_of(result)


def test_values_that_differ_by_less_than_the_error_of_the_model(result):
    for values, rank, equal in (
        ([97.0, 95.0, 94.5, 93.0], "value", 3),
        ([97.0, 95.0, 94.9, 94.5], "value", 4),
        ([91.0, 93.0, 94.5, 99.0], "value", 2),
        ([97.0, 93.0, 90.0, 80.0], "value", None),
        ([97.0, 96.0, 95.0, 94.0], "ei", None),
    ):
        result.note["ranking"]["rank"] = rank
        top = pd.concat([result.top, result.top], ignore_index=True).assign(bulk=values)
        text = text_of(ScreenResult(result.folder, result.note, top))
        which = "all of the best 4" if equal == 4 else f"the first {equal} of the best 4"
        warning = f"{which} differ by less than the error of the model of bulk (MAE 3 GPa)"
        assert (warning in text) == ("differ by less" in text) == (equal is not None)


@pytest.mark.parametrize(
    ("counts", "part"), [((0, 0), "nothing was left to predict"), ((30, 0), "nothing met the condition")]
)
def test_nothing_found_says_what_to_do(result, counts, part):
    result.note["counts"] |= dict(zip(("predicted", "kept"), counts, strict=True))
    assert part in text_of(ScreenResult(result.folder, result.note, result.top.iloc[:0]))


def printed(result, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(result, 10))
    return console.export_text()


def test_table_shows_units_and_as_many_decimals_in_every_row(result):
    for unit in ("[a.u.]", "meV/atom"):
        result.note["models"]["bulk"]["unit"] = unit
        text = printed(result)
        assert unit in text
    assert "In brackets: 90 % intervals" in text
    assert "310 (290…330)" in text
    assert "240 (220…260)" in text
    assert [line.split("│")[-2].strip() for line in text.splitlines() if "Fe" in line] == ["yes", "no"]
    result.top[["bulk", "bulk_lower", "bulk_upper"]] = [[1.5, 1.0, 2.0], [0.25, -0.5, 1.0]]
    text = printed(result)
    assert "0.25 (-0.50…1.00)" in text
    assert "1.50 (1.00…2.00)" in text
    result.top["formula"] = ["Na2Sr7Al6F34", "Fe2B"]
    assert "Na2Sr7Al6F34" in printed(result, 42), "formulas stay whole"
    result.top["bulk"] = [3.1e21, 2.5e18]
    result.top["expected_improvement"] = [0.25, 1e-9]
    text = printed(result)
    assert "3.1e+21" in text
    assert "1e-09" in text
    assert text.count("meV/atom") == 2, "an expected improvement has the unit of its property"


@pytest.mark.parametrize("shown", [True, False])
def test_log_gets_a_line_a_minute_with_the_time_left(capsys, monkeypatch, shown):
    now = iter([0.0, 30.0, 61.0, 62.0, 125.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with progress_bar(1000, 100, shown) as report:
        for position, kept in ((150, 1), (200, 2), (210, 3), (300, 4)):
            report(position, kept)
    out, err = capsys.readouterr()
    assert out == ""
    line = "{} of 1,000 positions, {} kept, about {} min left".format
    assert err.splitlines() == ([line("20.0%", 2, 8.1), line("30.0%", 4, 7.3)] if shown else [])
