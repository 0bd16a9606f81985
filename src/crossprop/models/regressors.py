"""The zoo: the paper's twelve scikit-learn regressors, and boosted trees beside them, unfitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from crossprop.errors import ConfigError
from crossprop.models.trees import Trees, trees_of

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

# Algorithms that see standardised features.
SCALE_SENSITIVE = frozenset({"elastic_net", "linear", "sgd", "ridge", "svr", "k_neighbors", "lasso"})
# Algorithms that take ``aggregation``: ``mean``, or ``median`` over their trees.
FORESTS: Final = frozenset({"extra_trees", "random_forest"})
PLAIN_TREES: Final = 300  # of the plain models; everything else is scikit-learn's default


@dataclass
class MedianForest:
    """A forest that predicts the median over its trees, which suits the mean absolute error better than their mean."""

    forest: Any
    trees: Trees | None = field(default=None, init=False)

    def fit(self, features: np.ndarray, values: np.ndarray) -> Self:
        """Grow the trees."""
        self.forest.fit(features, values)
        self.trees = trees_of(self)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,): those of the saved form, so that a loaded model gives the same numbers."""
        assert self.trees is not None
        return self.trees.predict(features)


def build_regressor(algorithm: str, hyperparameters: Mapping[str, Any], seed: int) -> RegressorMixin | MedianForest:
    """Build one regressor of :func:`algorithms` from its arguments, standardising where needed (ConfigError)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    cls, fixed = algorithms()[algorithm]
    given = dict(hyperparameters)
    median = algorithm in FORESTS and given.pop("aggregation", "mean") == "median"
    if algorithm == "adaboost":
        fixed["estimator"] = DecisionTreeRegressor(max_depth=given.pop("max_depth", 8), max_features=0.3)
    if "random_state" in cls().get_params():
        fixed["random_state"] = seed
    try:
        estimator = cls(**fixed, **given)
    except TypeError as error:
        raise ConfigError(f"search.ml.algorithms.{algorithm}: {error}. Remove the hyperparameter.") from None
    if median:
        return MedianForest(estimator)
    return make_pipeline(StandardScaler(), estimator) if algorithm in SCALE_SENSITIVE else estimator


def algorithms() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Classes of the algorithms by name, the paper's twelve first, each with what is not scikit-learn's default."""
    from sklearn import ensemble, linear_model, neighbors, svm, tree

    boosted = {"loss": "absolute_error", "early_stopping": False}
    return {
        "extra_trees": (ensemble.ExtraTreesRegressor, {}),
        "random_forest": (ensemble.RandomForestRegressor, {}),
        "bagging": (ensemble.BaggingRegressor, {}),
        "adaboost": (ensemble.AdaBoostRegressor, {}),
        "decision_tree": (tree.DecisionTreeRegressor, {}),
        "svr": (svm.SVR, {"cache_size": 400, "max_iter": 200_000}),
        "k_neighbors": (neighbors.KNeighborsRegressor, {}),
        "ridge": (linear_model.Ridge, {}),
        "elastic_net": (linear_model.ElasticNet, {"max_iter": 2000}),
        "lasso": (linear_model.Lasso, {"max_iter": 2000}),
        "sgd": (linear_model.SGDRegressor, {"loss": "epsilon_insensitive", "epsilon": 0.0}),
        "linear": (linear_model.LinearRegression, {}),
        "hist_gradient_boosting": (ensemble.HistGradientBoostingRegressor, boosted),
    }
