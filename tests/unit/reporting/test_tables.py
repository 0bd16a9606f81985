import csv
import json

from crossprop.report.study import load_study_results
from crossprop.report.tables import cell_rows, paper_columns, run_rows, target_rows, write_rows

CELL_HEADER = (
    "study,protocol,target,unit,source,method,representation,layer,n_train,n_test,val_mae,cv_mae_mean,"
    "cv_mae_std,test_mae,test_mae_low,test_mae_high,test_q95,test_mae_ensemble"
)
TARGET_HEADER = (
    "study,protocol,target,unit,n_train,n_test,base_mae,best_sc,best_sc_test_mae,best_tl,best_tl_test_mae,"
    "tl_beats_sc,paper_sc_mae,paper_tl_mae,paper_lowest_mae,base_mae_of_median,winner,winner_test_mae,"
    "winner_test_mae_ensemble,winner_is_ours"
)


def _written(path, rows):
    write_rows(path, rows)
    text = path.read_bytes().decode()
    assert "\r" not in text
    return text.splitlines()[0], list(csv.DictReader(text.splitlines()))


def test_cell_table_has_the_agreed_columns_and_a_row_per_cell(study, tmp_path):
    header, rows = _written(tmp_path / "cells.csv", cell_rows(load_study_results(study.info, study.paths)))
    assert header == CELL_HEADER
    assert len(rows) == 30
    assert rows[0]["method"] == "base"
    assert rows[0]["source"] == rows[0]["representation"] == rows[0]["layer"] == ""
    assert rows[5]["representation"] == "activations"
    assert rows[5]["layer"].startswith("hidden_")


def test_numbers_have_six_significant_digits(study, tmp_path, edit_cells):
    edit_cells(study, "slme", lambda cells: [{**c, "val_mae": 1.23456789} for c in cells])
    _, rows = _written(tmp_path / "cells.csv", cell_rows(load_study_results(study.info, study.paths)))
    assert rows[-1]["val_mae"] == "1.23457"


def test_a_failed_cell_stays_with_empty_figures(study_with_failure, tmp_path):
    results = load_study_results(study_with_failure.info, study_with_failure.paths)
    _, rows = _written(tmp_path / "cells.csv", cell_rows(results))
    failed = [r for r in rows if (r["target"], r["method"], r["source"]) == ("slme", "finetune", "band_gap")]
    assert len(rows) == 30
    assert [failed[0][c] for c in ("val_mae", "cv_mae_mean", "test_mae", "test_mae_ensemble")] == [""] * 4


def test_target_table_names_the_best_of_both_sides(study, tmp_path):
    results = load_study_results(study.info, study.paths)
    header, rows = _written(tmp_path / "targets.csv", target_rows(study.info, results, study.paper))
    assert header == TARGET_HEADER
    assert [row["target"] for row in rows] == ["exfoliation_energy", "slme"]
    for row, target in zip(rows, results, strict=True):
        assert row["best_sc"] == target.best_sc.label
        assert row["base_mae"] == f"{target.base.test_mae:.6g}"
        lower = target.best_tl.test_mae < target.best_sc.test_mae
        assert row["tl_beats_sc"] == str(lower).lower()


def test_a_side_without_a_model_is_left_empty(study, tmp_path):
    path = study.folder("slme") / "winners.json"
    chosen = json.loads(path.read_text())
    path.write_text(json.dumps({**chosen, "best_tl": None, "winner": chosen["best_sc"]}))
    results = load_study_results(study.info, study.paths)
    _, rows = _written(tmp_path / "targets.csv", target_rows(study.info, results, {}))
    assert (rows[1]["best_tl"], rows[1]["best_tl_test_mae"], rows[1]["tl_beats_sc"]) == ("", "", "")
    assert (rows[1]["paper_sc_mae"], rows[1]["paper_lowest_mae"]) == ("", "")


def test_the_papers_transfer_error_is_the_lower_of_its_tables(study):
    figures = study.paper["slme"]
    assert paper_columns(figures)["paper_tl_mae"] == figures.tl_mae_table3_or_5 < figures.tl_mae_table2
    assert paper_columns(None) == {"paper_sc_mae": None, "paper_tl_mae": None, "paper_lowest_mae": None}


def test_run_table_leads_from_cell_to_run(study, tmp_path):
    header, rows = _written(tmp_path / "runs.csv", run_rows(load_study_results(study.info, study.paths)))
    assert header == "cell,run_id,tune_seconds,fit_seconds,peak_memory,target,name,status"
    stored = {r["cell"]: r["run_id"] for r in json.loads((study.folder("slme") / "runs.json").read_text())}
    assert {r["cell"]: r["run_id"] for r in rows if r["cell"].startswith("slme/")} == stored


def test_target_table_tells_whether_the_winner_is_a_method_of_ours(own_study, tmp_path):
    results = load_study_results(own_study.info, own_study.paths)
    _, rows = _written(tmp_path / "targets.csv", target_rows(own_study.info, results, own_study.paper))
    for row, target in zip(rows, results, strict=True):
        assert row["winner_is_ours"] == str(target.winner.method.extension).lower()
        assert row["winner"] == target.winner.label
