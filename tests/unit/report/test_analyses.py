"""Sections of the supplement on data: repeats, coverage, learning curves, correlations, extraction layers."""

import json

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ModelFormatError, StoreError
from crossprop.report.analyses import (
    correlation_matrix,
    correlation_table,
    correlations_section,
    coverage_section,
    layer_ratios,
    layer_table,
    layer_trials,
    learning_curve_table,
    learning_curves_section,
    repeats_section,
    repeats_table,
    values_by_composition,
)
from crossprop.report.tables import cell_table
from crossprop.uncertainty.evidence import write_evidence

# learning curves


def _curves(results):
    return learning_curves_section(results, cell_table(results))


def test_a_learning_curve_is_ordered_by_side_and_rows_and_names_its_run(extended):
    table = learning_curve_table(extended, cell_table(extended))
    expected = [(side, share) for side in ("scratch", "transfer") for share in (0.1, 0.5, 1.0)]
    assert list(zip(table["side"], table["share"], strict=True)) == expected
    assert table["run_id"].iloc[0] == extended[0].run_id(extended[0].best_sc)
    assert table["test_mae"].iloc[-1] == pytest.approx(extended[0].best_tl.test_mae)


def test_learning_curves_count_the_points_where_transfer_is_lower(study):
    path = study.folder("exfoliation_energy") / "learning_curve.parquet"
    errors = [3.0, 2.0, 1.0, 2.9, 2.1, 1.1]  # lower at the smallest share only
    study.change_table(path, lambda curve: curve.assign(test_mae=errors))
    context = _curves(study.results()).context
    assert context == {"untied": 3, "lower": [True, False, False], "lower_on_small": [True, False]}


def test_curves_may_be_missing_but_not_of_an_unknown_cell(study):
    path = study.folder("exfoliation_energy") / "learning_curve.parquet"
    curve = pd.read_parquet(path)
    curve.iloc[:0].to_parquet(path)
    assert _curves(study.results()) is None
    curve.assign(cell="ghost").to_parquet(path)
    with pytest.raises(StoreError, match=r"'ghost', which is no cell of it\. Run the stage `transfer`"):
        _curves(study.results())


# correlations


def _table(values, start=0):
    return pd.DataFrame({"composition": [f"c{i + start}" for i in range(len(values))], "value": values})


def _correlations(**tables):
    return correlation_table(values_by_composition(tables))


def test_correlations_are_those_of_the_shared_compositions_over_the_median_of_polymorphs():
    x = np.arange(40.0)
    twice = pd.concat([_table(x[:1] - 1), _table(x), _table(x[:1] + 1)])  # c0 thrice, with median 0
    table = _correlations(A=twice, B=_table(x**3), C=_table(-x, start=5), D=_table(x[:29]))
    pairs = [("A", "B", 40), ("A", "C", 35), ("A", "D", 29), ("B", "C", 35), ("B", "D", 29), ("C", "D", 24)]
    assert list(zip(table["first"], table["second"], table["n"], strict=True)) == pairs
    tested = table[table["n"] >= 30]
    untested = table.drop(index=tested.index)
    assert untested[["spearman", "pearson", "p_value", "p_adjusted"]].isna().all(axis=None)
    assert list(tested["spearman"]) == pytest.approx([1.0, -1.0, -1.0])
    assert table["pearson"][0] == pytest.approx(np.corrcoef(x, x**3)[0, 1])
    assert min(tested["p_adjusted"]) == pytest.approx(3 * min(tested["p_value"]))  # Holm
    assert not table["identical"].any()
    matrix = correlation_matrix(pd.Index(["A", "B", "C"]), table)
    assert (matrix.loc["A", "B"], matrix.loc["B", "A"]) == (table["pearson"][0], table["spearman"][0])
    assert np.isnan(np.diag(matrix)).all()


def test_the_same_rows_under_two_names_are_told(plain):
    assert _correlations(A=_table(np.arange(40.0)), B=_table(np.arange(40.0)))["identical"][0] is True
    assert correlations_section(plain[:1]) is None  # one target has no pair


# extraction layers


def test_a_layer_is_measured_against_the_best_layer_of_the_same_cell(study):
    gap, energy, done = "slme/ml_featextr/band_gap", "slme/ml_featextr/formation_energy", "COMPLETE"
    trials = [(gap, "hidden_01", done, 2.0), (gap, "hidden_01", done, 1.0), (gap, "hidden_02", done, 3.0)]
    trials += [(gap, "hidden_02", "PRUNED", 0.5), (energy, "hidden_02", done, 4.0)]
    rows = pd.DataFrame(trials, columns=["cell", "layer", "state", "value"])
    rows["params"] = [json.dumps({"layer": layer}) for layer in rows["layer"]]
    rows.to_parquet(study.folder("slme") / "trials.parquet")
    none = rows.assign(cell="exfoliation_energy/ml/pa", params="{}")
    none.to_parquet(study.folder("exfoliation_energy") / "trials.parquet")
    results = study.results()
    found = layer_trials(results, cell_table(results))
    first, second = layer_table(found, layer_ratios(found)).to_dict("records")
    assert (first["layer"], first["cells"], first["trials"], first["chosen"]) == ("hidden_01", 1, 2, 1)
    assert (first["method"], first["ratio_to_best_layer"]) == ("TL:ML(FeatExtr)", 1.0)
    assert (second["trials"], second["trials_stopped_early"], second["chosen"]) == (2, 1, 1)
    assert (second["ratio_to_best_layer"], second["units"]) == (pytest.approx(3**0.5), 1024)


# published against strict


def test_errors_are_split_by_whether_the_composition_was_learnt(plain):
    row = repeats_table(plain).iloc[0]
    rows = plain[0].hold_out(plain[0].best_sc)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    counts = [row[name] for name in ("role", "n_test", "n_test_repeated", "n_train_repeated")]
    assert counts == ["best SC", 120, 5, 5]
    assert row["mae_on_repeated"] == pytest.approx(errors[:5].mean())
    assert row["mae_on_new"] == pytest.approx(errors[5:].mean())
    assert row["standard_error_on_repeated"] == pytest.approx(errors[:5].sem())


def test_strict_change_is_that_of_the_same_model_refitted(study):
    section = repeats_section(study.edited(lambda cell: {"strict_test_mae": 1.25 * cell["test_mae"]}))
    assert list(section.tables["tables/repeats.csv"]["strict_over_published"]) == pytest.approx([1.25] * 4)
    view = section.context["views"][1]
    assert (view["role"], view["change"], view["strict_test"].wins) == ("best TL", pytest.approx(0.25), 2)


def test_a_hold_out_without_repeats_makes_no_section(study):
    for target in ("slme", "exfoliation_energy"):
        path = study.paths.prepared(target)
        study.change_table(path, lambda rows: rows.assign(composition=rows["formula"]))
    assert repeats_section(study.results()) is None


def test_a_hold_out_row_that_was_not_prepared_is_refused(study):
    study.change_table(study.paths.prepared("slme"), lambda rows: rows[rows["formula"] != "X3"])
    with pytest.raises(StoreError, match="'X3' is not in the prepared table"):
        repeats_table(study.results())


# coverage of the served models


def _add_evidence(study, target, *, held, away=3.0):
    """Give a target's model residuals of 1 in training, and a hold-out of ten rows of which so many are covered."""
    folder = study.paths.results(target) / "model"
    folder.mkdir()
    interval = {"coverage": 0.9, "half_width": 1.0}
    info = {"format": 3, "interval": interval, "elements": list(ELEMENTS), "seen_elements": list(ELEMENTS)}
    (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    formulas = [f"{m}{n}{o}" for m in ("Na", "K", "Fe", "Co") for n in (1, 2, 3) for o in ("Cl", "O", "S")]
    rows = pd.DataFrame({"formula": formulas, "composition": formulas, "split": "train", "y_true": 5.0})
    rows.loc[26:, "split"] = "test"
    predicted = 5.0 + np.where(np.arange(36) < 26 + held, 1.0, away)
    write_evidence(folder, rows.assign(y_pred=predicted, y_pred_single=predicted))


@pytest.fixture
def measured(study):
    """Two targets, one of them with evidence: nine of ten values within their interval."""
    _add_evidence(study, "slme", held=9)
    return study


def test_coverage_width_and_error_are_those_of_the_hold_out(measured, tmp_path):
    section = coverage_section(measured.results(), measured.paths)
    (row,) = section.tables["tables/coverage.csv"].to_dict("records")  # a target without evidence is left out
    assert (row["target"], row["n_test"], row["stated"], row["measured"]) == ("slme", 10, 0.9, 0.9)
    assert row["mean_width"] == pytest.approx(2.0)
    assert row["test_mae_ensemble"] == pytest.approx((9 * 1 + 3) / 10)
    assert (row["outside_domain"], row["mae_outside"]) == (0.0, None)
    measured.report(tmp_path / "report")
    page = " ".join((tmp_path / "report" / "supplement.md").read_text().split())
    assert "| SLME | % | 10 | 90 % | 90.0 % | 1.67 | 0.0 % | 1.20 | – |" in page
    assert (tmp_path / "report" / "figures" / "coverage.png").stat().st_size > 2000
    assert "**90.0 %** of 10 hold-out values" in (tmp_path / "report" / "README.md").read_text()


def test_missing_evidence_is_no_error_but_damaged_evidence_is(measured, plain_study, plain):
    assert coverage_section(plain, plain_study.paths) is None
    (measured.paths.results("slme") / "model" / "calibration" / "points.npy").unlink()
    with pytest.raises(ModelFormatError, match=r"points\.npy"):
        coverage_section(measured.results(), measured.paths)
