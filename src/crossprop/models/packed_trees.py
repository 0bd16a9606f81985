"""Ensembles of regression trees as three flat arrays, walked by NumPy for many trees and rows at once.

The answers are those of scikit-learn: float32 features are compared with thresholds that are rounded down to
float32, which decides every comparison as the float64 threshold does, and the leaves keep their float64 values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ModelFormatError

Reduction = Literal["mean", "sum", "weighted_median"]

_FEATURE_BITS = 11
_MAX_FEATURES = (1 << _FEATURE_BITS) - 1
_MAX_OFFSET = (1 << (32 - _FEATURE_BITS)) - 1
_BLOCK = 32_768
"""Pairs of tree and row that are walked at once: their few arrays stay in a core's cache."""

_COMPACT_EVERY = 4
"""Levels after which pairs that have reached a leaf are set aside."""


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
        if n_features > _MAX_FEATURES:
            raise ModelFormatError(
                f"trees of {n_features} features cannot be packed (at most {_MAX_FEATURES})."
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
        rows = len(features)
        if not rows:
            return np.zeros(0)
        # a leaf compares a further column that is below everything: it stays where it is
        walled = np.full((rows, self.n_features + 1), -np.inf, dtype=np.float32)
        walled[:, :-1] = features
        step = max(1, _BLOCK // rows)
        total = np.full((1, rows), self.constant)
        answers = []
        for start in range(0, len(self.roots), step):
            values = self.leaves.take(self._reached(self.roots[start : start + step], walled))
            if self.reduction == "weighted_median":
                answers.append(values)
            else:
                total = np.concatenate([total, values]).sum(axis=0, keepdims=True)
        if self.reduction == "weighted_median":
            return _weighted_median(np.concatenate(answers), self.weights)
        predicted: np.ndarray = total[0] / len(self.roots) if self.reduction == "mean" else total[0]
        return predicted

    def _reached(self, roots: NDArray[np.int64], walled: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Number of the leaf that each row reaches in each tree, shape (n_trees, n_rows)."""
        rows, width = walled.shape
        values = walled.ravel()
        places = np.repeat(roots[:, 0], rows)
        first = np.tile(np.arange(rows, dtype=np.int64) * width, len(roots))
        reached = np.empty(len(places), dtype=np.uint32)
        pairs: NDArray[np.int64] | None = None  # all of them, in order
        for level in range(int(roots[:, 1].max()) + 1):
            words = self.nodes.take(places)
            high = words.view(np.uint32)[1::2]
            right = values.take(first + (high & _MAX_FEATURES)) > words.view(np.float32)[::2]
            distance = high >> _FEATURE_BITS
            if level % _COMPACT_EVERY == _COMPACT_EVERY - 1:
                walking = np.flatnonzero(distance)
                if len(walking) < 0.8 * len(places):
                    resting = np.flatnonzero(distance == 0)
                    low = words.view(np.uint32)[::2]
                    reached[resting if pairs is None else pairs[resting]] = low[resting]
                    pairs = walking if pairs is None else pairs[walking]
                    places, first = places[walking], first[walking]
                    distance, right = distance[walking], right[walking]
            places += distance
            places += right
            if not len(places):
                return reached.reshape(len(roots), rows)
        low = self.nodes.take(places).view(np.uint32)[::2]
        reached[slice(None) if pairs is None else pairs] = low
        return reached.reshape(len(roots), rows)


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
    if distance.max() > _MAX_OFFSET:
        raise ModelFormatError(f"a tree of {len(order)} nodes is too large to be packed.")
    words = np.empty((len(order), 2), dtype=np.uint32)
    words[:, 0] = round_down(np.where(leaf, 0.0, tree.threshold[order])).view(np.uint32)
    words[leaf, 0] = first_leaf + np.arange(leaf.sum())
    feature = np.where(leaf, n_features, tree.feature[order])
    words[:, 1] = distance.astype(np.uint32) << _FEATURE_BITS | feature.astype(np.uint32)
    return words.view(np.uint64).ravel(), tree.value[order[leaf]].astype(np.float64), len(levels) - 1


def _weighted_median(answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted median of the trees' answers, shape (n_trees, n), as AdaBoost.R2 takes it (Drucker 1997)."""
    order = np.argsort(answers.T, axis=1)
    reached = np.cumsum(weights[order], axis=1)
    middle = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)
    rows = np.arange(answers.shape[1])
    median: np.ndarray = answers.T[rows, order[rows, middle]]
    return median
