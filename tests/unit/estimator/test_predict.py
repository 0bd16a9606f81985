"""``crossprop predict``: every form of input, a model folder or a registered name."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of
from typer.testing import CliRunner

from crossprop.cli import app
from crossprop.errors import ConfigError, ModelFormatError, StoreOutOfReachError, UnknownModelError, UserFileError
from crossprop.estimator import REPORT_FILE
from crossprop.estimator.predict import model_folder, read_input, refuse_values

OF_A_FILE = ("--element-columns", "--formula-column", "--sheet")


@pytest.fixture
def model(quick_fit):
    return quick_fit.model_folder_


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSPROP_CACHE", str(tmp_path / "cache"))

    def invoke(*given: object, stdin: str | bytes | None = None):
        return CliRunner().invoke(app, ["predict", *map(str, given)], input=stdin, catch_exceptions=False)

    return invoke


def table(result) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(result.stdout), keep_default_na=False)


def test_formulas_are_predicted_in_their_order_and_bad_ones_named(run, model):
    result = run(model, "LiNa", "nonsense!", "LiO", "LiNa")
    made = table(result)
    assert result.exit_code == 3
    assert "1 of 4 rows hold no formula" in result.stderr
    assert made["formula"].tolist() == ["LiNa", "nonsense!", "LiO", "LiNa"]
    assert (made["value"][1], made["error"][1].partition(": ")[0]) == ("", "formula 2")
    numbers = made.drop(index=1)[["lower", "value", "upper"]].astype(float)
    assert numbers["value"][0] == numbers["value"][3] != numbers["value"][2]
    assert (np.diff(numbers, axis=1) >= 0).all()
    assert run(model, "LiNa").exit_code == 0


@pytest.mark.parametrize("ending", ["parquet", "json", "csv"])
def test_a_file_keeps_its_other_columns_and_lines_in_any_format(run, model, tmp_path, ending):
    path = tmp_path / "in.csv"
    rows = ["name;compound;value;value_input", "first;LiNa;7;0", "second;?;8;0", "", "third;LiO;9;0"]
    path.write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / f"out.{ending}"
    result = run(model, "--input", path, "--formula-column", "compound", "--output", out)
    made = {"parquet": pd.read_parquet, "json": pd.read_json, "csv": pd.read_csv}[ending](out)
    assert result.exit_code == 3
    assert list(made.columns)[:4] == ["name", "compound", "value_input_2", "value_input"]
    assert made["name"].tolist() == ["first", "second", "third"]
    assert made["error"][1].startswith("line 3: ")
    assert np.isfinite(made["value"]).tolist() == [True, False, True]
    assert {path.name for path in tmp_path.iterdir()} <= {"in.csv", out.name, "cache"}


def test_wrong_options_are_refused_before_anything_is_read(run):
    for given, message in (
        ([], "one of them"),
        (["LiNa", "--input", "x.csv"], "one of them"),
        (["LiNa", "--version", "1", "--alias", "champion"], "not both"),
        (["-", "MgO", "KCl"], "Give formulas alone: '-' reads a pipe"),
        *((["LiNa", option, "weight"], "choose in a file") for option in OF_A_FILE),
        (["--input", "x.csv", "--element-columns", "weight", "--amounts", "weight"], "not both"),
        (["LiNa", "--output", "out.xlsx"], r"\.xlsx"),
        (["--input", "x.csv", "--output", "./x.csv"], "would replace x.csv"),
    ):
        with pytest.raises(ConfigError, match=message):
            run("no model", *given)


def test_the_options_of_a_files_dialect_are_handed_through(run, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("Fe,Ni\n50,50\n")
    for option, value, message in (
        ("--delimiter", "::", "no separator"),
        ("--encoding", "klingon", "not in klingon"),
        ("--decimal", ";", "sign of decimals"),
    ):
        with pytest.raises(UserFileError, match=message):
            run("no model", "--input", path, option, value, "--element-columns", "atomic")
        with pytest.raises(ConfigError, match="choose in a file"):
            run("no model", "LiNa", option, value)


def test_a_column_of_the_values_is_no_element(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("Al,Ni,H\n60,40,1.5\n")
    asked = read_input([], path, None, None, element_columns="atomic")
    with pytest.raises(UserFileError, match="'H' is named like the property"):
        refuse_values(asked, "h")
    refuse_values(asked, "hardness")


def test_input_that_does_not_say_what_amounts_count_is_noted_if_the_model_learnt_from_weights(run, model, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    for learnt, given, noted in (("weight", (), True), ("weight", ("--amounts", "weight"), False), (None, (), False)):
        columns = {"amounts": learnt} if learnt else {}
        (tmp_path / "m" / REPORT_FILE).write_text(json.dumps({"columns": columns}))
        assert ("fitted on amounts by weight" in run(tmp_path / "m", "Li40O60", *given).stderr) is noted


def test_the_table_is_for_people(run, model):
    said = run(model, "LiNa", "?", "--format", "table").stdout
    assert "hardness (GPa)" in said
    assert "90 % interval" in said
    assert "formula 2: " in said


def test_a_pipe_keeps_its_other_columns_and_a_closed_one_is_refused(run, model, monkeypatch):
    result = run(model, "-", "--formula-column", "what", stdin=b"what;n\nLiNa;1,5\nLiO;2\n")
    assert table(result)["n"].tolist() == ["1,5", "2"]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserFileError, match="closed"):
        read_input(["-"], None, None, "atomic")


def test_a_folder_has_no_versions_and_one_without_a_model_is_named(model, tmp_path, monkeypatch):
    with pytest.raises(UnknownModelError, match="has no versions"):
        model_folder(str(model), version="2")
    with pytest.raises(ModelFormatError, match=r"model\.json"):
        model_folder(str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(StoreOutOfReachError, match="There is no folder 'modle' in "):
        model_folder("modle")


def test_many_formulas_are_predicted_in_parts(run, model, monkeypatch):
    given = [*rows_of(20)["formula"], "?"]
    whole = table(run(model, *given))
    monkeypatch.setattr("crossprop.estimator.predict.CHUNK", 7)
    pd.testing.assert_frame_equal(table(run(model, *given)), whole)
