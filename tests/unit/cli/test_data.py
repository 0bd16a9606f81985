"""`crossprop data add`, `data remove`, `study new` and `fit` as a user types them."""

import io
import re

import pytest

from crossprop.data import download
from crossprop.data.catalog import load_catalog

TARGET = ("--target", "Yield strength (MPa)")
ADD = (*TARGET, "--unit", "MPa")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "conf" / "study").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def mine(tmp_path):
    """A file of 40 good rows and one bad one."""
    path = tmp_path / "mine.csv"
    rows = [f"Fe{i}O;{i},5" for i in range(1, 41)]
    path.write_text("formula;Yield strength (MPa)\n" + "\n".join([*rows, "NaCl;12 MPa"]) + "\n")
    return path


@pytest.fixture
def add(crossprop, mine):
    """Runs ``crossprop data add`` on the file."""
    return lambda *options: crossprop("data", "add", mine, *options)


def added(project):
    return load_catalog(project / "own" / "catalog.yaml").property("yield_strength")


class Typed(io.StringIO):
    """A terminal at which these lines are typed."""

    def isatty(self) -> bool:
        return True


def test_a_file_is_added_listed_studied_and_removed(crossprop, add, tmp_path):
    told = add(*ADD)
    assert told.err == ""
    assert "41 read, 40 kept, 1 dropped" in told.printed
    assert "line 42: the value '12 MPa' carries a unit" in told.out
    assert "crossprop study new yield_strength --target yield_strength" in told.out
    assert "git add own/catalog.yaml" in told.out
    listed = crossprop("data", "list", "--own").out
    assert "1 properties, 1 of your own" in listed
    assert "yield_strength" in listed
    shown = crossprop("data", "show", "yield_strength").out
    assert "your own" in shown
    assert "1 dropped" in shown
    new = ("study", "new", "steel", "--target", "yield_strength", "--tier", "trial")
    assert "Nothing was written" in crossprop(*new, "--dry-run").out
    assert not list((tmp_path / "conf" / "study").iterdir())
    assert "dvc exp run -S study=steel" in crossprop(*new).printed
    assert (tmp_path / "conf" / "study" / "steel.yaml").is_file()
    assert "conf/study/steel.yaml" in crossprop("data", "remove", "yield_strength").refusal
    (tmp_path / "conf" / "study" / "steel.yaml").unlink()
    assert crossprop("data", "remove", "yield_strength").status == 0
    assert crossprop("data", "list", "--own").out.startswith("0 properties")


def test_all_editions_of_a_source_are_fetched_unless_one_is_named(crossprop, monkeypatch):
    asked = []
    monkeypatch.setattr(download, "fetch_files", lambda files, *more, **options: asked.append({*files}))
    for options in (["--edition", "open"], ["--edition", "full"], []):
        assert crossprop("data", "fetch", "formation_energy", *options).status == 0
    assert asked[0] != asked[1]
    assert asked[2] == asked[0] | asked[1]
    assert crossprop("data", "fetch").status == 0


def test_the_unit_is_asked_for(add, monkeypatch, tmp_path):
    assert re.search("the column's name says 'MPa'.*--unit", add(*TARGET).refusal)
    monkeypatch.setattr("sys.stdin", Typed("\n"))  # the suggested unit is accepted
    assert "values        1.5 to 40.5 MPa" in add(*TARGET).out
    assert add(*TARGET, "--unit", "none", "--replace").status == 0
    assert added(tmp_path).unit == "1"


def test_strict_refuses_any_bad_row_and_check_adds_nothing(add, tmp_path):
    told = add(*ADD, "--strict")
    assert "line 42" in told.out
    assert "--strict allows none" in told.refusal
    assert "Nothing was added" in add(*TARGET, "--check").printed
    assert not (tmp_path / "own").exists()


def test_many_bad_rows_are_dropped_only_with_consent(add, mine, tmp_path, monkeypatch):
    mine.write_text(mine.read_text() + "Foo;1\nBar;2\nKCl;\n")
    assert re.search(r"4 of 44 rows \(9 %\) would be dropped.*--yes", add(*ADD).refusal)
    monkeypatch.setattr("sys.stdin", Typed("n\n"))
    assert "Nothing was added" in add(*ADD).err
    assert not (tmp_path / "own").exists()
    assert add(*ADD, "--yes").status == 0


def test_a_second_time_needs_replace_and_what_was_said_stays(add, mine, tmp_path):
    assert add(*ADD, "--description", "Strength", "--citation", "we", "--licence", "CC0").status == 0
    assert "--replace" in add(*ADD).refusal
    mine.write_text(mine.read_text().replace("12 MPa", "12"))
    assert add(*TARGET, "--replace", "--citation", "others").status == 0
    entry = added(tmp_path)
    assert (entry.rows, entry.unit, entry.description) == (41, "MPa", "Strength")
    assert (entry.citation, entry.licence) == ("others", "CC0")


def test_outside_of_a_project_a_file_can_be_checked_only(crossprop, add, mine, tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    mine.write_text(mine.read_text().replace(";", "\t"))
    for finished in (add(*ADD), crossprop("data", "remove", "x")):
        assert "crossprop fit" in finished.refusal
    finished = add(*ADD, "--check", "--delimiter", "tab")
    assert (finished.status, "no crossprop project" in finished.err) == (0, True)


@pytest.mark.parametrize(
    ("stopped", "said"),
    [
        ("crossprop.estimator.add.add_data", "nothing was added"),
        ("crossprop.estimator.fit.fit_file", "run the same command to go on"),
    ],
)
def test_an_interruption_is_answered(crossprop, add, mine, monkeypatch, stopped, said):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, stop)
    finished = add(*ADD) if "add" in said else crossprop("fit", mine, *ADD, "--out", "model")
    assert (finished.status, said in finished.err) == (130, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--minutes", "nan"), "minutes: Input should be a finite number"),
        (("--minutes", "1", "--budget", "quick"), "either --minutes or --budget, not both"),
        (("--holdout", "0.1", "--split-column", "s"), "either --holdout or --split-column, not both"),
        (("--amounts", "atomic", "--element-columns", "weight"), "--amounts, not both"),
    ],
)
def test_a_fit_that_is_impossible_is_refused(crossprop, mine, options, said):
    assert said in crossprop("fit", mine, *ADD, "--out", "model", *options).refusal
