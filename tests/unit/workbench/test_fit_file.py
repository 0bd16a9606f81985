"""One file becomes a model folder with its report, whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of, write_csv
from typer.testing import CliRunner

from crossprop.cli import app
from crossprop.errors import OwnFileError, StoreError
from crossprop.estimator.decision import Settings
from crossprop.estimator.fit import FileOptions, fit_file
from crossprop.experiments.executor import InlinePool

SETTINGS = Settings(
    target="hardness", unit="GPa", methods=["base", "ml", "boost", "blend"], trials=1, folds=2, holdout=0.2,
    workers=1, minutes=5,
)  # fmt: skip


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rows = rows_of(60)
    rows.loc[4, "formula"] = "Xx3"
    path, lines = write_csv(folder / "my.csv", rows), []
    return fit_file(path, SETTINGS, folder / "model", write=lines.append), lines, path


def test_the_folder_holds_model_evidence_report_and_data(done):
    fitted = done[0]
    names = {path.name for path in fitted.folder.iterdir()}
    assert {"model.json", "evidence.parquet", "report.json", "report.md", "data.csv"} <= names
    assert {path.name for path in fitted.folder.parent.iterdir()} == {
        "my.csv",
        "model",
    }  # nothing half-done stays
    assert len(pd.read_csv(fitted.folder / "data.csv")) == 59


def test_the_report_says_what_was_read_and_found(done):
    report = json.loads((done[0].folder / "report.json").read_text())
    assert report == done[0].report
    assert report["rows"]["read"], report["rows"]["used"] == (60, 59)
    assert report["rows"]["training"] + report["rows"]["holdout"] == 59
    assert [bad["line"] for bad in report["rows"]["left_out"]] == [6]
    assert report["columns"] == {"formula": "compound", "value": "hardness"}
    best = report["methods"][0]
    assert best["label"] == report["winner"]["label"]
    assert best["cv_mae"] == min(row["cv_mae"] for row in report["methods"] if row["cv_mae"] is not None)
    figures = best["holdout"]
    assert figures["mae_low"] <= figures["mae"] <= figures["mae_high"]
    assert 0 <= report["coverage"]["measured"] <= 1
    assert report["transfer"] is None


def test_the_hold_out_error_of_the_report_is_that_of_the_saved_model(done):
    from crossprop.data.compositions import fraction_matrix
    from crossprop.inference.predictor import ServedModel

    fitted = done[0]
    data = pd.read_csv(fitted.folder / "data.csv").query("split == 'test'")
    model = ServedModel.load(fitted.folder, compiled=False)
    values = model.predict(fraction_matrix(data["formula"]), intervals=False).value
    assert np.abs(values - data["value"]).mean() == pytest.approx(fitted.report["winner"]["holdout"]["mae"])


def test_what_happened_is_told(done):
    said = "\n".join(done[1])
    assert "59 rows of 59 compositions; 'compound' holds formulas, 'hardness' values (GPa)" in said
    assert "line 6" in said
    assert "plan: base, ml, boost, blend; 2 folds" in said
    page = (done[0].folder / "report.md").read_text()
    assert "winner" in page
    assert "95 % bootstrap interval" in page


def test_a_folder_that_holds_something_is_not_touched(done, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(StoreError, match="--replace"):
        fit_file(done[2], SETTINGS, tmp_path, write=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_asked_to_it_replaces_the_former_model(done, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "model.json").write_text("{}")
    (out / "old.txt").write_text("old")
    fit_file(done[2], SETTINGS, out, overwrite=True, write=silent)
    assert (out / "model.json").is_file()
    assert not (out / "old.txt").exists()


def test_a_fit_that_was_stopped_goes_on_with_what_was_finished(done, tmp_path, monkeypatch):
    work, finished = InlinePool._outcome, []

    def stopped(self, task):
        if len(finished) == 4:
            raise KeyboardInterrupt
        finished.append(task)
        return work(self, task)

    monkeypatch.setattr(InlinePool, "_outcome", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_file(done[2], SETTINGS, tmp_path / "model", write=silent)
    assert not (tmp_path / "model").exists()
    repeated = []
    monkeypatch.setattr(InlinePool, "_outcome", lambda self, task: repeated.append(task) or work(self, task))
    lines = []
    again = fit_file(done[2], SETTINGS, tmp_path / "model", write=lines.append)
    assert any("4 of" in line and "finished already" in line for line in lines)
    pieces = [
        # a model that was too cheap to be kept is fitted again once it has won
        {(t.cell.id, getattr(t, "fold", None)) for t in tasks if not getattr(t, "always_save", False)}
        for tasks in (finished, repeated)
    ]
    assert not pieces[0] & pieces[1]
    assert again.report["winner"] == done[0].report["winner"]


def test_a_given_split_is_kept_and_its_repeats_are_left_out(tmp_path):
    rows = rows_of(40)
    rows.loc[0, "formula"] = rows["formula"][39]
    split = ["train"] * 32 + ["test"] * 8
    path, lines = write_csv(tmp_path / "my.csv", rows, part=split), []
    settings = Settings(target="hardness", methods=["ml"], trials=1, folds=2, workers=1)
    report = fit_file(
        path, settings, tmp_path / "model", FileOptions(split_column="part"), write=lines.append
    ).report
    assert (report["rows"]["training"], report["rows"]["holdout"]) == (31, 8)
    assert any("1 training rows repeat a composition of the hold-out" in line for line in lines)


@pytest.mark.parametrize(
    ("bad", "options", "message"),
    [
        (5, FileOptions(), "5 of 40 rows .* unusable.*--drop-invalid"),
        (25, FileOptions(drop_invalid=True, formula_column="compound"), "15 usable rows"),
    ],
)
def test_a_file_of_which_too_much_is_unusable_is_refused(tmp_path, bad, options, message):
    rows = rows_of(40)
    rows.loc[: bad - 1, "formula"] = "none"
    with pytest.raises(OwnFileError, match=message):
        fit_file(write_csv(tmp_path / "my.csv", rows), SETTINGS, tmp_path / "model", options, write=silent)


def test_the_command_fits_and_prints_the_table(tmp_path):
    path = write_csv(tmp_path / "my.csv", rows_of(40))
    given = [
        "fit", str(path), "--target", "hardness", "--unit", "GPa", "--out", str(tmp_path / "model"),
        "--sources", "none", "--methods", "base,ml", "--folds", "2", "--workers", "1", "--minutes", "0.01",
    ]  # fmt: skip
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.exit_code == 0
    assert "winner" in result.output
    assert "hold-out MAE" in result.output
    assert (tmp_path / "model" / "model.json").is_file()
