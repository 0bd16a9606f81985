from dataclasses import replace

import pytest

from crossprop.data.catalog import load_catalog
from crossprop.report.paper import Entry, Outcome
from crossprop.report.paper_page import median_sentence, paper_findings, paper_section
from crossprop.report.paper_tests import (
    Tally,
    base_rows,
    losses,
    median_beats,
    question_rows,
    questions,
    tallies,
    tally_markdown,
)
from crossprop.report.study import load_study_results


def _entry(target, mae, error, published, ensemble=None):
    return Entry(
        target=target,
        cell=None,
        run_id="r",
        status="cross-validated",
        validated=1,
        candidates=1,
        published=published,
        mae=mae,
        standard_error=error,
        ensemble_mae=ensemble,
        ensemble_standard_error=None if ensemble is None else error,
    )


@pytest.fixture
def tally():
    entries = (
        _entry("a", 1.0, 0.1, 2.0, 0.9),  # lower
        _entry("b", 1.0, 0.1, 1.05, 0.9),  # within one standard error, the mean of folds lower
        _entry("c", 4.0, 0.1, 2.0, 1.95),  # higher, the mean of folds within
        _entry("d", 8.0, 0.1, 2.0),
    )
    return Tally(ours="winner", theirs="lowest", entries=entries, p_adjusted=(0.01, 1.0, 0.04, 0.06))


def test_wins_ties_and_losses_are_counted(tally):
    assert [tally.count(outcome) for outcome in Outcome] == [1, 1, 2]
    assert [tally.count(outcome, ensemble=True) for outcome in Outcome] == [2, 1, 0]
    assert tally.told() == "1–1–2"


def test_only_small_corrected_p_values_are_beyond_noise(tally):
    assert (tally.beyond_noise(Outcome.WIN), tally.beyond_noise(Outcome.LOSS)) == (1, 1)


def test_mean_ratio_is_geometric(tally):
    assert tally.ratio == pytest.approx((0.5 * (1 / 1.05) * 2 * 4) ** 0.25)


def test_losses_are_named_worst_first(tally):
    assert losses(tally, {"a": "A", "b": "B", "c": "C", "d": "D"}) == ["D (4.00)", "C (2.00)"]


def test_every_model_of_ours_meets_every_column_of_the_paper(own_study):
    results = load_study_results(own_study.info, own_study.paths)
    made = {(t.ours, t.theirs): t for t in tallies(results, own_study.paper)}
    assert len(made) == 12
    winner = made[("winner", "lowest")].entries[0]
    assert winner.mae == results[0].winner.test_mae
    assert winner.published == own_study.paper["exfoliation_energy"].lowest_mae
    papers = made[("paper's methods", "best SC")].entries[1]
    assert papers.mae == results[1].paper_winner.test_mae
    assert "winner of all methods, ours included" in tally_markdown(list(made.values()))


def test_a_study_without_methods_of_ours_has_no_line_for_them(study):
    results = load_study_results(study.info, study.paths)
    assert {t.ours for t in tallies(results, study.paper)} == {"best SC", "best TL", "paper's methods"}


def test_targets_that_the_paper_does_not_have_are_left_out(study):
    results = load_study_results(study.info, study.paths)
    made = tallies(results, {"slme": study.paper["slme"], "exfoliation_energy": None})
    assert {entry.target for tally in made for entry in tally.entries} == {"slme"}
    assert tallies(results, {}) == []
    assert paper_section(results, {}).markdown() == ""
    assert paper_findings(results, {}) == []


def test_the_median_of_pmdij_beats_the_best_transfer_of_table_3(study):
    target = load_study_results(study.info, study.paths)[0]
    base = replace(target.base, test_mae_median=23.41)
    pmdij = replace(target, cells=(base, *target.cells[1:]))
    beaten = median_beats(pmdij, load_catalog().property("PMDij").paper)
    assert beaten == ["SC of Tables 2 and 3 (24.43)", "TL of Table 3 (23.46)", "SC of Table 4 (26.46)"]


def test_an_experimental_set_is_held_against_table_5(study):
    target = load_study_results(study.info, study.paths)[0]
    base = replace(target.base, test_mae_median=0.4)
    beaten = median_beats(
        replace(target, cells=(base, *target.cells[1:])), load_catalog().property("expt_bandgap").paper
    )
    assert beaten == ["SC of Table 5 (0.4458)"]


def test_base_rows_show_mean_and_median_beside_the_papers(study):
    results = load_study_results(study.info, study.paths)
    row = base_rows(results, study.paper)[0]
    assert row["mae_of_mean"] == results[0].base.test_mae
    assert row["mae_of_median"] == results[0].base.test_mae_median
    assert row["paper_base"] == 60.0
    assert len(row["run_id"]) == 32


def test_no_sentence_is_made_where_the_median_beats_nothing(study):
    assert median_sentence(load_study_results(study.info, study.paths), study.paper) == ""


def test_sign_tests_are_corrected_over_all_questions(study):
    results = load_study_results(study.info, study.paths)
    asked = questions(results, study.paper)
    assert [q.asked[:26] for q in asked[:4]] == [
        "TL lower than SC, MAE, Tab",
        "TL lower than SC, MAE, Tab",
        "TL lower than SC, MAE, Tab",
        "best TL lower than best SC",
    ]
    smallest = min(asked, key=lambda q: q.ours.p_value)
    assert smallest.p_adjusted == pytest.approx(min(1.0, len(asked) * smallest.ours.p_value))
    rows = question_rows(asked)
    assert rows[0]["paper_wins"] == 2  # of both targets: 0.45 < 0.6 of the base
    assert rows[0]["paper_p_exact"] == pytest.approx(0.25)
    assert all(row["paper_p_stated"] is None for row in rows)  # stated for 41 targets, not for two


def test_without_the_paper_the_sign_tests_are_those_of_the_study(study):
    asked = questions(load_study_results(study.info, study.paths), {})
    assert len(asked) == 4
    assert all(question.paper is None for question in asked)
