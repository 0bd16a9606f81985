"""The paper's twelve regressors and boosted trees: what they are, and that each can be saved, trusted and loaded."""

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


X = np.random.default_rng(0).random((120, 6)).astype(np.float32)
Y = 3 * X[:, 0] - X[:, 1] ** 2


def corners(space: Space) -> list[dict[str, object]]:
    """Default, lowest and highest hyperparameters of an algorithm's space, and every choice once."""

    def end(place):
        ends = {k: r.choices or (r.low, r.high) for k, r in space.items()}
        return {k: int(e[place]) if space[k].integer else e[place] for k, e in ends.items()}

    defaults = {key: r.default for key, r in space.items()}
    chosen = [defaults | {key: c} for key, r in space.items() for c in r.choices or ()]
    return [defaults, end(0), end(-1), *chosen]


def test_zoo_is_the_papers_twelve_and_boosted_trees():
    assert set(algorithms()) == {*REGRESSORS, *EXTENSION_REGRESSORS}
    assert len(REGRESSORS) == 12
    assert set(EXTENSION_REGRESSORS) - set(REGRESSORS) == {"hist_gradient_boosting"}
    assert set(PAPER.algorithms) == set(REGRESSORS)
    assert set(EXTENSION.algorithms) == set(EXTENSION_REGRESSORS)


@pytest.mark.parametrize("algorithm", sorted(algorithms()))
def test_algorithm_is_its_scikit_learn_class_standardised_where_needed_and_seeded(algorithm):
    built = build_regressor(algorithm, {}, seed=5)
    assert isinstance(built, Pipeline) == (algorithm in SCALE_SENSITIVE)
    estimator = built[-1] if isinstance(built, Pipeline) else built
    assert type(estimator).__name__.lower().startswith(algorithm.replace("_", ""))
    assert estimator.get_params().get("random_state", 5) == 5
    first, second = (build_regressor(algorithm, {}, seed=3).fit(X, Y).predict(X) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("algorithm", "space"), SPACES)
def test_saved_regressor_is_trusted_and_predicts_the_same(algorithm, space, tmp_path):
    for i, hyperparameters in enumerate(corners(space)):
        model = fit_regressor(algorithm, hyperparameters, X, Y, seed=1)
        model.save(tmp_path / str(i))
        # nearest neighbours alone have no portable form
        assert (tmp_path / str(i) / "member.npz").is_file() == (algorithm != "k_neighbors")
        got, expected = FittedModel.load(tmp_path / str(i)).predict(X), model.predict(X)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=str(hyperparameters))


def test_boosted_trees_learn_where_most_values_are_equal():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 4))
    values = np.where(x[:, 1] < 0.5, 0, 1 + np.abs(x[:, 0]))  # about 70 % are zero
    model = fit_regressor("hist_gradient_boosting", {}, x[:900], values[:900], seed=1)
    of_median = np.abs(values[900:]).mean()
    assert np.abs(model.predict(x[900:]) - values[900:]).mean() < 0.2 * of_median


def test_unknown_hyperparameter_is_refused():
    with pytest.raises(ConfigError, match=r"search\.ml\.algorithms\.ridge: .*n_neighbors"):
        build_regressor("ridge", {"n_neighbors": 3}, seed=1)


def test_fixed_settings_and_the_depth_of_adaboosts_trees():
    boosted = build_regressor("hist_gradient_boosting", {"max_iter": 7}, seed=1)
    assert (boosted.loss, boosted.early_stopping, boosted.max_iter) == ("absolute_error", False, 7)
    given = {"max_depth": 4}
    assert build_regressor("adaboost", given, seed=1).estimator.max_depth == 4
    assert given == {"max_depth": 4}
