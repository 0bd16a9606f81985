import pytest

from crossprop.data.catalog import load_catalog
from crossprop.methods import Method, Representation
from crossprop.report.paper import (
    STATED_MAE,
    STATED_Q95,
    TABLES,
    best_transfer,
    judged,
    paper_sources,
    published_wins,
    table_lines,
    table_markdown,
    table_rows,
)
from crossprop.report.statistics import sign_test_of_counts
from crossprop.report.study import load_study_results


@pytest.fixture(scope="module")
def paper():
    return {e.key: e.paper for e in load_catalog().entries("target") if e.paper.lowest_mae}


@pytest.mark.parametrize(("table", "wins", "n"), [(2, 38, 39), (3, 38, 39), (4, 27, 39), (5, 2, 2)])
def test_published_columns_give_the_papers_counts(paper, table, wins, n):
    fields = next(t for t in TABLES if t.number == table)
    keys = [key for key, f in paper.items() if (f.sc_ef_mae_table2 is None) is fields.experimental]
    assert published_wins(paper, fields.scratch_field, fields.transfer_field, keys) == (wins, n)


def test_exact_p_of_the_papers_counts_is_not_what_it_prints(paper):
    wins, n = published_wins(paper, "sc_mae_table4_or_5", "tl_mae_table3_or_5")
    assert (wins, n) == (STATED_MAE.wins, STATED_MAE.n) == (29, 41)
    assert sign_test_of_counts(wins, n - wins).p_value == pytest.approx(0.0057539, rel=1e-4)
    q95 = sign_test_of_counts(STATED_Q95.wins, STATED_Q95.n - STATED_Q95.wins).p_value
    assert q95 == pytest.approx(0.0586376, rel=1e-4)
    assert STATED_Q95.p_value < 0.05 < q95


def test_the_sources_wins_add_up_to_the_targets_that_tl_won():
    assert sum(source.wins for source in paper_sources()) == 27
    assert [source.source for source in paper_sources() if source.table_2] == ["formation_energy"]


def test_the_papers_best_transfer_is_the_lower_of_its_tables(paper):
    assert best_transfer(paper["piezo_max_dij"]) == 22.32
    assert best_transfer(paper["expt_bandgap"]) == 0.3551


def _lines(study, number, figures):
    results = load_study_results(study.info, study.paths)
    return table_lines(next(t for t in TABLES if t.number == number), results, figures)


def test_table_2_takes_fractions_and_one_source(study, paper):
    for line in _lines(study, 2, paper):
        assert line.scratch.cell.representation is Representation.ELEMENTAL_FRACTIONS
        assert line.transfer.cell.source == "formation_energy"
        assert line.scratch.published == paper[line.target.info.key].sc_ef_mae_table2
        assert line.transfer.published == paper[line.target.info.key].tl_mae_table2
        assert (line.scratch.candidates, line.transfer.candidates) == (2, 5)


def test_table_4_takes_both_representations_and_all_sources(study, paper):
    for line in _lines(study, 4, paper):
        assert line.scratch.cell is line.target.best_sc
        assert line.transfer.cell is line.target.best_tl
        assert line.scratch.published == paper[line.target.info.key].sc_mae_table4_or_5


def test_methods_of_ours_stand_in_no_table_of_the_papers(own_study, paper):
    for number in (2, 3, 4):
        for line in _lines(own_study, number, paper):
            assert not any(e.cell and e.cell.method.extension for e in (line.scratch, line.transfer))
            assert line.transfer.candidates <= 10


def test_experimental_sets_stand_in_table_5_alone(study, paper):
    figures = {"slme": paper["expt_bandgap"], "exfoliation_energy": paper["exfoliation_energy"]}
    assert [line.target.info.key for line in _lines(study, 5, figures)] == ["slme"]
    assert [line.target.info.key for line in _lines(study, 3, figures)] == ["exfoliation_energy"]


def test_every_number_of_ours_has_its_run(own_study, paper):
    for row in table_rows(_lines(own_study, 3, paper)):
        assert all(len(row[f"{side}_run_id"]) == 32 for side in ("base", "sc", "tl"))
        assert row["tl_ratio"] == pytest.approx(row["tl_mae"] / row["tl_paper"])
        assert row["tl_outcome"] in ("win", "tie", "loss")
        assert row["base_mae_of_median"] is not None


def test_cells_that_were_not_cross_validated_are_no_hole(own_study, paper, edit_cells):
    def only_screened(cells):
        dropped = dict.fromkeys(("cv_mae", "best_fold", "test_mae", "strict_test_mae"))
        fractions = Representation.ELEMENTAL_FRACTIONS
        return [
            c | dropped if c["method"] in ("ml", "dl") and c["representation"] == fractions else c
            for c in cells
        ]

    edit_cells(own_study, "slme", only_screened)
    line = _lines(own_study, 2, paper)[1]
    text = table_markdown([line])
    assert "– screened only: SC:" in text
    assert table_rows([line])[0]["sc_status"].startswith("screened only")
    assert table_rows([line])[0]["tl_lower_than_sc"] is None


def test_partly_validated_candidates_are_counted(own_study, paper):
    line = _lines(own_study, 3, paper)[0]
    assert table_rows([line])[0]["tl_cross_validated"] == "3 of 10"
    assert "(3 of 10 cells validated)" in table_markdown([line])


def test_only_a_win_is_bold():
    assert judged(0.9, None) == "–"
    from crossprop.report.paper import Outcome

    assert [judged(0.912, outcome) for outcome in Outcome] == ["**0.91** win", "0.91 tie", "0.91 loss"]


def test_the_method_families_of_the_paper_are_eight():
    assert sum(not method.extension for method in Method) == 8
