"""What people type, at every door that takes it: the right value, a note, or a refusal that names the cause."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from fake_service import FakeSource
from mlflow.exceptions import MlflowException
from registries import save_ridge
from starlette.testclient import TestClient
from typer.testing import CliRunner
from waiting import until

from crossprop import CrossPropertyRegressor
from crossprop.cli import app
from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ConfigError, CrosspropError
from crossprop.inference.predictor import ServedModel
from crossprop.inference.pyfunc import FormulaModel
from crossprop.screening.space import read_formulas
from crossprop.service.app import create_app
from crossprop.service.settings import ServiceSettings


@dataclass
class Case:
    """Formulas, and what is right: a value (of ``word``, a formula of atoms), a note or a refusal that holds it.

    ``flagged`` is either of the two. ``doors`` are those that take such an input, all of them if empty.
    """

    texts: list[Any]
    right: str
    word: str
    amounts: str = "atomic"
    doors: tuple[str, ...] = ()


WEIGHTS = ("arguments", "pipe", "csv", "excel", "http")
FORMULAS = [
    Case(["LiFeP04"], "refused", "begins with zero"),
    Case(["Fe203"], "note", "'Fe2O3'"),
    Case(["Fe(III)2O3"], "refused", "oxidation state"),
    Case(["BaO.6Fe2O3"], "refused", "adduct"),
    Case(["BaO·6Fe2O3"], "value", "BaFe12O19"),
    Case(["INSB"], "note", "'InSb'"),
    Case(["INSB", "CUINS2", "NBSI2", "SIC", "INP"], "flagged", "'InSb'"),
    Case(["BN", "KI", "KF", "UO2", "H2O"], "value", "BN"),
    Case(["Ti-6Al-4V"], "refused", "'weight'"),
    Case(["Ti6Al4V"], "refused", "'weight'"),
    Case(["IN718"], "refused", "'weight'"),
    Case(["Ti90Al6V4"], "value", "Ti86.20444Al10.195485V3.6000754", "weight", WEIGHTS),
    Case(["Ti-6Al-4V"], "value", "Ti86.20444Al10.195485V3.6000754", "weight", WEIGHTS),
    Case(["Al6V4"], "refused", "sum to 10", "weight", WEIGHTS),
    Case(["La2-xSrxCuO4"], "refused", "variable 'x'"),
    Case(["La0.7Sr0.3MnO3-d"], "refused", "variable 'd'"),
    Case(["0.5Li2O-0.5P2O5"], "refused", "mixture"),
    Case(["Fe9e-05Ni0.99991"], "refused", "exponent"),
    Case(["Fe0,5Ni0,5"], "refused", "decimal comma"),
    Case(["PbTe Bi2Te3 SnSe"], "refused", "several formulas"),
    Case(["TiO2-rutile"], "refused", "'-rutile'"),
    Case(["TiO2 (rutile)"], "refused", "annotation"),
    Case(["Fe₂O₃"], "value", "Fe2O3"),
    Case([{"Pb": 1, "Te": -1}], "refused", "negative", doors=("estimator",)),
]


@dataclass
class Seen:
    """How a door answered: a value or none, and what it said."""

    value: float | None
    said: str = ""

    @property
    def kind(self):
        """``value``, ``note`` or ``refused``."""
        doubted = "meant" in self.said or "doubtful" in self.said
        return "refused" if self.value is None else "note" if doubted else "value"


def command(*arguments, stdin=None):
    """The command ``crossprop``; an error that it would print is its text."""
    done = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
    if done.exception is not None and not isinstance(done.exception, CrosspropError | SystemExit):
        raise done.exception
    return done


def predicted(model, *arguments, stdin=None):
    """The first row of ``crossprop predict``."""
    done = command("predict", model, *arguments, "--format", "json", stdin=stdin)
    if isinstance(done.exception, CrosspropError):
        return Seen(None, str(done.exception))
    row = json.loads(done.stdout)[0]
    return Seen(row["value"], row["note"] or row["error"])


def write_table(path, rows):
    """A workbook, or a CSV file."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".xlsx":
        frame.to_excel(path, index=False, header=False)
    else:
        frame.to_csv(path, index=False, header=False)
    return path


@dataclass
class Doors:
    """The doors to one tiny model in a folder."""

    folder: Path
    client: TestClient

    @property
    def model(self):
        return self.folder / "model"

    def rows_of(self, case):
        """A table of the formulas; a small letter where they are not a column of capitals."""
        more = [] if len(case.texts) > 1 else ["NaCl", "MgO"]
        return [["id", "formula"], *([str(i), text] for i, text in enumerate([*case.texts, *more]))]

    def arguments(self, case):
        return predicted(self.model, "--amounts", case.amounts, *case.texts)

    def pipe(self, case):
        given = "".join(f"{text}\n" for text in case.texts)
        return predicted(self.model, "-", "--amounts", case.amounts, stdin=given.encode())

    def csv(self, case, name="x.csv"):
        path = write_table(self.folder / name, self.rows_of(case))
        return predicted(self.model, "--input", path, "--amounts", case.amounts)

    def excel(self, case):
        return self.csv(case, "x.xlsx")

    def estimator(self, case):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                value = CrossPropertyRegressor.load(self.model).predict(case.texts)[0]
            except CrosspropError as error:
                return Seen(None, str(error))
        return Seen(float(value), " ".join(str(one.message) for one in told))

    def http(self, case):
        body = {"formulas": case.texts, "properties": ["deltae"], "amounts": case.amounts}
        result = self.client.post("/v1/predict", json=body).json()["results"][0]
        if result["error"] is not None:
            return Seen(None, result["error"]["message"])
        row = result["predictions"]["deltae"]
        return Seen(row["value"], row["note"])

    def screening(self, case):
        path = self.folder / "list.txt"
        path.write_text("".join(f"{text}\n" for text in case.texts), encoding="utf-8")
        try:
            space = read_formulas(path)
        except CrosspropError as error:
            return Seen(None, str(error))
        served = ServedModel.load(self.model).predict(space.block(0, 1).fractions())
        return Seen(float(served.value[0]), " ".join(space.notes))

    def pyfunc(self, case):
        context = SimpleNamespace(artifacts={"predictor": str(self.model)})
        try:
            model = FormulaModel()
            model.load_context(context)
            row = model.predict(context, pd.DataFrame({"formula": case.texts})).iloc[0]
        except MlflowException as error:
            return Seen(None, str(error) if error.error_code == "INVALID_PARAMETER_VALUE" else error.error_code)
        return Seen(float(row["value"]), row["note"])


DOORS = ("arguments", "pipe", "csv", "excel", "estimator", "http", "screening", "pyfunc")


def wrong(doors, case, door):
    """What is wrong with a door's answer; empty where it is right."""
    seen: Seen = getattr(doors, door)(case)
    if case.right == "value":
        expected = ServedModel.load(doors.model).predict(fraction_matrix([case.word])).value[0]
        good = seen.value == pytest.approx(expected, rel=1e-6) and seen.kind == "value"
    else:
        kinds = {"flagged": ("note", "refused")}.get(case.right, (case.right,))
        good = seen.kind in kinds and case.word in seen.said
    return "" if good else f"{door}, {case.texts}: {case.right} {case.word!r} expected, got {seen}"


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """A tiny ridge, saved once, and a service that answers with it."""
    folder = tmp_path_factory.mktemp("doors")
    save_ridge(folder / "model", target="deltae", study="jarvis")
    source = FakeSource(folder / "registry")
    source.add("deltae")
    settings = ServiceSettings(poll_seconds=0.05)
    service = create_app(settings, source, lambda _: ServedModel.load(folder / "model"))
    with TestClient(service, base_url="http://localhost") as client:
        until(lambda: service.state.service.polled)
        until(lambda: all(p.status[0] != "loading" for p in service.state.service.cache.properties.values()))
        yield Doors(folder, client)


@pytest.mark.parametrize("case", FORMULAS, ids=lambda case: f"{case.texts[0]}-{case.amounts}")
def test_a_formula_is_answered_alike_at_every_door(doors, case):
    assert not [fault for door in case.doors or DOORS if (fault := wrong(doors, case, door))]


METALS, ANIONS = ("Pb", "Sn", "Ge", "Zn", "Cd", "Hg", "Mg"), ("Te", "Se", "S", "O")
COMPOUNDS = [f"{metal}{anion}" for metal in METALS for anion in ANIONS]


@dataclass
class Table:
    """A file with a row for each compound, what is right, and the options it is read with.

    ``row`` gives the cells of the i-th compound. ``right`` is a function of i that gives the value, or what the refusal
    or note says. ``composition`` gives the composition's formula in weight percent where there is no formula.
    """

    name: str
    header: str
    row: Callable[[int, str], str]
    right: Callable[[int], float] | str
    options: tuple[str, ...] = ()
    unit: str = "none"
    composition: Callable[[int], str] | None = None
    noted: bool = False


TABLES = [
    Table("2.07 x 1000", "formula,hardness", lambda i, f: f"{f},{i}.07 x 1000", lambda i: 1000 * i + 70),
    Table(
        "1.037 beside 907,5",
        "formula;hardness",
        lambda i, f: f"{f};{i + 1}.037" if i > 1 else f"{f};90{i},5",
        lambda i: 1000 * i + 1037 if i > 1 else 900.5 + i,
        options=("--decimal", ","),
    ),
    Table(
        "hardness (GPa)", "formula,hardness (GPa)", lambda i, f: f"{f},{i}.5", "'GPa'", unit="MPa",
        options=("--value-column", "hardness (GPa)"),
    ),
    Table("cells in GPa", "formula,hardness", lambda i, f: f"{f},{i}.5 GPa", "'GPa'", unit="MPa"),
    Table(
        "log10(hardness)", "formula,log10(hardness)", lambda i, f: f"{f},{i}.5", "logarithm", unit="GPa",
        options=("--value-column", "log10(hardness)"),
    ),
    Table(
        "steel without iron", "C,Si,Mn,hardness", lambda i, f: f"0.{i + 10},0.2,0.3,{i}", "main element",
        options=("--element-columns", "weight"),
    ),
    Table(
        "steel, iron blank", "Fe,C,Si,hardness", lambda i, f: f",0.{i + 10},0.2,{i}", "main element",
        options=("--element-columns", "weight"),
    ),
    Table(
        "steel, iron bal.", "Fe (wt%),C (wt%),Si (wt%),hardness", lambda i, f: f"bal.,0.{i + 10},0.2,{i}",
        lambda i: i, options=("--element-columns", "weight"),
        composition=lambda i: f"Fe{99.8 - (i + 10) / 100:.2f}C0.{i + 10}Si0.2",
    ),
    Table(
        "weight read as atomic", "Fe (wt%),C (wt%),hardness", lambda i, f: f"99.{i + 10},0.5,{i}",
        "weight, not atomic", options=("--element-columns", "atomic"),
    ),
    Table(
        "formulas in weight percent", "formula,hardness", lambda i, f: f"Ti{90 - i}Al{6 + i}V4,{i}", lambda i: i,
        options=("--amounts", "weight"), composition=lambda i: f"Ti{90 - i}Al{6 + i}V4",
    ),
    Table("ids #0, #4", "id,formula,hardness", lambda i, f: f"{'#' * (i % 4 == 0)}{i},{f},{i}.5", lambda i: i + 0.5),
    Table("-999", "formula,hardness", lambda i, f: f"{f},{-999 if i % 6 == 0 else i}", "values are -999", noted=True),
    Table(
        "ID,FORMULA,PROPERTY", "ID,FORMULA,PROPERTY: hardness of it", lambda i, f: f"{i},{f},{i}.5",
        lambda i: i + 0.5, options=("--value-column", "PROPERTY: hardness of it"),
    ),
    Table("two of one name", "formula,hardness (GPa),hardness (HV)", lambda i, f: f"{f},{i},{9 * i}", "--value-column"),
]  # fmt: skip


def read_by_add(path, table):
    """Rows that ``crossprop data add`` stored, and what it said."""
    options = (*table.options, "--unit", table.unit, "--name", "mine", "--replace", "--yes")
    done = command("data", "add", path, "--target", "hardness", *options)
    if isinstance(done.exception, CrosspropError):
        return None, str(done.exception)
    parts = [pd.read_csv(f"own/mine/{name}.csv", keep_default_na=False) for name in ("train", "test")]
    return pd.concat(parts).sort_values("line"), done.stdout


def read_by_fit(path, table):
    """Rows that ``crossprop fit`` would learn from, and what it said."""
    with patch("crossprop.estimator.fit.run_fit", side_effect=ConfigError("enough")) as run_fit:
        options = (*table.options, "--unit", "" if table.unit == "none" else table.unit)
        done = command("fit", path, "--target", "hardness", "--out", "out", *options)
    if not run_fit.called:
        return None, str(done.exception)
    return run_fit.call_args.args[0], done.stdout + done.stderr


READERS = {
    f"{command} ({kind})": (read, kind)
    for command, read in (("data add", read_by_add), ("fit", read_by_fit))
    for kind in ("csv", "xlsx")
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_read_alike_by_every_command(tmp_path, monkeypatch, table, reader):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    Path("dvc.yaml").write_text("stages: {}\n")
    read, kind = READERS[reader]
    lines = [table.header, *(table.row(i, f) for i, f in enumerate(COMPOUNDS))]
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        write_table(path, [line.split(";" if ";" in table.header else ",") for line in lines])
    rows, said = read(path, table)
    if isinstance(table.right, str):
        assert table.right in said
        assert (rows is not None) == table.noted
        return
    assert rows is not None, said
    assert rows["value"].tolist() == pytest.approx([table.right(i) for i in range(len(COMPOUNDS))])
    expected = fraction_matrix(COMPOUNDS)
    if table.composition is not None:
        expected = fraction_matrix([table.composition(i) for i in range(len(COMPOUNDS))], amounts="weight")
    assert (composition_keys(fraction_matrix(rows["formula"])) == composition_keys(expected)).all()
