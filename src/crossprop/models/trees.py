"""Ensembles of regression trees as three flat arrays; :mod:`crossprop.models.trees` walks them.

The answers are those of scikit-learn: float32 features are compared with thresholds that are rounded down to
float32, which decides every comparison as the float64 threshold does, and the leaves keep their float64 values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ModelFormatError

FEATURE_BITS = 11
MAX_FEATURES = (1 << FEATURE_BITS) - 1
BLOCK = 32_768
"""Pairs of tree and row that are walked at once: their few arrays stay in a core's cache."""

_COMPACT_EVERY = 4
"""Levels after which pairs that have reached a leaf are set aside."""

_HALF = np.uint64(32)


@dataclass(frozen=True)
class Columns:
    """Features column by column: near the roots many rows compare few columns, which then stay in a core's cache.

    A leaf compares a further column that is below everything: who is there stays there.

    Attributes:
        values: The columns one after the other, each ``1 << bits`` long.
        rows: Rows that are filled.
        bits: Says how long a column is.
    """

    values: NDArray[np.float32]
    rows: int
    bits: int

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Arrange features of shape (n, n_features), n at least 1."""
        rows, width = features.shape
        bits = (rows - 1).bit_length()
        columns = np.full((width + 1, 1 << bits), -np.inf, dtype=np.float32)
        columns[:-1, :rows] = features.T
        return cls(columns.ravel(), rows, bits)


def leaves_reached(
    nodes: NDArray[np.uint64], roots: NDArray[np.int64], columns: Columns
) -> NDArray[np.uint32]:
    """Number of the leaf that each row reaches in each tree.

    Args:
        nodes: As ``crossprop.models.trees.PackedTrees`` has them.
        roots: Number of each tree's root, and its depth, shape (n_trees, 2).
        columns: The rows.

    Returns:
        Shape (n_trees, n_rows).
    """
    places = np.repeat(roots[:, 0], columns.rows)
    row = np.tile(np.arange(columns.rows), len(roots))
    reached = np.empty(len(places), dtype=np.uint32)
    pairs: NDArray[np.intp] | None = None  # all of them, in order
    for level in range(int(roots[:, 1].max()) + 1):
        # "clip" checks nothing twice; every number is within bounds
        words = nodes.take(places, mode="clip")
        high = (words >> _HALF).view(np.int64)
        at = high & MAX_FEATURES
        at <<= columns.bits
        at += row
        right = columns.values.take(at, mode="clip") > words.view(np.float32)[::2]
        high >>= FEATURE_BITS  # the distance to the left child; 0 for a leaf
        if level % _COMPACT_EVERY == _COMPACT_EVERY - 1:
            walking = np.flatnonzero(high)
            if len(walking) < 0.8 * len(places):
                resting = np.flatnonzero(high == 0)
                low = words.view(np.uint32)[::2]
                reached[resting if pairs is None else pairs[resting]] = low[resting]
                pairs = walking if pairs is None else pairs[walking]
                places, row, high, right = places[walking], row[walking], high[walking], right[walking]
        places += high
        places += right
        if not len(places):
            return reached.reshape(len(roots), columns.rows)
    low = nodes.take(places).view(np.uint32)[::2]
    reached[slice(None) if pairs is None else pairs] = low
    return reached.reshape(len(roots), columns.rows)


Reduction = Literal["mean", "sum", "weighted_median"]

FOREST = ("nodes", "roots", "leaves")
"""The arrays that regressors share which lie beside each other, together with all their roots."""

_MAX_DISTANCE = (1 << (32 - FEATURE_BITS)) - 1
_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Tree:
    """One tree as its library stores it, node by node, the root first.

    Attributes:
        left: Number of the child for values up to the threshold, shape (n_nodes,); anything for a leaf.
        right: Number of the other child, same shape.
        leaf: Whether a node is a leaf, same shape.
        feature: Column that a node compares, same shape; anything for a leaf.
        threshold: Float64, same shape; anything for a leaf.
        value: Float64, same shape: what a leaf predicts.
    """

    left: NDArray[np.integer]
    right: NDArray[np.integer]
    leaf: NDArray[np.bool_]
    feature: NDArray[np.integer]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class PackedTrees:
    """Trees of one regressor.

    Attributes:
        nodes: Shape (n_nodes,), uint64. The low half is the threshold (float32), or the number of a leaf; of the high
            half 11 bits are the feature and 21 the distance to the left child, beside which the right one lies.
        roots: Shape (n_trees, 2): number of each tree's root, and its depth.
        leaves: Shape (n_leaves,), float64.
        n_features: Width of the representation.
        reduction: How the trees' answers become one.
        constant: Start of the sum.
        weights: Weights of the trees in the median, shape (n_trees,); empty otherwise.
    """

    nodes: NDArray[np.uint64]
    roots: NDArray[np.int64]
    leaves: NDArray[np.float64]
    n_features: int
    reduction: Reduction
    constant: float
    weights: NDArray[np.float64]

    @classmethod
    def pack(
        cls,
        trees: list[Tree],
        n_features: int,
        reduction: Reduction,
        constant: float = 0.0,
        weights: NDArray[np.float64] | None = None,
    ) -> PackedTrees:
        """Lay the trees out level by level.

        Raises:
            ModelFormatError: There are more features, or larger trees, than a node has room for.
        """
        if n_features > MAX_FEATURES:
            raise ModelFormatError(
                f"trees of {n_features} features cannot be packed (at most {MAX_FEATURES})."
            )
        nodes, roots, leaves = [], [], []
        n_nodes = n_leaves = 0
        for tree in trees:
            packed, values, depth = _pack_one(tree, n_features, n_leaves)
            nodes.append(packed)
            leaves.append(values)
            roots.append((n_nodes, depth))
            n_nodes += len(packed)
            n_leaves += len(values)
        return cls(
            np.concatenate(nodes),
            np.array(roots, dtype=np.int64),
            np.concatenate(leaves),
            n_features,
            reduction,
            constant,
            np.zeros(0) if weights is None else np.asarray(weights, dtype=np.float64),
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for finite features of shape (n, n_features), shape (n,), float64."""
        if not len(features):
            return np.zeros(0)
        columns = Columns.of(features)
        step = max(1, BLOCK // len(features))
        pieces = [self.roots[start : start + step] for start in range(0, len(self.roots), step)]
        return self._reduced(leaves_reached(self.nodes, roots, columns) for roots in pieces)

    def _reduced(self, reached: Iterable[NDArray[np.uint32]]) -> np.ndarray:
        """The answer for each row from the leaves that the rows reach, some trees at a time."""
        if self.reduction == "weighted_median":
            return _weighted_median(
                np.concatenate([self.leaves.take(some) for some in reached]), self.weights
            )
        total: np.ndarray = np.array(self.constant)
        for some in reached:
            values = self.leaves.take(some)
            values[0] += total
            total = values.sum(axis=0)
        predicted: np.ndarray = total / len(self.roots) if self.reduction == "mean" else total
        return predicted


def beside_each_other(regressors: Sequence[PackedTrees]) -> list[PackedTrees]:
    """The same regressors with their nodes and leaves in the same arrays, so that they can be walked together."""
    nodes, leaves, moved = [], [], []
    n_nodes = n_leaves = 0
    for one in regressors:
        own = one.nodes.copy()
        own[own >> np.uint64(32 + FEATURE_BITS) == 0] += np.uint64(n_leaves)
        nodes.append(own)
        leaves.append(one.leaves)
        moved.append(one.roots + np.array([n_nodes, 0]))
        n_nodes, n_leaves = n_nodes + len(own), n_leaves + len(one.leaves)
    if n_leaves > _LOW:
        raise ModelFormatError(f"{n_leaves} leaves are more than nodes can name.")
    all_nodes, all_leaves = np.concatenate(nodes), np.concatenate(leaves)
    return [
        replace(one, nodes=all_nodes, roots=roots, leaves=all_leaves)
        for one, roots in zip(regressors, moved, strict=True)
    ]


def predict_together(regressors: Sequence[PackedTrees], features: np.ndarray) -> list[np.ndarray]:
    """Predictions of regressors that lie beside each other: for few rows faster than one after the other.

    Args:
        regressors: From :func:`beside_each_other`.
        features: Finite features, shape (n, n_features), n at least 1.

    Returns:
        Each one's predictions, shape (n,).
    """
    roots = np.concatenate([one.roots for one in regressors])
    reached = leaves_reached(regressors[0].nodes, roots, Columns.of(features))
    ends = np.cumsum([len(one.roots) for one in regressors])[:-1]
    return [one._reduced([own]) for one, own in zip(regressors, np.split(reached, ends), strict=True)]


def round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 numbers that are not above the given ones."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    above = rounded > values
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def _pack_one(
    tree: Tree, n_features: int, first_leaf: int
) -> tuple[NDArray[np.uint64], NDArray[np.float64], int]:
    """Nodes level by level with siblings side by side, values of the leaves, and the depth."""
    levels = [np.zeros(1, dtype=np.int64)]
    while len(inner := levels[-1][~tree.leaf[levels[-1]]]):
        levels.append(np.stack([tree.left[inner], tree.right[inner]], axis=1).ravel().astype(np.int64))
    order = np.concatenate(levels)
    place = np.zeros(len(tree.leaf), dtype=np.int64)
    place[order] = np.arange(len(order))
    leaf = tree.leaf[order]
    distance = np.where(leaf, 0, place[np.where(leaf, 0, tree.left[order])] - np.arange(len(order)))
    if distance.max() > _MAX_DISTANCE:
        raise ModelFormatError(f"a tree of {len(order)} nodes is too large to be packed.")
    words = np.empty((len(order), 2), dtype=np.uint32)
    words[:, 0] = round_down(np.where(leaf, 0.0, tree.threshold[order])).view(np.uint32)
    words[leaf, 0] = first_leaf + np.arange(leaf.sum())
    feature = np.where(leaf, n_features, tree.feature[order])
    words[:, 1] = distance.astype(np.uint32) << FEATURE_BITS | feature.astype(np.uint32)
    return words.view(np.uint64).ravel(), tree.value[order[leaf]].astype(np.float64), len(levels) - 1


def _weighted_median(answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted median of the trees' answers, shape (n_trees, n), as AdaBoost.R2 takes it (Drucker 1997)."""
    order = np.argsort(answers.T, axis=1)
    reached = np.cumsum(weights[order], axis=1)
    middle = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)
    rows = np.arange(answers.shape[1])
    median: np.ndarray = answers.T[rows, order[rows, middle]]
    return median


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
