"""scikit-learn's regressors of trees, packed; their classes are known by name, so that nothing is imported here."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.models.packed_trees import PackedTrees, Tree

_SINGLE = ("DecisionTreeRegressor", "ExtraTreeRegressor")


def trees_of(estimator: Any) -> PackedTrees | None:
    """Pack a scikit-learn regressor of trees.

    Args:
        estimator: A fitted decision tree, random forest, extra trees, bagging of trees, AdaBoost of trees or
            histogram gradient boosting.

    Returns:
        The packed trees, or ``None`` if it is of another kind.

    Raises:
        ModelFormatError: It is of such a kind, but has features that are not known here (categories, several outputs).
    """
    name = type(estimator).__name__
    if name in _SINGLE:
        return PackedTrees.pack([_sklearn_tree(estimator)], estimator.n_features_in_, "mean")
    if name in ("ExtraTreesRegressor", "RandomForestRegressor"):
        trees = [_sklearn_tree(one) for one in estimator.estimators_]
        return PackedTrees.pack(trees, estimator.n_features_in_, "mean")
    if name == "HistGradientBoostingRegressor":
        baseline = float(np.ravel(estimator._baseline_prediction)[0])
        grown = [_histogram_tree(one.nodes) for (one,) in estimator._predictors]
        return PackedTrees.pack(grown, estimator.n_features_in_, "sum", constant=baseline)
    members = getattr(estimator, "estimators_", ())
    if not members or any(type(one).__name__ not in _SINGLE for one in members):
        return None
    if name == "BaggingRegressor":
        columns = estimator.estimators_features_
        bagged = [_sklearn_tree(one, used) for one, used in zip(members, columns, strict=True)]
        return PackedTrees.pack(bagged, estimator.n_features_in_, "mean")
    if name == "AdaBoostRegressor":
        weights = np.asarray(estimator.estimator_weights_)[: len(members)]
        boosted = [_sklearn_tree(one) for one in members]
        return PackedTrees.pack(boosted, estimator.n_features_in_, "weighted_median", weights=weights)
    return None


def _sklearn_tree(estimator: Any, columns: Any = None) -> Tree:
    tree = estimator.tree_
    if tree.value.shape[1:] != (1, 1):
        raise ModelFormatError("a tree of several outputs cannot be packed.")
    leaf = tree.children_left < 0
    feature = np.where(leaf, 0, tree.feature)
    if columns is not None:
        feature = np.asarray(columns)[feature]
    return Tree(tree.children_left, tree.children_right, leaf, feature, tree.threshold, tree.value[:, 0, 0])


def _histogram_tree(nodes: np.ndarray) -> Tree:
    if nodes["is_categorical"].any():
        raise ModelFormatError("boosted trees that compare categories cannot be packed.")
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        nodes["left"], nodes["right"], leaf, nodes["feature_idx"], nodes["num_threshold"], nodes["value"]
    )
