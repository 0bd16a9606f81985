"""This study beside the paper: reproduced tables, outcomes, tallies, sign tests and the Base row."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.errors import StoreError
from crossprop.methods import PAPER_METHODS, Method
from crossprop.report import paper as report_paper
from crossprop.report import statistics
from crossprop.report.paper import STATED_MAE, STATED_Q95, TABLES, Outcome, compare, entry_table, reproduced_tables
from crossprop.report.statistics import SignTest, sign_test, transfer_gains
from crossprop.report.study import best_transfer


@pytest.fixture(scope="module")
def papers():
    """The paper's errors of all its targets."""
    return {e.key: e.paper for e in load_catalog().entries("target") if e.paper.lowest_mae}


@pytest.fixture
def target(extended):
    return extended[1]


def _cells(target, *methods):
    return [cell for cell in target.cells if cell.method in methods]


def test_a_tie_is_within_one_standard_error_of_this_study():
    for mae, error, published, outcome in (
        (1.0, 0.05, 1.04, Outcome.TIE),
        (1.0, 0.05, 1.06, Outcome.WIN),
        (1.0, 0.05, 0.94, Outcome.LOSS),
        (1.0, float("nan"), 0.999, Outcome.LOSS),
        (1.0, 0.1, None, None),
    ):
        assert report_paper.judge(mae, error, published) is outcome


def test_the_cell_with_the_least_cross_validation_error_is_compared(target):
    cells = _cells(target, Method.FINETUNE, Method.MODFINETUNE)
    entry = compare(target, cells, 5.0)
    best = min((cell for cell in cells if cell.cv_mae), key=lambda cell: cell.cv_mae_mean)
    rows = target.hold_out(best)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    assert (entry["cross_validated"], entry["status"]) == ("2 of 4", "cross-validated")
    assert entry["run_id"] == target.run_id(best)
    assert (entry["mae"], entry["standard_error"]) == pytest.approx((errors.mean(), errors.sem()))
    of_mean = np.abs(rows["y_true"] - rows["y_pred_ensemble"]).mean()
    assert entry["mae_of_mean_of_folds"] == pytest.approx(of_mean)
    assert entry["ratio"] == pytest.approx(errors.mean() / 5.0)


def test_cells_without_cross_validation_give_their_status(target):
    stopped = compare(target, _cells(target, Method.FREEZING), 5.0)
    assert (stopped["cell"], stopped["mae"], stopped["outcome"]) == (None, None, None)
    assert "(screening MAE" in stopped["status"]
    assert stopped["run_id"]
    (screened,) = [cell for cell in _cells(target, Method.DL) if cell.cv_mae is None]
    assert compare(target, [screened], 5.0)["status"].startswith("screened only: SC:DL(")
    failed = replace(screened, failure="DivergedError: NaN", val_mae=None)
    assert compare(target, [failed], 5.0)["status"] == "failed: DivergedError: NaN: SC:DL(EF)"
    assert compare(target, [], 5.0)["status"] == "not in this study"


@pytest.mark.parametrize(("number", "wins", "n"), [(2, 38, 39), (3, 38, 39), (4, 27, 39), (5, 2, 2)])
def test_published_columns_give_the_papers_counts(papers, number, wins, n):
    table = TABLES[number]
    held = [figures for figures in papers.values() if table.holds(figures)]
    lower = [getattr(f, table.transfer_field) < getattr(f, table.scratch_field) for f in held]
    assert (sum(lower), len(lower)) == (wins, n)


def test_the_papers_figures_are_those_of_its_text(papers):
    sources = report_paper.paper_sources()
    assert sources["table_4_wins"].sum() == 27
    assert list(sources.index[sources["table_2"]]) == ["formation_energy"]
    assert sources.loc["formation_energy", "validation_mae"] == 0.0369
    assert best_transfer(papers["piezo_max_dij"]) == 22.32
    assert best_transfer(papers["expt_bandgap"]) == 0.3551
    assert (len(PAPER_METHODS), len({method.notation for method in Method})) == (8, len(Method))
    assert STATED_MAE[0].p_value == pytest.approx(0.0057539, rel=1e-4)  # exact; the paper prints 0.00397
    assert STATED_Q95[1] < 0.05 < STATED_Q95[0].p_value


def test_tables_take_the_representations_and_sources_of_the_paper(plain):
    tables = reproduced_tables(plain)
    assert list(tables) == [2, 3, 4]
    for row, target in zip(tables[2].to_dict("records"), plain, strict=True):
        assert "(EF)" in row["sc_cell"]
        assert "from formation energy" in row["tl_cell"]
        assert row["sc_paper"] == target.info.paper.sc_ef_mae_table2
        assert row["tl_paper"] == target.info.paper.tl_mae_table2
        assert (row["sc_cross_validated"], row["tl_cross_validated"]) == ("2 of 2", "5 of 5")
    for row, target in zip(tables[4].to_dict("records"), plain, strict=True):
        assert (row["sc_mae"], row["tl_mae"]) == (target.best_sc.test_mae, target.best_tl.test_mae)
        assert row["sc_paper"] == target.info.paper.sc_mae_table4_or_5


def test_the_page_shows_wins_in_bold_and_says_what_was_not_cross_validated(report, extended_report):
    page, extended = (" ".join((of / "paper.md").read_text().split()) for of in (report, extended_report))
    screened = r"\| – screened only: SC:(ML|DL)\(EF\) \(screening MAE [\d.]+\) \| [\d.]+ \| – \|"
    assert re.search(screened, extended)
    assert "(3 of 10 cells validated)" in extended
    assert "2 without a cross-validated cell" in extended
    assert re.search(r"\| \*\*\d\.\d\d\*\* win \|", page)
    assert not re.search(r"\*\* (tie|loss)", page)
    assert "Sources of this study: formation energy, band gap (edition `open`)." in page


def test_wins_ties_and_losses_are_counted():
    columns = ["outcome", "outcome_of_mean_of_folds", "p_holm", "ratio", "mae_of_mean_of_folds", "paper_mae"]
    rows = [
        ("win", "win", 0.01, 0.5, 0.9, 2.0),
        ("tie", "win", 1.0, 1 / 1.05, 0.9, 1.05),
        ("loss", "tie", 0.04, 2.0, 1.95, 2.0),
        ("loss", None, 0.06, 4.0, None, 2.0),
    ]
    entries = pd.DataFrame(rows, columns=columns, dtype=object).assign(ours="winner", paper="lowest")
    (row,) = report_paper.tally_table(entries).to_dict("records")
    assert [row[outcome] for outcome in Outcome] == [1, 1, 2]
    assert [row[f"{outcome}_of_mean_of_folds"] for outcome in Outcome] == [2, 1, 0]
    assert (row["wins_beyond_noise"], row["losses_beyond_noise"]) == (1, 1)
    assert row["geometric_mean_ratio"] == pytest.approx((0.5 * (1 / 1.05) * 2 * 4) ** 0.25)
    of_means = (0.45 * 0.9 / 1.05 * 0.975) ** (1 / 3)
    assert row["geometric_mean_ratio_of_mean_of_folds"] == pytest.approx(of_means)


def test_every_model_meets_every_column_of_the_paper(extended, plain):
    entries = entry_table(extended)
    assert len(report_paper.tally_table(entries)) == 12
    winner = entries[(entries["ours"] == "winner") & (entries["paper"] == "lowest")]
    assert list(winner["mae"]) == [target.winner.test_mae for target in extended]
    assert list(winner["paper_mae"]) == [target.info.paper.lowest_mae for target in extended]
    p_values = [compare(t, [t.winner], t.info.paper.lowest_mae)["p_value"] for t in extended]
    assert winner["p_holm"].min() == pytest.approx(min(1.0, 2 * min(p_values)))
    papers = entries[(entries["ours"] == "paper's methods") & (entries["paper"] == "best SC")]
    assert list(papers["mae"]) == [target.paper_winner.test_mae for target in extended]
    assert list(entry_table(plain)["ours"].unique()) == ["best SC", "best TL", "paper's methods"]


def test_targets_with_a_higher_error_are_named_worst_first(plain):
    errors = [0.5 * t.paper_winner.test_mae / factor for t, factor in zip(plain, (1.0, 2.0), strict=True)]
    lower = []
    for target, error in zip(plain, errors, strict=True):
        paper = target.info.paper.model_copy(update={"lowest_mae": error})
        lower.append(replace(target, info=target.info.model_copy(update={"paper": paper})))
    lost = report_paper.against_paper_section(lower).context["lost"]
    assert [row["label"] for row in lost] == ["SLME", "Exfoli"]
    assert [row["ratio"] for row in lost] == pytest.approx([4, 2])


def test_published_models_that_the_median_beats():
    for key, median, beaten in (
        ("PMDij", 23.41, ["SC of Tables 2 and 3 (24.43)", "TL of Table 3 (23.46)", "SC of Table 4 (26.46)"]),
        ("expt_bandgap", 0.4, ["SC of Table 5 (0.4458)"]),
    ):
        assert report_paper.median_beats(median, load_catalog().property(key).paper) == beaten


def test_sign_tests_are_corrected_over_all_questions_and_stand_beside_the_papers(plain, papers):
    table = report_paper.sign_test_table(plain, reproduced_tables(plain))
    smallest = table.sort_values("p_exact", kind="stable").iloc[0]
    assert smallest["p_holm"] == pytest.approx(min(1.0, len(table) * smallest["p_exact"]))
    lower = [t.info.paper.tl_mae_table2 < t.info.paper.sc_ef_mae_table2 for t in plain]
    assert table["paper_wins"][0] == sum(lower)
    assert table["paper_p_stated"].isna().all()  # stated for 41 targets, not for two
    assert report_paper.sign_test_table(plain, {})["paper_wins"].isna().all()
    errors = [(f.tl_mae_table3_or_5, f.sc_mae_table4_or_5, 1.0, 2.0) for f in papers.values()]
    every = pd.DataFrame(errors, columns=["tl_paper", "sc_paper", "tl_mae", "sc_mae"])
    table = report_paper.sign_test_table(plain, {4: every})
    wins = [STATED_MAE[0].wins, STATED_MAE[0].wins, STATED_Q95[0].wins]
    assert list(table["paper_wins"][:3]) == wins == [29, 29, 26]
    assert list(table["paper_p_stated"][1:3]) == [0.00397, 0.04291]


def test_sign_test_is_the_binomial_tail_and_ties_are_counted_and_left_out():
    for wins, losses in ((3, 0), (29, 12), (12, 27)):
        n = wins + losses
        exact = sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n
        assert sign_test([1.0] * wins + [3.0] * losses, [2.0] * n).p_value == pytest.approx(exact, rel=1e-9)
    test = sign_test([1.0] * 4 + [3.0] + [2.0] * 7, [2.0] * 12)
    assert test == SignTest(4, 1, 7)
    assert (test.n, test.p_value) == (5, pytest.approx(6 / 32))
    assert (SignTest(0, 0, 2).p_value, SignTest(0, 0, 2).interval) == (1.0, (0.0, 1.0))
    assert SignTest(5, 0).interval == (pytest.approx(0.025 ** (1 / 5)), 1.0)  # closed form for all wins


def test_holm_multiplies_by_what_is_left_and_never_falls():
    for p_values, adjusted in (
        ([0.03, 0.01, 0.5, 0.02], [0.06, 0.04, 0.5, 0.06]),  # 0.01 x 4, 0.02 x 3, 0.03 x 2 raised to 0.06
        ([0.6, 0.7], [1.0, 1.0]),
        ([], []),
    ):
        assert statistics.holm_adjusted(p_values) == pytest.approx(adjusted)


def test_gain_is_the_difference_of_the_two_hold_out_errors_and_its_verdict_needs_a_small_corrected_p(plain):
    for gain in transfer_gains(plain):
        one, other = gain.target.best_tl.test_mae, gain.target.best_sc.test_mae
        assert gain.gap.mean == pytest.approx(one - other)
        assert gain.gap.low < gain.gap.mean < gain.gap.high
        assert gain.p_adjusted >= gain.gap.p_value
        better = replace(gain, gap=replace(gain.gap, mean=-1.0), p_adjusted=0.01)
        worse = replace(better, gap=replace(gain.gap, mean=1.0))
        verdicts = [one.verdict for one in (better, worse, replace(better, p_adjusted=0.05))]
        assert verdicts == ["TL better", "SC better", "within noise"]


def test_models_measured_on_other_rows_are_not_compared(study):
    def without_one(table):
        return table.drop(index=table.index[table["cell"].eq("slme/ml/pa") & table["split"].eq("test")][0])

    study.change_table(study.folder("slme") / "predictions.parquet", without_one)
    with pytest.raises(StoreError, match="not the one that cell 'slme/ml/pa'"):
        transfer_gains(study.results())


def test_fine_tuning_is_paired_by_target_and_source_of_cells_that_finished(study, study_with_failure):
    errors = {"finetune": 2.0, "modfinetune": 1.0}
    results = study.edited(lambda cell: {"val_mae": errors.get(cell["method"], cell["val_mae"])})
    assert statistics.modified_against_plain(results) == SignTest(4, 0)
    assert statistics.modified_against_plain(study_with_failure.results()).n == 3
