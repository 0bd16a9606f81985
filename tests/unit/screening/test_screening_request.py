"""Requests: what is refused before anything is loaded, what makes two of them the same, and which models they mean."""

from types import SimpleNamespace

import pytest
from saved_shares import save_share

from crossprop.errors import ModelFormatError, ScreeningError, UnknownModelError
from crossprop.screening.properties import resolve_properties
from crossprop.screening.request import ScreenRequest
from crossprop.screening.run import make_space
from crossprop.tracking import registry

BASE = {"properties": ("bulk",), "elements": ("Fe", "Al"), "out": "o"}


def test_contradictions_are_refused():
    for changes, part in (
        ({"input": "x.csv"}, "either elements"),
        ({"elements": (), "input": "x", "max_elements": 4, "fractions": 0.1}, "--max-elements and --frac"),
        ({"elements": ("Fe", "Xx")}, "'Xx' is neither"),
        ({"must_contain": ("Fe",), "exclude": ("3d-metals",)}, "Fe cannot be in --must-contain and in"),
        ({"properties": ("band gap",)}, "cannot stand in a condition"),
        ({"properties": ("µ_max",)}, "cannot stand in a condition"),
        ({"properties": ("Fe",)}, "means something else"),
        ({"properties": ("a.b", "a_b")}, "as a column of another"),
        ({"properties": ()}, "at least 1"),
        ({"properties": (" , ",)}, "no property is named"),
        ({"models": {"gap": "x"}}, "none of the properties"),
        ({"sheet": "S"}, "give it with --input"),
        ({"amounts": "weight"}, "give it with --input"),
        ({"fractions": 0.3}, "does not divide 1"),
        ({"fractions": 0.05, "max_atoms": 5}, "has no --max-atoms"),
        ({"rank": "ei", "maximize": ("bulk", "gap")}, "ranks by one property"),
        ({"rank": "value", "maximize": ("bulk", "gap")}, "take --rank pareto"),
        ({"rank": "pareto", "per_system": 1}, "leave out --per-system"),
        ({"rank": "random"}, "rank: "),
        ({"alloys": True}, "need --charge-balanced"),
        ({"oxidation_states": "wiki"}, "--oxidation-states need --charge-balanced"),
        ({"best": 200.0}, "--best, the value to beat, needs --rank ei"),
        ({"best": 200.0, "maximize": ("bulk", "gap")}, "needs --rank ei"),
        ({"memory": -1.0}, "memory: "),
        ({"colour": "red"}, "colour: "),
    ):
        with pytest.raises(ScreeningError) as error:
            ScreenRequest(**{**BASE, **changes})
        assert part in str(error.value)


def test_spelling_of_the_elements_ranking_and_machine_do_not_make_another_screening():
    same = {"elements": ("Al", "Fe"), "out": "p", "top": 3, "rank": "ei", "workers": 2, "memory": 3.0}
    identity = ScreenRequest(**BASE).identity()
    assert ScreenRequest(**{**BASE, **same}).identity() == identity
    assert ScreenRequest(**BASE, where="bulk > 1").identity() != identity


@pytest.mark.parametrize(
    ("limits", "atoms"), [({}, 10), ({"max_amount": 8}, 24), ({"max_amount": 8, "max_atoms": 12}, 12)]
)
def test_largest_formula_follows_from_the_limits_given(limits, atoms):
    assert ScreenRequest(**BASE, **limits).atoms == atoms


def test_excluded_groups_are_left_out():
    space = make_space(ScreenRequest(**{**BASE, "elements": ("3d-metals",), "exclude": ("Zn,Sc", "Cr")}))
    assert space.elements == ("Ti", "V", "Mn", "Fe", "Co", "Ni", "Cu")


def test_property_is_a_folder_or_a_registered_model(tmp_path, monkeypatch):
    folder = save_share(tmp_path / "Fe", "Fe")
    (found,) = resolve_properties(ScreenRequest(**BASE, models={"bulk": str(folder)}))
    assert (found.name, found.target, found.unit, found.coverage) == ("bulk", "share_of_fe", "%", 0.9)

    models = {"a": str(folder), "b": str(folder)}
    with pytest.raises(ScreeningError, match="are the same model"):
        resolve_properties(ScreenRequest(**{**BASE, "properties": ("a", "b")}, models=models))
    with pytest.raises(ModelFormatError, match=r"no readable model\.json"):
        resolve_properties(ScreenRequest(**BASE, models={"bulk": str(tmp_path)}))
    (folder / "model.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelFormatError, match=r"model\.json: format is missing"):
        resolve_properties(ScreenRequest(**BASE, models={"bulk": str(folder)}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"registry|registered"):
        resolve_properties(ScreenRequest(**BASE), f"sqlite:///{tmp_path}/mlflow.db")


def test_registered_model_is_found_by_its_alias(tmp_path, monkeypatch):
    def find_version(uri, name, *, alias, version):
        assert (uri, name) == ("the registry", "tiny.share_of_fe")
        if alias == "champion":
            raise UnknownModelError("No version has the alias 'champion'.")
        return SimpleNamespace(name=name, version="3")

    folder = save_share(tmp_path / "Fe", "Fe")
    monkeypatch.setattr(registry, "find_version", find_version)
    monkeypatch.setattr(registry, "predictor_folder", lambda uri, found: folder)
    request = ScreenRequest(**BASE, models={"bulk": "tiny.share_of_fe"}, alias="challenger")
    (found,) = resolve_properties(request, "the registry")
    assert (found.name, found.model, found.version) == ("bulk", "tiny.share_of_fe", "3")
    with pytest.raises(UnknownModelError, match="--model bulk=FOLDER"):
        resolve_properties(request.model_copy(update={"alias": "champion"}), "the registry")
