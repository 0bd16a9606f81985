"""What is read of a study, numbers and names as they are shown, and the data files of a report."""

import csv
import json
from dataclasses import replace

import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method, Protocol
from crossprop.report import tables
from crossprop.report.pages import markdown
from crossprop.report.study import load_study_results

HEADERS = (
    "study,protocol,target,unit,source,method,representation,layer,n_train,n_test,val_mae,cv_mae_mean,"
    "cv_mae_std,test_mae,test_mae_low,test_mae_high,test_q95,test_mae_ensemble",
    "study,protocol,target,unit,n_train,n_test,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae,"
    "tl_beats_sc,paper_sc_mae,paper_tl_mae,paper_lowest_mae,base_mae_of_median,winner,winner_test_mae,"
    "winner_test_mae_ensemble,winner_is_ours,best_sc_test_r2,best_tl_test_r2,r2",
    "cell,run_id,tune_seconds,fit_seconds,peak_memory,target,name,status",
)


def test_values_are_shown():
    for shown, text in (
        (tables.number(0.12), "0.1200"),
        (tables.number(0.0), "0"),
        (tables.number(1.5e-9, 3), "1.50e-09"),
        (tables.number(None), "–"),
        (tables.interval(9.9, 8.123, 10.456), "[8.1, 10.5]"),  # both ends have the same decimals
        (tables.interval(9.9, None, 10.0), ""),
        (tables.p_value(0.00004), "p < 0.001"),
        (tables.two_digits(0.00057), "0.0006"),
        (tables.percent(0.031, 1), "+3.1 %"),
        (tables.duration(48.2), "48 s"),
        (tables.duration(7200.0), "2.0 h"),
    ):
        assert shown == text


def test_a_bar_or_line_break_does_not_break_a_table():
    table = pd.DataFrame({"a": ["x|y"], "b": ["1\n2"]})
    lines = markdown(table, [("a", "a"), ("b", "b")]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split(" | ")] == ["x\\|y", "1 2"]
    assert (lines[1][:4], lines[1][-4:]) == ("|:--", "--:|")
    assert markdown(table[:0], [("a", "a")]) == ""


def written(folder, study, results):
    """Writes the data files and reads ``cells``, ``targets`` and ``runs``, all values as text."""
    tables.write_data(folder, results, tables.cell_table(results))
    texts = [(folder / f"{name}.csv").read_bytes().decode() for name in ("cells", "targets", "runs")]
    assert not any("\r" in text for text in texts)
    assert tuple(text.splitlines()[0] for text in texts) == HEADERS
    return [list(csv.DictReader(text.splitlines())) for text in texts]


def test_data_files_have_the_agreed_columns(plain_study, plain, whole_study, extended, tmp_path):
    cells, targets, runs = written(tmp_path, plain_study, plain)
    assert len(cells) == len(runs) == 30
    identifying = ("method", "source", "representation", "layer")
    assert [cells[0][name] for name in identifying] == ["base", "", "", ""]
    assert cells[5]["representation"] == "activations"
    assert cells[5]["layer"].startswith("hidden_")
    for row, target in zip(targets, plain, strict=True):
        assert (row["target"], row["best_sc"]) == (target.info.key, target.best_sc.label)
        assert row["base_mae"] == f"{target.base.test_mae:.6g}"
        assert row["tl_beats_sc"] == str(target.best_tl.test_mae < target.best_sc.test_mae).lower()
        assert row["r2"] == f"{target.winner.test_r2:.6g}"
        paper = target.info.paper
        assert row["paper_tl_mae"] == f"{min(paper.tl_mae_table2, paper.tl_mae_table3_or_5):.6g}"
    known = {cell.cell: target.run_id(cell) for target in plain for cell in target.cells}
    assert {row["cell"]: row["run_id"] for row in runs} == known
    rows = written(tmp_path, whole_study, extended)[1]
    won = [str(t.winner.method.extension).lower() for t in extended]
    assert [row["winner_is_ours"] for row in rows] == won


def test_numbers_have_six_digits_and_missing_values_are_empty(tmp_path):
    table = pd.DataFrame([[1.23456789, 1234567, None, True], [None, 2, "a", False]], dtype=object)
    tables.write_csv(tmp_path / "table.csv", table)
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == ["1.23457,1234567,,true", ",2,a,false"]


def test_a_failed_cell_and_a_side_without_a_model_are_left_empty(study_with_failure, tmp_path, monkeypatch):
    first, second = study_with_failure.results()
    monkeypatch.setattr(type(first), "paper", None)
    without = replace(second, best_tl=None, winner=second.best_sc)
    cells, targets, _ = written(tmp_path, study_with_failure, [first, without])
    of_slme = [row for row in cells if row["target"] == "slme"]
    (failed,) = [r for r in of_slme if (r["method"], r["source"]) == ("finetune", "band_gap")]
    assert [failed[c] for c in ("val_mae", "cv_mae_mean", "test_mae", "test_mae_ensemble")] == [""] * 4
    assert [targets[1][c] for c in ("best_tl", "best_tl_test_mae", "tl_beats_sc", "paper_sc_mae")] == [""] * 4


def test_relative_errors_take_the_best_cell_over_the_base(extended):
    ratios = tables.relative_errors(tables.cell_table(extended), "cv_mae_mean")
    assert Method.BASE.notation not in ratios.index
    cell = next(c for c in extended[1].cells if c.method is Method.BOOST)
    assert ratios.loc["SC:Boost", "slme"] == pytest.approx(cell.cv_mae_mean / extended[1].base.cv_mae_mean)
    assert ratios.loc["TL:freezing"].isna().all()  # it was stopped


def test_plot_data_are_relative_to_the_base_and_metrics_are_those_of_the_target_table(report):
    points = pd.read_csv(report / "plots" / "parity.csv")
    assert dict(points["target"].value_counts()) == {"SLME": 150, "Exfoli": 120}
    assert points.loc[points["target"] == "SLME", "y_true"].median() == pytest.approx(0, abs=1e-5)
    methods = pd.read_csv(report / "plots" / "methods.csv")
    assert len(methods) == 2 * 8
    assert set(methods.loc[methods["method"] == "Base", "cv_mae_relative"]) == {1.0}
    assert methods["cv_mae_relative"].between(0, 2).all()
    metrics = json.loads((report / "metrics.json").read_text())["slme"]
    row = pd.read_csv(report / "targets.csv").iloc[1]
    assert (metrics["sc"], metrics["tl"]) == (row["best_sc_test_mae"], row["best_tl_test_mae"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cells.json", lambda cells: [c for c in cells if c["cell"] != "slme/dl/ef"], "1 missing: 'dl:elemental_fra"),
        ("cells.json", lambda cells: [*cells, cells[0] | {"source": "x"}], r"1 not in the configuration: '\w+:x"),
        ("cells.json", lambda cells: [*cells, cells[0]], "1 there more than once"),
        ("winners.json", lambda winners: {**winners, "best_sc": "slme/ghost"}, "winners.json cannot be read"),
    ],
)  # fmt: skip
def test_results_that_do_not_fit_the_plan_are_refused(study, name, change, message):
    study.change_json("slme", name, change)
    with pytest.raises(StoreError, match=message):
        study.results()


def test_results_of_another_protocol_are_refused(plain_study):
    strict = plain_study.config.model_copy(update={"protocol": Protocol.STRICT})
    with pytest.raises(StoreError, match="15 of another study, protocol or target"):
        load_study_results(strict, plain_study.paths)


@pytest.mark.parametrize("name", ["runs.json", "predictions.parquet"])
def test_a_missing_or_truncated_file_is_named_with_what_to_do(study, name):
    path = study.folder("slme") / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        study.results()
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name} is not there\. Run the stage `transfer`"):
        study.results()


def test_the_hold_out_is_that_of_the_best_fold_and_a_missing_prediction_is_refused(study):
    def change(rows):
        missing = rows.assign(y_pred=rows["y_pred"].mask(rows["cell"].eq("slme/ml_featextr/band_gap")))
        return pd.concat([missing, rows[rows["split"] == "test"].assign(fold=99, y_pred=0.0)])

    study.change_table(study.folder("slme") / "predictions.parquet", change)
    target = study.results()[1]
    rows = target.hold_out(target.best_sc)
    assert len(rows) == target.best_sc.n_test
    assert (rows["y_pred"] != 0.0).all()
    with pytest.raises(StoreError, match="finite predictions"):
        target.hold_out(next(cell for cell in target.cells if cell.cell == "slme/ml_featextr/band_gap"))
