import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from crossprop.errors import TrackingError
from crossprop.methods import Method
from crossprop.tracking.runs import MlflowRecorder, record_pretraining, spec_of_cell
from crossprop.tracking.store import open_client


@pytest.fixture
def history() -> pd.DataFrame:
    """Fold 0 trains three epochs, fold 1 stops after two."""
    rows = [("fold", 0, 0, 1.0, 30.0), ("fold", 0, 1, 0.8, 20.0), ("fold", 0, 2, 0.7, 10.0)]
    rows += [("fold", 1, 0, 1.2, 40.0), ("fold", 1, 1, 1.0, 30.0), ("screening", 0, 0, 9.0, 900.0)]
    return pd.DataFrame(rows, columns=["stage", "fold", "epoch", "loss", "val_mae"])


def _runs(context, experiment="demo/bulk_modulus"):
    client = open_client(context.uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_run_tells_what_the_cell_is_and_how_well_it_does(context, make_outcome):
    run_id = MlflowRecorder(context).record(make_outcome())
    client = open_client(context.uri)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ml(EF)")
    assert run.info.end_time - run.info.start_time == 5000
    tags = run.data.tags
    expected = {"cell": "ab12", "unit": "GPa", "data_hash": "d" * 32, "git_dirty": "true"}
    assert {f"crossprop.{key}": value for key, value in expected.items()}.items() <= tags.items()
    assert tags["mlflow.source.git.commit"] == "c" * 40
    assert "Hold-out MAE 11 [9, 13.5] GPa on 6 rows" in tags["mlflow.note.content"]
    metrics = run.data.metrics
    assert metrics["cv_mae_mean"] == 12.0
    assert metrics["cv_mae_std"] == pytest.approx(8**0.5)
    assert metrics["peak_memory_mib"] == 512.0
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "cv_mae")] == [(0, 10.0), (1, 14.0)]
    assert (run.data.params["alpha"], run.data.params["n_trials"]) == ("0.5", "4")
    inputs = {i.dataset.name: i for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"bulk_modulus.train", "bulk_modulus.test"}
    train = inputs["bulk_modulus.train"]
    assert (train.dataset.digest, train.tags[0].value) == ("d" * 32, "training")
    assert json.loads(train.dataset.profile)["num_rows"] == 54
    experiment = client.get_experiment_by_name("demo/bulk_modulus")
    notes = experiment.tags["mlflow.note.content"]
    assert notes.startswith("Bulk modulus. Unit: GPa.")
    assert f"#/experiments/{experiment.experiment_id}/runs" in notes
    view = json.loads(experiment.tags["mlflow.sharedViewState.crossprop"])
    assert view["orderByKey"] == "metrics.`cv_mae_mean`"


def test_files_of_a_network_cell_can_be_read_back(context, history, tmp_path, make_outcome):
    outcome = make_outcome(history, method=Method.FINETUNE, source="formation_energy")
    run_id = MlflowRecorder(context).record(outcome)
    client = open_client(context.uri)
    assert {a.path for a in client.list_artifacts(run_id)} == {
        "predictions.parquet", "parity.png", "learning_curve.png", "trials.json", "optimisation_history.png",
        "configuration.yaml", "environment.json",
    }  # fmt: skip
    folder = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), outcome.predictions)
    trials = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    assert trials["columns"][:3] == ["number", "state", "value"]
    assert trials["data"][1][:3] == [1, "PRUNED", None]
    assert yaml.safe_load((folder / "configuration.yaml").read_text()) == {"study": {"name": "demo"}}
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["git"]["commit"] == "c" * 40
    assert environment["packages"]["numpy"] == np.__version__
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_learning_curve_is_the_mean_of_the_folds_each_kept_at_its_last_value(context, history, make_outcome):
    metrics = spec_of_cell(make_outcome(history, method=Method.DL), context).metrics
    curve = [(value, step) for key, value, step in metrics if key == "learning_curve/val_mae"]
    assert curve == [(35.0, 0), (25.0, 1), (20.0, 2)]


def test_screened_cell_has_neither_predictions_nor_cross_validation(context, make_outcome):
    none = dict.fromkeys(
        (
            "cv_mae",
            "test_mae",
            "test_mae_low",
            "test_mae_high",
            "test_q95",
            "test_r2",
            "test_mae_ensemble",
            "best_fold",
        )
    )
    screened = make_outcome(**none)
    screened = replace(screened, predictions=screened.predictions.iloc[:0])
    run = open_client(context.uri).get_run(MlflowRecorder(context).record(screened))
    assert run.data.metrics["val_mae"] == 12.0
    assert not [key for key in run.data.metrics if key.startswith(("cv_", "test_"))]
    files = {a.path for a in open_client(context.uri).list_artifacts(run.info.run_id)}
    assert files == {"trials.json", "configuration.yaml", "environment.json"}  # nothing is drawn


def test_metric_that_is_no_number_is_refused_and_leaves_no_run(context, make_outcome):
    with pytest.raises(TrackingError, match=r"Metric 'test_mae' of 'ml\(EF\)' in demo/bulk_modulus is nan"):
        MlflowRecorder(context).record(make_outcome(test_mae=float("nan")))
    assert open_client(context.uri).get_experiment_by_name("demo/bulk_modulus") is None


def test_cell_recorded_twice_has_one_run_and_another_outcome_gets_one_beside_it(context, make_outcome):
    first = MlflowRecorder(context).record(make_outcome())
    recorder = MlflowRecorder(context)
    assert recorder.record(make_outcome()) == first
    failed = make_outcome(failure="DivergedError: loss is nan", val_mae=None, cv_mae=None, test_mae=None)
    other = recorder.record(failed)
    assert other != first
    assert (recorder.record(make_outcome()), recorder.record(failed)) == (first, other)
    assert len(_runs(context)) == 2
    run = open_client(context.uri).get_run(other)
    assert (run.info.status, run.data.tags["crossprop.failure"]) == ("FAILED", "DivergedError: loss is nan")


def test_leftover_of_a_killed_process_is_replaced(context, make_outcome):
    MlflowRecorder(context).record(make_outcome(cell="other"))
    client = open_client(context.uri)
    experiment = client.get_experiment_by_name("demo/bulk_modulus").experiment_id
    leftover = client.create_run(experiment, tags={"crossprop.cell": "ab12"}).info.run_id
    recorder = MlflowRecorder(context)
    recorder.record(make_outcome(cell="third"))
    assert client.get_run(leftover).info.lifecycle_stage == "active"  # not this cell's
    run_id = recorder.record(make_outcome())
    assert [r.info.run_id for r in _runs(context) if r.data.tags["crossprop.cell"] == "ab12"] == [run_id]
    gone = client.get_run(leftover).info
    assert (gone.status, gone.lifecycle_stage) == ("KILLED", "deleted")


def test_source_network_is_one_run_with_its_history(context):
    history = pd.DataFrame({"epoch": [0, 1], "loss": [1.0, 0.5], "val_mae": [0.9, 0.4]})
    provenance = {
        "source": "formation_energy", "key": "k1", "unit": "eV/atom", "n_train": 90, "n_validation": 10,
        "recipe": {"epochs": 2}, "seed": 1, "edition": "a", "validation_mae": 0.4, "validation_mae_of_median": 0.8,
        "validation_mae_by_source": {"band_gap": 0.5}, "peak_memory": 2**30, "seconds": 7.0,
    }  # fmt: skip
    run_id = record_pretraining(context, provenance, history)
    assert record_pretraining(context, provenance, history) == run_id
    assert len(_runs(context, "demo/sources")) == 1
    client = open_client(context.uri)
    run = client.get_run(run_id)
    wanted = {"val_mae": 0.4, "val_mae/band_gap": 0.5, "peak_memory_mib": 1024.0}
    assert run.data.metrics.items() >= wanted.items()
    assert run.data.params == {"epochs": "2", "seed": "1", "edition": "a"}
    names = {i.dataset.name for i in run.inputs.dataset_inputs}
    assert names == {"formation_energy.train", "formation_energy.validation"}
    assert [m.value for m in client.get_metric_history(run_id, "learning_curve/loss")] == [1.0, 0.5]
    files = {a.path for a in client.list_artifacts(run_id)}
    assert {"provenance.json", "history.csv", "learning_curve.png"} <= files
