import json
from dataclasses import replace

import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method, Protocol
from crossprop.report.study import load_study_results


def test_cells_come_in_the_order_of_methods_and_sources_whatever_the_file_says(study):
    target = load_study_results(study.info, study.paths)[0]
    assert [cell.method for cell in target.cells] == sorted(
        (cell.method for cell in target.cells), key=list(Method).index
    )
    assert [c.source for c in target.cells if c.method is Method.FINETUNE] == ["formation_energy", "band_gap"]
    assert [run.cell for run in target.runs] == [cell.cell for cell in target.cells]


def test_a_missing_cell_is_named(study, edit_cells):
    edit_cells(study, "slme", lambda cells: [c for c in cells if c["cell"] != "slme/dl/ef"])
    with pytest.raises(StoreError, match=r"1 missing: 'slme/dl/ef'.*stage `transfer`"):
        load_study_results(study.info, study.paths)


def test_an_extra_cell_is_named(study, edit_cells):
    edit_cells(study, "slme", lambda cells: [*cells, {**cells[0], "cell": "slme/old"}])
    with pytest.raises(StoreError, match="1 not in the configuration: 'slme/old'"):
        load_study_results(study.info, study.paths)


def test_a_cell_that_stands_twice_is_named(study, edit_cells):
    edit_cells(study, "slme", lambda cells: [*cells, cells[0]])
    with pytest.raises(StoreError, match="1 there more than once"):
        load_study_results(study.info, study.paths)


def test_results_of_another_protocol_are_refused(study):
    strict = replace(study.info, protocol=Protocol.STRICT)
    with pytest.raises(StoreError, match="15 of another study, protocol or target"):
        load_study_results(strict, study.paths)


FILES = [
    "cells.json",
    "runs.json",
    "winners.json",
    "predictions.parquet",
    "trials.parquet",
    "learning_curve.parquet",
]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_what_to_do(study, name):
    (study.folder("slme") / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} is not there\. Run the stage `transfer`"):
        load_study_results(study.info, study.paths)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(study, name):
    path = study.folder("slme") / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        load_study_results(study.info, study.paths)


def test_a_cell_with_an_unknown_field_is_refused(study, edit_cells):
    edit_cells(study, "slme", lambda cells: [{**cells[0], "colour": 1}, *cells[1:]])
    with pytest.raises(StoreError, match="colour"):
        load_study_results(study.info, study.paths)


def test_runs_of_other_cells_are_refused(study):
    path = study.folder("slme") / "runs.json"
    path.write_text(json.dumps(json.loads(path.read_text())[1:]), encoding="utf-8")
    with pytest.raises(StoreError, match="different cells: 'slme/base'"):
        load_study_results(study.info, study.paths)


def test_a_winner_that_is_no_cell_is_refused(study):
    path = study.folder("slme") / "winners.json"
    path.write_text(json.dumps({"best_sc": "slme/ghost", "best_tl": None, "winner": None}), encoding="utf-8")
    with pytest.raises(StoreError, match="best_sc = 'slme/ghost' is no cell"):
        load_study_results(study.info, study.paths)


def test_hold_out_predictions_with_a_hole_are_refused(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[table["cell"].eq("slme/ml/pa"), "y_pred"] = float("nan")
    table.to_parquet(path)
    target = load_study_results(study.info, study.paths)[1]
    cell = next(c for c in target.cells if c.cell == "slme/ml/pa")
    with pytest.raises(StoreError, match="finite predictions"):
        target.hold_out(cell)


def test_the_hold_out_is_that_of_the_best_fold(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    other = table[table["split"].eq("test")].assign(fold=99, y_pred=0.0)
    pd.concat([table, other]).to_parquet(path)
    target = load_study_results(study.info, study.paths)[1]
    rows = target.hold_out(target.best_sc)
    assert len(rows) == target.best_sc.n_test
    assert (rows["y_pred"] != 0.0).all()


def test_a_missing_prepared_table_names_the_stage_that_makes_it(study):
    study.paths.prepared("slme").unlink()
    with pytest.raises(StoreError, match=r"slme\.parquet is not there\. Run the stage `prepare`"):
        load_study_results(study.info, study.paths)


def test_results_of_a_shard_are_found_in_its_folder(own_study):
    assert own_study.folder("slme").parent.name == "all"
    results = load_study_results(own_study.info, own_study.paths)
    assert [target.info.key for target in results] == ["exfoliation_energy", "slme"]


def test_the_papers_winner_is_the_better_side_by_cross_validation(own_study):
    target = load_study_results(own_study.info, own_study.paths)[0]
    expected = min(target.best_sc, target.best_tl, key=lambda cell: cell.cv_mae_mean)
    assert target.paper_winner is expected
    assert target.best_own.cv_mae_mean == min(
        cell.cv_mae_mean for cell in target.cells if cell.method.extension and cell.cv_mae
    )


def test_the_run_of_a_cell_is_the_one_of_its_file(study):
    target = load_study_results(study.info, study.paths)[1]
    stored = {r["cell"]: r["run_id"] for r in json.loads((study.folder("slme") / "runs.json").read_text())}
    assert target.run_id(target.best_sc) == stored[target.best_sc.cell]
    assert target.run_id(None) == ""
