"""A fit can be stopped at any time: its plain median model is there within seconds and can be used."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_rows import rows_of, silent, write_csv

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import StoreError
from crossprop.estimator.fit import fit_file
from crossprop.estimator.learn import Settings
from crossprop.experiments.executor import InlinePool
from crossprop.inference.predictor import ServedModel

SETTINGS = Settings(
    target="hardness", unit="GPa", methods=["plain_baseline", "plain_median", "ml", "blend"], trials=1, folds=2,
    holdout=0.2, workers=1, minutes=5,
)  # fmt: skip


def test_a_stopped_fit_leaves_the_plain_median_model_and_goes_on_from_it(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "my.csv", rows_of(40))
    out, work, lines = tmp_path / "model", InlinePool._outcome, []

    def stopped(self, task):
        if str(task.cell.method) == "ml":
            raise KeyboardInterrupt
        return work(self, task)

    monkeypatch.setattr(InlinePool, "_outcome", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_file(path, SETTINGS, out, write=lines.append)
    assert any("plain median" in line and f"saved in {out}" in line for line in lines)
    report = json.loads((out / "report.json").read_text())
    assert (report["finished"], report["winner"]["label"]) == (False, "plain median")
    early = ServedModel.load(out).predict(fraction_matrix(["BeC"]), intervals=False).value
    assert np.isfinite(early).all()

    other = write_csv(tmp_path / "other.csv", rows_of(30))
    with pytest.raises(StoreError, match="not empty"):
        fit_file(other, SETTINGS, out, write=silent)

    fitted = []
    monkeypatch.setattr(InlinePool, "_outcome", lambda self, task: fitted.append(task) or work(self, task))
    done = fit_file(path, SETTINGS, out, write=silent)
    assert done["finished"] is True
    assert {str(task.cell.method) for task in fitted} == {"ml"}  # the plain models were kept
    labels = {row["label"] for row in done["methods"]}
    assert {"plain baseline", "plain median"} <= labels
    errors = json.loads((out / "model.json").read_text())["errors"]
    assert {"plain baseline", "plain median"} <= set(errors)


def test_a_complete_model_is_not_replaced_by_a_plain_one(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "my.csv", rows_of(40))
    out = tmp_path / "model"
    fit_file(path, SETTINGS, out, write=silent)
    before = (out / "report.json").read_text()

    def stopped(self, task):
        raise KeyboardInterrupt

    monkeypatch.setattr(InlinePool, "_outcome", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_file(path, SETTINGS, out, overwrite=True, write=silent)
    assert (out / "report.json").read_text() == before
