import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.report.statistics import (
    Gain,
    modified_against_plain,
    own_gains,
    transfer_against_scratch,
    transfer_gains,
)
from crossprop.report.study import load_study_results


def test_gain_is_the_difference_of_the_two_hold_out_errors(study):
    results = load_study_results(study.info, study.paths)
    for gain, target in zip(transfer_gains(results), results, strict=True):
        assert gain.difference == pytest.approx(target.best_tl.test_mae - target.best_sc.test_mae)
        assert gain.low < gain.difference < gain.high
        assert gain.p_adjusted >= gain.p_value


@pytest.mark.parametrize(
    ("difference", "p_adjusted", "verdict"),
    [(-1.0, 0.01, "TL better"), (1.0, 0.01, "SC better"), (-1.0, 0.05, "within noise")],
)
def test_verdict_needs_a_small_corrected_p(difference, p_adjusted, verdict):
    gain = Gain(
        target="t",
        names=("TL", "SC"),
        difference=difference,
        low=0,
        high=0,
        p_value=0.001,
        p_adjusted=p_adjusted,
    )
    assert gain.verdict == verdict


def test_models_measured_on_other_rows_are_not_compared(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    first = table.index[table["cell"].eq("slme/ml/pa") & table["split"].eq("test")][0]
    table.drop(index=first).to_parquet(path)
    results = load_study_results(study.info, study.paths)
    with pytest.raises(StoreError, match="same hold-out rows"):
        transfer_gains(results)


def test_targets_are_counted_for_the_lower_error(study):
    results = load_study_results(study.info, study.paths)
    test = transfer_against_scratch(results, "test_mae")
    assert test.wins == sum(t.best_tl.test_mae < t.best_sc.test_mae for t in results)
    assert test.n == 2


def test_fine_tuning_is_paired_by_target_and_source(study, edit_cells):
    errors = {"finetune": 2.0, "modfinetune": 1.0}
    for target in ("slme", "exfoliation_energy"):
        edit_cells(
            study,
            target,
            lambda cells: [{**c, "val_mae": errors.get(c["method"], c["val_mae"])} for c in cells],
        )
    test = modified_against_plain(load_study_results(study.info, study.paths))
    assert (test.wins, test.losses) == (4, 0)
    assert test.p_value == pytest.approx(1 / 16)


def test_a_failed_cell_takes_its_pair_out(study_with_failure):
    results = load_study_results(study_with_failure.info, study_with_failure.paths)
    assert modified_against_plain(results).n == 3


def test_our_methods_are_held_against_the_best_of_the_papers(own_study):
    results = load_study_results(own_study.info, own_study.paths)
    for gain, target in zip(own_gains(results), results, strict=True):
        assert target.best_own.method.extension
        assert not target.paper_winner.method.extension
        assert gain.difference == pytest.approx(target.best_own.test_mae - target.paper_winner.test_mae)
        assert gain.verdict in ("ours better", "paper's better", "within noise")


def test_a_study_of_the_papers_methods_has_no_gains_of_ours(study):
    assert own_gains(load_study_results(study.info, study.paths)) == ()
