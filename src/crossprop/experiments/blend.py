"""A convex blend of cross-validated cells, its weights learnt on the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from crossprop.errors import CellError
from crossprop.experiments.tasks import HISTORY, FoldReport
from crossprop.training.device import peak_memory
from crossprop.training.metrics import mean_absolute_error

PICKS = 20
"""Rounds of the greedy selection: weights are multiples of a twentieth."""


def blend_folds(
    parts: Sequence[Sequence[FoldReport]], values: np.ndarray
) -> tuple[list[FoldReport], np.ndarray]:
    """Blend cells that were cross-validated on the same folds; ``parts`` holds the reports of each.

    The weights of fold k come from the out-of-fold predictions of all other folds, so that its validation rows do
    not influence them: the blend's cross-validated error is as unbiased as that of its parts.

    Returns:
        One report per fold, and the weights, shape (n_folds, n_parts), rows summing to one.
    """
    if len(parts) < 2:
        raise CellError(f"a blend needs two cross-validated cells, here are {len(parts)}.")
    n_folds = len(parts[0])
    for folds in parts:
        same = len(folds) == n_folds and all(
            np.array_equal(a.val_rows, b.val_rows) for a, b in zip(folds, parts[0], strict=True)
        )
        if not same:
            raise CellError("the cells to be blended were cross-validated on different folds.")
    reports, weights = [], []
    for k in range(n_folds):
        started = perf_counter()
        others = [i for i in range(n_folds) if i != k]
        known = np.concatenate([values[parts[0][i].val_rows] for i in others])
        predicted = np.stack([np.concatenate([folds[i].val_pred for i in others]) for folds in parts])
        share = greedy_weights(predicted, known)
        val_pred = share @ np.stack([folds[k].val_pred for folds in parts])
        test_pred = share @ np.stack([folds[k].test_pred for folds in parts])
        rows = parts[0][k].val_rows
        error = mean_absolute_error(values[rows], val_pred)
        spent = perf_counter() - started
        nothing = parts[0][k].history.iloc[:0].reindex(columns=HISTORY)
        n_train = parts[0][k].n_train
        reports.append(FoldReport(error, rows, val_pred, test_pred, nothing, spent, peak_memory(), n_train))
        weights.append(share)
    return reports, np.stack(weights)


def greedy_weights(predicted: np.ndarray, values: np.ndarray, picks: int = PICKS) -> np.ndarray:
    """Weights of a mean with the least absolute error, by adding one model after the other, with replacement.

    From predictions, shape (n_models, n_samples), and values, shape (n_samples,), it makes weights, shape (n_models,),
    none negative, summing to one. Of equal models the first is taken.

    Source: Caruana et al. 2004, doi:10.1145/1015330.1015432.
    """
    chosen = np.zeros(len(predicted))
    total = np.zeros(predicted.shape[1])
    best, best_error = chosen, np.inf
    for n in range(1, picks + 1):
        errors = np.abs((total + predicted) / n - values).mean(axis=1)
        pick = int(np.argmin(errors))
        chosen = chosen.copy()
        chosen[pick] += 1
        total = total + predicted[pick]
        if errors[pick] < best_error:
            best, best_error = chosen / n, float(errors[pick])
    return best
