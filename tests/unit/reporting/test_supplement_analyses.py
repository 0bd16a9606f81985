import json

import numpy as np
import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.methods import Method
from crossprop.report.study import load_study_results
from crossprop.report.supplement.correlations import (
    Correlation,
    correlation_matrix,
    correlations,
    correlations_part,
    values_by_composition,
)
from crossprop.report.supplement.layers import layer_errors, layer_rows, layers_part
from crossprop.report.supplement.learning_curves import learning_curve_rows, learning_curves_part
from crossprop.report.supplement.networks import elemnet_parameters, networks_part, resnet_parameters
from crossprop.report.supplement.repeats import (
    repeat_rows,
    repeats,
    repeats_findings,
    repeats_part,
    repeats_sentence,
)


def _load(study):
    return load_study_results(study.info, study.paths)


# learning curves


def test_a_learning_curve_is_ordered_by_side_and_rows_and_names_its_run(own_study):
    results = _load(own_study)
    rows = learning_curve_rows(results)
    assert [(row["side"], row["share"]) for row in rows] == [
        (side, share) for side in ("scratch", "transfer") for share in (0.1, 0.5, 1.0)
    ]
    assert rows[0]["run_id"] == results[0].run_id(results[0].best_sc)
    assert rows[-1]["test_mae"] == pytest.approx(results[0].best_tl.test_mae)


def test_learning_curves_count_the_points_where_transfer_is_lower(own_study):
    path = own_study.folder("exfoliation_energy") / "learning_curve.parquet"
    curve = pd.read_parquet(path)
    curve["test_mae"] = [3.0, 2.0, 1.0, 2.9, 2.1, 1.1]  # lower at the smallest share only
    curve.to_parquet(path)
    text = learning_curves_part(_load(own_study)).text
    assert "TL is lower at 1 of 3 points, at 1 of 2 of those with less than all rows" in text


def test_without_curves_there_is_no_such_section(own_study):
    path = own_study.folder("exfoliation_energy") / "learning_curve.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    assert learning_curves_part(_load(own_study)).markdown() == ""


def test_a_curve_of_an_unknown_cell_is_refused(own_study):
    path = own_study.folder("exfoliation_energy") / "learning_curve.parquet"
    pd.read_parquet(path).assign(cell="ghost").to_parquet(path)
    with pytest.raises(StoreError, match=r"'ghost', which is no cell of it\. Run the stage `transfer`"):
        learning_curves_part(_load(own_study))


# correlations


def _table(values, start=0):
    return pd.DataFrame({"composition": [f"c{i + start}" for i in range(len(values))], "value": values})


def test_properties_are_merged_on_the_median_of_polymorphs():
    twice = pd.concat([_table([1.0, 5.0]), _table([3.0])])  # c0 has 1 and 3
    values = values_by_composition({"A": twice, "B": _table([7.0], start=1)})
    assert values["A"].to_dict() == {"c0": 2.0, "c1": 5.0}
    assert np.isnan(values["B"]["c0"])


def test_correlations_are_those_of_the_shared_compositions():
    x = np.arange(40.0)
    values = values_by_composition({"A": _table(x), "B": _table(x**3), "C": _table(-x, start=5)})
    ab, ac, bc = correlations(values)
    assert (ab.first, ab.second, ab.n) == ("A", "B", 40)
    assert ab.spearman == pytest.approx(1.0)
    assert ab.pearson == pytest.approx(np.corrcoef(x, x**3)[0, 1])
    assert ab.pearson < 0.95
    assert (ac.n, ac.spearman) == (35, pytest.approx(-1.0))
    assert bc.p_adjusted >= bc.p_value


def test_too_few_shared_compositions_give_no_coefficient():
    values = values_by_composition({"A": _table(np.arange(29.0)), "B": _table(np.arange(29.0) * 2)})
    (pair,) = correlations(values)
    assert (pair.n, pair.spearman, pair.pearson, pair.p_adjusted, pair.identical) == (
        29,
        None,
        None,
        None,
        False,
    )


def test_holm_runs_over_the_pairs_that_were_tested():
    rng = np.random.default_rng(3)
    names = "ABC"
    tables = {name: _table(rng.normal(size=60)) for name in names} | {"D": _table([1.0])}
    found = correlations(values_by_composition(tables))
    tested = [pair for pair in found if pair.p_value is not None]
    smallest = min(tested, key=lambda pair: pair.p_value)
    assert len(tested) == 3
    assert smallest.p_adjusted == pytest.approx(min(1.0, 3 * smallest.p_value))


def test_the_same_rows_under_two_names_are_told():
    values = values_by_composition({"A": _table(np.arange(40.0)), "B": _table(np.arange(40.0))})
    assert correlations(values)[0].identical is True


def test_spearman_stands_below_the_diagonal_and_pearson_above():
    pair = Correlation(
        first="A", second="B", n=40, pearson=0.1, spearman=0.9, p_value=0, p_adjusted=0, identical=False
    )
    matrix = correlation_matrix(["A", "B"], [pair])
    assert (matrix[0, 1], matrix[1, 0]) == (0.1, 0.9)
    assert np.isnan(matrix[0, 0])


def test_one_target_has_nothing_to_go_with(study):
    assert correlations_part(_load(study)[:1]).markdown() == ""


# extraction layers


def _with_trials(study, target, cell, trials):
    path = study.folder(target) / "trials.parquet"
    table = pd.read_parquet(path)
    rows = [
        (cell, i, state, value, 1.0, json.dumps({"layer": layer}))
        for i, (layer, state, value) in enumerate(trials)
    ]
    kept = table[table["cell"] != cell]
    pd.concat([kept, pd.DataFrame(rows, columns=table.columns)]).to_parquet(path)


def test_a_layer_is_measured_against_the_best_layer_of_the_same_cell(study):
    for target in ("slme", "exfoliation_energy"):
        table = pd.read_parquet(study.folder(target) / "trials.parquet")
        table.iloc[:0].to_parquet(study.folder(target) / "trials.parquet")
    done = "COMPLETE"
    _with_trials(
        study,
        "slme",
        "slme/ml_featextr/band_gap",
        [
            ("hidden_01", done, 2.0),
            ("hidden_01", done, 1.0),
            ("hidden_02", done, 3.0),
            ("hidden_02", "PRUNED", 0.5),
        ],
    )
    _with_trials(study, "slme", "slme/ml_featextr/formation_energy", [("hidden_02", done, 4.0)])
    first, second = layer_errors(_load(study))
    assert (first.layer, first.ratios, first.n_trials, first.chosen) == ("hidden_01", (1.0,), 2, 1)
    assert sorted(second.ratios) == [1.0, 3.0]
    assert (second.n_trials, second.n_pruned, second.chosen) == (2, 1, 1)
    row = layer_rows([second])[0]
    assert row["ratio_to_best_layer"] == pytest.approx(3**0.5)
    assert row["units"] == 1024
    assert second.method is Method.ML_FEATEXTR


def test_the_section_on_layers_says_how_few_the_trials_are(study):
    text = layers_part(_load(study)).text
    assert "A cell has few trials" in text
    assert "on the first 4 layers" in text


# networks


def test_parameters_are_those_of_the_layers():
    # 86 -> 1024 x4 -> 512 x3 -> 256 x3 -> 128 x3 -> 64 x2 -> 32 -> 1, with biases
    expected = 87 * 1024 + 3 * 1025 * 1024 + 1025 * 512 + 2 * 513 * 512 + 513 * 256 + 2 * 257 * 256
    expected += 257 * 128 + 2 * 129 * 128 + 129 * 64 + 65 * 64 + 65 * 32 + 33
    assert elemnet_parameters() == expected == 4_631_361


def test_residual_network_is_drawn_only_where_it_is_used():
    assert "residual" not in networks_part(residual=False).text
    assert f"{resnet_parameters():,} parameters" in networks_part(residual=True).text


@pytest.mark.slow
def test_parameters_agree_with_the_built_networks():
    from crossprop.models.networks import build_elemnet, build_resnet

    assert build_elemnet(86).count_params() == elemnet_parameters()
    assert build_resnet(231).count_params() == resnet_parameters()


# published against strict


def test_errors_are_split_by_whether_the_composition_was_learnt(study):
    results = _load(study)
    one = next(r for r in repeats(results) if r.role == "best SC")
    rows = results[0].hold_out(results[0].best_sc)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    assert (one.n_test, one.n_repeated, one.n_train_repeated) == (120, 5, 5)
    assert one.mae_repeated == pytest.approx(errors[:5].mean())
    assert one.mae_new == pytest.approx(errors[5:].mean())
    assert one.error_repeated == pytest.approx(errors[:5].sem())


def test_strict_change_is_that_of_the_same_model_refitted(study, edit_cells):
    for target in ("slme", "exfoliation_energy"):
        edit_cells(
            study,
            target,
            lambda cells: [c | {"strict_test_mae": 1.25 * c["test_mae"]} for c in cells],
        )
    found = repeats(_load(study))
    assert all(one.strict_ratio == pytest.approx(1.25) for one in found)
    assert "that of the best TL changes by +25.0 %" in repeats_sentence(found)
    assert "higher on 2 of 2" in repeats_findings(found)[0]
    assert repeat_rows(found)[0]["strict_over_published"] == pytest.approx(1.25)


def test_without_strict_refits_the_rows_are_still_told_apart(study, edit_cells):
    for target in ("slme", "exfoliation_energy"):
        edit_cells(study, target, lambda cells: [c | {"strict_test_mae": None} for c in cells])
    part = repeats_part(_load(study))
    assert not part.drawings
    assert "On repeated rows" in part.text
    assert repeats_sentence(repeats(_load(study))).endswith("repeat a composition of the training rows.")


def test_a_hold_out_without_repeats_makes_no_section(study):
    for target in ("slme", "exfoliation_energy"):
        path = study.paths.prepared(target)
        table = pd.read_parquet(path)
        table["composition"] = [f"own{i}" for i in range(len(table))]
        table.to_parquet(path)
    assert repeats_part(_load(study)).markdown() == ""
    assert repeats_sentence(repeats(_load(study))) == ""


def test_a_hold_out_row_that_was_not_prepared_is_refused(study):
    path = study.paths.prepared("slme")
    table = pd.read_parquet(path)
    table[table["formula"] != "X3"].to_parquet(path)
    with pytest.raises(StoreError, match="'X3' is not in the prepared table"):
        repeats(_load(study))
