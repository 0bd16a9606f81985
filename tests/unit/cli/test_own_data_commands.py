"""`crossprop data add`, `data remove` and `study new` as a person types them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crossprop import cli

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def crossprop(tmp_path, monkeypatch, capsys):
    """Runs the command ``crossprop`` in an empty project, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "conf" / "study").mkdir(parents=True)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crossprop", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


@pytest.fixture
def mine(tmp_path):
    """A file of 40 good rows and one bad one."""
    path = tmp_path / "mine.csv"
    rows = [f"Fe{i}O;{i},5" for i in range(1, 41)]
    path.write_text("formula;Yield strength (MPa)\n" + "\n".join([*rows, "NaCl;12 MPa"]) + "\n")
    return path


ADD = ("--target", "Yield strength (MPa)", "--unit", "MPa")


def test_a_file_is_added_listed_studied_and_removed(crossprop, mine, tmp_path):
    status, out, err = crossprop("data", "add", mine, *ADD)
    assert (status, err) == (0, "")
    assert "41 read, 40 kept, 1 dropped" in out
    assert "line 42: the value '12 MPa' carries a unit" in out
    assert "crossprop study new yield_strength --target yield_strength" in out
    assert "git add own/catalog.yaml" in out
    listed = crossprop("data", "list", "--own")[1]
    assert "1 properties, 1 of your own" in listed
    assert "yield_strength" in listed
    shown = crossprop("data", "show", "yield_strength")[1]
    assert "your own" in shown
    assert "1 dropped" in shown
    status, out, _ = crossprop("study", "new", "steel", "--target", "yield_strength", "--tier", "trial")
    assert status == 0
    assert "dvc exp run -S study=steel" in out
    assert (tmp_path / "conf" / "study" / "steel.yaml").is_file()
    status, _, err = crossprop("data", "remove", "yield_strength")
    assert status == 1
    assert "conf/study/steel.yaml" in err
    (tmp_path / "conf" / "study" / "steel.yaml").unlink()
    assert crossprop("data", "remove", "yield_strength")[0] == 0
    assert crossprop("data", "list", "--own")[1].startswith("0 properties")


def test_the_unit_is_asked_for(crossprop, mine, monkeypatch):
    status, _, err = crossprop("data", "add", mine, "--target", "Yield strength (MPa)")
    assert status == 1
    assert "the column's name says 'MPa'" in err
    assert "--unit" in err
    monkeypatch.setattr("sys.stdin", Typed("\n"))  # a terminal at which the suggested unit is accepted
    status, out, _ = crossprop("data", "add", mine, "--target", "Yield strength (MPa)")
    assert status == 0
    assert "values        1.5 to 40.5 MPa" in out


class Typed:
    """A terminal at which these lines are typed."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1) -> str:
        return self.lines.pop(0) if self.lines else ""


@pytest.mark.parametrize("unit", ["none", "", "1"])
def test_a_pure_number_has_the_unit_one(crossprop, mine, tmp_path, unit):
    from crossprop.data.catalog import load_catalog

    assert crossprop("data", "add", mine, *ADD[:2], "--unit", unit)[0] == 0
    assert load_catalog(tmp_path / "own" / "catalog.yaml").property("yield_strength").unit == "1"


def test_strict_refuses_any_bad_row_and_check_adds_nothing(crossprop, mine, tmp_path):
    status, out, err = crossprop("data", "add", mine, *ADD, "--strict")
    assert status == 1
    assert "line 42" in out
    assert "--strict allows none" in err
    status, out, _ = crossprop("data", "add", mine, "--target", "Yield strength (MPa)", "--check")
    assert status == 0
    assert "Nothing was added" in out
    assert not (tmp_path / "own").exists()


def test_many_bad_rows_are_dropped_only_with_consent(crossprop, mine, tmp_path):
    mine.write_text(mine.read_text() + "Foo;1\nBar;2\nKCl;\n")
    status, _, err = crossprop("data", "add", mine, *ADD)
    assert status == 1
    assert "4 of 44 rows (9 %) would be dropped" in err
    assert "--yes" in err
    assert not (tmp_path / "own").exists()
    assert crossprop("data", "add", mine, *ADD, "--yes")[0] == 0


def test_a_second_time_needs_replace(crossprop, mine):
    assert crossprop("data", "add", mine, *ADD)[0] == 0
    status, _, err = crossprop("data", "add", mine, *ADD)
    assert status == 1
    assert "--replace" in err
    assert crossprop("data", "add", mine, *ADD, "--replace")[0] == 0


def test_what_was_said_stays_when_data_are_replaced(crossprop, mine, tmp_path):
    from crossprop.data.catalog import load_catalog

    said = ("--description", "Yield strength, of ours", "--citation", "we", "--licence", "CC0")
    assert crossprop("data", "add", mine, *ADD, *said)[0] == 0
    mine.write_text(mine.read_text().replace("12 MPa", "12"))
    assert crossprop("data", "add", mine, *ADD[:2], "--replace", "--citation", "others")[0] == 0
    entry = load_catalog(tmp_path / "own" / "catalog.yaml").property("yield_strength")
    assert (entry.rows, entry.unit, entry.description) == (41, "MPa", "Yield strength, of ours")
    assert (entry.citation, entry.licence) == ("others", "CC0")


def test_names_of_the_built_in_catalogue_are_refused(crossprop, mine):
    status, _, err = crossprop("data", "add", mine, *ADD, "--name", "band_gap")
    assert status == 1
    assert "--name" in err
    status, _, err = crossprop("data", "remove", "band_gap")
    assert status == 1
    assert "no property of your own" in err


def test_outside_of_a_project_nothing_is_added(crossprop, mine, tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    status, _, err = crossprop("data", "add", mine, *ADD)
    assert status == 1
    assert "crossprop fit" in err


def test_a_dry_run_of_a_study_writes_nothing(crossprop, tmp_path):
    status, out, _ = crossprop(
        "study", "new", "s", "--targets", "slme, klu", "--sources", "seebeck_p", "--dry-run"
    )
    assert status == 0
    assert "slme" in out
    assert "Nothing was written" in out
    assert not list((tmp_path / "conf" / "study").iterdir())


def test_a_name_that_is_taken_is_said_already_by_a_check(crossprop, mine):
    _, out, err = crossprop("data", "add", mine, *ADD, "--name", "band_gap", "--check")
    assert "Nothing was added" in out
    assert "has a property 'band_gap' of its own" in err


def test_the_unit_that_the_cells_carry_is_offered(crossprop, tmp_path):
    path = tmp_path / "units.csv"
    path.write_text("formula,strength\n" + "".join(f"Fe{i}O,{i} MPa\n" for i in range(1, 41)))
    status, _, err = crossprop("data", "add", path, "--target", "strength")
    assert status == 1
    assert "says 'MPa'" in err
    _, out, _ = crossprop("data", "add", path, "--target", "strength", "--check")
    assert "1 to 40 MPa" in out


def test_a_stop_is_answered(crossprop, mine, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("crossprop.estimator.add.add_data", stop)
    status, _, err = crossprop("data", "add", mine, *ADD)
    assert status == 130
    assert "nothing was added" in err
    monkeypatch.setattr("crossprop.estimator.fit.fit_file", stop)
    status, _, err = crossprop("fit", mine, *ADD, "--out", "model")
    assert status == 130
    assert "run the same command to go on" in err


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf"])
def test_minutes_that_are_none_are_refused(crossprop, mine, minutes):
    status, _, err = crossprop("fit", mine, *ADD, "--out", "model", "--minutes", minutes)
    assert status == 1
    assert "is no time" in err
