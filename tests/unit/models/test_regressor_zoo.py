"""The paper's twelve regressors and boosted trees: what they are, and that each can be saved, trusted and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.pipeline import Pipeline

from crossprop.config import RegressorSpace, Space
from crossprop.errors import ConfigError
from crossprop.methods import EXTENSION_REGRESSORS, REGRESSORS
from crossprop.models.fitted import FittedModel
from crossprop.models.regressors import SCALE_SENSITIVE, algorithms, build_regressor
from crossprop.training.trainer import fit_regressor

ROOT = Path(__file__).resolve().parents[3]
SEARCH = yaml.safe_load((ROOT / "conf" / "search" / "default.yaml").read_text())
PAPER, EXTENSION = (RegressorSpace.model_validate(SEARCH[section]) for section in ("ml", "extension"))
SPACES = [
    pytest.param(name, space, id=f"{section}-{name}")
    for section, zoo in (("ml", PAPER), ("extension", EXTENSION))
    for name, space in zoo.algorithms.items()
]


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).random((120, 6)).astype(np.float32)
    return x, 3 * x[:, 0] - x[:, 1] ** 2


def corners(space: Space) -> list[dict[str, object]]:
    """Default, lowest and highest hyperparameters of an algorithm's space, and every choice once."""
    defaults = {key: r.default for key, r in space.items()}

    def end(name: str) -> dict[str, object]:
        return {
            key: (
                r.choices[0 if name == "low" else -1] if r.choices else _number(getattr(r, name), r.integer)
            )
            for key, r in space.items()
        }

    each = [{**defaults, key: choice} for key, r in space.items() for choice in r.choices or ()]
    return [defaults, end("low"), end("high"), *each]


def _number(value: float, integer: bool) -> float | int:
    return int(value) if integer else value


def test_zoo_is_the_papers_twelve_and_boosted_trees():
    assert set(algorithms()) == {*REGRESSORS, *EXTENSION_REGRESSORS}
    assert len(REGRESSORS) == 12
    assert set(EXTENSION_REGRESSORS) - set(REGRESSORS) == {"hist_gradient_boosting"}
    assert set(PAPER.algorithms) == set(REGRESSORS)
    assert set(EXTENSION.algorithms) == set(EXTENSION_REGRESSORS)


@pytest.mark.parametrize("algorithm", sorted(algorithms()))
def test_algorithm_is_its_scikit_learn_class_and_is_standardised_where_it_needs_to_be(algorithm):
    built = build_regressor(algorithm, {}, seed=5)
    assert isinstance(built, Pipeline) == (algorithm in SCALE_SENSITIVE)
    estimator = built[-1] if isinstance(built, Pipeline) else built
    assert type(estimator).__name__.lower().startswith(algorithm.replace("_", ""))
    assert estimator.get_params().get("random_state", 5) == 5


@pytest.mark.parametrize("algorithm", sorted(algorithms()))
def test_same_seed_gives_the_same_predictions(algorithm, data):
    x, y = data
    first, second = (build_regressor(algorithm, {}, seed=3).fit(x, y).predict(x) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("algorithm", "space"), SPACES)
def test_saved_regressor_is_trusted_and_predicts_the_same(algorithm, space, data, tmp_path):
    x, y = data
    for i, hyperparameters in enumerate(corners(space)):
        model = fit_regressor(algorithm, hyperparameters, x, y, seed=1)
        model.save(tmp_path / str(i))
        loaded = FittedModel.load(tmp_path / str(i))
        np.testing.assert_allclose(
            loaded.predict(x), model.predict(x), rtol=2e-6, atol=2e-6, err_msg=str(hyperparameters)
        )


@pytest.mark.parametrize("kind", ["arcsinh", "identity"])
@pytest.mark.parametrize("algorithm", EXTENSION_REGRESSORS)
def test_extension_regressors_learn_a_simple_rule_in_both_scales(algorithm, kind):
    x = np.random.default_rng(3).random((300, 5)).astype(np.float32)
    y = 20 * x[:, 2].astype(float) - 5
    model = fit_regressor(algorithm, {}, x[:200], y[:200], seed=1, transform=kind)
    assert np.abs(model.predict(x[200:]) - y[200:]).mean() < 0.3 * np.abs(y[200:] - np.median(y)).mean()


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("width", [2, 40])
def test_neighbours_are_trusted_as_a_tree_and_by_brute_force(p, width, tmp_path):
    x = np.random.default_rng(1).random((150, width)).astype(np.float32)
    model = fit_regressor("k_neighbors", {"p": p, "n_neighbors": 2}, x, x[:, 0].astype(float), seed=1)
    model.save(tmp_path)
    assert np.array_equal(FittedModel.load(tmp_path).predict(x), model.predict(x))


def test_constant_feature_is_no_reason_to_fail():
    x = np.c_[np.ones(30), np.arange(30)].astype(np.float32)
    predicted = fit_regressor(
        "ridge", {"alpha": 1e-6}, x, np.arange(30.0), seed=1, transform="identity"
    ).predict(x)
    assert predicted == pytest.approx(np.arange(30.0), abs=1e-3)


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "message"),
    [
        ("gradient_boosting", {}, r"holds 'gradient_boosting'; known are adaboost, bagging"),
        ("ridge", {"n_neighbors": 3}, r"search\.ml\.algorithms\.ridge: .*n_neighbors"),
    ],
)
def test_unknown_algorithm_or_hyperparameter_is_refused(algorithm, hyperparameters, message):
    with pytest.raises(ConfigError, match=message):
        build_regressor(algorithm, hyperparameters, seed=1)


def test_fixed_settings_and_the_depth_of_adaboosts_trees():
    boosted = build_regressor("hist_gradient_boosting", {"max_iter": 7}, seed=1)
    assert (boosted.loss, boosted.early_stopping, boosted.max_iter) == ("absolute_error", False, 7)
    given = {"max_depth": 4}
    assert build_regressor("adaboost", given, seed=1).estimator.max_depth == 4
    assert given == {"max_depth": 4}
