"""The training loop that all networks share: seeded order of rows, schedule, evaluation, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Recipe
from crossprop.errors import DivergedError

EpochCallback = Callable[[int, float], None]
"""Receives the epoch (from 1) and the validation MAE in the property's unit; may raise to stop the fit."""

EVALUATIONS = 10
"""Validation points of a schedule without early stopping."""


def descend(
    model: Any,
    weights: list[np.ndarray],
    rows: tuple[np.ndarray, np.ndarray],
    error: Callable[[], float],
    recipe: Recipe,
    seed: int,
    on_epoch: EpochCallback | None = None,
) -> pd.DataFrame:
    """Train a compiled network from given weights; it holds the outcome afterwards.

    Args:
        model: The network, with its optimizer.
        weights: Initial weights, in the order of ``model.get_weights()``; the optimizer starts afresh.
        rows: Inputs, shape (n_samples, n_features), and scaled values, shape (n_samples, n_outputs).
        error: Measures the network as it is on the validation rows.
        recipe: Schedule.
        seed: Seed of the order of rows.
        on_epoch: Called after every evaluated epoch.

    Returns:
        Columns ``epoch``, ``loss`` (transformed scale) and ``val_mae``, one row an evaluation.

    Raises:
        DivergedError: The loss or the validation error became NaN or infinite.
    """
    x, y = rows
    model.set_weights(weights)
    for variable in model.optimizer.variables:
        if variable.path != model.optimizer.learning_rate.path:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    rng = np.random.default_rng(seed)
    batch = min(recipe.batch_size, len(x))
    steps = len(x) // batch
    every = 1 if recipe.patience else max(1, recipe.epochs // EVALUATIONS)
    points: list[tuple[int, float, float]] = []
    best, best_weights, best_epoch = math.inf, None, 0
    for epoch in range(1, recipe.epochs + 1):
        order = rng.permutation(len(x))
        model.reset_metrics()
        loss = math.nan
        for step in range(steps):
            rate = learning_rate(recipe, (epoch - 1) * steps + step, recipe.epochs * steps)
            model.optimizer.learning_rate.assign(rate)
            chosen = order[step * batch : (step + 1) * batch]
            loss = float(np.asarray(model.train_on_batch(x[chosen], y[chosen])))
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} after epoch {epoch}. Lower the learning rate ({recipe})."
            )
        if epoch % every and epoch != recipe.epochs:
            continue
        val_mae = error()
        points.append((epoch, loss, val_mae))
        if not math.isfinite(val_mae):
            raise DivergedError(
                f"the validation MAE is {val_mae} after epoch {epoch}. Look for NaN among the features."
            )
        if on_epoch is not None:
            on_epoch(epoch, val_mae)
        if val_mae < best:
            best, best_epoch = val_mae, epoch
            best_weights = model.get_weights() if recipe.restore_best else None
        elif recipe.patience and epoch - best_epoch >= recipe.patience:
            break
    if recipe.restore_best and best_weights is not None:
        model.set_weights(best_weights)
    return pd.DataFrame(points, columns=["epoch", "loss", "val_mae"])


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Learning rate of one step (from 0) of ``total``: linear warm-up, then constant or half a cosine to zero."""
    warm = int(recipe.warmup_fraction * total)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warm) / max(total - warm, 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
