"""One of several fits that are trained together: its arguments, and its side of the training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Recipe
from crossprop.errors import ConfigError, DivergedError, ShapeMismatchError
from crossprop.models.fitted import FittedModel, standardised
from crossprop.models.target_transform import TargetTransform
from crossprop.training.descent import learning_rate
from crossprop.training.fit import feature_scaling
from crossprop.vocabulary import Architecture

Outcome = tuple[FittedModel, pd.DataFrame] | DivergedError
"""A fitted model with its history, or why this one fit failed."""


@dataclass(frozen=True, eq=False)
class FitJob:
    """One fit, with the arguments of :meth:`~crossprop.training.fit.NetworkTrainer.fit`.

    Attributes:
        features: Shape (n_samples, n_features).
        values: Shape (n_samples,), in the property's unit.
        validation: Features and values of the validation rows.
        recipe: Schedule, without early stopping or dropout.
        weights: Gives the initial weights of the network that it is handed.
        seed: Seed of the order of rows.
        standardise: Scale every feature by its training mean and deviation.
        scaling: Mean and deviation of every feature to scale by instead, shape (2, n_features).
        architecture: Which network.
    """

    features: np.ndarray
    values: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    recipe: Recipe
    weights: Callable[[Any], list[np.ndarray]]
    seed: int
    standardise: bool
    scaling: np.ndarray | None = None
    architecture: Architecture = Architecture.ELEMNET


class Member:
    """One job while it is being fitted.

    Args:
        job: What to fit.
        name: How the job is called in error messages.

    Attributes:
        x: Scaled inputs of the training rows.
        y: Their values in the scale of learning, shape (n_samples, 1).
        x_val: Scaled inputs of the validation rows.
        batch: Rows a step.
        shape: What has to be the same for members of one group: network, width, epochs, steps an epoch.
        failure: Why it is not fitted any more, or ``None``.
    """

    def __init__(self, job: FitJob, name: str) -> None:
        _check(job, name)
        self.recipe = job.recipe
        self.weights = job.weights
        self.transform = TargetTransform.fit(job.values)
        self.scaling = job.scaling
        self.x = np.asarray(job.features, np.float32)
        if job.standardise and self.scaling is None:
            self.scaling = feature_scaling(self.x)
        self.x_val, self.y_val = np.asarray(job.validation[0], np.float32), job.validation[1]
        if self.scaling is not None:
            self.x, self.x_val = standardised(self.x, self.scaling), standardised(self.x_val, self.scaling)
        self.y = self.transform.forward(job.values).astype(np.float32)[:, None]
        self.batch = min(job.recipe.batch_size, len(self.x))
        self.steps = len(self.x) // self.batch
        self.shape = (job.architecture, self.x.shape[1], job.recipe.epochs, self.steps)
        self._rng = np.random.default_rng(job.seed)
        self.points: list[tuple[int, float, float]] = []
        self.best = math.inf
        self.best_weights: list[np.ndarray] | None = None
        self.failure: DivergedError | None = None

    def order(self) -> np.ndarray:
        """Rows of the next epoch's steps, shape (steps, batch)."""
        order = self._rng.permutation(len(self.x))[: self.steps * self.batch]
        return order.reshape(self.steps, self.batch)

    def rates(self, first: int, last: int) -> list[float]:
        """Learning rates of the steps from ``first`` up to ``last``."""
        return [learning_rate(self.recipe, i, self.recipe.epochs * self.steps) for i in range(first, last)]

    def hear(
        self, epoch: int, losses: np.ndarray, output: np.ndarray, weights: Callable[[], list[np.ndarray]]
    ) -> None:
        """Take note of the losses since the last evaluation, shape (epochs, steps), and of the validation output.

        An epoch's loss is that of its last step, as in a single fit.
        """
        if self.failure is not None:
            return
        for i, loss in enumerate(losses[:, -1], start=epoch - len(losses) + 1):
            if not math.isfinite(loss):
                self.failure = DivergedError(
                    f"the loss is {loss} after epoch {i}. Lower the learning rate ({self.recipe})."
                )
                return
        val_mae = float(np.abs(self.transform.inverse(output) - self.y_val).mean())
        if not math.isfinite(val_mae):
            self.failure = DivergedError(
                f"the validation MAE is {val_mae} after epoch {epoch}. Look for NaN among the features."
            )
            return
        self.points.append((epoch, float(losses[-1, -1]), val_mae))
        if self.recipe.restore_best and val_mae < self.best:
            self.best, self.best_weights = val_mae, weights()

    def outcome(
        self, network: Callable[[list[np.ndarray]], Any], weights: Callable[[], list[np.ndarray]]
    ) -> Outcome:
        """What became of the job: ``network`` makes one from the best weights, or from the last."""
        if self.failure is not None:
            return self.failure
        body = network(self.best_weights or weights())
        fitted = FittedModel("network", body, self.transform, self.scaling)
        return fitted, pd.DataFrame(self.points, columns=["epoch", "loss", "val_mae"])


def _check(job: FitJob, name: str) -> None:
    for field in ("patience", "dropout"):
        if given := getattr(job.recipe, field):
            raise ConfigError(
                f"{name} has a recipe with {field} {given}, which fits that are trained together cannot have. "
                "Fit it by itself with NetworkTrainer."
            )
    for features, values in ((job.features, job.values), job.validation):
        if features.ndim != 2 or values.shape != (len(features),) or not len(values):
            raise ShapeMismatchError(
                f"{name}: features have shape {features.shape} and values {values.shape}; "
                "(n_samples, n_features) and (n_samples,) with at least one sample are needed."
            )
