"""The zoo: the paper's twelve scikit-learn regressors, and boosted trees beside them, unfitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from crossprop.errors import ConfigError
from crossprop.models.trees import Trees, trees_of

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

    Builder = Callable[[dict[str, Any], int], RegressorMixin]

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

    zoo = algorithms()
    if algorithm not in zoo:
        raise ConfigError(f"search.ml.algorithms holds {algorithm!r}; known are {', '.join(sorted(zoo))}.")
    given = dict(hyperparameters)
    median = algorithm in FORESTS and given.pop("aggregation", "mean") == "median"
    try:
        estimator = zoo[algorithm](given, seed)
    except TypeError as error:
        raise ConfigError(f"search.ml.algorithms.{algorithm}: {error}. Remove the hyperparameter.") from None
    if median:
        return MedianForest(estimator)
    return make_pipeline(StandardScaler(), estimator) if algorithm in SCALE_SENSITIVE else estimator


def algorithms() -> dict[str, Builder]:
    """Builders of the algorithms by name, the paper's twelve first; each takes hyperparameters and a seed."""
    from sklearn import ensemble, linear_model, neighbors, svm, tree

    def seeded(cls: Any, **fixed: Any) -> Builder:
        return lambda given, seed: cls(**fixed, **given, random_state=seed)

    def plain(cls: Any, **fixed: Any) -> Builder:
        return lambda given, seed: cls(**fixed, **given)

    def adaboost(given: dict[str, Any], seed: int) -> RegressorMixin:
        depth = given.pop("max_depth", 8)
        stump = tree.DecisionTreeRegressor(max_depth=depth, max_features=0.3)
        return ensemble.AdaBoostRegressor(stump, **given, random_state=seed)

    return {
        "extra_trees": seeded(ensemble.ExtraTreesRegressor),
        "random_forest": seeded(ensemble.RandomForestRegressor),
        "bagging": seeded(ensemble.BaggingRegressor),
        "adaboost": adaboost,
        "decision_tree": seeded(tree.DecisionTreeRegressor),
        "svr": plain(svm.SVR, cache_size=400, max_iter=200_000),
        "k_neighbors": plain(neighbors.KNeighborsRegressor),
        "ridge": seeded(linear_model.Ridge),
        "elastic_net": seeded(linear_model.ElasticNet, max_iter=2000),
        "lasso": seeded(linear_model.Lasso, max_iter=2000),
        "sgd": seeded(linear_model.SGDRegressor, loss="epsilon_insensitive", epsilon=0.0),
        "linear": plain(linear_model.LinearRegression),
        "hist_gradient_boosting": seeded(
            ensemble.HistGradientBoostingRegressor, loss="absolute_error", early_stopping=False
        ),
    }
