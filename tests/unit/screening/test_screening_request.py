"""Requests: what is refused before anything is loaded, and what makes two of them the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from saved_shares import save_share

from crossprop.errors import ScreeningError
from crossprop.screening.properties import resolve_properties
from crossprop.screening.request import ScreenRequest
from crossprop.screening.run import make_space

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
        ({"properties": ("bulk", "bulk_lower")}, "as a column of another"),
        ({"properties": ("a.b", "a_b")}, "as a column of another"),
        ({"properties": ("rank",)}, "means something else"),
        ({"properties": ()}, "at least 1"),
        ({"properties": (" , ",)}, "no property is named"),
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


def test_property_is_a_folder_or_a_registered_model(tmp_path, monkeypatch):
    folder = save_share(tmp_path / "Fe", "Fe")
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


def test_registered_model_is_found_by_its_alias(tmp_path, monkeypatch):
    from crossprop.errors import UnknownModelError
    from crossprop.tracking import registry

    version = SimpleNamespace(name="tiny.share_of_fe", version="3")
    asked = []

    def find_version(uri, name, *, alias):
        asked.append((uri, name, alias))
        if alias == "champion":
            raise UnknownModelError("No version has the alias 'champion'.")
        return version

    folder = save_share(tmp_path / "Fe", "Fe")
    monkeypatch.setattr(registry, "find_version", find_version)
    monkeypatch.setattr(registry, "predictor_folder", lambda uri, found: folder)
    request = ScreenRequest.of(**BASE, models={"bulk": "tiny.share_of_fe"}, alias="challenger")
    (found,) = resolve_properties(request, "the registry")
    assert (found.name, found.model, found.version) == ("bulk", "tiny.share_of_fe", "3")
    assert asked == [("the registry", "tiny.share_of_fe", "challenger")]
    with pytest.raises(UnknownModelError, match="--model bulk=FOLDER"):
        resolve_properties(ScreenRequest.of(**BASE), "the registry")
