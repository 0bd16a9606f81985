"""Ensembles of regression trees as one array of nodes that NumPy walks, as scikit-learn does but in float32."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ModelFormatError

NODE = np.dtype([("value", "f4"), ("link", "u4")])
"""A node: its threshold, and the distance to the left child (the right one follows it) above 1 + the feature compared.

A leaf holds its value, the distance 0, and column 0, which is minus infinity for every row: a walk stays there.
Eight bytes, since a walk spends its time on fetching nodes.
"""
COLUMN_BITS = 11
_COLUMN = (1 << COLUMN_BITS) - 1
BLOCK = 16_384  # pairs of tree and row that are walked at once: their few arrays stay in a core's cache
_COMPACT_EVERY = 4  # levels after which the pairs that have reached a leaf are set aside


@dataclass(frozen=True)
class Trees:
    """The trees of one regressor: it predicts ``scale * sum + constant``, or a median over the trees."""

    nodes: NDArray[np.void]  # of type NODE
    roots: NDArray[np.int64]  # index of each tree's root, and its depth, shape (n_trees, 2)
    scale: NDArray[np.float64]  # NaN means the plain median
    constant: NDArray[np.float64]
    weights: NDArray[np.float64]  # of a weighted median, shape (n_trees,), else empty

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for finite features of shape (n, n_features), shape (n,), float64."""
        return predict_together([self], features)[0]

    def combined(self, answers: np.ndarray) -> np.ndarray:
        """Predictions of the rows from those of the trees, shape (n_trees, n)."""
        if len(self.weights):
            # as AdaBoost.R2 takes it (Drucker 1997)
            order = np.argsort(answers.T, axis=1)
            cumulated = np.cumsum(self.weights[order], axis=1)
            middle = (cumulated >= 0.5 * cumulated[:, -1:]).argmax(axis=1)
            rows = np.arange(answers.shape[1])
            return np.asarray(answers.T[rows, order[rows, middle]])
        if np.isnan(self.scale):
            return np.asarray(np.median(answers, axis=0))
        return np.asarray(answers.sum(axis=0) * self.scale + self.constant)


def predict_together(regressors: Sequence[Trees], features: np.ndarray) -> list[np.ndarray]:
    """Predictions of regressors of :func:`merged`, or of one, for finite (n, n_features); much faster for few rows."""
    roots = np.concatenate([one.roots for one in regressors])
    answers = _leaf_values(regressors[0].nodes, roots, np.asarray(features, np.float32))
    ends = np.cumsum([len(one.roots) for one in regressors])[:-1]
    return [one.combined(own) for one, own in zip(regressors, np.split(answers, ends), strict=True)]


def merged(regressors: Sequence[Trees]) -> list[Trees]:
    """The same regressors with their nodes in one array, so that they can be walked together."""
    nodes = np.concatenate([one.nodes for one in regressors])
    starts = np.cumsum([0, *(len(one.nodes) for one in regressors)])
    return [
        replace(one, nodes=nodes, roots=one.roots + np.array([start, 0]))
        for one, start in zip(regressors, starts[:-1], strict=True)
    ]


def _leaf_values(nodes: np.ndarray, roots: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Value of the leaf that each row reaches in each tree, shape (n_trees, n)."""
    n, width = features.shape
    values = np.empty((len(roots), n))
    if not n:
        return values
    # column by column: near the roots many rows compare few columns, which then stay in a core's cache
    columns = np.full((width + 1, n), -np.inf, dtype=np.float32)
    columns[1:] = features.T
    step = max(1, BLOCK // n)
    for start in range(0, len(roots), step):
        some = roots[start : start + step]
        reached = _walk(nodes, np.repeat(some[:, 0], n), int(some[:, 1].max()), columns)
        values[start : start + step] = nodes.take(reached)["value"].reshape(len(some), n)
    return values


def _walk(nodes: np.ndarray, places: np.ndarray, depth: int, columns: np.ndarray) -> np.ndarray:
    """The leaves that are reached from the roots of all pairs of tree and row, in their order."""
    n = columns.shape[1]
    cells = columns.ravel()
    row = np.tile(np.arange(n), len(places) // n)
    reached = places.copy()
    walking = np.arange(len(places))
    for level in range(depth):
        # "clip" checks nothing twice: every number is within bounds
        node = nodes.take(places, mode="clip")
        link = node["link"].astype(np.intp)
        at = link & _COLUMN
        at *= n
        at += row
        link >>= COLUMN_BITS
        right = cells.take(at, mode="clip") > node["value"]
        places += link
        places += right
        if level % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            moving = link > 0
            if np.count_nonzero(moving) < 0.8 * len(places):
                reached[walking] = places
                walking, places, row = walking[moving], places[moving], row[moving]
                if not len(places):
                    break
    reached[walking] = places
    return reached


_SINGLE = ("DecisionTreeRegressor", "ExtraTreeRegressor")


def trees_of(estimator: Any) -> Trees | None:
    """Translate a decision tree, forest (mean or median), bagging or AdaBoost of trees, or histogram boosting."""
    name = type(estimator).__name__
    if name in _SINGLE:
        return _joined([_sklearn_tree(estimator)])
    if name in ("ExtraTreesRegressor", "RandomForestRegressor"):
        return _joined([_sklearn_tree(one) for one in estimator.estimators_])
    if name == "MedianForest":
        grown = [_sklearn_tree(one) for one in estimator.forest.estimators_]
        return _joined(grown, scale=np.nan)
    if name == "HistGradientBoostingRegressor":
        # scikit-learn has no public access to these trees, and its own predict takes sixty times as long for one row.
        # If a later version renames the private attributes, portable_regressor falls back to a skops file.
        grown = [_histogram_tree(one.nodes) for (one,) in estimator._predictors]
        return _joined(grown, scale=1.0, constant=float(np.ravel(estimator._baseline_prediction)[0]))
    members = getattr(estimator, "estimators_", ())
    if not len(members) or any(type(one).__name__ not in _SINGLE for one in members):
        return None
    if name == "BaggingRegressor":
        pairs = zip(members, estimator.estimators_features_, strict=True)
        return _joined([_sklearn_tree(one, used) for one, used in pairs])
    if name == "AdaBoostRegressor":
        weights = np.asarray(estimator.estimator_weights_, dtype=np.float64)[: len(members)]
        return _joined([_sklearn_tree(one) for one in members], weights=weights)
    return None


Grown = tuple[NDArray[np.void], int]  # nodes of one tree, level by level, and its depth


def _joined(
    trees: list[Grown], scale: float | None = None, constant: float = 0.0, weights: np.ndarray | None = None
) -> Trees:
    """The trees with their nodes in one array; ``scale`` is by default that of a mean."""
    starts = np.cumsum([0, *(len(nodes) for nodes, _ in trees)])[:-1]
    return Trees(
        np.concatenate([nodes for nodes, _ in trees]),
        np.column_stack([starts, [depth for _, depth in trees]]),
        np.array(1 / len(trees) if scale is None else scale),
        np.array(constant),
        np.zeros(0) if weights is None else weights,
    )


def _sklearn_tree(estimator: Any, columns: Any = None) -> Grown:
    tree = estimator.tree_
    if tree.value.shape[1:] != (1, 1):
        raise ModelFormatError(f"A tree of {tree.value.shape[1]} outputs has no portable form.")
    leaf = tree.children_left < 0
    feature = tree.feature if columns is None else np.asarray(columns)[np.where(leaf, 0, tree.feature)]
    value = np.where(leaf, tree.value[:, 0, 0], tree.threshold)
    return _by_level(tree.children_left, tree.children_right, leaf, feature, value)


def _histogram_tree(nodes: np.ndarray) -> Grown:
    if nodes["is_categorical"].any():
        raise ModelFormatError("Boosted trees that compare categories have no portable form.")
    leaf = nodes["is_leaf"].astype(bool)
    value = np.where(leaf, nodes["value"], nodes["num_threshold"])
    return _by_level(nodes["left"], nodes["right"], leaf, nodes["feature_idx"], value)


def _by_level(left: np.ndarray, right: np.ndarray, leaf: np.ndarray, feature: np.ndarray, value: np.ndarray) -> Grown:
    """Lay out a tree level by level, siblings side by side; all arrays have one entry a node, the root first."""
    levels = [np.zeros(1, dtype=np.int64)]
    while len(inner := levels[-1][~leaf[levels[-1]]]):
        levels.append(np.column_stack([left[inner], right[inner]]).ravel().astype(np.int64))
    order = np.concatenate(levels)
    place = np.empty(len(leaf), dtype=np.int64)
    place[order] = np.arange(len(order))
    nodes = np.zeros(len(order), dtype=NODE)
    ends = leaf[order]
    distance = np.where(ends, 0, place[np.where(ends, 0, left[order])] - np.arange(len(order)))
    column = np.where(ends, 0, feature[order].astype(np.int64) + 1)
    if column.max() > _COLUMN or distance.max() >> (32 - COLUMN_BITS):
        raise ModelFormatError(f"A tree of {len(order)} nodes or {column.max()} features is too large.")
    nodes["value"] = np.where(ends, value[order], round_down(value[order]))
    nodes["link"] = distance << COLUMN_BITS | column
    return nodes, len(levels) - 1


def round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 numbers not above the given ones: as thresholds of float32 features they decide alike."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    above = rounded > values
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded
