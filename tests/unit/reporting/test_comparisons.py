import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.reporting.comparisons import (
    TransferGain,
    modified_against_plain,
    transfer_against_scratch,
    transfer_gains,
)
from crossprop.reporting.paper_section import paper_tally
from crossprop.reporting.results_tree import load_study_results


def test_gain_is_the_difference_of_the_two_hold_out_errors(study):
    results = load_study_results(study.info, study.results_root)
    for gain, target in zip(transfer_gains(results), results, strict=True):
        assert gain.difference == pytest.approx(target.best_tl.test_mae - target.best_sc.test_mae)
        assert gain.low < gain.difference < gain.high
        assert gain.p_adjusted >= gain.p_value


@pytest.mark.parametrize(
    ("difference", "p_adjusted", "verdict"),
    [(-1.0, 0.01, "TL better"), (1.0, 0.01, "SC better"), (-1.0, 0.05, "within noise")],
)
def test_verdict_needs_a_small_corrected_p(difference, p_adjusted, verdict):
    gain = TransferGain(
        target="t", difference=difference, low=0, high=0, p_value=0.001, p_adjusted=p_adjusted
    )
    assert gain.verdict == verdict


def test_models_measured_on_other_rows_are_not_compared(study):
    path = study.folder("slme") / "predictions.parquet"
    table = pd.read_parquet(path)
    first = table.index[table["cell"].eq("slme/ml/pa") & table["split"].eq("test")][0]
    table.drop(index=first).to_parquet(path)
    results = load_study_results(study.info, study.results_root)
    with pytest.raises(StoreError, match="same hold-out rows"):
        transfer_gains(results)


def test_targets_are_counted_for_the_lower_error(study):
    results = load_study_results(study.info, study.results_root)
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
    test = modified_against_plain(load_study_results(study.info, study.results_root))
    assert (test.wins, test.losses) == (4, 0)
    assert test.p_value == pytest.approx(1 / 16)


def test_a_failed_cell_takes_its_pair_out(study_with_failure):
    results = load_study_results(study_with_failure.info, study_with_failure.results_root)
    assert modified_against_plain(results).n == 3


def test_errors_equal_to_three_digits_tie_with_the_paper():
    assert paper_tally([(0.1203, 0.12), (0.119, 0.12), (48.2, 48.1), (0.0, 0.1)]) == (2, 1, 1)
