"""Sections of the supplement on methods, sources and unfinished cells."""

from itertools import pairwise

import pytest

from crossprop.methods import HIDDEN_UNITS
from crossprop.report.network_figure import elemnet_parameters, resnet_parameters
from crossprop.report.supplement import (
    extension_section,
    methods_won,
    networks_section,
    source_model_table,
    source_models_section,
    sources_won,
    unfinished_section,
    validation_section,
)
from crossprop.report.tables import cell_table


def test_every_cell_stands_in_the_validation_table_and_in_the_table_of_the_paper_that_it_leads_to(extended):
    section = validation_section(cell_table(extended), extended)
    tables = {name[len("tables/") : -len(".csv")]: table for name, table in section.tables.items()}
    table = tables.pop("validation")
    assert len(table) == 2 * 20
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
    table = methods_won(extended)
    assert (table["best_of_its_side"].sum(), table["winner_of_all"].sum()) == (4, 2)
    assert table["lower_tl"].sum() == sum(t.best_tl.test_mae < t.best_sc.test_mae for t in extended)
    better = {"test_mae": 0.001}
    results = extended_study.edited(lambda c: better if c["method"] == "ml_featextr" and c["cv_mae"] else {})
    counts = methods_won(results).set_index("method")["lower_tl"]
    assert counts["TL:ML(FeatExtr)"] == counts.sum() == 2


@pytest.mark.parametrize(("of_gap", "ranks"), [(2.0, [1.0, 2.0]), (1.0, [1.5, 1.5])])
def test_sources_are_ranked_by_the_same_method_and_share_a_rank_where_equal(study, of_gap, ranks):
    errors = {"formation_energy": 1.0, "band_gap": of_gap}
    results = study.edited(lambda cell: {"val_mae": errors.get(cell["source"], cell["val_mae"])})
    table = sources_won(study.config, results)
    assert list(table["mean_rank"]) == ranks
    assert list(table["screening_ratio_to_best_source"]) == pytest.approx([1.0, of_gap])
    assert list(table["comparisons"]) == [2 * 5] * 2
    assert list(table["paper_wins"]) == [9, 2]


def test_source_networks_are_read_from_their_provenance(whole_study):
    table = source_model_table(whole_study.config, whole_study.paths)
    energy, gap = "formation_energy", "band_gap"
    assert list(table["network"]) == [energy, gap, "all_sources", "all_sources"]
    assert list(table["source"]) == [energy, gap] * 2
    assert list(table["validation_mae"]) == pytest.approx([0.0812, 0.0812, 0.07, 0.08])
    assert list(table["n_train"]) == [9000, 9000, 9000, 9001]
    section = source_models_section(table)
    assert section.context["stated"] == {energy: 0.0369}
    assert "seconds" not in section.tables["tables/table_s6.csv"]  # they differ from run to run
    assert source_models_section(table.iloc[:0]) is None


def test_stopped_and_failed_cells_are_listed_with_their_reason(extended, study_with_failure, plain):
    table = unfinished_section(cell_table(extended)).tables["tables/unfinished.csv"]
    assert len(table) == 4
    assert set(table["status"]) == {"stopped"}
    assert "after fold 1 of 10: 12.0 % behind ml(PA)" in set(table["reason"])
    failed = unfinished_section(cell_table(study_with_failure.results()))
    (row,) = failed.tables["tables/unfinished.csv"].to_dict("records")
    assert (row["status"], row["reason"]) == ("failed", "DivergedError: the loss became NaN | 3")
    assert unfinished_section(cell_table(plain)) is None


def test_extension_methods_are_shown_apart(extended, plain):
    section = extension_section(extended)
    row = section.tables["tables/own_methods.csv"].iloc[0]
    assert row["difference"] == pytest.approx(row["ours_mae"] - row["papers_mae"])
    assert len(row["ours_run_id"]) == len(row["papers_run_id"]) == 32
    assert section.context["methods"]["TL:ResNet(FineTune)"].startswith("the joint residual network")
    assert section.context["won"] == 2
    assert extension_section(plain) is None


def test_a_blend_says_what_it_is_made_of(extended_study):
    extended_study.change_json("slme", "winners.json", lambda winners: winners | {"winner": "slme/blend"})
    best = {"cv_mae": [0.1]}
    results = extended_study.edited(lambda cell: best if cell["method"] == "blend" else {}, ["slme"])
    table = extension_section(results).tables["tables/own_methods.csv"]
    assert table["blend_of"][1] == "resnet(EF+PA) 0.60; ml(PA) 0.40"


def test_parameters_are_those_of_the_layers(plain, extended):
    widths = [86, *HIDDEN_UNITS, 1]
    weights = sum(before * after for before, after in pairwise(widths))
    assert elemnet_parameters() == weights + sum(widths[1:]) == 4_631_361  # as the built networks have
    assert resnet_parameters() == 1_276_803
    assert not networks_section(plain).context["residual"]
    assert networks_section(extended).context["residual"]
