"""What is read of a study: its plan and its results, and what is refused."""

import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method, Protocol
from crossprop.report.study import load_study_results

FILES = ["runs.json", "predictions.parquet"]


def test_cells_are_ordered_by_method_and_source(plain):
    methods = [cell.method for cell in plain[1].cells]
    assert methods == sorted(methods, key=list(Method).index)
    sources = [c.source for c in plain[1].cells if c.method is Method.FINETUNE]
    assert sources == ["formation_energy", "band_gap"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cells.json", lambda cells: [c for c in cells if c["cell"] != "slme/dl/ef"], r"1 missing: 'slme/dl/ef'"),
        ("cells.json", lambda cells: [*cells, cells[0] | {"cell": "slme/x"}], "1 not in the configuration: 'slme/x'"),
        ("cells.json", lambda cells: [*cells, cells[0]], "1 there more than once"),
        ("runs.json", lambda runs: runs[1:], "different cells: 'slme/base'"),
        ("runs.json", lambda runs: [{**runs[0], "colour": 1}, *runs[1:]], "colour"),
        ("winners.json", lambda winners: {**winners, "best_sc": "slme/ghost"}, "best_sc = 'slme/ghost' is no cell"),
        ("winners.json", lambda winners: {"winner": winners["winner"]}, "winners.json cannot be read"),
    ],
)  # fmt: skip
def test_results_that_do_not_fit_the_plan_are_refused(study, name, change, message):
    study.change_json("slme", name, change)
    with pytest.raises(StoreError, match=message):
        study.results()


def test_results_of_another_protocol_are_refused(plain_study):
    strict = plain_study.config.model_copy(update={"protocol": Protocol.STRICT})
    with pytest.raises(StoreError, match="15 of another study, protocol or target"):
        load_study_results(strict, plain_study.planned, plain_study.paths)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_truncated_file_is_named_with_what_to_do(study, name):
    path = study.folder("slme") / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        study.results()
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name} is not there\. Run the stage `transfer`"):
        study.results()


def test_hold_out_predictions_with_a_missing_value_are_refused(study):
    path = study.folder("slme") / "predictions.parquet"
    study.change_table(
        path, lambda rows: rows.assign(y_pred=rows["y_pred"].mask(rows["cell"].eq("slme/ml/pa")))
    )
    target = study.results()[1]
    with pytest.raises(StoreError, match="finite predictions"):
        target.hold_out(next(cell for cell in target.cells if cell.cell == "slme/ml/pa"))


def test_the_hold_out_is_that_of_the_best_fold(study):
    path = study.folder("slme") / "predictions.parquet"
    rows = pd.read_parquet(path)
    pd.concat([rows, rows[rows["split"] == "test"].assign(fold=99, y_pred=0.0)]).to_parquet(path)
    target = study.results()[1]
    rows = target.hold_out(target.best_sc)
    assert len(rows) == target.best_sc.n_test
    assert (rows["y_pred"] != 0.0).all()
