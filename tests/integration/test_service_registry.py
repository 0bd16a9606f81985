"""The service on a real registry with real models: alias moves, damaged files, a store that goes away."""

import shutil
import sqlite3
import time
from functools import partial

import numpy as np
import pytest
from registries import SmallRegistry
from starlette.testclient import TestClient
from waiting import until

from crossprop.data.compositions import fraction_matrix
from crossprop.inference.predictor import ServedModel
from crossprop.models.saved import load_predictor
from crossprop.service.app import create_app
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import RegistrySource


@pytest.fixture
def registry(tmp_path, template_store):
    shutil.copy(template_store, tmp_path / "mlflow.db")
    return SmallRegistry(tmp_path)


@pytest.fixture
def client(registry):
    source, load = RegistrySource(registry.uri), partial(ServedModel.load, threads=1)
    app = create_app(ServiceSettings(poll_seconds=0.1), source, load)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def ask(client, formulas=("CoO", "Ni2S")):
    body = {"formulas": list(formulas), "properties": ["hardness"], "nearest": 2}
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(client):
    (info,) = client.get("/v1/properties").json()["properties"]
    return info


def test_an_alias_moved_by_hand_is_followed_and_damaged_files_leave_the_former_version(registry, client):
    until(lambda: client.get("/readyz").status_code == 503)
    first, second = registry.add(level=100.0), registry.add(level=500.0)
    registry.move("champion", first)
    until(lambda: client.get("/readyz").status_code == 200)
    answer = ask(client)
    model = load_predictor(registry.root / "hardness-100" / "artifacts" / "model")
    expected = model.predict(fraction_matrix(["CoO", "Ni2S"]))
    got = [r["predictions"]["hardness"]["value"] for r in answer["results"]]
    assert got == pytest.approx(expected.tolist(), rel=1e-5)
    assert answer["results"][0]["predictions"]["hardness"]["nearest"][0]["formula"] == "Co1O"
    assert shown(client)["holdout_mae"] == pytest.approx(1.0)
    assert shown(client)["holdout_rows"] == 12
    registry.move("champion", second)
    until(lambda: ask(client)["models"]["hardness"]["version"] == second)
    assert ask(client)["results"][0]["predictions"]["hardness"]["value"] > 400
    third = registry.add(level=900.0)
    for file in (registry.root / "hardness-900").rglob("member.npz"):
        file.write_bytes(b"not a model")
    registry.move("champion", third)
    until(lambda: shown(client)["status"] == "degraded")
    assert ask(client)["models"]["hardness"]["version"] == second


def test_a_registry_that_is_locked_or_damaged_delays_no_prediction(registry, client):
    registry.move("champion", registry.add())
    until(lambda: client.get("/readyz").status_code == 200)
    holder = sqlite3.connect(registry.root / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    took = []
    for _ in range(20):
        began = time.monotonic()
        ask(client)
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    holder.execute("ROLLBACK")
    holder.close()
    assert np.median(took) < 2.0, "whoever waits for the registry waits until the lock is gone"
    for beside in registry.root.glob("mlflow.db-*"):
        beside.unlink()
    (registry.root / "damaged").write_bytes(b"no database" * 1000)
    (registry.root / "damaged").replace(registry.root / "mlflow.db")
    until(lambda: client.get("/readyz").json()["note"])
    ask(client)


def test_code_and_pickles_that_lie_beside_a_model_are_never_run(registry, client):
    version = registry.add()
    mark, folder = registry.root / "ran", registry.root / "hardness-100"
    harmful = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    pickled = f"cbuiltins\nexec\n(S{harmful!r}\ntR.".encode()
    for place in (folder, folder / "artifacts" / "model", folder / "artifacts" / "model" / "fold_00"):
        for name in ("python_model.pkl", "model.pkl", "model.joblib"):
            (place / name).write_bytes(pickled)
        for name in ("__init__.py", "sitecustomize.py", "pyfunc_script.py"):
            (place / name).write_text(harmful)
    (folder / "code" / "crossprop").mkdir(parents=True)
    (folder / "code" / "crossprop" / "__init__.py").write_text(harmful)
    registry.move("champion", version)
    until(lambda: client.get("/readyz").status_code == 200)
    ask(client)
    assert not mark.exists()
    exec(harmful)
    assert mark.exists(), "it would have been noticed"
