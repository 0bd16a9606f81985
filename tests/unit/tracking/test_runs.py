import json
import multiprocessing
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from waiting import until

from crossprop.errors import TrackingError
from crossprop.methods import Method
from crossprop.paths import StudyPaths
from crossprop.tracking import provenance
from crossprop.tracking.runs import record_cell, record_pretraining, spec_of_cell
from crossprop.tracking.store import open_client


@pytest.fixture
def history():
    """Fold 0 trains three epochs, fold 1 stops after two."""
    rows = [("fold", 0, 0, 1.0, 30.0), ("fold", 0, 1, 0.8, 20.0), ("fold", 0, 2, 0.7, 10.0)]
    rows += [("fold", 1, 0, 1.2, 40.0), ("fold", 1, 1, 1.0, 30.0), ("screening", 0, 0, 9.0, 900.0)]
    return pd.DataFrame(rows, columns=["stage", "fold", "epoch", "loss", "val_mae"])


def _runs(context, experiment="demo/bulk_modulus"):
    client = open_client(context.uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_run_tells_what_the_cell_is_and_how_well_it_does(context, make_outcome):
    run_id = record_cell(context, make_outcome())
    client = open_client(context.uri)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ml(EF)")
    assert run.info.end_time - run.info.start_time == 5000
    tags = run.data.tags
    expected = {"cell": "ab12", "protocol": "published", "unit": "GPa", "data_hash": "d" * 32}
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
    outcome.trials.loc[0, "value"] = 1.23456e-13  # of a property in a large unit
    run_id = record_cell(context, outcome)
    client = open_client(context.uri)
    assert {a.path for a in client.list_artifacts(run_id)} == {
        "predictions.parquet", "parity.png", "learning_curve.png", "trials.json", "optimisation_history.png",
        "configuration.yaml", "environment.json", "predictions.json",
    }  # fmt: skip
    shown = json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in shown] == ["predictions.json", "trials.json"]
    folder = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), outcome.predictions)
    trials = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    assert trials["columns"][:3] == ["number", "state", "value"]
    assert [row[:3] for row in trials["data"][:2]] == [[0, "COMPLETE", 1.23456e-13], [1, "PRUNED", None]]
    held_out = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    assert held_out["columns"] == ["formula", "y_pred_ensemble", "y_true", "error", "y_pred"]
    errors = [row[3] for row in held_out["data"]]
    assert errors == pytest.approx([row[1] - row[2] for row in held_out["data"]])
    assert errors == sorted(errors, key=abs, reverse=True)
    assert len(held_out["data"]) == 6  # the validation rows are in predictions.parquet only
    assert yaml.safe_load((folder / "configuration.yaml").read_text()) == {"study": {"name": "demo"}}
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["git"]["commit"] == "c" * 40
    assert environment["packages"]["numpy"] == np.__version__
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))
    curve = client.get_metric_history(run_id, "learning_curve/val_mae")  # each fold is kept at its last value
    assert [(point.value, point.step) for point in curve] == [(35.0, 0), (25.0, 1), (20.0, 2)]


def test_metric_that_is_no_number_is_refused_and_leaves_no_run(context, make_outcome):
    with pytest.raises(TrackingError, match=r"Metric 'test_mae' of 'ml\(EF\)' in demo/bulk_modulus is nan"):
        record_cell(context, make_outcome(test_mae=float("nan")))
    assert open_client(context.uri).get_experiment_by_name("demo/bulk_modulus") is None


def test_curve_of_a_failed_cell_holds_its_finite_epochs(context, make_outcome, history):
    history.loc[history["epoch"] == 1, "val_mae"] = float("inf")
    spec = spec_of_cell(make_outcome(history, failure="DivergedError: loss is inf"), context)
    curve = [metric for metric in spec.metrics if metric[0] == "learning_curve/val_mae"]
    assert curve == [("learning_curve/val_mae", 35.0, 0)]


def test_pure_number_is_described_without_a_unit(context, make_outcome):
    spec = spec_of_cell(make_outcome(unit="1"), context)
    assert "Hold-out MAE 11 [9, 13.5] on 6 rows" in spec.tags["mlflow.note.content"]
    assert "Unit: none (dimensionless)." in spec.notes


def test_cell_recorded_twice_has_one_run_and_another_outcome_gets_one_beside_it(context, make_outcome):
    first = record_cell(context, make_outcome())
    assert record_cell(context, make_outcome()) == first
    failed = make_outcome(failure="DivergedError: loss is nan", val_mae=None, cv_mae=None, test_mae=None)
    other = record_cell(context, failed)
    assert other != first
    assert (record_cell(context, make_outcome()), record_cell(context, failed)) == (first, other)
    assert len(_runs(context)) == 2
    run = open_client(context.uri).get_run(other)
    assert (run.info.status, run.data.tags["crossprop.failure"]) == ("FAILED", "DivergedError: loss is nan")


def test_leftover_of_a_killed_process_is_replaced(context, make_outcome):
    record_cell(context, make_outcome(cell="other"))
    client = open_client(context.uri)
    experiment = client.get_experiment_by_name("demo/bulk_modulus").experiment_id
    leftover = client.create_run(experiment, tags={"crossprop.cell": "ab12"}).info.run_id
    record_cell(context, make_outcome(cell="third"))
    assert client.get_run(leftover).info.lifecycle_stage == "active"  # not this cell's
    run_id = record_cell(context, make_outcome())
    assert [r.info.run_id for r in _runs(context) if r.data.tags["crossprop.cell"] == "ab12"] == [run_id]
    gone = client.get_run(leftover).info
    assert (gone.status, gone.lifecycle_stage) == ("KILLED", "deleted")


def test_source_network_is_one_run_with_its_history(context):
    history = pd.DataFrame({"epoch": [0, 1], "loss": [1.0, 0.5], "val_mae": [0.9, 0.4]})
    facts = {
        "source": "formation_energy", "key": "k1", "unit": "eV/atom", "n_train": 90, "n_validation": 10,
        "recipe": {"epochs": 2}, "seed": 1, "edition": "a", "validation_mae": 0.4, "validation_mae_of_median": 0.8,
        "validation_mae_by_source": {"band_gap": 0.5}, "peak_memory": 2**30, "seconds": 7.0,
    }  # fmt: skip
    run_id = record_pretraining(context, facts, history)
    assert record_pretraining(context, facts, history) == run_id
    assert len(_runs(context, "demo/sources")) == 1
    client = open_client(context.uri)
    run = client.get_run(run_id)
    wanted = {"val_mae": 0.4, "val_mae/band_gap": 0.5, "peak_memory_mib": 1024.0}
    assert run.data.metrics.items() >= wanted.items()
    told = run.data.tags["mlflow.note.content"]
    assert "val_mae/band_gap 0.5 eV/atom; 90 rows" in told
    assert told.endswith("peak memory 1,024 MiB")
    assert run.data.params == {"epochs": "2", "seed": "1", "edition": "a"}
    names = {i.dataset.name for i in run.inputs.dataset_inputs}
    assert names == {"formation_energy.train", "formation_energy.validation"}
    assert [m.value for m in client.get_metric_history(run_id, "learning_curve/loss")] == [1.0, 0.5]
    files = {a.path for a in client.list_artifacts(run_id)}
    assert {"provenance.json", "history.csv", "learning_curve.png"} <= files


def test_git_state_knows_the_commit_and_whether_the_code_differs(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert provenance.git_state(tmp_path).commit is None
    git("init", "-b", "main")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "dvc.lock").write_text("2", encoding="utf-8")
    clean = provenance.git_state(tmp_path)
    assert (len(clean.commit), clean.branch, clean.dirty) == (40, "main", False)
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert provenance.git_state(tmp_path).dirty


def test_runs_of_dead_processes_are_ended_and_others_left_running(uri):
    child = multiprocessing.get_context("spawn").Process(target=os.getpid)
    child.start()
    child.join()
    client = open_client(uri)

    def run(process, study="demo"):
        tags = {provenance.PROCESS_TAG: process, "crossprop.study": study}
        return client.create_run("0", tags=tags).info.run_id

    here = socket.gethostname()
    dead = {run(f"{here} {child.pid} 1"), run(f"{here} {os.getpid()} 1")}  # the latter id was given away
    busy = [provenance.process_tags()[provenance.PROCESS_TAG], f"elsewhere {child.pid} 1"]
    alive = [*map(run, busy), run(f"{here} {child.pid} 1", "another")]
    assert set(provenance.reap_dead_runs(client, "demo")) == dead
    assert {client.get_run(run_id).info.status for run_id in dead} == {"KILLED"}
    assert {client.get_run(run_id).info.status for run_id in alive} == {"RUNNING"}


def test_run_of_mlflow_run_gets_the_name_of_its_stage_and_the_load(uri, tmp_path, tiny_params, monkeypatch):
    client = open_client(uri)
    own, whole, named = (
        client.create_run("0", tags={"mlflow.project.entryPoint": "transfer"}, run_name=name).info.run_id
        for name in (None, None, "mine")
    )
    for run_id in (own, whole, named):
        client.log_param(run_id, "shard", "all")
        client.log_param(run_id, "params", "params.yaml")
    for run_id in (own, named):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        monkeypatch.setenv(provenance.PROJECT_RUN, whole)
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
        with provenance.system_metrics(tmp_path):
            until(lambda run=run_id: "system/cpu_utilization_percentage" in client.get_run(run).data.metrics)
        provenance.open_study_context(tiny_params(), StudyPaths("tiny", tmp_path), {})
    runs = [client.get_run(run_id) for run_id in (own, whole, named)]
    assert [run.info.run_name for run in runs] == ["transfer all", "transfer all", "mine"]
    assert {run.data.tags["crossprop.study"] for run in runs} == {"tiny"}
    assert [provenance.PROCESS_TAG in run.data.tags for run in runs] == [True, False, True]
