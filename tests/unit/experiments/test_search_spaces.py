"""Search spaces: what a method tries first, and what it may draw."""

from __future__ import annotations

import pytest

from crossprop.config import Recipe, SearchConfig
from crossprop.errors import ConfigError
from crossprop.experiments.tuning import MethodSpace, algorithm_arguments
from crossprop.methods import Method

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
    """A trial that takes the last choice or the highest number, and notes what it was asked."""

    def __init__(self, algorithm: str = "") -> None:
        self.algorithm = algorithm
        self.asked: dict[str, tuple] = {}

    def suggest_categorical(self, name, choices):
        self.asked[name] = tuple(choices)
        return self.algorithm if name == "algorithm" else choices[-1]

    def suggest_float(self, name, low, high, log):
        self.asked[name] = ("float", low, high, log)
        return high

    def suggest_int(self, name, low, high, log):
        self.asked[name] = ("int", low, high, log)
        return high


def space_of(method, search=SEARCH):
    return MethodSpace.of(method, search, RECIPE if method.architecture else None)


ARCSINH = {"target_transform": "arcsinh"}
RIDGE = {**ARCSINH, "algorithm": "ridge", "ridge.alpha": 1.0}
NEIGHBOURS = {
    **ARCSINH, "algorithm": "k_neighbors", "k_neighbors.n_neighbors": 5, "k_neighbors.weights": "distance",
}  # fmt: skip
BOOSTED = [{"algorithm": name} for name in ("hist_gradient_boosting", "extra_trees", "svr")]
LAYER = {"layer": "hidden_16"}
DRAWN, TUNED = {"learning_rate": 1e-3}, {"learning_rate": 1e-3, "epochs": 1}


@pytest.mark.parametrize(
    ("method", "defaults"),
    [
        (Method.ML, [RIDGE, NEIGHBOURS]),
        (Method.ML_FEATEXTR, [RIDGE | LAYER, NEIGHBOURS | LAYER]),
        (Method.BOOST, BOOSTED),
        (Method.BOOST_SOURCES, BOOSTED),
        (Method.DL, [DRAWN]),
        (Method.DL_FEATEXTR, [DRAWN | LAYER]),
        (Method.FREEZING, [DRAWN]),
        (Method.RESNET, [DRAWN]),
        (Method.FINETUNE, [TUNED]),
        (Method.MODFINETUNE, [TUNED]),
        (Method.RESNET_FINETUNE, [TUNED]),
    ],
)
def test_first_trials_are_the_defaults_and_feature_extraction_alone_chooses_a_layer(method, defaults):
    space = space_of(method)
    assert space.defaults() == defaults
    assert list(space.layers) == (["hidden_03", "hidden_16"] if "layer" in defaults[0] else [])


def test_network_without_a_recipe_is_refused():
    with pytest.raises(ConfigError, match="dl fits a network, but the study gives it no recipe"):
        MethodSpace.of(Method.DL, SEARCH)


def test_extension_regressors_have_a_space_of_their_own():
    extension = {
        "defaults_first": 1,
        "shared": {"target_transform": {"choices": ["identity", "arcsinh"], "default": "identity"}},
        "algorithms": {"svr": {"C": {"low": 0.3, "high": 30.0, "default": 3.0}}, "extra_trees": {}},
    }
    search = SearchConfig.model_validate(SEARCH.model_dump() | {"extension": extension})
    first = {"target_transform": "identity", "algorithm": "svr", "svr.C": 3.0}
    assert space_of(Method.BOOST, search).defaults() == [first]
    assert list(space_of(Method.ML, search).algorithms) == ["ridge", "k_neighbors", "linear"]


def test_drawn_point_holds_the_arguments_of_its_algorithm_alone():
    trial = Scripted("k_neighbors")
    point = space_of(Method.ML_FEATEXTR).suggest(trial)
    assert point == {
        "target_transform": "identity", **LAYER, "algorithm": "k_neighbors",
        "k_neighbors.n_neighbors": 9, "k_neighbors.weights": "uniform",
    }  # fmt: skip
    assert algorithm_arguments(point) == {"n_neighbors": 9, "weights": "uniform"}
    assert trial.asked["k_neighbors.n_neighbors"] == ("int", 2, 9, False)
    assert trial.asked["algorithm"] == ("ridge", "k_neighbors", "linear")
    assert "ridge.alpha" not in trial.asked
    network = Scripted()
    assert algorithm_arguments(space_of(Method.DL).suggest(network)) == {}
    assert network.asked == {"learning_rate": ("float", 1e-4, 1e-2, True)}
