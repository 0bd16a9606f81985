"""Requests: what is refused before anything is loaded, and what makes two of them the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from crossprop.errors import ScreeningError
from crossprop.screening.listed import read_formulas
from crossprop.screening.prepare import make_space
from crossprop.screening.properties import resolve_properties
from crossprop.screening.request import ScreenRequest

BASE = {"properties": ("bulk",), "elements": ("Fe", "Al"), "out": "o"}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"elements": ()}, "either elements"),
        ({"input": "x.csv"}, "either elements"),
        ({"elements": (), "input": "x.csv", "exclude": ("Fe",)}, "for a file write a condition"),
        (
            {"elements": (), "input": "x.csv", "max_elements": 4, "fractions": 0.1},
            "--max-elements and --fractions",
        ),
        ({"elements": ("Fe", "Xx")}, "'Xx' is neither"),
        ({"elements": ("fe",)}, "Did you mean Fe?"),
        (
            {"must_contain": ("Fe",), "exclude": ("3d-metals",)},
            "Fe cannot be in --must-contain and in --exclude",
        ),
        ({"properties": ("band gap",)}, "cannot stand in a condition"),
        ({"properties": ("3d",)}, "--model NAME=3d"),
        ({"properties": ("import",)}, "cannot stand in a condition"),
        ({"properties": ("Fe",)}, "means something else"),
        ({"properties": ("n_elements",)}, "means something else"),
        ({"properties": ("bulk", "bulk")}, "named twice"),
        ({"properties": ()}, "at least 1"),
        ({"models": {"gap": "x"}}, "none of the properties"),
        ({"fractions": 0.3}, "does not divide 1"),
        ({"fractions": 0.05, "max_atoms": 5}, "has no --max-atoms"),
        ({"rank": "ei", "maximize": ("bulk", "gap")}, "ranks by one property"),
        ({"rank": "value", "maximize": ("bulk", "gap")}, "take --rank pareto"),
        ({"rank": "random"}, "rank: "),
        ({"alloys": True}, "add --charge-balanced"),
        ({"oxidation_states": "mine"}, "icsd24"),
        ({"top": 0}, "top: "),
        ({"best": float("nan")}, "best: "),
        ({"memory": -1.0}, "memory: "),
        ({"colour": "red"}, "colour: "),
    ],
)
def test_contradictions_are_refused(changes, part):
    with pytest.raises(ScreeningError) as error:
        ScreenRequest.of(**{**BASE, **changes})
    assert part in str(error.value)


def test_spelling_of_the_elements_ranking_and_machine_do_not_make_another_screening():
    one = ScreenRequest.of(**BASE)
    other = ScreenRequest.of(
        **{**BASE, "elements": ("Al", "Fe"), "out": "p", "top": 3, "rank": "ei", "workers": 2, "memory": 3.0}
    )
    assert one.identity() == other.identity()
    assert one.identity() != ScreenRequest.of(**{**BASE, "where": "bulk > 1"}).identity()


def test_largest_formula_follows_from_the_limits_given():
    assert ScreenRequest.of(**BASE).atoms == 10
    assert ScreenRequest.of(**BASE, max_amount=8, max_elements=3).atoms == 24
    assert ScreenRequest.of(**BASE, max_amount=8, max_atoms=12).atoms == 12


def test_excluded_groups_are_left_out():
    space = make_space(ScreenRequest.of(**{**BASE, "elements": ("3d-metals",), "exclude": ("Zn,Sc", "Cr")}))
    assert space.elements == ("Ti", "V", "Mn", "Fe", "Co", "Ni", "Cu")


def test_property_is_a_folder_or_a_registered_model(tmp_path, saved_model, monkeypatch):
    folder = saved_model("Fe")
    request = ScreenRequest.of(**BASE, models={"bulk": str(folder)})
    (found,) = resolve_properties(request)
    assert (found.name, found.target, found.unit, found.coverage) == ("bulk", "share_of_fe", "%", 0.9)

    twice = ScreenRequest.of(
        properties=("a", "b"), elements=("Fe", "O"), out="o", models={"a": str(folder), "b": str(folder)}
    )
    with pytest.raises(ScreeningError, match="are the same model"):
        resolve_properties(twice)
    with pytest.raises(ScreeningError, match=r"no model\.json"):
        resolve_properties(ScreenRequest.of(**BASE, models={"bulk": str(tmp_path)}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"registry|registered"):
        resolve_properties(ScreenRequest.of(**BASE), f"sqlite:///{tmp_path}/mlflow.db")


def test_registered_model_is_found_by_its_alias(saved_model, monkeypatch):
    from crossprop.errors import UnknownModelError
    from crossprop.tracking import registry

    version = SimpleNamespace(name="tiny.share_of_fe", version="3")
    asked = []

    def find_version(uri, name, *, alias):
        asked.append((uri, name, alias))
        if alias == "champion":
            raise UnknownModelError("No version has the alias 'champion'.")
        return version

    folder = saved_model("Fe")
    monkeypatch.setattr(registry, "find_version", find_version)
    monkeypatch.setattr(registry, "predictor_folder", lambda uri, found: folder)
    request = ScreenRequest.of(**BASE, models={"bulk": "tiny.share_of_fe"}, alias="challenger")
    (found,) = resolve_properties(request, "the registry")
    assert (found.name, found.model, found.version) == ("bulk", "tiny.share_of_fe", "3")
    assert asked == [("the registry", "tiny.share_of_fe", "challenger")]
    with pytest.raises(UnknownModelError, match="--model bulk=FOLDER"):
        resolve_properties(ScreenRequest.of(**BASE), "the registry")


def test_list_of_formulas_from_a_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "name,Formula\na,Fe2O3\nb,Fe4O6\nc,water\nd,Al0.5Fe0.5\ne,AlFe\n,\nf,He2\n", encoding="utf-8"
    )
    space = read_formulas(path)
    assert space.block(0, 10).formulas() == ["Fe2O3", "Al0.5Fe0.5"]
    assert (space.total, space.repeated, space.n_bad) == (2, 2, 2)
    assert space.bad[0].startswith("line 4: ")
    assert "He" in space.bad[1]


def test_plain_list_and_files_that_are_none(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("NaCl\n\n  MgO\n", encoding="utf-8")
    assert read_formulas(path).block(0, 5).formulas() == ["NaCl", "MgO"]
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ScreeningError, match="none is called 'formula'"):
        read_formulas(path)
    path.write_text("water\n", encoding="utf-8")
    with pytest.raises(ScreeningError, match="holds no formula"):
        read_formulas(path)
    path.write_bytes(b"\x1f\x8b\x08\x00\x01")
    with pytest.raises(ScreeningError, match="a gzip archive"):
        read_formulas(path)
    with pytest.raises(ScreeningError, match="There is no file"):
        read_formulas(tmp_path / "gone.csv")


def test_formulas_of_a_file_are_kept_as_they_are_written(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("formula\nOsB2\nFe₂O₃\n(NH4)2SO4\nFe4O6\nB4Os2\n", encoding="utf-8")
    space = read_formulas(path)
    assert space.block(0, 9).formulas() == ["OsB2", "Fe₂O₃", "(NH4)2SO4"]
    assert space.block(1, 3)[np.array([False, True])].formulas() == ["(NH4)2SO4"]
    assert space.repeated == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_separator_and_encoding_of_a_file_are_found(tmp_path, sign, encoding):
    path = tmp_path / "list.csv"
    path.write_text(f"name{sign}Formula\r\nµ{sign}NaCl\r\nb{sign}MgO\r\n", encoding=encoding)
    assert read_formulas(path).block(0, 9).formulas() == ["NaCl", "MgO"]


def test_open_quotation_mark_does_not_swallow_the_rest_of_a_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('formula\nNaCl\n"Fe2O3\nAl2O3\nMgO\n', encoding="utf-8")
    with pytest.raises(ScreeningError, match="line 3: a quotation mark is opened"):
        read_formulas(path)
