"""Sections of the supplement: methods, sources, unfinished cells, repeats, coverage, curves, correlations, layers."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_ensembles import write_info

from crossprop.errors import ModelFormatError, StoreError
from crossprop.methods import Method
from crossprop.report import analyses, supplement
from crossprop.report.tables import cell_table
from crossprop.uncertainty.evidence import write_evidence


def test_every_cell_stands_in_the_validation_table_and_in_the_table_of_the_paper_that_it_leads_to(extended):
    section = supplement.validation_section(cell_table(extended), extended)
    tables = {name[len("tables/") : -len(".csv")]: table for name, table in section.tables.items()}
    table = tables.pop("validation")
    assert len(table) == 2 * 22
    assert (table["run_id"].str.len() == 32).all()
    assert set(table["status"].str.split(" ").str[0]) == {"cross-validated", "screened", "stopped"}
    stopped = table[table["mae_of_folds_before_stop"].notna()]
    assert (len(stopped), stopped["folds"].isna().all()) == (2, True)
    sizes = {"table_s5": 2 * (2 + 5), "table_s7": 2 * (2 + 10), "table_s9": 2 * (4 + 10)}
    assert {name: len(table) for name, table in tables.items()} == sizes
    assert set(tables["table_s5"]["source"]) == {None, "formation_energy"}
    assert set(tables["table_s7"]["representation"]) == {"EF", "activations"}
    assert not tables["table_s9"]["ours"].any()


def test_chosen_methods_are_counted_once_a_target(extended, extended_study):
    table = supplement.methods_won(extended)
    assert (table["best_of_its_side"].sum(), table["winner_of_all"].sum()) == (4, 2)
    assert table["lower_tl"].sum() == sum(t.best_tl.test_mae < t.best_sc.test_mae for t in extended)
    better = {"test_mae": 0.001}
    results = extended_study.edited(lambda c: better if c["method"] == "ml_featextr" and c["cv_mae"] else {})
    counts = supplement.methods_won(results).set_index("method")["lower_tl"]
    assert counts["TL:ML(FeatExtr)"] == counts.sum() == 2


@pytest.mark.parametrize(("of_gap", "ranks"), [(2.0, [1.0, 2.0]), (1.0, [1.5, 1.5])])
def test_sources_are_ranked_by_the_same_method_and_share_a_rank_where_equal(study, of_gap, ranks):
    errors = {"formation_energy": 1.0, "band_gap": of_gap}
    results = study.edited(lambda cell: {"val_mae": errors.get(cell["source"], cell["val_mae"])})
    table = supplement.sources_won(study.config, results)
    assert list(table["mean_rank"]) == ranks
    assert list(table["screening_ratio_to_best_source"]) == pytest.approx([1.0, of_gap])
    assert list(table["comparisons"]) == [2 * 5] * 2
    assert list(table["paper_wins"]) == [9, 2]


def test_source_networks_are_read_from_their_provenance(whole_study):
    table = supplement.source_model_table(whole_study.config, whole_study.paths)
    energy, gap = "formation_energy", "band_gap"
    assert list(table["network"]) == [energy, gap, "all_sources", "all_sources"]
    assert list(table["source"]) == [energy, gap] * 2
    assert list(table["validation_mae"]) == pytest.approx([0.0812, 0.0812, 0.07, 0.08])
    assert list(table["n_train"]) == [9000, 9000, 9000, 9001]
    section = supplement.source_models_section(whole_study.config, whole_study.paths, table)
    assert (section.context["stated"], section.context["known"]) == ({energy: 0.0369}, [])
    assert "seconds" not in section.tables["tables/table_s6.csv"]  # they differ from run to run
    assert supplement.source_models_section(whole_study.config, whole_study.paths, table.iloc[:0]) is None


def test_hold_out_compositions_that_the_sources_know_are_counted(study):
    frame = pd.read_parquet(study.paths.prepared("slme"))
    assert supplement.known_holdout(study.config, study.paths) == []
    held_out = frame.loc[frame["split"] == "test", ["composition"]].drop_duplicates()
    held_out.head(3).to_parquet(study.paths.prepared("band_gap"))
    assert ("SLME", 3, len(held_out)) in supplement.known_holdout(study.config, study.paths)


def test_stopped_and_failed_cells_are_listed_with_their_reason(extended, study_with_failure, plain):
    table = supplement.unfinished_section(cell_table(extended)).tables["tables/unfinished.csv"]
    assert len(table) == 4
    assert set(table["status"]) == {"stopped"}
    assert "after fold 1 of 10: 12.0 % behind ml(PA)" in set(table["reason"])
    failed = supplement.unfinished_section(cell_table(study_with_failure.results()))
    (row,) = failed.tables["tables/unfinished.csv"].to_dict("records")
    assert (row["status"], row["reason"]) == ("failed", "DivergedError: the loss became NaN | 3")
    assert supplement.unfinished_section(cell_table(plain)) is None


def test_extension_methods_are_shown_apart(extended, plain):
    section = supplement.extension_section(extended)
    row = section.tables["tables/own_methods.csv"].iloc[0]
    assert row["difference"] == pytest.approx(row["ours_mae"] - row["papers_mae"])
    assert len(row["ours_run_id"]) == len(row["papers_run_id"]) == 32
    assert section.context["methods"]["TL:ResNet(FineTune)"].startswith("the joint residual network")
    assert section.context["won"] is None  # the blend or the plain median wins by rule
    assert supplement.extension_section(plain) is None


def test_a_blend_says_what_it_is_made_of(extended_study):
    extended_study.change_json("slme", "winners.json", lambda winners: winners | {"winner": "slme/blend"})
    best = {"cv_mae": [0.1]}
    results = extended_study.edited(lambda cell: best if cell["method"] == "blend" else {}, ["slme"])
    table = supplement.extension_section(results).tables["tables/own_methods.csv"]
    assert table["blend_of"][1] == "resnet(EF+PA) 0.60; ml(PA) 0.40"


def test_networks_are_those_that_a_study_has_cells_of(plain, extended):
    def drawn(*methods):
        of_methods = SimpleNamespace(cells=[SimpleNamespace(method=Method(name)) for name in methods])
        section = supplement.networks_section([of_methods])
        if section is None:
            return None
        texts = [text.get_text() for text in section.figures["figures/networks.png"]().axes[0].texts]
        for heading, named in (("ElemNet", "ElemNet"), ("Residual network (extension method)", "residual")):
            assert (heading in texts) == (named in section.context["drawn"])
        return section.context["drawn"]

    joint = "the residual network"
    assert drawn("base", "boost") is None
    assert [drawn(name) for name in ("resnet_finetune", "boost_sources")] == [joint, joint]
    assert drawn("ml_featextr") == "ElemNet with the extraction layers"
    assert [supplement.networks_section(results).context["drawn"] for results in (plain, extended)] == [
        "ElemNet with the extraction layers", f"ElemNet with the extraction layers, and below it {joint}"
    ]  # fmt: skip


def test_learning_curves_count_where_transfer_is_lower_and_may_be_missing(study):
    def section():
        results = study.results()
        return analyses.learning_curves_section(results, cell_table(results))

    path = study.folder("exfoliation_energy") / "learning_curve.parquet"
    errors = [3.0, 2.0, 1.0, 2.9, 2.1, 1.1]  # lower at the smallest share only
    study.change_table(path, lambda curve: curve.assign(test_mae=errors))
    assert section().context == {"lower": [True, False, False], "lower_on_small": [True, False]}
    study.change_table(path, lambda curve: curve.iloc[:0])
    assert section() is None


def _table(values, start=0):
    return pd.DataFrame({"composition": [f"c{i + start}" for i in range(len(values))], "value": values})


def test_correlations_are_those_of_the_shared_compositions_over_the_median_of_polymorphs():
    x = np.arange(40.0)
    twice = pd.concat([_table(x[:1] - 1), _table(x), _table(x[:1] + 1)])  # c0 thrice, with median 0
    tables = {"A": twice, "B": _table(x**3), "C": _table(-x, start=5), "D": _table(x[:29])}
    table = analyses.correlation_table(analyses.values_by_composition(tables))
    pairs = [("A", "B", 40), ("A", "C", 35), ("A", "D", 29), ("B", "C", 35), ("B", "D", 29), ("C", "D", 24)]
    assert list(zip(table["first"], table["second"], table["n"], strict=True)) == pairs
    tested = table[table["n"] >= 30]
    untested = table.drop(index=tested.index)
    assert untested[["spearman", "pearson", "p_value", "p_adjusted"]].isna().all(axis=None)
    assert list(tested["spearman"]) == pytest.approx([1.0, -1.0, -1.0])
    assert table["pearson"][0] == pytest.approx(np.corrcoef(x, x**3)[0, 1])
    assert min(tested["p_adjusted"]) == pytest.approx(3 * min(tested["p_value"]))  # Holm
    assert not table["identical"].any()
    matrix = analyses.correlation_matrix(pd.Index(["A", "B", "C"]), tested)
    assert (matrix.loc["A", "B"], matrix.loc["B", "A"]) == (table["pearson"][0], table["spearman"][0])
    assert np.isnan(np.diag(matrix)).all()


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
    found = analyses.layer_trials(results, cell_table(results))
    first, second = analyses.layer_table(found, analyses.layer_ratios(found)).to_dict("records")
    assert (first["layer"], first["cells"], first["trials"], first["chosen"]) == ("hidden_01", 1, 2, 1)
    assert (first["method"], first["ratio_to_best_layer"]) == ("TL:ML(FeatExtr)", 1.0)
    assert (second["trials"], second["trials_stopped_early"], second["chosen"]) == (2, 1, 1)
    assert (second["ratio_to_best_layer"], second["units"]) == (pytest.approx(3**0.5), 1024)


def test_errors_are_split_by_whether_the_composition_was_learnt(plain):
    row = analyses.repeats_table(plain).iloc[0]
    rows = plain[0].hold_out(plain[0].best_sc)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    counts = [row[name] for name in ("role", "n_test", "n_test_repeated", "n_train_repeated")]
    assert counts == ["best SC", 120, 5, 5]
    assert row["mae_on_repeated"] == pytest.approx(errors[:5].mean())
    assert row["mae_on_new"] == pytest.approx(errors[5:].mean())
    assert row["standard_error_on_repeated"] == pytest.approx(errors[:5].sem())


def test_strict_change_is_that_of_the_same_model_refitted(study):
    results = study.edited(lambda cell: {"strict_test_mae": 1.25 * cell["test_mae"]})
    section = analyses.repeats_section(results)
    assert list(section.tables["tables/repeats.csv"]["strict_over_published"]) == pytest.approx([1.25] * 4)
    view = section.context["views"][1]
    assert (view["role"], view["change"], view["strict_test"].wins) == ("best TL", pytest.approx(0.25), 2)


def test_a_hold_out_row_that_was_not_prepared_is_refused(study):
    study.change_table(study.paths.prepared("slme"), lambda rows: rows[rows["formula"] != "X3"])
    with pytest.raises(StoreError, match="hold-out of target 'slme' is not the one"):
        analyses.repeats_table(study.results())


@pytest.fixture
def measured(study):
    """Two targets, one with evidence: residuals of 1 in training, and nine of ten hold-out values are covered."""
    folder = study.paths.results("slme") / "model"
    write_info(folder)
    formulas = [f"{m}{n}{o}" for m in ("Na", "K", "Fe", "Co") for n in (1, 2, 3) for o in ("Cl", "O", "S")]
    rows = pd.DataFrame({"formula": formulas, "composition": formulas, "split": "train", "y_true": 5.0})
    rows.loc[26:, "split"] = "test"
    predicted = [6.0] * 35 + [8.0]
    write_evidence(folder, rows.assign(y_pred=predicted, y_pred_single=predicted))
    return study


def test_coverage_width_and_error_are_those_of_the_hold_out(measured, tmp_path, without_pictures):
    section = analyses.coverage_section(measured.results(), measured.paths)
    (row,) = section.tables["tables/coverage.csv"].to_dict("records")  # a target without evidence is left out
    assert (row["target"], row["n_test"], row["stated"], row["measured"]) == ("slme", 10, 0.9, 0.9)
    assert row["mean_width"] == pytest.approx(2.0)
    assert row["test_mae_ensemble"] == pytest.approx((9 * 1 + 3) / 10)
    assert (row["outside_domain"], row["mae_outside"]) == (0.0, None)
    measured.report(tmp_path / "report")
    page = " ".join((tmp_path / "report" / "supplement.md").read_text().split())
    assert "| SLME | % | 10 | 90 % | 90.0 % | 1.67 | 0.0 % | 1.20 | – |" in page
    assert (tmp_path / "report" / "figures" / "coverage.png").is_file()
    assert "**90.0 %** of 10 hold-out values" in (tmp_path / "report" / "README.md").read_text()


def test_missing_evidence_is_no_error_but_damaged_evidence_is(measured, plain_study, plain):
    assert analyses.coverage_section(plain, plain_study.paths) is None
    (measured.paths.results("slme") / "model" / "calibration" / "points.npy").unlink()
    with pytest.raises(ModelFormatError, match=r"points\.npy"):
        analyses.coverage_section(measured.results(), measured.paths)
