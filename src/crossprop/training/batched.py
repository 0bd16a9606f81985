"""Several fits of one network shape as one batched network: the folds of a cell, or trials of the same shape."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from crossprop.config import Recipe
from crossprop.errors import ConfigError, DivergedError, ShapeMismatchError
from crossprop.models.fitted import FittedModel, standardised
from crossprop.models.target_transform import TargetTransform
from crossprop.training.descent import EVALUATIONS, learning_rate
from crossprop.training.fit import feature_scaling
from crossprop.vocabulary import Architecture

if TYPE_CHECKING:
    from crossprop.training.batched_steps import BatchedSteps

Outcome = tuple[FittedModel, pd.DataFrame] | DivergedError
"""A fitted model with its history, or why this one fit failed."""

CHUNK = 2048
"""Validation rows of each member that are evaluated at once."""

GPU_ROWS = 20_000
"""Up to so many training rows a fit is too small to fill a GPU by itself."""


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


def worth_batching(n_rows: int, n_members: int, device_is_gpu: bool) -> bool:
    """Whether fits are faster together than one by one.

    Args:
        n_rows: Training rows of one fit.
        n_members: Fits that could be trained together.
        device_is_gpu: Whether an accelerator computes.

    Returns:
        Never on a CPU, whose cores are busy with one fit each; on a GPU for two fits or more on few rows.
    """
    return device_is_gpu and n_members > 1 and n_rows <= GPU_ROWS


def fit_together(
    jobs: Sequence[FitJob], *, jit: bool = True, precision: Literal["float32", "mixed"] = "float32"
) -> list[Outcome]:
    """Fit networks together, each on its own rows, in its own scale and with its own learning rate.

    Every member makes exactly the steps that it would make alone, on the same rows in the same order; jobs that differ
    in shape, epochs or steps an epoch are trained one group after the other. Batches may differ in length: the shorter
    ones are padded with rows of no weight. On the device lie the members' rows, and three times their weights.

    Args:
        jobs: What to fit.
        jit: Compile with XLA; without it only tests are faster.
        precision: ``mixed`` trains in bfloat16, for GPUs.

    Returns:
        For every job, in order, the fitted model and its history as of a single fit, or the error of a fit that
        diverged; the others are not touched by it. Each model has a network of its own.

    Raises:
        ConfigError: A recipe asks for early stopping or dropout, which single fits have.
        ShapeMismatchError: Features and values differ in length.
    """
    members = [_Member(job, f"job {number} of {len(jobs)}") for number, job in enumerate(jobs, start=1)]
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, member in enumerate(members):
        groups[member.shape].append(place)
    outcomes: dict[int, Outcome] = {}
    for places in groups.values():
        group = [members[place] for place in places]
        _fit_group(group, jit, precision)
        outcomes |= {place: _outcome(member) for place, member in zip(places, group, strict=True)}
    return [outcomes[place] for place in range(len(jobs))]


class _Member:
    """One job while it is being fitted."""

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
        self.best, self.best_weights = math.inf, None
        self.failure: DivergedError | None = None
        self.network: Any = None

    def order(self) -> np.ndarray:
        """Rows of the next epoch's steps, shape (steps, batch)."""
        order = self._rng.permutation(len(self.x))[: self.steps * self.batch]
        return order.reshape(self.steps, self.batch)

    def rates(self, first: int, last: int) -> list[float]:
        """Learning rates of the steps from ``first`` up to ``last``."""
        return [learning_rate(self.recipe, i, self.recipe.epochs * self.steps) for i in range(first, last)]

    def hear(self, epoch: int, losses: np.ndarray, output: np.ndarray, weights: list[Any], place: int) -> None:
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
            self.best, self.best_weights = val_mae, _member_weights(weights, place)


def _fit_group(group: list[_Member], jit: bool, precision: Literal["float32", "mixed"]) -> None:
    """Train members of one shape; what becomes of each stands in it afterwards."""
    from keras import ops

    from crossprop.training.batched_steps import batched_steps, padded

    architecture, input_size, epochs, steps = group[0].shape
    program = batched_steps(architecture, input_size, jit, precision)
    state = program.start([member.weights(program.network) for member in group])
    length = padded(max(len(member.x) for member in group))
    data = (
        ops.convert_to_tensor(np.concatenate([_fill(member.x, length) for member in group])),
        ops.convert_to_tensor(np.concatenate([_fill(member.y, length) for member in group])),
    )
    batch = max(member.batch for member in group)
    shares = np.stack([_fill(np.full(m.batch, 1 / m.batch, np.float32), batch) for m in group])
    decays = np.array([member.recipe.weight_decay for member in group])
    every, done = max(1, epochs // EVALUATIONS), 0
    while done < epochs and any(member.failure is None for member in group):
        now = min(every, epochs - done)
        rows = np.empty((now * steps, len(group), batch), np.int32)
        for place, member in enumerate(group):
            order = np.concatenate([member.order() for _ in range(now)])
            rows[:, place, : member.batch] = order + place * length
            rows[:, place, member.batch :] = place * length
        first, last = done * steps, (done + now) * steps
        rates = np.array([member.rates(first, last) for member in group]).T
        state, losses = program.train(state, data, rows, shares, rates, decays, first)
        done += now
        outputs = _validate(program, state[0], group)
        for place, (member, output) in enumerate(zip(group, outputs, strict=True)):
            member.hear(done, losses[:, place].reshape(now, steps), output, state[0], place)
    for place, member in enumerate(group):
        if member.failure is None:
            chosen = member.best_weights or _member_weights(state[0], place)
            member.network = program.new_network(chosen)


def _validate(program: BatchedSteps, weights: list[Any], group: list[_Member]) -> list[np.ndarray]:
    """Output of every member for its validation rows."""
    from crossprop.training.batched_steps import padded

    longest = max(len(member.x_val) for member in group)
    width = min(CHUNK, padded(longest))
    parts = []
    for start in range(0, longest, width):
        x = np.stack([_fill(member.x_val[start : start + width], width) for member in group])
        parts.append(program.predict(weights, x))
    outputs = np.concatenate(parts, axis=1)
    return [output[: len(member.x_val)] for output, member in zip(outputs, group, strict=True)]


def _member_weights(weights: list[Any], place: int) -> list[np.ndarray]:
    from keras import ops

    return [ops.convert_to_numpy(stacked[place]) for stacked in weights]


def _outcome(member: _Member) -> Outcome:
    if member.failure is not None:
        return member.failure
    fitted = FittedModel("network", member.network, member.transform, member.scaling)
    return fitted, pd.DataFrame(member.points, columns=["epoch", "loss", "val_mae"])


def _fill(array: np.ndarray, length: int) -> np.ndarray:
    """The array with zeros behind it, up to a length."""
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])


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
