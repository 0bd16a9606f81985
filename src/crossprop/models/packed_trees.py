"""Ensembles of regression trees as three flat arrays; :mod:`crossprop.models.tree_walk` walks them.

The answers are those of scikit-learn: float32 features are compared with thresholds that are rounded down to
float32, which decides every comparison as the float64 threshold does, and the leaves keep their float64 values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossprop.errors import ModelFormatError
from crossprop.models.tree_walk import BLOCK, FEATURE_BITS, MAX_FEATURES, Columns, leaves_reached

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
