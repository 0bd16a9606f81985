"""Numbers and names as they are shown, and the data files of a report."""

import csv
import json
from dataclasses import replace

import pandas as pd
import pytest

from crossprop.methods import Method
from crossprop.report.pages import markdown
from crossprop.report.tables import (
    cell_table,
    duration,
    interval,
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

HEADERS = (
    "study,protocol,target,unit,source,method,representation,layer,n_train,n_test,val_mae,cv_mae_mean,"
    "cv_mae_std,test_mae,test_mae_low,test_mae_high,test_q95,test_mae_ensemble",
    "study,protocol,target,unit,n_train,n_test,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae,"
    "tl_beats_sc,paper_sc_mae,paper_tl_mae,paper_lowest_mae,base_mae_of_median,winner,winner_test_mae,"
    "winner_test_mae_ensemble,winner_is_ours,best_sc_test_r2,best_tl_test_r2,r2",
    "cell,run_id,tune_seconds,fit_seconds,peak_memory,target,name,status",
)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(0.12), "0.1200"),
        (number(48.1138), "48.11"),
        (number(12345.6), "12346"),
        (number(0.0), "0"),
        (number(1.5e-9, 3), "1.50e-09"),
        (number(None), "–"),
        (number(float("inf")), "–"),
        (interval(9.9, 8.123, 10.456), "[8.1, 10.5]"),  # both ends have the same decimals
        (interval(1.5e-9, 1e-9, 2e-9), "[1.00e-09, 2.00e-09]"),
        (interval(9.9, None, 10.0), ""),
        (p_value(0.00004), "p < 0.001"),
        (p_value(0.25), "p = 0.25"),
        (two_digits(0.00004), "< 0.0001"),
        (two_digits(0.00057), "0.0006"),
        (percent(0.031, 1), "+3.1 %"),
        (percent(-0.12), "-12 %"),
        (unit_name("1"), "–"),
        (duration(48.2), "48 s"),
        (duration(192.0), "3.2 min"),
        (duration(7200.0), "2.0 h"),
    ],
)
def test_values_are_shown(shown, text):
    assert shown == text


def test_a_bar_or_line_break_does_not_break_a_table():
    table = pd.DataFrame({"a": ["x|y"], "b": ["1\n2"]})
    lines = markdown(table, [("a", "a"), ("b", "b")]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split(" | ")] == ["x\\|y", "1 2"]
    assert (lines[1][:4], lines[1][-4:]) == ("|:--", "--:|")
    assert markdown(table[:0], [("a", "a")]) == ""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "screened only"),
        ({"stopped": "after screening: 3 % behind x"}, "stopped after screening: 3 % behind x"),
        ({"stopped": "no pair"}, "stopped: no pair"),
        ({"failure": "E: NaN"}, "failed: E: NaN"),
        ({"cv_mae": (1.0,)}, "cross-validated"),
    ],
)
def test_status_says_how_far_a_cell_came(plain, change, text):
    assert status(replace(plain[0].best_sc, **({"cv_mae": None} | change))) == text


@pytest.fixture
def written(tmp_path):
    """Function (study, results) that writes the data files and reads ``cells``, ``targets`` and ``runs``."""

    def write(study, results):
        write_data(tmp_path, study.config, results, cell_table(results))
        texts = [(tmp_path / f"{name}.csv").read_bytes().decode() for name in ("cells", "targets", "runs")]
        assert not any("\r" in text for text in texts)
        assert tuple(text.splitlines()[0] for text in texts) == HEADERS
        return [list(csv.DictReader(text.splitlines())) for text in texts]

    return write


def test_data_files_have_the_agreed_columns(plain_study, plain, whole_study, extended, written):
    cells, targets, runs = written(plain_study, plain)
    assert len(cells) == len(runs) == 30
    assert [cells[0][name] for name in ("method", "source", "representation", "layer")] == [
        "base",
        "",
        "",
        "",
    ]
    assert cells[5]["representation"] == "activations"
    assert cells[5]["layer"].startswith("hidden_")
    for row, target in zip(targets, plain, strict=True):
        assert row["target"] == target.info.key
        assert row["best_sc"] == target.best_sc.label
        assert row["base_mae"] == f"{target.base.test_mae:.6g}"
        assert row["tl_beats_sc"] == str(target.best_tl.test_mae < target.best_sc.test_mae).lower()
        assert row["r2"] == f"{target.winner.test_r2:.6g}"
        paper = target.info.paper
        assert row["paper_tl_mae"] == f"{min(paper.tl_mae_table2, paper.tl_mae_table3_or_5):.6g}"
    assert {row["cell"]: row["run_id"] for row in runs} == {
        cell.cell: target.run_id(cell) for target in plain for cell in target.cells
    }
    rows = written(whole_study, extended)[1]
    assert [row["winner_is_ours"] for row in rows] == [
        str(t.winner.method.extension).lower() for t in extended
    ]


def test_numbers_have_six_digits_and_missing_values_are_empty(tmp_path):
    table = pd.DataFrame([[1.23456789, 1234567, None, True], [None, 2, "a", False]], dtype=object)
    write_csv(tmp_path / "table.csv", table)
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == ["1.23457,1234567,,true", ",2,a,false"]


def test_a_failed_cell_and_a_side_without_a_model_are_left_empty(study_with_failure, written, monkeypatch):
    results = study_with_failure.results()
    monkeypatch.setattr(type(results[0]), "paper", None)
    cells, targets, _ = written(
        study_with_failure, [results[0], replace(results[1], best_tl=None, winner=results[1].best_sc)]
    )
    failed = next(
        r for r in cells if (r["target"], r["method"], r["source"]) == ("slme", "finetune", "band_gap")
    )
    assert len(cells) == 30
    assert [failed[c] for c in ("val_mae", "cv_mae_mean", "test_mae", "test_mae_ensemble")] == [""] * 4
    assert [targets[1][c] for c in ("best_tl", "best_tl_test_mae", "tl_beats_sc", "paper_sc_mae")] == [""] * 4


def test_relative_errors_take_the_best_cell_over_the_base(extended):
    ratios = relative_errors(cell_table(extended), "cv_mae_mean")
    assert Method.BASE.notation not in ratios.index
    cell = next(c for c in extended[1].cells if c.method is Method.BOOST)
    assert ratios.loc["SC:Boost", "slme"] == pytest.approx(cell.cv_mae_mean / extended[1].base.cv_mae_mean)
    assert ratios.loc["TL:freezing"].isna().all()  # it was stopped


def test_plot_data_are_relative_to_the_base(report):
    points = list(csv.DictReader((report / "plots" / "parity.csv").open()))
    assert [sum(r["target"] == t for r in points) for t in ("Exfoli", "SLME")] == [120, 150]
    values = sorted(float(r["y_true"]) for r in points if r["target"] == "SLME")
    assert abs(values[74] + values[75]) < 1e-5  # the median is the origin
    methods = list(csv.DictReader((report / "plots" / "methods.csv").open()))
    assert len(methods) == 2 * 8
    assert {row["cv_mae_relative"] for row in methods if row["method"] == "Base"} == {"1"}
    assert all(0.0 < float(row["cv_mae_relative"]) < 2.0 for row in methods)


def test_metrics_hold_the_figures_of_the_target_table(report):
    metrics = json.loads((report / "metrics.json").read_text())["slme"]
    row = list(csv.DictReader((report / "targets.csv").open()))[1]
    assert metrics["sc"] == float(row["best_sc_test_mae"])
    assert metrics["tl"] == float(row["best_tl_test_mae"])
