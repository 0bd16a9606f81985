"""A convex blend of cross-validated cells, its weights learnt on the other folds."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from crossprop.errors import CellError
from crossprop.experiments.tasks import HISTORY, FoldReport
from crossprop.training.device import peak_memory
from crossprop.training.metrics import mean_absolute_error
from crossprop.uncertainty.grouped import standard_error

PICKS = 20  # rounds of the greedy selection: weights are multiples of a twentieth
SIMPLE_PICKS = 3  # rounds that go to the simple model first


def blend_folds(
    parts: Sequence[Sequence[FoldReport]], values: np.ndarray, groups: np.ndarray, simple: int | None = None
) -> tuple[list[FoldReport], np.ndarray]:
    """Blend cells that were cross-validated on the same folds; ``parts`` holds the reports of each.

    The weights of fold k, shape (n_folds, n_parts) in all, come from the out-of-fold predictions of all other folds:
    the blend's cross-validated error is as unbiased as that of its parts. ``simple`` is the part that it has to beat,
    ``groups`` says which rows err together.
    """
    n_folds = len(parts[0])
    validated = [[fold.val_rows.tolist() for fold in folds] for folds in parts]
    if any(rows != validated[0] for rows in validated):
        raise CellError("the cells to be blended were cross-validated on different folds.")
    reports, weights = [], []
    for k in range(n_folds):
        started = perf_counter()
        others = [i for i in range(n_folds) if i != k]
        known, together = (np.concatenate([of[parts[0][i].val_rows] for i in others]) for of in (values, groups))
        predicted = np.stack([np.concatenate([folds[i].val_pred for i in others]) for folds in parts])
        share = shrunk_weights(predicted, known, together, simple)
        val_pred = share @ np.stack([folds[k].val_pred for folds in parts])
        test_pred = share @ np.stack([folds[k].test_pred for folds in parts])
        rows, n_train = parts[0][k].val_rows, parts[0][k].n_train
        error = mean_absolute_error(values[rows], val_pred)
        spent, nothing = perf_counter() - started, parts[0][k].history.iloc[:0].reindex(columns=HISTORY)
        reports.append(FoldReport(error, rows, val_pred, test_pred, nothing, spent, peak_memory(), n_train))
        weights.append(share)
    return reports, np.stack(weights)


def blended_error(
    predicted: np.ndarray, values: np.ndarray, groups: np.ndarray, folds: np.ndarray, simple: int | None
) -> float:
    """Mean over the folds of the error of a blend of out-of-fold predictions, shape (n_models, n_samples)."""
    errors = []
    for k in np.unique(folds):
        known, rows = folds != k, folds == k
        share = shrunk_weights(predicted[:, known], values[known], groups[known], simple)
        errors.append(float(np.abs(share @ predicted[:, rows] - values[rows]).mean()))
    return float(np.mean(errors))


def shrunk_weights(predicted: np.ndarray, values: np.ndarray, groups: np.ndarray, simple: int | None) -> np.ndarray:
    """Greedy weights that start from a simple model, or that model alone unless they beat it by a standard error.

    On few rows a blend of many models is better by chance: the standard error is that of the paired differences, of
    which those of a group are one draw.
    """
    weights = greedy_weights(predicted, values, simple=simple)
    if simple is None:
        return weights
    gain = np.abs(predicted[simple] - values) - np.abs(weights @ predicted - values)
    if gain.mean() > standard_error(gain, groups):
        return weights
    return np.eye(len(predicted))[simple]


def greedy_weights(
    predicted: np.ndarray, values: np.ndarray, picks: int = PICKS, simple: int | None = None
) -> np.ndarray:
    """Weights of a mean with the least absolute error, by adding one model after the other, with replacement.

    ``predicted`` has shape (n_models, n_samples); of equal models the first is taken. The first :data:`SIMPLE_PICKS`
    picks are the model with the index ``simple``, if one is given.

    Source: Caruana et al. 2004, doi:10.1145/1015330.1015432.
    """
    chosen = np.zeros(len(predicted))
    total = np.zeros(predicted.shape[1])
    best, best_error = chosen, np.inf
    for n in range(1, picks + 1):
        errors = np.abs((total + predicted) / n - values).mean(axis=1)
        pick = int(np.argmin(errors)) if simple is None or n > SIMPLE_PICKS else simple
        chosen = chosen.copy()
        chosen[pick] += 1
        total = total + predicted[pick]
        if errors[pick] < best_error:
            best, best_error = chosen / n, float(errors[pick])
    return best
