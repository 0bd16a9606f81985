import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import TrackingError
from crossprop.models.saved import load_predictor
from crossprop.tracking import registration
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.registration import folder_requirements, model_requirements, register_winner
from crossprop.tracking.runs import MlflowRecorder
from crossprop.tracking.store import open_client


@pytest.fixture(scope="module")
def clean_process():
    with CleanProcess() as process:
        yield process


@pytest.fixture(autouse=True)
def one_clean_process(clean_process, monkeypatch):
    """All registrations of these tests share a process: starting one takes seconds."""

    class Pool:
        def __init__(self, n, patience):
            assert n > 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def submit(self, job):
            future = Future()
            try:
                future.set_result(job(clean_process))
            except Exception as error:
                future.set_exception(error)
            return future

    monkeypatch.setattr(registration, "CleanPool", Pool)


@pytest.fixture
def winner(context, saved_ensemble, make_outcome):
    """Arguments of a registration whose predictions are the saved ensemble's own."""
    outcome = make_outcome()
    predictions = outcome.predictions
    values = load_predictor(saved_ensemble).predict(fraction_matrix(predictions["formula"]))
    predictions["y_pred_ensemble"] = np.where(predictions["split"] == "test", values, np.nan)
    run_id = MlflowRecorder(context).record(outcome)
    return {
        "run_id": run_id,
        "result": outcome.result,
        "model_folder": saved_ensemble,
        "predictions": predictions,
    }


def test_challenger_gives_the_logged_predictions_back_in_a_fresh_process(context, winner, tmp_path):
    version = register_winner(context, **winner)
    assert version.uri == "models:/demo.bulk_modulus@challenger"
    code = (
        "import mlflow, pandas as pd;"
        f"m = mlflow.pyfunc.load_model({version.uri!r});"
        "got = m.predict(pd.DataFrame({'formula': ['NaCl', 'TiO2', 'PuO2']}));"
        f"got.to_csv({str(tmp_path / 'got.csv')!r})"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    environment |= {"MLFLOW_TRACKING_URI": context.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    got = pd.read_csv(tmp_path / "got.csv", keep_default_na=False)
    test = winner["predictions"].query("split == 'test'").set_index("formula")["y_pred_ensemble"]
    np.testing.assert_allclose(got["value"][:2], test[["NaCl", "TiO2"]])
    np.testing.assert_allclose(got["upper"] - got["value"], 20.0)
    assert list(got["in_domain"]) == [True, True, False]
    assert got["note"][2].startswith("Pu was never seen in training")


def test_version_carries_cell_error_and_hashes(context, winner):
    version = register_winner(context, **winner)
    client = open_client(context.uri)
    found = client.get_model_version_by_alias("demo.bulk_modulus", "challenger")
    assert str(found.version) == version.version == "1"
    assert found.run_id == winner["run_id"]
    expected = {
        "crossprop.cell": "ab12",
        "crossprop.data_hash": "d" * 32,
        "crossprop.git_commit": "c" * 40,
        "crossprop.method": "ml",
        "crossprop.test_mae": "11",
        "crossprop.test_mae_low": "9",
    }
    assert expected.items() <= found.tags.items()
    assert "GPa" in client.get_registered_model("demo.bulk_modulus").description
    assert [m.model_id for m in client.get_run(winner["run_id"]).outputs.model_outputs] == [version.model_id]


def test_model_folder_holds_no_pickle_and_pins_what_is_installed(context, winner):
    version = register_winner(context, **winner)
    folder = Path(open_client(context.uri).get_logged_model(version.model_id).artifact_location)
    names = {path.name for path in folder.rglob("*")}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc"))]
    assert not [name for name in names if name.startswith(".") or name == "__pycache__"]
    assert {"pyfunc_script.py", "model.json", "input_example.json"} <= names
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
    assert f"numpy=={np.__version__}" in requirements
    assert "tensorflow" not in requirements


def test_registering_twice_makes_one_version_and_gives_the_alias_back(context, winner):
    first = register_winner(context, **winner)
    client = open_client(context.uri)
    client.delete_registered_model_alias("demo.bulk_modulus", "challenger")
    second = register_winner(context, **winner)
    assert (first.created, second.created) == (True, False)
    assert first.version == second.version
    assert client.get_model_version_by_alias("demo.bulk_modulus", "challenger").version == int(first.version)
    assert len(client.search_model_versions("name = 'demo.bulk_modulus'")) == 1


def test_leftover_model_of_a_killed_registration_is_removed(context, winner):
    client = open_client(context.uri)
    experiment = client.get_run(winner["run_id"]).info.experiment_id
    client.create_logged_model(experiment, name="half", tags={"crossprop.cell": "ab12"})
    version = register_winner(context, **winner)
    assert [m.model_id for m in client.search_logged_models([experiment])] == [version.model_id]


def test_next_winner_becomes_challenger_and_the_former_version_stays_loadable(context, winner):
    import mlflow

    first = register_winner(context, **winner)
    winner["result"] = replace(winner["result"], test_mae=10.0)
    second = register_winner(context, **winner)
    assert (first.version, second.version) == ("1", "2")
    client = open_client(context.uri)
    assert client.get_model_version_by_alias("demo.bulk_modulus", "challenger").version == 2
    models = {
        m.model_id: m for m in client.search_logged_models([client.get_run(first.run_id).info.experiment_id])
    }
    assert set(models) == {first.model_id, second.model_id}
    former = mlflow.pyfunc.load_model(models[first.model_id].artifact_location)
    assert len(former.predict(pd.DataFrame({"formula": ["MgO"]}))) == 1


def test_model_that_gives_other_predictions_is_not_registered(context, winner):
    winner["predictions"].loc[winner["predictions"]["formula"] == "GaAs", "y_pred_ensemble"] += 5.0
    with pytest.raises(TrackingError, match=r"'GaAs', where .* was logged"):
        register_winner(context, **winner)
    client = open_client(context.uri)
    assert client.search_model_versions("name = 'demo.bulk_modulus'") == []
    assert client.search_logged_models([client.get_run(winner["run_id"]).info.experiment_id]) == []


def test_missing_run_is_named_with_what_to_do(context, winner):
    with pytest.raises(TrackingError, match=r"store was moved, deleted or replaced.*record the cells anew"):
        register_winner(context, **{**winner, "run_id": "0" * 32})


def test_transfer_model_needs_keras_and_a_regressor_on_activations_both():
    network = model_requirements({"method": "finetune", "representation": "elemental_fractions"})
    both = model_requirements({"method": "ml_featextr", "representation": "activations"})
    attributes = model_requirements({"method": "ml", "representation": "physical_attributes"})
    names = [{line.split("==")[0] for line in lines} for lines in (network, both, attributes)]
    assert {"keras", "tensorflow"} <= names[0]
    assert {"keras", "tensorflow", "scikit-learn", "skops"} <= names[1]
    assert {"matminer", "scikit-learn"} <= names[2]
    assert "keras" not in names[2]


def test_blend_needs_what_its_parts_need(tmp_path):
    parts = {
        "part_00": {"method": "boost_sources", "representation": "predicted_sources"},
        "part_01": {"method": "ml", "representation": "elemental_fractions"},
    }
    (tmp_path / "model.json").write_text(json.dumps({"method": "blend", "parts": {p: [0.5] for p in parts}}))
    for name, info in parts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps(info))
    lines = folder_requirements(tmp_path)
    assert {"keras", "tensorflow", "matminer", "scikit-learn"} <= {line.split("==")[0] for line in lines}
    assert len(lines) == len(set(lines))


def test_version_carries_what_the_gates_need(context, winner):
    version = register_winner(context, **winner)
    tags = open_client(context.uri).get_model_version(version.name, version.version).tags
    predictions = winner["predictions"]
    training = predictions.query("split == 'validation'")["y_true"].mean()
    base = (predictions.query("split == 'test'")["y_true"] - training).abs().mean()
    assert float(tags["crossprop.base_mae"]) == pytest.approx(base, rel=1e-5)
    assert (tags["crossprop.n_test"], tags["crossprop.n_train"]) == ("6", "54")
    assert (tags["crossprop.test_mae_ensemble"], tags["crossprop.git_dirty"]) == ("10.5", "true")


def test_version_of_an_older_crossprop_gets_the_tags_that_it_lacks(context, winner):
    version = register_winner(context, **winner)
    client = open_client(context.uri)
    for key in ("crossprop.base_mae", "crossprop.git_dirty"):
        client.delete_model_version_tag(version.name, version.version, key)
    assert not register_winner(context, **winner).created
    tags = client.get_model_version(version.name, version.version).tags
    assert "crossprop.base_mae" in tags
    assert "crossprop.git_dirty" not in tags  # what the code was like then, nobody knows


def test_winner_whose_files_are_gone_or_now_hold_more_is_registered_again(context, winner):
    first = register_winner(context, **winner)
    (winner["model_folder"] / "evidence_of_a_later_version.txt").write_text("more", encoding="utf-8")
    second = register_winner(context, **winner)
    assert (second.created, second.version) == (True, "2")
    assert not register_winner(context, **winner).created
    shutil.rmtree(open_client(context.uri).get_logged_model(second.model_id).artifact_location)
    third = register_winner(context, **winner)
    assert (third.created, third.version) == (True, "3")
    assert first.version == "1"


def test_one_that_is_refused_does_not_keep_the_others_from_being_registered(context, winner, tmp_path):
    other = replace(winner["result"], target="formation_energy", cell="cd34")
    damaged = tmp_path / "damaged"
    shutil.copytree(winner["model_folder"], damaged)
    for file in damaged.rglob("member.npz"):
        file.write_bytes(b"nothing of use")
    winners = [
        registration.Winner(**{**winner, "model_folder": damaged, "result": other}),
        registration.Winner(**winner),
    ]
    seen = []
    with pytest.raises(TrackingError, match=r"'formation_energy'.*was not registered: "):
        registration.register_winners(
            context, winners, report=lambda winner, version: seen.append(version.name)
        )
    assert seen == ["demo.bulk_modulus"]
    client = open_client(context.uri)
    experiment = client.get_run(winner["run_id"]).info.experiment_id
    assert len(client.search_logged_models([experiment])) == 1


def test_store_need_not_be_that_of_the_environment(context, winner, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert register_winner(context, **winner).created
    assert not (tmp_path / "elsewhere" / "mlflow.db").exists()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_evidence_made_anew_makes_a_new_version_in_a_remote_store_too(context, winner, monkeypatch):
    register_winner(context, **winner)
    monkeypatch.setattr(registration, "local_path", lambda location: None)
    assert not register_winner(context, **winner).created
    client = open_client(context.uri)
    client.delete_model_version_tag("demo.bulk_modulus", "1", "crossprop.files")  # of an older crossprop
    monkeypatch.setenv("MLFLOW_TRACKING_URI", context.uri)
    assert not register_winner(context, **winner).created
    info = json.loads((winner["model_folder"] / "model.json").read_text(encoding="utf-8"))
    info["interval"]["half_width"] = 25.0
    (winner["model_folder"] / "model.json").write_text(json.dumps(info), encoding="utf-8")
    again = register_winner(context, **winner)
    assert (again.created, again.version) == (True, "2")


def test_draft_of_a_process_that_is_at_it_is_left_alone(context, winner):
    from crossprop.tracking.provenance import process_tags

    client = open_client(context.uri)
    experiment = client.get_run(winner["run_id"]).info.experiment_id
    tags = {"crossprop.cell": "ab12", **process_tags()}
    busy = client.create_logged_model(experiment, name="half", tags=tags)
    register_winner(context, **winner)
    assert busy.model_id in {m.model_id for m in client.search_logged_models([experiment])}
