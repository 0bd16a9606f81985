"""One file becomes a model folder with its report, whole or not at all; a stopped fit leaves its plain model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of, silent, write_csv

from crossprop.data.compositions import fraction_matrix
from crossprop.data.user_values import known_unit_in
from crossprop.errors import StoreError, UserFileError
from crossprop.estimator.fit import commit_folder, fit_file
from crossprop.estimator.learn import Settings
from crossprop.estimator.report import summary_lines
from crossprop.experiments import executor
from crossprop.inference.predictor import ServedModel

ASKED = {"target": "hardness", "unit": "GPa", "trials": 1, "folds": 2, "holdout": 0.2, "workers": 1, "minutes": 5}
SETTINGS = Settings(**ASKED, methods=["base", "ml", "boost", "blend"])
ANYTIME = Settings(**ASKED, methods=["plain_baseline", "plain_median", "ml", "blend"])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rows = rows_of(60)
    rows.loc[4, "formula"] = "Xx3"
    path, lines = write_csv(folder / "my.csv", rows), []
    return fit_file(path, SETTINGS, folder / "model", write=lines.append), lines, path


def test_the_folder_holds_evidence_report_data_and_the_model_of_the_stated_error(done):
    folder = done[2].parent
    names = {path.name for path in (folder / "model").iterdir()}
    assert {"model.json", "evidence.parquet", "report.json", "report.md", "data.csv"} <= names
    assert {path.name for path in folder.iterdir()} == {"my.csv", "model"}  # no draft stays
    data = pd.read_csv(folder / "model" / "data.csv")
    assert len(data) == 59
    held_out = data.query("split == 'test'")
    model = ServedModel.load(folder / "model")
    values = model.predict(fraction_matrix(held_out["formula"]), intervals=False).value
    assert np.abs(values - held_out["value"]).mean() == pytest.approx(done[0]["winner"]["holdout"]["mae"])


def test_the_report_says_what_was_read_and_found(done):
    report = done[0]
    assert report == json.loads((done[2].parent / "model" / "report.json").read_text())
    assert (report["rows"]["read"], report["rows"]["used"]) == (60, 59)
    assert report["rows"]["training"] + report["rows"]["holdout"] == 59
    assert [bad["line"] for bad in report["rows"]["left_out"]] == [6]
    assert any("line 6" in line for line in done[1])
    page = (done[2].parent / "model" / "report.md").read_text()
    assert f"| {report['winner']['label']} " in page
    assert report["columns"] == {"formula": "compound", "value": "hardness"}
    best = report["methods"][0]
    assert best["label"] == report["winner"]["label"]
    assert best["cv_mae"] == min(row["cv_mae"] for row in report["methods"] if row["cv_mae"] is not None)
    figures = best["holdout"]
    assert figures["mae_low"] <= figures["mae"] <= figures["mae_high"]
    assert 0 <= report["coverage"]["measured"] <= 1
    assert report["transfer"] is None


def test_the_report_of_amounts_by_weight_says_so(tmp_path):
    rows = pd.DataFrame({"formula": [f"Ti{90 - i}Al{10 + i}" for i in range(30)], "value": np.arange(30.0)})
    path, asked = write_csv(tmp_path / "my.csv", rows), Settings(**ASKED, methods=["ml"])
    report = fit_file(path, asked, tmp_path / "model", {"amounts": "weight"}, write=silent)
    assert report["columns"] == {"formula": "compound", "value": "hardness", "amounts": "weight"}


def test_what_has_a_lower_error_than_the_winner_is_named_for_what_it_is(done):
    for lowest, learnt, alone in (("base", False, False), ("plain_baseline", True, False), ("boost", True, True)):
        first = {"method": lowest, "label": lowest, "cv_mae": 0.0}
        said = " ".join(summary_lines({**done[0], "methods": [first, *done[0]["methods"]]}))
        assert ("nothing was learnt" not in said, f"{lowest} alone has 0" in said) == (learnt, alone)


def test_a_winner_that_is_not_better_than_the_mean_on_the_hold_out_is_reported(done):
    report = done[0]
    mae = report["winner"]["holdout"]["mae"]
    others = [row for row in report["methods"] if row["method"] != "base"]
    for error, told in ((mae / 2, True), (2 * mae, False)):
        base = {"method": "base", "label": "base", "cv_mae": 1e9, "holdout": {"mae": error}}
        said = " ".join(summary_lines({**report, "methods": [*others, base]}))
        assert ("the winner is not better than that mean" in said) == told


def test_what_each_method_bought_says_whether_the_error_rose_or_fell(done):
    gains = [
        {"label": "plain median", "minutes": 0.1, "cv_mae": 4.0, "change": None},
        {"label": "ml(PA)", "minutes": 0.2, "cv_mae": 3.0, "change": -0.25},
        {"label": "dl(PA)", "minutes": 0.3, "cv_mae": 3.0, "change": 0.0},
    ]
    winner = {**done[0]["winner"], "label": "plain median", "notation": "Plain median"}
    said = " ".join(summary_lines({**done[0], "gains": gains, "winner": winner}))
    assert "ml(PA) 0.2 min, MAE -25.0 %; dl(PA) 0.3 min, no change; all together CV MAE 3" in said
    assert "winner: plain median, cross-validated" in said


def test_a_folder_that_holds_something_is_not_touched(done, tmp_path, monkeypatch):
    (tmp_path / "kept.txt").write_text("mine")
    for overwrite, message in ((False, "--replace"), (True, "no saved model")):
        with pytest.raises(StoreError, match=message):
            fit_file(done[2], SETTINGS, tmp_path, overwrite=overwrite, write=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # an empty one may be the working folder
    commit_folder(Path(), lambda draft: (draft / "model.json").touch())
    assert (tmp_path / "here" / "model.json").is_file()


def test_the_unit_is_that_of_the_columns_name_where_it_is_certain(tmp_path):
    found = [known_unit_in(name) for name in ("hardness (GPa)", "gap (PBE)", "change (%)", "log10(k / S)", "T (K)")]
    assert found == ["GPa", "", "%", "dex", ""]
    path = write_csv(tmp_path / "my.csv", rows_of(40))
    path.write_text(path.read_text().replace("hardness", "hardness (GPa)"))
    settings = Settings(**(ASKED | {"target": "hardness (GPa)", "unit": ""}), methods=["ml"])
    assert fit_file(path, settings, tmp_path / "model", write=silent)["unit"] == "GPa"


def test_a_given_split_is_kept_and_its_repeats_are_left_out(tmp_path):
    rows = rows_of(40)
    rows.loc[0, "formula"] = rows["formula"][39]
    split = ["train"] * 32 + ["test"] * 8
    path, lines = write_csv(tmp_path / "my.csv", rows, part=split), []
    settings = Settings(target="hardness", methods=["ml"], trials=1, folds=2, workers=1)
    report = fit_file(path, settings, tmp_path / "model", {"split_column": "part"}, write=lines.append)
    assert (report["rows"]["training"], report["rows"]["holdout"]) == (31, 8)
    assert report["rows"]["read"] == 40
    (left_out,) = report["rows"]["left_out"]
    assert (left_out["line"], left_out["reason"]) == (2, "it repeats a composition of the hold-out")
    assert any("1 training rows repeat a composition of the hold-out" in line for line in lines)


def test_a_file_of_which_too_much_is_unusable_is_refused(tmp_path):
    for bad, options, message in (
        (5, {}, "5 of 40 rows .* unusable.*--drop-invalid"),
        (25, {"drop_invalid": True, "reading": {"formula_column": "compound"}}, "15 usable rows"),
    ):
        rows = rows_of(40)
        rows.loc[: bad - 1, "formula"] = "none"
        path = write_csv(tmp_path / "my.csv", rows)
        with pytest.raises(UserFileError, match=message):
            fit_file(path, SETTINGS, tmp_path / "model", write=silent, **options)


def test_a_stopped_fit_leaves_the_plain_median_model_goes_on_and_replaces_no_complete_one(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "my.csv", rows_of(40))
    out, work, lines = tmp_path / "model", executor.attempt, []

    def stopped(run, task):
        if str(task.cell.method) == "ml":
            raise KeyboardInterrupt
        return work(run, task)

    monkeypatch.setattr(executor, "attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_file(path, ANYTIME, out, write=lines.append)
    assert any("plain median" in line and f"saved in {out}" in line for line in lines)
    report = json.loads((out / "report.json").read_text())
    assert (report["finished"], report["winner"]["label"]) == (False, "plain median")
    early = ServedModel.load(out).predict(fraction_matrix(["BeC"]), intervals=False).value
    assert np.isfinite(early).all()

    other = write_csv(tmp_path / "other.csv", rows_of(30))
    (tmp_path / "elsewhere").mkdir()
    same_name = write_csv(tmp_path / "elsewhere" / "my.csv", rows_of(30))
    another = ANYTIME.model_copy(update={"target": "hardness?"})  # the same key of a property
    for file, settings in ((other, ANYTIME), (same_name, ANYTIME), (path, another)):
        with pytest.raises(StoreError, match="not empty"):
            fit_file(file, settings, out, write=silent)
    with pytest.raises(StoreError, match="not empty"):
        fit_file(path, ANYTIME, out, {"value_column": "another"}, write=silent)
    assert str(tmp_path) not in (out / "report.json").read_text()
    (out / "figures").mkdir()
    (out / "figures" / "mine.txt").write_text("mine")
    (out / "predictions.csv").write_text("mine")

    fitted = []
    monkeypatch.setattr(executor, "attempt", lambda run, task: fitted.append(task) or work(run, task))
    done = fit_file(path, ANYTIME, out, write=silent)
    assert done["finished"] is True
    assert (out / "figures" / "mine.txt").read_text() == (out / "predictions.csv").read_text() == "mine"
    assert json.loads((out / "report.json").read_text())["finished"] is True
    assert not list(tmp_path.glob(".*"))
    assert {str(task.cell.method) for task in fitted} == {"ml"}  # the plain models were kept
    labels = {row["label"] for row in done["methods"]}
    assert {"plain baseline", "plain median"} <= labels
    errors = json.loads((out / "model.json").read_text())["errors"]
    assert {"plain baseline", "plain median"} <= set(errors)
    before = (out / "report.json").read_text()
    monkeypatch.setattr(executor, "attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_file(path, ANYTIME, out, overwrite=True, write=lines.append)
    assert any("keeps its earlier model until the fit is complete" in line for line in lines)
    assert (out / "report.json").read_text() == before
