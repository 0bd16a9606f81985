"""This study beside the paper: reproduced tables, outcomes, tallies, sign tests and the Base row."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.methods import Method, Representation
from crossprop.report.comparison import (
    STATED_MAE,
    STATED_Q95,
    against_paper_section,
    entry_table,
    sign_test_table,
    tally_table,
)
from crossprop.report.paper import (
    TABLES,
    Outcome,
    base_section,
    compare,
    judge,
    median_beats,
    paper_sources,
    reproduced_tables,
)
from crossprop.report.statistics import SignTest
from crossprop.report.study import best_transfer
from crossprop.report.summary import summarize


@pytest.fixture(scope="module")
def catalog_paper():
    """The paper's errors of all its targets."""
    return {e.key: e.paper for e in load_catalog().entries("target") if e.paper.lowest_mae}


@pytest.fixture
def target(extended):
    return extended[1][1]


def _cells(target, *methods):
    return [cell for cell in target.cells if cell.method in methods]


@pytest.mark.parametrize(
    ("mae", "error", "published", "outcome"),
    [
        (1.0, 0.05, 1.04, Outcome.TIE),
        (1.0, 0.05, 0.96, Outcome.TIE),
        (1.0, 0.05, 1.06, Outcome.WIN),
        (1.0, 0.05, 0.94, Outcome.LOSS),
        (1.0, None, 1.001, Outcome.WIN),
        (1.0, float("nan"), 0.999, Outcome.LOSS),
        (None, 0.1, 1.0, None),
        (1.0, 0.1, None, None),
    ],
)
def test_a_tie_is_within_one_standard_error_of_this_study(mae, error, published, outcome):
    assert judge(mae, error, published) is outcome


def test_the_cell_with_the_least_cross_validation_error_is_compared(target):
    cells = _cells(target, Method.FINETUNE, Method.MODFINETUNE)
    entry = compare(target, cells, 5.0)
    best = min((cell for cell in cells if cell.cv_mae), key=lambda cell: cell.cv_mae_mean)
    rows = target.hold_out(best)
    errors = np.abs(rows["y_true"] - rows["y_pred"])
    assert (entry["cross_validated"], entry["status"]) == ("2 of 4", "cross-validated")
    assert entry["run_id"] == target.run_id(best)
    assert entry["mae"] == pytest.approx(errors.mean())
    assert entry["standard_error"] == pytest.approx(errors.sem())
    assert entry["mae_of_mean_of_folds"] == pytest.approx(
        np.abs(rows["y_true"] - rows["y_pred_ensemble"]).mean()
    )
    assert entry["ratio"] == pytest.approx(errors.mean() / 5.0)


def test_cells_without_cross_validation_give_their_status(target):
    stopped = compare(target, _cells(target, Method.FREEZING), 5.0)
    assert (stopped["cell"], stopped["mae"], stopped["outcome"]) == (None, None, None)
    assert stopped["status"].startswith(
        "stopped after screening: 61.0 % behind finetune(band_gap): TL:freezing from"
    )
    assert "(screening MAE" in stopped["status"]
    assert stopped["run_id"]
    screened = [cell for cell in _cells(target, Method.DL) if cell.cv_mae is None]
    assert compare(target, screened, 5.0)["status"].startswith("screened only: SC:DL(")
    assert compare(target, screened, 5.0)["cross_validated"] == "0 of 1"
    failed = replace(screened[0], failure="DivergedError: NaN", val_mae=None)
    assert compare(target, [failed], 5.0)["status"].startswith("failed: DivergedError: NaN: SC:DL(")
    assert compare(target, [], 5.0)["status"] == "not in this study"


@pytest.mark.parametrize(("number", "wins", "n"), [(2, 38, 39), (3, 38, 39), (4, 27, 39), (5, 2, 2)])
def test_published_columns_give_the_papers_counts(catalog_paper, number, wins, n):
    table = TABLES[number]
    of_table = [f for f in catalog_paper.values() if (f.sc_ef_mae_table2 is None) is table.experimental]
    lower = [getattr(f, table.transfer_field) < getattr(f, table.scratch_field) for f in of_table]
    assert (sum(lower), len(lower)) == (wins, n)


def test_exact_p_of_the_papers_counts_is_not_what_it_prints():
    assert STATED_MAE.exact == SignTest(29, 12)
    assert STATED_MAE.exact.p_value == pytest.approx(0.0057539, rel=1e-4)
    assert STATED_Q95.p_value < 0.05 < STATED_Q95.exact.p_value


def test_the_papers_figures_are_those_of_its_text(catalog_paper):
    sources = paper_sources()
    assert sources["table_4_wins"].sum() == 27
    assert list(sources.index[sources["table_2"]]) == ["formation_energy"]
    assert sources.loc["formation_energy", "validation_mae"] == 0.0369
    assert best_transfer(catalog_paper["piezo_max_dij"]) == 22.32
    assert best_transfer(catalog_paper["expt_bandgap"]) == 0.3551
    assert sum(not method.extension for method in Method) == 8


def test_tables_take_the_representations_and_sources_of_the_paper(plain, catalog_paper):
    tables = reproduced_tables(plain[1], catalog_paper)
    assert list(tables) == [2, 3, 4]
    for row, target in zip(tables[2].to_dict("records"), plain[1], strict=True):
        assert "(EF)" in row["sc_cell"]
        assert "from formation energy" in row["tl_cell"]
        assert row["sc_paper"] == catalog_paper[target.info.key].sc_ef_mae_table2
        assert row["tl_paper"] == catalog_paper[target.info.key].tl_mae_table2
        assert (row["sc_cross_validated"], row["tl_cross_validated"]) == ("2 of 2", "5 of 5")
    for row, target in zip(tables[4].to_dict("records"), plain[1], strict=True):
        assert (row["sc_mae"], row["tl_mae"]) == (target.best_sc.test_mae, target.best_tl.test_mae)
        assert row["sc_paper"] == catalog_paper[target.info.key].sc_mae_table4_or_5


def test_experimental_sets_stand_in_table_5_alone(plain, catalog_paper):
    figures = {
        "slme": catalog_paper["expt_bandgap"],
        "exfoliation_energy": catalog_paper["exfoliation_energy"],
    }
    tables = reproduced_tables(plain[1], figures)
    assert list(tables[5]["target"]) == ["slme"]
    assert list(tables[3]["target"]) == ["exfoliation_energy"]


def test_every_number_of_this_study_has_its_run(extended, catalog_paper):
    table = reproduced_tables(extended[1], catalog_paper)[3]
    for row in table.to_dict("records"):
        assert all(len(row[f"{side}_run_id"]) == 32 for side in ("base", "sc", "tl"))
        assert row["tl_ratio"] == pytest.approx(row["tl_mae"] / row["tl_paper"])
        assert row["tl_outcome"] in ("win", "tie", "loss")
        assert row["base_mae_of_median"] is not None
    assert table["tl_cross_validated"][0] == "3 of 10"


def test_cells_that_were_not_cross_validated_leave_no_gap(extended_study, catalog_paper, edited, tmp_path):
    dropped = dict.fromkeys(("cv_mae", "best_fold", "test_mae", "strict_test_mae"))
    fractions = Representation.ELEMENTAL_FRACTIONS

    def only_screened(cells):
        scratch = ("ml", "dl")
        return [
            c | dropped if c["method"] in scratch and c["representation"] == fractions else c for c in cells
        ]

    table = reproduced_tables(edited(extended_study, only_screened, ["slme"]), catalog_paper)[2]
    assert table["sc_status"][1].startswith("screened only")
    assert table["tl_lower_than_sc"][1] is None
    folder = tmp_path / "report"
    summarize(extended_study.info, extended_study.paths, folder, catalog_paper)
    page = " ".join((folder / "paper.md").read_text(encoding="utf-8").split())
    assert re.search(r"\| – screened only: SC:(ML|DL)\(EF\) \(screening MAE [\d.]+\) \| [\d.]+ \| – \|", page)
    assert "(3 of 10 cells validated)" in page
    assert re.search(r"\| \*\*0\.\d\d\*\* win \|", page)  # only a win is bold
    assert not re.search(r"\*\* (tie|loss)", page)


def test_wins_ties_and_losses_are_counted():
    columns = ["outcome", "outcome_of_mean_of_folds", "p_holm", "ratio", "mae_of_mean_of_folds", "paper_mae"]
    rows = [
        ("win", "win", 0.01, 0.5, 0.9, 2.0),
        ("tie", "win", 1.0, 1 / 1.05, 0.9, 1.05),
        ("loss", "tie", 0.04, 2.0, 1.95, 2.0),
        ("loss", None, 0.06, 4.0, None, 2.0),
    ]
    entries = pd.DataFrame(rows, columns=columns, dtype=object).assign(ours="winner", paper="lowest")
    (row,) = tally_table(entries).to_dict("records")
    assert [row[outcome] for outcome in Outcome] == [1, 1, 2]
    assert [row[f"{outcome}_of_mean_of_folds"] for outcome in Outcome] == [2, 1, 0]
    assert (row["wins_beyond_noise"], row["losses_beyond_noise"]) == (1, 1)
    assert row["geometric_mean_ratio"] == pytest.approx((0.5 * (1 / 1.05) * 2 * 4) ** 0.25)
    assert row["geometric_mean_ratio_of_mean_of_folds"] == pytest.approx(
        (0.45 * 0.9 / 1.05 * 0.975) ** (1 / 3)
    )


def test_every_model_meets_every_column_of_the_paper(extended, plain):
    study, results = extended
    entries = entry_table(results, study.paper)
    assert len(tally_table(entries)) == 12
    winner = entries[(entries["ours"] == "winner") & (entries["paper"] == "lowest")].iloc[0]
    assert winner["mae"] == results[0].winner.test_mae
    assert winner["paper_mae"] == study.paper["exfoliation_energy"].lowest_mae
    papers = entries[(entries["ours"] == "paper's methods") & (entries["paper"] == "best SC")]
    assert list(papers["mae"]) == [target.paper_winner.test_mae for target in results]
    assert list(entry_table(plain[1], plain[0].paper)["ours"].unique()) == [
        "best SC",
        "best TL",
        "paper's methods",
    ]


def test_targets_with_a_higher_error_are_named_worst_first(plain):
    study, results = plain
    paper = {
        key: figures.model_copy(update={"lowest_mae": 0.5 * target.winner.test_mae / factor})
        for (key, figures), target, factor in zip(study.paper.items(), results, (1.0, 2.0), strict=True)
    }
    lost = against_paper_section(results, paper).context["lost"]
    ratios = [
        target.paper_winner.test_mae / paper[target.info.key].lowest_mae for target in reversed(results)
    ]
    assert lost == [f"SLME ({ratios[0]:.2f})", f"Exfoli ({ratios[1]:.2f})"]


def test_targets_that_the_paper_does_not_have_are_left_out(plain):
    study, results = plain
    entries = entry_table(results, {"slme": study.paper["slme"], "exfoliation_energy": None})
    assert set(entries["target"]) == {"slme"}
    assert against_paper_section(results, {}) is None


@pytest.mark.parametrize(
    ("key", "median", "beaten"),
    [
        ("PMDij", 23.41, ["SC of Tables 2 and 3 (24.43)", "TL of Table 3 (23.46)", "SC of Table 4 (26.46)"]),
        ("expt_bandgap", 0.4, ["SC of Table 5 (0.4458)"]),
    ],
)
def test_published_models_that_the_median_beats(plain, key, median, beaten):
    target = plain[1][0]
    changed = replace(target, cells=(replace(target.base, test_mae_median=median), *target.cells[1:]))
    assert median_beats(changed, load_catalog().property(key).paper) == beaten


def test_base_rows_show_mean_and_median_beside_the_papers(plain):
    study, results = plain
    section = base_section(results, study.paper)
    row = section.tables["tables/base.csv"].iloc[0]
    assert (row["mae_of_mean"], row["mae_of_median"]) == (
        results[0].base.test_mae,
        results[0].base.test_mae_median,
    )
    assert (row["paper_base"], len(row["run_id"])) == (60.0, 32)
    assert section.context["beaten"] == []


def test_sign_tests_are_corrected_over_all_questions(plain):
    study, results = plain
    table = sign_test_table(results, reproduced_tables(results, study.paper))
    assert list(table["question"].str[:26][:4]) == ["TL lower than SC, MAE, Tab"] * 3 + [
        "best TL lower than best SC"
    ]
    smallest = table.sort_values("p_exact", kind="stable").iloc[0]
    assert smallest["p_holm"] == pytest.approx(min(1.0, len(table) * smallest["p_exact"]))
    assert (table["paper_wins"][0], table["paper_p_exact"][0]) == (
        2,
        pytest.approx(0.25),
    )  # 0.45 < 0.6 of the base
    assert table["paper_p_stated"].isna().all()  # stated for 41 targets, not for two


def test_the_papers_own_tests_stand_beside_all_of_its_targets(plain, catalog_paper):
    key = ["tl_paper", "sc_paper", "tl_mae", "sc_mae"]
    errors = [(f.tl_mae_table3_or_5, f.sc_mae_table4_or_5, 1.0, 2.0) for f in catalog_paper.values()]
    table = sign_test_table(plain[1], {4: pd.DataFrame(errors, columns=key)})
    stated = table.set_index("question")["paper_p_stated"]
    assert stated["best TL lower than best SC, MAE, all targets"] == 0.00397
    assert stated["the same, Q95 of the error"] == 0.04291
    assert list(table["paper_wins"][:3]) == [29, 29, 26]


def test_without_the_paper_the_sign_tests_are_those_of_the_study(plain):
    table = sign_test_table(plain[1], {})
    assert len(table) == 4
    assert table["paper_wins"].isna().all()
