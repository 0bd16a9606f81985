"""Numbers and names as they are shown, and the data files of a report."""

import csv
import json
from dataclasses import replace

import pandas as pd
import pytest

from crossprop.methods import Method
from crossprop.report.study import best_transfer
from crossprop.report.tables import (
    cell_table,
    duration,
    interval,
    markdown_table,
    number,
    p_value,
    percent,
    relative_errors,
    status,
    two_digits,
    unit_name,
    write_csv,
    write_data,
)

CELL_HEADER = (
    "study,protocol,target,unit,source,method,representation,layer,n_train,n_test,val_mae,cv_mae_mean,"
    "cv_mae_std,test_mae,test_mae_low,test_mae_high,test_q95,test_mae_ensemble"
)
TARGET_HEADER = (
    "study,protocol,target,unit,n_train,n_test,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae,"
    "tl_beats_sc,paper_sc_mae,paper_tl_mae,paper_lowest_mae,base_mae_of_median,winner,winner_test_mae,"
    "winner_test_mae_ensemble,winner_is_ours,best_sc_test_r2,best_tl_test_r2,r2"
)
RUN_HEADER = "cell,run_id,tune_seconds,fit_seconds,peak_memory,target,name,status"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(0.12), "0.1200"),
        (number(48.1138), "48.11"),
        (number(12345.6), "12346"),
        (number(-0.00123449), "-0.001234"),
        (number(0.0), "0"),
        (number(1.5e-9, 3), "1.50e-09"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (number(float("inf")), "–"),
        (interval(9.9, 8.123, 10.456), "[8.1, 10.5]"),  # both ends have the same decimals
        (interval(1.5e-9, 1e-9, 2e-9), "[1.00e-09, 2.00e-09]"),
        (interval(9.9, None, 10.0), ""),
        (p_value(0.00004), "p < 0.001"),
        (p_value(0.0312), "p = 0.031"),
        (p_value(0.25), "p = 0.25"),
        (two_digits(0.00004), "< 0.0001"),
        (two_digits(0.00057), "0.0006"),
        (two_digits(0.0312), "0.031"),
        (percent(0.031, 1), "+3.1 %"),
        (percent(-0.12), "-12 %"),
        (unit_name("1"), "–"),
        (unit_name("eV"), "eV"),
        (duration(48.2), "48 s"),
        (duration(192.0), "3.2 min"),
        (duration(5040.0), "84.0 min"),
        (duration(7200.0), "2.0 h"),
    ],
)
def test_values_are_shown(shown, text):
    assert shown == text


def test_a_bar_or_line_break_does_not_break_a_table():
    lines = markdown_table([{"a": "x|y", "b": "1\n2"}]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split(" | ")] == ["x\\|y", "1 2"]
    assert lines[1].startswith("|:--")
    assert lines[1].endswith("--:|")
    assert markdown_table([]) == ""


def test_status_says_how_far_a_cell_came(plain):
    cell = plain[1][0].best_sc
    screened = replace(cell, cv_mae=None)
    changes = [
        {},
        {"stopped": "after screening: 3 % behind x"},
        {"stopped": "no pair"},
        {"failure": "E: NaN"},
    ]
    texts = [status(replace(screened, **change)) for change in changes]
    assert texts == [
        "screened only",
        "stopped after screening: 3 % behind x",
        "stopped: no pair",
        "failed: E: NaN",
    ]
    assert status(cell) == "cross-validated"


@pytest.fixture
def written(tmp_path):
    """Function (study, results) that writes the data files and reads ``cells``, ``targets`` and ``runs``."""

    def write(study, results, paper=None):
        write_data(
            tmp_path, study.info, results, cell_table(results), study.paper if paper is None else paper
        )
        texts = [(tmp_path / f"{name}.csv").read_bytes().decode() for name in ("cells", "targets", "runs")]
        assert not any("\r" in text for text in texts)
        return [(text.splitlines()[0], list(csv.DictReader(text.splitlines()))) for text in texts]

    return write


def test_data_files_have_the_agreed_columns(plain, written):
    study, results = plain
    (cell_header, cells), (target_header, targets), (run_header, runs) = written(study, results)
    assert (cell_header, target_header, run_header) == (CELL_HEADER, TARGET_HEADER, RUN_HEADER)
    assert len(cells) == len(runs) == 30
    assert [cells[0][name] for name in ("method", "source", "representation", "layer")] == [
        "base",
        "",
        "",
        "",
    ]
    assert cells[5]["representation"] == "activations"
    assert cells[5]["layer"].startswith("hidden_")
    for row, target in zip(targets, results, strict=True):
        assert row["target"] == target.info.key
        assert row["best_sc"] == target.best_sc.label
        assert row["base_mae"] == f"{target.base.test_mae:.6g}"
        assert row["tl_beats_sc"] == str(target.best_tl.test_mae < target.best_sc.test_mae).lower()
        assert row["r2"] == f"{target.winner.test_r2:.6g}"
    stored = {r["cell"]: r["run_id"] for r in json.loads((study.folder("slme") / "runs.json").read_text())}
    assert {row["cell"]: row["run_id"] for row in runs if row["target"] == "slme"} == stored


def test_numbers_have_six_digits_and_missing_values_are_empty(tmp_path):
    table = pd.DataFrame([[1.23456789, 1234567, None, True], [None, 2, "a", False]], dtype=object)
    write_csv(tmp_path / "table.csv", table)
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == ["1.23457,1234567,,true", ",2,a,false"]


def test_a_failed_cell_stays_with_empty_figures(study_with_failure, edited, written):
    cells = written(study_with_failure, edited(study_with_failure, lambda cells: cells))[0][1]
    failed = [r for r in cells if (r["target"], r["method"], r["source"]) == ("slme", "finetune", "band_gap")]
    assert len(cells) == 30
    assert [failed[0][c] for c in ("val_mae", "cv_mae_mean", "test_mae", "test_mae_ensemble")] == [""] * 4


def test_a_side_without_a_model_is_left_empty(plain, written):
    results = [plain[1][0], replace(plain[1][1], best_tl=None, winner=plain[1][1].best_sc)]
    row = written(plain[0], results, {})[1][1][1]
    assert [row[name] for name in ("best_tl", "best_tl_test_mae", "tl_beats_sc", "paper_sc_mae")] == [""] * 4


def test_target_table_tells_whether_the_winner_is_an_extension_method(extended, written):
    rows = written(*extended)[1][1]
    assert [row["winner_is_ours"] for row in rows] == [
        str(t.winner.method.extension).lower() for t in extended[1]
    ]


def test_the_papers_transfer_error_is_the_lower_of_its_tables(plain):
    figures = plain[0].paper["slme"]
    assert best_transfer(figures) == figures.tl_mae_table3_or_5 < figures.tl_mae_table2


def test_relative_errors_take_the_best_cell_over_the_base(extended):
    results = extended[1]
    ratios = relative_errors(cell_table(results), "cv_mae_mean")
    assert Method.BASE.notation not in ratios.index
    cell = next(c for c in results[1].cells if c.method is Method.BOOST)
    assert ratios.loc["SC:Boost", "slme"] == pytest.approx(cell.cv_mae_mean / results[1].base.cv_mae_mean)
    assert ratios.loc["TL:freezing"].isna().all()  # it was stopped
