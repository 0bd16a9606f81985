import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from made_ensembles import write_info
from mlflow import MlflowClient

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import CrosspropError, PromotionError, TrackingError
from crossprop.io import write_digests
from crossprop.models.saved import load_predictor
from crossprop.tracking import registration, registry, subprocess_check
from crossprop.tracking.gates import gate_evidence
from crossprop.tracking.provenance import RunContext, process_tags
from crossprop.tracking.registration import Winner, folder_requirements, register_winners, save_model
from crossprop.tracking.runs import record_cell
from crossprop.tracking.store import open_client
from crossprop.tracking.subprocess_check import Repeated, predict_in_subprocess

FORMULAS = ["FeO", "MgS", "TiN"]


@pytest.fixture
def checked_here(monkeypatch):
    """The check of a model in this process: a fresh one takes seconds."""

    def predict(model, formulas, timeout, *, own_code):
        assert own_code
        try:
            value = load_predictor(model / "artifacts" / "model").predict(fraction_matrix(formulas))
        except CrosspropError as error:
            raise PromotionError(str(error)) from error
        return Repeated(value, value, value, 0.1)

    monkeypatch.setattr(registration, "predict_in_subprocess", predict)


@pytest.fixture
def winner(context, saved_ensemble, make_outcome):
    outcome = make_outcome()
    return Winner(record_cell(context, outcome), outcome.result, saved_ensemble)


@pytest.fixture
def register(context, checked_here, tmp_path, monkeypatch):
    """Registers one winner, elsewhere than in the store's folder; returns its version and whether that is new."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield lambda winner: register_winners(context, [winner])[0]
    assert not (tmp_path / "elsewhere" / "mlflow.db").exists()
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture
def client(context):
    return open_client(context.uri)


def logged_models(client, winner):
    experiment = client.get_run(winner.run_id).info.experiment_id
    return {m.model_id for m in client.search_logged_models([experiment])}


def test_version_carries_cell_errors_hashes_and_what_the_gates_need(client, winner, register):
    version, created = register(winner)
    found = client.get_model_version_by_alias("demo.bulk_modulus", "challenger")
    assert (str(found.version), created, found.run_id) == (version.version, True, winner.run_id)
    evidence = gate_evidence(winner.model_folder, winner.name)
    expected = {
        "cell": "ab12", "data_hash": "d" * 32, "git_commit": "c" * 40, "git_dirty": "true", "method": "ml",
        "test_mae": "11", "test_mae_low": "9", "test_mae_ensemble": "10.5", "n_test": "6", "n_train": "54",
        "base_mae": f"{evidence.base_mae():.6g}",
    }  # fmt: skip
    assert {f"crossprop.{key}": value for key, value in expected.items()}.items() <= found.tags.items()
    assert client.get_registered_model("demo.bulk_modulus").tags["crossprop.unit"] == "GPa"
    assert "Hold-out MAE 10.5 GPa: the mean of all fold models" in found.description
    run, model = client.get_run(winner.run_id), client.get_logged_model(version.model_id)
    assert [m.model_id for m in run.outputs.model_outputs] == [version.model_id]
    assert run.data.tags["crossprop.winner"] == "yes"
    # The logged model knows its version, its errors and what they were measured on; the run gets no second value.
    assert json.loads(model.tags["mlflow.modelVersions"])[0]["name"] == "demo.bulk_modulus"
    errors = {(m.key, m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    assert ("test_mae_ensemble", 10.5, "bulk_modulus.test", "d" * 32) in errors
    assert ("cv_mae_mean", 12.0, "bulk_modulus.train", "d" * 32) in errors
    assert len(client.get_metric_history(winner.run_id, "test_mae")) == 1
    # No pickle, no code of another place, and what is installed is pinned.
    files = [path for path in Path(model.artifact_location).rglob("*") if path.is_file()]
    assert not [p for p in files if p.suffix in (".pkl", ".pickle", ".pyc") or p.name.startswith(".")]
    assert {"pyfunc_script.py", "model.json", "input_example.json"} <= {p.name for p in files}
    requirements = (Path(model.artifact_location) / "requirements.txt").read_text(encoding="utf-8")
    assert f"numpy=={np.__version__}" in requirements
    assert "tensorflow" not in requirements


def test_registering_twice_makes_one_version(context, client, winner, register, make_outcome):
    first, _ = register(winner)
    client.delete_registered_model_alias("demo.bulk_modulus", "challenger")
    second, created = register(winner)
    assert (created, second.version, second.aliases) == (False, first.version, ("challenger",))
    outcome = make_outcome(test_mae=10.0)
    following = replace(winner, run_id=record_cell(context, outcome), result=outcome.result)
    third, _ = register(following)
    assert (third.version, third.aliases) == ("2", ("challenger",))
    assert logged_models(client, winner) == {first.model_id, third.model_id}
    experiment = client.get_run(winner.run_id).info.experiment_id
    winners = client.search_runs([experiment], "tags.`crossprop.winner` = 'yes'")
    assert [run.info.run_id for run in winners] == [following.run_id]


@pytest.mark.parametrize(
    "step", ["log_model_artifacts", "finalize_logged_model", "create_model_version", "set_registered_model_alias"]
)
def test_full_disk_at_any_step_leaves_nothing_behind(client, winner, register, tmp_path, monkeypatch, step):
    real = getattr(MlflowClient, step)

    def full(self, *args, **options):
        real(self, *args, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, full)
        with pytest.raises(TrackingError, match=r"registering demo\.bulk_modulus: the disk is full"):
            register(winner)
    assert list(client.search_registered_models()) == []
    assert logged_models(client, winner) == set()
    assert not list((tmp_path / "mlruns").rglob("m-*"))
    assert register(winner)[1]


def test_stale_model_of_a_killed_registration_is_removed_but_no_busy_one(client, winner, register):
    experiment = client.get_run(winner.run_id).info.experiment_id
    client.create_logged_model(experiment, name="half", tags={"crossprop.cell": "ab12"})
    tags = {"crossprop.cell": "ab12", **process_tags()}
    busy = client.create_logged_model(experiment, name="half", tags=tags)
    version, _ = register(winner)
    assert logged_models(client, winner) == {version.model_id, busy.model_id}


def test_model_that_gives_other_predictions_or_whose_run_is_gone_is_not_registered(client, winner, register):
    evidence = pd.read_parquet(winner.model_folder / "evidence.parquet")
    evidence.loc[evidence["formula"] == "Fe1O", "y_pred"] += 5.0
    evidence.to_parquet(winner.model_folder / "evidence.parquet")
    write_digests(winner.model_folder)
    with pytest.raises(TrackingError, match=r"was not registered: it gives .* for Fe1O, .* was logged"):
        register(winner)
    assert list(client.search_registered_models()) == []
    assert logged_models(client, winner) == set()
    with pytest.raises(TrackingError, match=r"store was moved, deleted or replaced.*record the cells again"):
        register(replace(winner, run_id="0" * 32))


def test_model_needs_what_its_parts_need(tmp_path):
    infos = {"": {"method": "blend", "parts": {"part_1": [0.5], "part_2": [0.5]}}}
    infos["part_1"] = {"method": "ml_featextr", "representation": "activations"}
    infos["part_2"] = {"method": "ml", "representation": "physical_attributes"}
    for name, info in infos.items():
        write_info(tmp_path / name, **info)

    def needed(part=""):
        return {line.split("==")[0] for line in folder_requirements(tmp_path / part)}

    assert {"filelock", "skops"} <= needed("part_1")
    assert not {"matminer", "keras", "tensorflow"} & needed("part_1")  # networks are read without Keras
    assert needed() == needed("part_1") | needed("part_2") | {"matminer", "scikit-learn"}


@pytest.mark.parametrize("remote", [False, True])
def test_winner_whose_files_changed_gets_a_new_version(client, winner, register, monkeypatch, remote):
    if remote:
        monkeypatch.setattr(registry, "local_path", lambda location: None)
    first, _ = register(winner)
    info = json.loads((winner.model_folder / "model.json").read_text(encoding="utf-8"))
    info["interval"]["scale"] = 25.0
    (winner.model_folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    write_digests(winner.model_folder)
    second, created = register(winner)
    assert (first.version, second.version, created) == ("1", "2", True)
    assert not register(winner)[1]
    shutil.rmtree(client.get_logged_model(second.model_id).artifact_location)
    third, created = register(winner)
    assert (third.version, created) == ("3", True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("member.npz", r"'formation_energy'.*was not registered: "),
        ("model.json", r"no readable model\.json.*run the target's stage again"),
    ],
)
def test_refused_winner_does_not_stop_the_others(context, client, winner, tmp_path, checked_here, name, said):
    damaged = tmp_path / "damaged"
    shutil.copytree(winner.model_folder, damaged)
    for file in damaged.rglob(name):
        file.write_bytes(b"nothing of use")
    other = replace(winner.result, target="formation_energy", cell="cd34")
    lines = []
    with pytest.raises(TrackingError, match=said):
        register_winners(context, [replace(winner, model_folder=damaged, result=other), winner], lines.append)
    assert lines == ["demo.bulk_modulus version 1: ml(EF), hold-out MAE 10.5 GPa, registered"]
    assert len(logged_models(client, winner)) == 1


@pytest.mark.parametrize("own_code", [False, True])
def test_model_repeats_with_either_code(saved_ensemble, tmp_path, monkeypatch, own_code):
    model = tmp_path / "mlflow_model"
    save_model(model, "m-1", "0" * 32, saved_ensemble, RunContext(uri="", study="demo"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # what lies in the caller's path is not seen
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    repeated = predict_in_subprocess(model if own_code else saved_ensemble, FORMULAS, own_code=own_code)
    wanted = load_predictor(saved_ensemble).predict(fraction_matrix(FORMULAS))
    np.testing.assert_allclose(repeated.value, wanted, rtol=1e-5)
    np.testing.assert_allclose(repeated.upper - repeated.lower, 2.0)
    assert not list(model.rglob("__pycache__"))


def test_what_repeats_a_saved_ensemble_runs_none_of_its_code(saved_ensemble, tmp_path):
    model = tmp_path / "mlflow_model"
    save_model(model, "m-1", "0" * 32, saved_ensemble, RunContext(uri="", study="demo"))
    for script in model.rglob("*.py"):
        script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    (ensemble,) = (model / "artifacts").iterdir()
    assert len(predict_in_subprocess(ensemble, FORMULAS).value) == len(FORMULAS)
    assert not (tmp_path / "ran").exists()


def test_hanging_and_dying_models_are_ended_and_named(tmp_path, monkeypatch):
    for body, timeout, message in (
        ("print('x', file=sys.stderr); os.kill(os.getpid(), 11)", 250, "ended with status -11: x"),
        ("time.sleep(600)", 2, "no answer within 2 s"),
    ):
        worker = tmp_path / "worker.py"
        worker.write_text(f"import os, sys, time\nsys.stdin.read()\n{body}\n", encoding="utf-8")
        monkeypatch.setattr(subprocess_check, "WORKER", worker)
        before = psutil.Process(os.getpid()).children()
        with pytest.raises(PromotionError, match=message):
            predict_in_subprocess(tmp_path, FORMULAS, timeout)
        assert psutil.Process(os.getpid()).children() == before
