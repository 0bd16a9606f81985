from __future__ import annotations

import pytest

from crossprop.config import Range, SearchConfig
from crossprop.experiments.tuning import MethodSpace, own_arguments
from crossprop.methods import Method

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "default": 1e-3}}
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
        "finetune": {"learning_rate": {**RATE["learning_rate"], "default": 5e-4}},
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


def test_defaults_of_regressors_are_one_algorithm_after_the_other():
    assert MethodSpace.of(Method.ML, SEARCH).defaults() == [
        {"target_transform": "arcsinh", "algorithm": "ridge", "ridge.alpha": 1.0},
        {
            "target_transform": "arcsinh",
            "algorithm": "k_neighbors",
            "k_neighbors.n_neighbors": 5,
            "k_neighbors.weights": "distance",
        },
    ]


def test_defaults_of_networks_are_one_point():
    assert MethodSpace.of(Method.DL, SEARCH).defaults() == [{"learning_rate": 1e-3}]
    assert MethodSpace.of(Method.FINETUNE, SEARCH).defaults() == [{"learning_rate": 5e-4}]


@pytest.mark.parametrize("method", [Method.BOOST, Method.BOOST_SOURCES])
def test_own_regressor_methods_have_a_zoo_of_their_own(method):
    own = SearchConfig.model_validate(
        SEARCH.model_dump()
        | {
            "own": {
                "defaults_first": 2,
                "shared": {"target_transform": {"choices": ["identity", "arcsinh"], "default": "identity"}},
                "algorithms": {
                    "svr": {"C": {"low": 0.3, "high": 30.0, "log": True, "default": 3.0}},
                    "hist_gradient_boosting": {},
                    "extra_trees": {},
                },
            }
        }
    )
    space = MethodSpace.of(method, own)
    assert list(space.algorithms) == ["svr", "hist_gradient_boosting", "extra_trees"]
    assert space.defaults() == [
        {"target_transform": "identity", "algorithm": "svr", "svr.C": 3.0},
        {"target_transform": "identity", "algorithm": "hist_gradient_boosting"},
    ]
    assert "svr" not in MethodSpace.of(Method.ML, own).algorithms


def test_own_zoo_without_a_section_is_all_three_with_their_defaults():
    assert MethodSpace.of(Method.BOOST, SEARCH).defaults() == [
        {"algorithm": name} for name in ("hist_gradient_boosting", "extra_trees", "svr")
    ]


@pytest.mark.parametrize("algorithm", ["ridge", "gradient_boosting"])
def test_algorithm_that_is_none_of_ours_is_refused(algorithm):
    with pytest.raises(
        ValueError, match=f"own.algorithms names {algorithm}; known are hist_gradient_boosting"
    ):
        SearchConfig.model_validate(SEARCH.model_dump() | {"own": {"algorithms": {algorithm: {}}}})


def test_boosted_trees_are_none_of_the_papers_regressors():
    with pytest.raises(
        ValueError, match=r"ml\.algorithms names hist_gradient_boosting; known are extra_trees"
    ):
        SearchConfig.model_validate(
            SEARCH.model_dump() | {"ml": {"algorithms": {"hist_gradient_boosting": {}}}}
        )


@pytest.mark.parametrize("method", [Method.ML_FEATEXTR, Method.DL_FEATEXTR])
def test_feature_extraction_chooses_its_layer_and_starts_from_the_default_one(method):
    space = MethodSpace.of(method, SEARCH)
    assert list(space.layers) == ["hidden_03", "hidden_16"]
    assert {point["layer"] for point in space.defaults()} == {"hidden_16"}


@pytest.mark.parametrize(
    "method",
    [
        Method.ML,
        Method.DL,
        Method.FINETUNE,
        Method.MODFINETUNE,
        Method.FREEZING,
        Method.BOOST,
        Method.BOOST_SOURCES,
        Method.RESNET,
        Method.RESNET_FINETUNE,
    ],
)
def test_other_methods_have_no_layer_to_choose(method):
    assert all("layer" not in point for point in MethodSpace.of(method, SEARCH).defaults())


@pytest.mark.parametrize(
    ("method", "default"),
    [
        (Method.FINETUNE, 5e-4),
        (Method.MODFINETUNE, 5e-4),
        (Method.RESNET_FINETUNE, 5e-4),
        (Method.DL, 1e-3),
        (Method.FREEZING, 1e-3),
        (Method.RESNET, 1e-3),
    ],
)
def test_only_transferred_weights_have_the_space_of_fine_tuning(method, default):
    assert MethodSpace.of(method, SEARCH).shared["learning_rate"].default == default


def test_drawn_point_holds_the_arguments_of_its_algorithm_alone():
    trial = Scripted("k_neighbors")
    drawn = MethodSpace.of(Method.ML_FEATEXTR, SEARCH).suggest(trial)
    assert drawn == {
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
    MethodSpace.of(Method.DL, SEARCH).suggest(trial)
    assert trial.asked == {"learning_rate": ("float", 1e-4, 1e-2, True)}


def test_own_arguments_lose_the_algorithms_name():
    point = {"target_transform": "arcsinh", "algorithm": "ridge", "ridge.alpha": 2.0, "ridge2.alpha": 3.0}
    assert own_arguments(point) == {"alpha": 2.0}
    assert own_arguments({"learning_rate": 0.1}) == {}


def test_space_can_start_with_fewer_algorithms_than_it_wants():
    space = MethodSpace(
        {}, {"ridge": {"alpha": Range(low=0, high=1, default=0.5)}}, (), None, defaults_first=5
    )
    assert space.defaults() == [{"algorithm": "ridge", "ridge.alpha": 0.5}]
