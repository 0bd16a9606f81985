"""Sections of the supplement on methods, sources and unfinished cells."""

import json
from itertools import pairwise

import pytest

from crossprop.errors import ModelFormatError
from crossprop.methods import HIDDEN_UNITS
from crossprop.report.network_figure import elemnet_parameters, resnet_parameters
from crossprop.report.paper import TABLES
from crossprop.report.statistics import extension_gains
from crossprop.report.study import load_study_results
from crossprop.report.supplement import (
    extension_section,
    extension_table,
    lowest_transfer,
    methods_won,
    networks_section,
    source_model_table,
    source_models_section,
    sources_won,
    tails_section,
    unfinished_section,
    validation_section,
)
from crossprop.report.tables import cell_table


def test_every_cell_stands_in_the_validation_table_with_its_run(extended):
    study, results = extended
    section = validation_section(cell_table(results), results, study.paper)
    table = section.tables["tables/validation.csv"]
    assert len(table) == 2 * 20
    assert (table["run_id"].str.len() == 32).all()
    assert set(table["status"].str.split(" ").str[0]) == {"cross-validated", "screened", "stopped"}
    stopped = table[table["mae_of_folds_before_stop"].notna()]
    assert len(stopped) == 2
    assert stopped["folds"].isna().all()
    assert set(section.figures) == {"figures/cross_validation.png"}


def test_supplementary_tables_hold_the_cells_of_the_tables_they_lead_to(extended):
    study, results = extended
    tables = validation_section(cell_table(results), results, study.paper).tables
    of_paper = {name.removeprefix("tables/").removesuffix(".csv"): table for name, table in tables.items()}
    assert set(of_paper) == {"validation", "table_s5", "table_s7", "table_s9"}
    assert [len(of_paper[f"table_s{n}"]) for n in (5, 7, 9)] == [2 * (2 + 5), 2 * (2 + 10), 2 * (4 + 10)]
    assert set(of_paper["table_s5"]["source"]) == {None, "formation_energy"}
    assert set(of_paper["table_s7"]["representation"]) == {"EF", "activations"}
    assert not of_paper["table_s9"]["ours"].any()


def test_chosen_methods_are_counted_once_a_target(extended):
    results = extended[1]
    table = methods_won(results)
    assert (table["best_of_its_side"].sum(), table["winner_of_all"].sum()) == (4, 2)
    lower = [t for t in results if t.best_tl.test_mae < t.best_sc.test_mae]
    assert table["lower_tl"].sum() == len(lower) == len(lowest_transfer(TABLES[4], results))


def test_sources_are_ranked_by_the_same_method(study, edited):
    errors = {"formation_energy": 1.0, "band_gap": 2.0}
    results = edited(
        study, lambda cells: [c | {"val_mae": errors.get(c["source"], c["val_mae"])} for c in cells]
    )
    table = sources_won(study.info, results)
    assert list(table["mean_rank"]) == [1.0, 2.0]
    assert list(table["screening_ratio_to_best_source"]) == pytest.approx([1.0, 2.0])
    assert list(table["comparisons"]) == [2 * 5] * 2
    assert list(table["paper_wins"]) == [9, 2]


def test_equal_sources_share_their_rank(study, edited):
    results = edited(study, lambda cells: [c | {"val_mae": 1.0} for c in cells])
    assert list(sources_won(study.info, results)["mean_rank"]) == [1.5, 1.5]


def test_source_networks_are_read_from_their_provenance(extended):
    table = source_model_table(extended[0].info, extended[0].paths)
    energy, gap = "formation_energy", "band_gap"
    assert list(table["network"]) == [energy, gap, "all_sources", "all_sources"]
    assert list(table["source"]) == [energy, gap, energy, gap]
    assert list(table["validation_mae"]) == pytest.approx([0.0812, 0.0812, 0.07, 0.08])
    assert list(table["n_train"]) == [9000, 9000, 9000, 9001]
    section = source_models_section(table)
    assert section.context["stated"] == {energy: 0.0369}
    assert "seconds" not in section.tables["tables/table_s6.csv"]  # they differ from run to run
    assert source_models_section(table.iloc[:0]) is None


def test_a_network_that_was_not_trained_is_named(extended_study):
    (extended_study.paths.joint_model("all_sources") / "provenance.json").unlink()
    with pytest.raises(ModelFormatError, match="Pretrain the source"):
        source_model_table(extended_study.info, extended_study.paths)


def test_tails_are_those_of_the_chosen_cells(plain):
    results = plain[1]
    section = tails_section(results, of_paper=True)
    row = section.tables["tables/table_s12.csv"].iloc[0]
    assert row["sc_q95"] == results[0].best_sc.test_q95
    assert row["tl_lower_than_sc"] == (results[0].best_tl.test_q95 < results[0].best_sc.test_q95)
    assert row["winner_run_id"] == results[0].run_id(results[0].winner)


def test_stopped_and_failed_cells_are_listed_with_their_reason(extended, study_with_failure, plain):
    table = unfinished_section(cell_table(extended[1])).tables["tables/unfinished.csv"]
    assert len(table) == 4
    assert set(table["status"]) == {"stopped"}
    assert "after fold 1 of 10: 12.0 % behind ml(PA)" in set(table["reason"])
    failed = unfinished_section(
        cell_table(load_study_results(study_with_failure.info, study_with_failure.paths))
    )
    (row,) = failed.tables["tables/unfinished.csv"].to_dict("records")
    assert (row["status"], row["reason"]) == (
        "failed",
        "DivergedError: the loss became NaN in epoch 3 | of 60",
    )
    assert unfinished_section(cell_table(plain[1])) is None


def test_extension_methods_are_shown_apart(extended, plain):
    results = extended[1]
    section = extension_section(results)
    row = section.tables["tables/own_methods.csv"].iloc[0]
    assert row["difference"] == pytest.approx(row["ours_mae"] - row["papers_mae"])
    assert len(row["ours_run_id"]) == len(row["papers_run_id"]) == 32
    assert section.context["methods"]["TL:ResNet(FineTune)"].startswith("the joint residual network")
    assert section.context["won"] == 2
    assert extension_section(plain[1]) is None


def test_a_blend_says_what_it_is_made_of(extended_study, edited):
    winners = extended_study.folder("slme") / "winners.json"
    winners.write_text(json.dumps(json.loads(winners.read_text()) | {"winner": "slme/blend"}))
    best = {"cv_mae": [0.1]}
    results = edited(
        extended_study, lambda cells: [c | best if c["method"] == "blend" else c for c in cells], ["slme"]
    )
    assert extension_table(extension_gains(results))["blend_of"][1] == "resnet(EF+PA) 0.60; ml(PA) 0.40"


def test_parameters_are_those_of_the_layers(plain, extended):
    widths = [86, *HIDDEN_UNITS, 1]
    weights = sum(before * after for before, after in pairwise(widths))
    assert elemnet_parameters() == weights + sum(widths[1:]) == 4_631_361
    assert not networks_section(plain[1]).context["residual"]
    assert networks_section(extended[1]).context["residual"]


@pytest.mark.slow
def test_parameters_agree_with_the_built_networks():
    from crossprop.models.networks import build_elemnet, build_resnet

    assert build_elemnet(86).count_params() == elemnet_parameters()
    assert build_resnet(231).count_params() == resnet_parameters()
