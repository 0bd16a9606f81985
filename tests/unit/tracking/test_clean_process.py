import os
import shutil

import numpy as np
import psutil
import pytest
from registries import NAME, add_version

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import PromotionError
from crossprop.models.saved import load_predictor
from crossprop.tracking import clean_process
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.gates import EVIDENCE_FILE
from crossprop.tracking.promotion import promote

FORMULAS = ["NaCl", "MgO", "Fe2O3"]


def test_model_repeats_its_predictions_and_a_damaged_one_does_not_stop_the_next(
    saved_ensemble, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # what lies in the caller's path is not seen
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    damaged = tmp_path / "damaged"
    shutil.copytree(saved_ensemble, damaged)
    for file in (damaged / "fold_00").rglob("member.npz"):
        file.write_bytes(b"nothing of use")
    with CleanProcess() as process:
        with pytest.raises(PromotionError, match="Error: "):
            process.repeat(damaged, FORMULAS)
        repeated = process.repeat(saved_ensemble, FORMULAS)
    wanted = load_predictor(saved_ensemble).predict(fraction_matrix(FORMULAS))
    np.testing.assert_allclose(repeated.value, wanted, rtol=1e-5)
    assert (repeated.lower < repeated.value).all()
    assert (repeated.upper > repeated.value).all()
    assert repeated.stated == 0.9


def test_hanging_and_dying_models_are_ended_and_named(tmp_path, monkeypatch):
    others = psutil.Process(os.getpid()).children()
    worker = "import os, sys, time\nline = sys.stdin.readline()\n"
    for body, patience, message in (
        ("print('x', file=sys.stderr); os.kill(os.getpid(), 11)", 250, "ended with status -11: x"),
        ("time.sleep(600)", 2, "no answer within 2 s"),
    ):
        monkeypatch.setattr(clean_process, "_code", lambda body=body: worker + body)
        process = CleanProcess(patience=patience)
        with pytest.raises(PromotionError, match=message):
            process.repeat(tmp_path, FORMULAS)
        process.close()
    left = [p for p in psutil.Process(os.getpid()).children() if p not in others]
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


def test_registered_ensemble_is_promoted_with_a_process_of_its_own(uri, saved_ensemble, tmp_path, capfd):
    from registries import evidence_table, make_model

    rows = evidence_table()
    rows["y_pred"] = load_predictor(saved_ensemble).predict(fraction_matrix(rows["formula"]))
    rows["y_true"] = rows["y_pred"] + np.where(np.arange(len(rows)) % 10 == 0, 30.0, 5.0)
    model = make_model(tmp_path / "mlflow_model")
    shutil.rmtree(model / "artifacts" / "model")
    shutil.copytree(saved_ensemble, model / "artifacts" / "model")
    rows.to_parquet(model / "artifacts" / "model" / EVIDENCE_FILE)
    add_version(uri, model)
    result = promote(uri, NAME)
    figures = {g.key: (g.passed, g.figure) for g in result.gates}
    assert figures["repeats"][0], figures
    assert figures["repeats"][1].startswith("40 hold-out rows, largest difference")
    assert figures["signature"][0], figures
    assert result.moved is result.passed
