import os

import numpy as np
import psutil
import pytest

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import PromotionError
from crossprop.models.saved import load_predictor
from crossprop.tracking import subprocess_check
from crossprop.tracking.provenance import RunContext
from crossprop.tracking.registration import save_model
from crossprop.tracking.subprocess_check import predict_in_subprocess

FORMULAS = ["FeO", "MgS", "TiN"]


@pytest.fixture
def model(saved_ensemble, tmp_path):
    """An MLflow model as it is registered."""
    folder = tmp_path / "mlflow_model"
    save_model(folder, "m-1", "0" * 32, saved_ensemble, RunContext(uri="", study="demo"))
    return folder


@pytest.mark.parametrize("own_code", [False, True])
def test_model_repeats_with_either_code(model, saved_ensemble, tmp_path, monkeypatch, own_code):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # what lies in the caller's path is not seen
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    repeated = predict_in_subprocess(model, FORMULAS, own_code=own_code)
    wanted = load_predictor(saved_ensemble).predict(fraction_matrix(FORMULAS))
    np.testing.assert_allclose(repeated.value, wanted, rtol=1e-5)
    np.testing.assert_allclose(repeated.upper - repeated.lower, 10.0)
    assert not list(model.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("body", "timeout", "message"),
    [
        ("print('x', file=sys.stderr); os.kill(os.getpid(), 11)", 250, "ended with status -11: x"),
        ("time.sleep(600)", 2, "no answer within 2 s"),
    ],
)
def test_hanging_and_dying_models_are_ended_and_named(tmp_path, monkeypatch, body, timeout, message):
    worker = tmp_path / "worker.py"
    worker.write_text(f"import os, sys, time\nsys.stdin.read()\n{body}\n", encoding="utf-8")
    monkeypatch.setattr(subprocess_check, "WORKER", worker)
    before = psutil.Process(os.getpid()).children()
    with pytest.raises(PromotionError, match=message):
        predict_in_subprocess(tmp_path, FORMULAS, timeout)
    assert psutil.Process(os.getpid()).children() == before
