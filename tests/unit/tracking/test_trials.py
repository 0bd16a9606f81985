import pytest

from crossprop.errors import CrosspropError
from crossprop.tracking.runs import record_cell
from crossprop.tracking.store import open_client
from crossprop.tracking.trials import record_trials


@pytest.fixture
def cell(context, make_outcome):
    return record_cell(context, make_outcome())


def _children(context, cell):
    client = open_client(context.uri)
    experiment = client.get_run(cell).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{cell}'")
    return {run.info.run_name: run for run in found}


def test_every_trial_becomes_a_child_run_once(context, cell, make_outcome):
    assert record_trials(context.uri, "demo.bulk_modulus") == [("ml(EF)", 4, 4)]
    assert record_trials(context.uri, "demo.bulk_modulus", "ml") == [("ml(EF)", 0, 4)]
    runs = _children(context, cell)
    assert {name: run.info.status for name, run in runs.items()} == {
        "trial 0": "FINISHED", "trial 1": "FINISHED", "trial 2": "FAILED", "trial 3": "FINISHED",
    }  # fmt: skip
    assert runs["trial 3"].data.metrics == {"val_mae": 12.0, "seconds": 1.5}
    assert runs["trial 3"].data.params == {"alpha": "0.5"}
    assert runs["trial 3"].info.end_time - runs["trial 3"].info.start_time == 1500
    assert runs["trial 1"].data.metrics == {"seconds": 0.2}  # pruned before it had an error
    assert runs["trial 1"].data.tags["crossprop.trial_state"] == "PRUNED"
    assert record_cell(context, make_outcome()) == cell


def test_trial_of_an_interrupted_call_is_recorded_again(context, cell):
    record_trials(context.uri, "demo.bulk_modulus")
    former = _children(context, cell)["trial 2"].info.run_id
    open_client(context.uri).update_run(former, status="RUNNING")
    assert record_trials(context.uri, "demo.bulk_modulus") == [("ml(EF)", 1, 4)]
    runs = _children(context, cell)
    assert (len(runs), runs["trial 2"].info.status) == (4, "FAILED")
    assert runs["trial 2"].info.run_id != former


@pytest.mark.parametrize(
    ("target", "method", "why"),
    [
        ("demo.hardness", None, "demo.hardness has no trials of any method. .*: none; run the study first"),
        ("demo.bulk_modulus", "boost", r"no trials of boost. Methods with trials: ml\."),
        ("hardness", None, "There is no registered model 'hardness'"),
    ],
)
def test_what_has_no_trials_is_refused_with_what_has(context, cell, target, method, why):
    with pytest.raises(CrosspropError, match=why):
        record_trials(context.uri, target, method)
