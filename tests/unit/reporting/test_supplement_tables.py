import json

import pytest

from crossprop.errors import ModelFormatError
from crossprop.methods import Method
from crossprop.report.paper import TABLES
from crossprop.report.statistics import own_gains
from crossprop.report.study import load_study_results
from crossprop.report.supplement.extensions import own_findings, own_methods_part, own_rows
from crossprop.report.supplement.networks import source_model_rows, source_models_part
from crossprop.report.supplement.validation import (
    cell_counts,
    cross_validated_errors,
    failed_part,
    stopped_part,
    tail_rows,
    tails_part,
    unfinished_rows,
    validation_part,
    validation_rows,
)
from crossprop.report.supplement.winning import lowest_transfer, method_rows, source_rows, winning_part


def _load(study):
    return load_study_results(study.info, study.paths)


def test_every_cell_stands_in_the_validation_table_with_its_run(own_study):
    rows = validation_rows(_load(own_study))
    assert len(rows) == 2 * 20
    assert all(len(row["run_id"]) == 32 for row in rows)
    assert {row["status"].split(" ")[0] for row in rows} == {"cross-validated", "screened", "stopped"}
    raced = [row for row in rows if row["mae_of_folds_before_stop"]]
    assert len(raced) == 2
    assert all(row["folds"] is None for row in raced)


def test_supplementary_tables_hold_the_cells_of_the_tables_they_lead_to(own_study):
    tables = validation_part(_load(own_study), own_study.paper).tables
    assert set(tables) == {
        f"tables/{name}.csv" for name in ("validation", "table_s5", "table_s7", "table_s9")
    }
    assert len(tables["tables/table_s5.csv"]) == 2 * (2 + 5)
    assert {row["source"] for row in tables["tables/table_s5.csv"]} == {None, "formation_energy"}
    assert {row["representation"] for row in tables["tables/table_s7.csv"]} == {"EF", "activations"}
    assert len(tables["tables/table_s9.csv"]) == 2 * (4 + 10)
    assert not any(row["ours"] for row in tables["tables/table_s9.csv"])


def test_heat_map_shows_the_best_validated_cell_over_the_base(own_study):
    results = _load(own_study)
    methods, ratios = cross_validated_errors(results)
    assert Method.BASE not in methods
    cell = next(c for c in results[1].cells if c.method is Method.BOOST)
    expected = cell.cv_mae_mean / results[1].base.cv_mae_mean
    assert ratios[methods.index(Method.BOOST), 1] == pytest.approx(expected)
    assert not (ratios[methods.index(Method.FREEZING)] > 0).any()  # it was stopped


def test_chosen_methods_are_counted_once_a_target(own_study):
    results = _load(own_study)
    rows = method_rows(results)
    assert sum(row["best_of_its_side"] for row in rows) == 4
    assert sum(row["winner_of_all"] for row in rows) == 2
    lower = [t for t in results if t.best_tl.test_mae < t.best_sc.test_mae]
    assert sum(row["lower_tl"] for row in rows) == len(lower) == len(lowest_transfer(TABLES[2], results))


def test_sources_are_ranked_by_the_same_method(study, edit_cells):
    errors = {"formation_energy": 1.0, "band_gap": 2.0}
    for target in ("slme", "exfoliation_energy"):
        edit_cells(
            study,
            target,
            lambda cells: [c | {"val_mae": errors.get(c["source"], c["val_mae"])} for c in cells],
        )
    first, second = source_rows(study.info, _load(study))
    assert (first["mean_rank"], second["mean_rank"]) == (1.0, 2.0)
    assert (first["screening_ratio_to_best_source"], second["screening_ratio_to_best_source"]) == (1.0, 2.0)
    assert first["comparisons"] == 2 * 5
    assert (first["paper_wins"], second["paper_wins"]) == (9, 2)


def test_equal_sources_share_their_rank(study, edit_cells):
    for target in ("slme", "exfoliation_energy"):
        edit_cells(study, target, lambda cells: [c | {"val_mae": 1.0} for c in cells])
    assert [row["mean_rank"] for row in source_rows(study.info, _load(study))] == [1.5, 1.5]


def test_the_papers_counts_stand_only_beside_its_targets(study):
    results = _load(study)
    assert "paper (of 27)" in winning_part(study.info, results, of_paper=True).text
    assert "paper" not in winning_part(study.info, results, of_paper=False).text.replace("the paper", "")


def test_source_networks_are_read_from_their_provenance(own_study):
    rows = source_model_rows(own_study.info, own_study.paths)
    assert [(row["network"], row["source"]) for row in rows] == [
        ("formation_energy", "formation_energy"),
        ("band_gap", "band_gap"),
        ("all_sources", "formation_energy"),
        ("all_sources", "band_gap"),
    ]
    assert [row["validation_mae"] for row in rows] == pytest.approx([0.0812, 0.0812, 0.07, 0.08])
    assert [row["n_train"] for row in rows] == [9000, 9000, 9000, 9001]
    part = source_models_part(rows)
    assert "0.0369 on 321,140" in part.text
    assert "seconds" not in part.tables["tables/table_s6.csv"][0]  # they differ from run to run


def test_a_network_that_was_not_trained_is_named(own_study):
    (own_study.paths.joint_model("all_sources") / "provenance.json").unlink()
    with pytest.raises(ModelFormatError, match="Pretrain the source"):
        source_model_rows(own_study.info, own_study.paths)


def test_a_study_without_sources_has_no_section_of_networks():
    assert source_models_part([]).markdown() == ""


def test_tails_are_those_of_the_chosen_cells(study):
    results = _load(study)
    row = tail_rows(results)[0]
    assert row["sc_q95"] == results[0].best_sc.test_q95
    assert row["tl_lower_than_sc"] == (results[0].best_tl.test_q95 < results[0].best_sc.test_q95)
    assert row["winner_run_id"] == results[0].run_id(results[0].winner)
    assert "26 of 41" in tails_part(results, of_paper=True).text
    assert "26 of 41" not in tails_part(results, of_paper=False).text


def test_stopped_cells_are_listed_with_their_reason(own_study):
    results = _load(own_study)
    rows = unfinished_rows(results)
    assert len(rows) == 4
    assert {row["status"] for row in rows} == {"stopped"}
    assert "after fold 1 of 10: 12.0 % behind ml(PA)" in stopped_part(results).text
    assert failed_part(results).markdown() == ""
    assert "4 stopped as hopeless" in cell_counts(results)


def test_failed_cells_are_listed_too(study_with_failure):
    results = _load(study_with_failure)
    assert [row["reason"] for row in unfinished_rows(results)] == [
        "DivergedError: the loss became NaN in epoch 3 | of 60"
    ]
    assert cell_counts(results) == "Of 30 cells 29 cross-validated, 1 failed."
    assert stopped_part(results).tables


def test_our_methods_are_shown_apart(own_study):
    results = _load(own_study)
    gains = own_gains(results)
    row = own_rows(results, gains)[0]
    assert row["difference"] == pytest.approx(row["ours_mae"] - row["papers_mae"])
    assert len(row["ours_run_id"]) == len(row["papers_run_id"]) == 32
    part = own_methods_part(results, gains)
    assert "**TL:ResNet(FineTune)**: the joint residual network" in part.text
    assert "the winner on 2 of 2 targets" in own_findings(results, gains)[0]


def test_a_blend_says_what_it_is_made_of(own_study, edit_cells):
    winners = own_study.folder("slme") / "winners.json"
    chosen = json.loads(winners.read_text())
    winners.write_text(json.dumps(chosen | {"winner": "slme/blend"}))
    edit_cells(
        own_study,
        "slme",
        lambda cells: [c | {"cv_mae": [0.1]} if c["method"] == "blend" else c for c in cells],
    )
    results = _load(own_study)
    assert own_rows(results, own_gains(results))[1]["blend_of"] == "resnet(EF+PA) 0.60; ml(PA) 0.40"


def test_the_papers_methods_alone_make_no_such_section(study):
    results = _load(study)
    assert own_methods_part(results, own_gains(results)).markdown() == ""
    assert own_findings(results, ()) == []
