"""Search spaces: what a method tries first, and what it may draw."""

from __future__ import annotations

import pytest

from crossprop.config import Recipe, SearchConfig
from crossprop.errors import ConfigError
from crossprop.experiments.tuning import MethodSpace, algorithm_arguments
from crossprop.methods import Method, Side

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
RECIPE = Recipe(epochs=1, batch_size=2, learning_rate=1e-3)
SEARCH = SearchConfig.model_validate(
    {
        "ml": {
            "defaults_first": 2,
            "shared": {"target_transform": {"choices": ["arcsinh", "identity"], "default": "arcsinh"}},
            "algorithms": {
                "ridge": {"alpha": {"low": 0.1, "high": 10.0, "default": 1.0}},
                "k_neighbors": {
                    "n_neighbors": {"low": 2, "high": 9, "integer": True, "default": 5},
                    "weights": {"choices": ["distance", "uniform"], "default": "distance"},
                },
                "linear": {},
            },
        },
        "dl": RATE,
        "finetune": {**RATE, "epochs": {"low": 1, "high": 9, "integer": True}},
        "layers": ["hidden_03", "hidden_16"],
        "default_layer": "hidden_16",
    }
)


class Scripted:
    """A trial that takes what it is told, and notes what it was asked."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.asked: dict[str, tuple] = {}

    def suggest_categorical(self, name, choices):
        self.asked[name] = ("choice", *choices)
        return self.algorithm if name == "algorithm" else choices[-1]

    def suggest_float(self, name, low, high, log):
        self.asked[name] = ("float", low, high, log)
        return high

    def suggest_int(self, name, low, high, log):
        self.asked[name] = ("int", low, high, log)
        return high


def space_of(method, search=SEARCH):
    return MethodSpace.of(method, search, RECIPE if method.architecture else None)


def test_defaults_of_regressors_are_one_algorithm_after_the_other():
    assert space_of(Method.ML).defaults() == [
        {"target_transform": "arcsinh", "algorithm": "ridge", "ridge.alpha": 1.0},
        {
            "target_transform": "arcsinh",
            "algorithm": "k_neighbors",
            "k_neighbors.n_neighbors": 5,
            "k_neighbors.weights": "distance",
        },
    ]


@pytest.mark.parametrize("method", [method for method in Method if method.architecture])
def test_defaults_of_networks_are_the_values_of_their_recipe(method):
    (first,) = space_of(method).defaults()
    first.pop("layer", None)
    assert first == {"learning_rate": 1e-3, **({"epochs": 1} if method.starts_from_source else {})}


def test_network_without_a_recipe_is_refused():
    with pytest.raises(ConfigError, match="dl fits a network, but the study gives it no recipe"):
        MethodSpace.of(Method.DL, SEARCH)


@pytest.mark.parametrize("method", [Method.BOOST, Method.BOOST_SOURCES])
def test_extension_regressors_have_a_space_of_their_own(method):
    assert space_of(method).defaults() == [
        {"algorithm": name} for name in ("hist_gradient_boosting", "extra_trees", "svr")
    ]
    extension = {
        "defaults_first": 1,
        "shared": {"target_transform": {"choices": ["identity", "arcsinh"], "default": "identity"}},
        "algorithms": {"svr": {"C": {"low": 0.3, "high": 30.0, "default": 3.0}}, "extra_trees": {}},
    }
    search = SearchConfig.model_validate(SEARCH.model_dump() | {"extension": extension})
    assert space_of(method, search).defaults() == [
        {"target_transform": "identity", "algorithm": "svr", "svr.C": 3.0}
    ]
    assert list(space_of(Method.ML, search).algorithms) == ["ridge", "k_neighbors", "linear"]


@pytest.mark.parametrize(
    ("section", "algorithm"),
    [("extension", "ridge"), ("extension", "gradient_boosting"), ("ml", "hist_gradient_boosting")],
)
def test_algorithm_that_a_section_does_not_know_is_refused(section, algorithm):
    with pytest.raises(ValueError, match=rf"{section}\.algorithms names {algorithm}; known are "):
        SearchConfig.model_validate(SEARCH.model_dump() | {section: {"algorithms": {algorithm: {}}}})


@pytest.mark.parametrize(
    "method", [method for method in Method if method.side not in (Side.BASE, Side.BLEND)]
)
def test_feature_extraction_alone_chooses_a_layer_and_starts_from_the_default_one(method):
    space = space_of(method)
    chooses = method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
    assert list(space.layers) == (["hidden_03", "hidden_16"] if chooses else [])
    assert {point.get("layer") for point in space.defaults()} == {"hidden_16" if chooses else None}


def test_drawn_point_holds_the_arguments_of_its_algorithm_alone():
    trial = Scripted("k_neighbors")
    assert space_of(Method.ML_FEATEXTR).suggest(trial) == {
        "target_transform": "identity",
        "layer": "hidden_16",
        "algorithm": "k_neighbors",
        "k_neighbors.n_neighbors": 9,
        "k_neighbors.weights": "uniform",
    }
    assert trial.asked["k_neighbors.n_neighbors"] == ("int", 2, 9, False)
    assert trial.asked["algorithm"] == ("choice", "ridge", "k_neighbors", "linear")
    assert "ridge.alpha" not in trial.asked


def test_logarithmic_range_is_drawn_logarithmically():
    trial = Scripted("")
    space_of(Method.DL).suggest(trial)
    assert trial.asked == {"learning_rate": ("float", 1e-4, 1e-2, True)}


def test_algorithms_arguments_lose_the_algorithms_name():
    point = {"target_transform": "arcsinh", "algorithm": "ridge", "ridge.alpha": 2.0, "ridge2.alpha": 3.0}
    assert algorithm_arguments(point) == {"alpha": 2.0}
    assert algorithm_arguments({"learning_rate": 0.1}) == {}
