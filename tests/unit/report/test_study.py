"""What is read of a study: its plan and its results, and what is refused."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method, Protocol
from crossprop.paths import StudyPaths
from crossprop.report.study import load_study_results, study_info

FILES = [
    "cells.json",
    "runs.json",
    "winners.json",
    "predictions.parquet",
    "trials.parquet",
    "learning_curve.parquet",
]


def _load(study):
    return load_study_results(study.info, study.paths)


def _rewrite(study, name, change):
    path = study.folder("slme") / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")


@pytest.fixture
def info(tmp_path, tiny_params, write_target):
    def build(**study):
        write_target(tmp_path)
        params = tiny_params(sources=[], methods=["base", "ml"], **study)
        return study_info(params, StudyPaths.of(params.study, tmp_path))

    return build


def test_a_plan_names_tier_folds_and_cells(info):
    made = info(tier="quick", folds=4)
    assert made.tier == "quick"
    assert [target.folds for target in made.targets] == [4] * len(made.targets)
    assert all(target.cells for target in made.targets)
    assert any("4 folds" in line for line in made.budget)
    assert not any("Multi-fidelity" in line for line in made.budget)


def test_a_plan_states_what_multi_fidelity_stops(info):
    rules = {"rows": 500, "steps": 50, "after_screening": 2, "after_first_fold": 1, "margin": 0.1}
    (line,) = (line for line in info(fidelity=rules).budget if line.startswith("Multi-fidelity"))
    assert "at most 500 rows" in line
    assert "more than 10 % behind" in line


def test_cells_are_ordered_by_method_and_source(plain):
    target = plain[1][0]
    methods = [cell.method for cell in target.cells]
    assert methods == sorted(methods, key=list(Method).index)
    assert [c.source for c in target.cells if c.method is Method.FINETUNE] == ["formation_energy", "band_gap"]
    assert [run.cell for run in target.runs] == [cell.cell for cell in target.cells]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cells.json", lambda cells: [c for c in cells if c["cell"] != "slme/dl/ef"], r"1 missing: 'slme/dl/ef'"),
        ("cells.json", lambda cells: [*cells, cells[0] | {"cell": "slme/x"}], "1 not in the configuration: 'slme/x'"),
        ("cells.json", lambda cells: [*cells, cells[0]], "1 there more than once"),
        ("cells.json", lambda cells: [{**cells[0], "colour": 1}, *cells[1:]], "colour"),
        ("runs.json", lambda runs: runs[1:], "different cells: 'slme/base'"),
        ("runs.json", lambda runs: [{**runs[0], "colour": 1}, *runs[1:]], "colour"),
        ("winners.json", lambda winners: {**winners, "best_sc": "slme/ghost"}, "best_sc = 'slme/ghost' is no cell"),
    ],
)  # fmt: skip
def test_results_that_do_not_fit_the_plan_are_refused(study, name, change, message):
    _rewrite(study, name, change)
    with pytest.raises(StoreError, match=message):
        _load(study)


def test_results_of_another_protocol_are_refused(plain):
    strict = replace(plain[0].info, protocol=Protocol.STRICT)
    with pytest.raises(StoreError, match="15 of another study, protocol or target"):
        load_study_results(strict, plain[0].paths)


def test_a_chosen_cell_without_a_hold_out_error_is_refused(extended_study):
    _rewrite(extended_study, "winners.json", lambda winners: {**winners, "best_tl": "slme/freezing/band_gap"})
    with pytest.raises(StoreError, match="has no hold-out error"):
        _load(extended_study)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_truncated_file_is_named_with_what_to_do(study, name):
    path = study.folder("slme") / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        _load(study)
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name} is not there\. Run the stage `transfer`"):
        _load(study)


def test_a_missing_prepared_table_names_the_stage_that_makes_it(study):
    study.paths.prepared("slme").unlink()
    with pytest.raises(StoreError, match=r"slme\.parquet is not there\. Run the stage `prepare`"):
        _load(study)


def test_hold_out_predictions_with_a_missing_value_are_refused(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[table["cell"].eq("slme/ml/pa"), "y_pred"] = float("nan")
    table.to_parquet(path)
    target = _load(study)[1]
    with pytest.raises(StoreError, match="finite predictions"):
        target.hold_out(next(c for c in target.cells if c.cell == "slme/ml/pa"))


def test_the_hold_out_is_that_of_the_best_fold(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    other = table[table["split"].eq("test")].assign(fold=99, y_pred=0.0)
    pd.concat([table, other]).to_parquet(path)
    target = _load(study)[1]
    rows = target.hold_out(target.best_sc)
    assert len(rows) == target.best_sc.n_test
    assert (rows["y_pred"] != 0.0).all()


def test_results_of_a_shard_are_found_in_its_folder(extended_study):
    assert extended_study.folder("slme").parent.name == "all"
    assert [target.info.key for target in _load(extended_study)] == ["exfoliation_energy", "slme"]


def test_the_best_of_each_kind_is_chosen_by_cross_validation(extended):
    target = extended[1][0]
    assert target.paper_winner is min(target.best_sc, target.best_tl, key=lambda cell: cell.cv_mae_mean)
    extension = [cell for cell in target.cells if cell.method.extension and cell.cv_mae]
    assert target.best_extension is min(extension, key=lambda cell: cell.cv_mae_mean)


def test_the_run_of_a_cell_is_the_one_of_its_file(plain):
    study, results = plain
    stored = {r["cell"]: r["run_id"] for r in json.loads((study.folder("slme") / "runs.json").read_text())}
    assert {cell.cell: results[1].run_id(cell) for cell in results[1].cells} == stored
    assert results[1].run_id(None) == ""
