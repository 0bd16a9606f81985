"""Several fits of one network shape as one batched network: the folds of a cell, or trials of the same shape."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
from keras import ops

from crossprop.config import Recipe
from crossprop.errors import ConfigError, DivergedError, ShapeMismatchError
from crossprop.methods import HEAD, Architecture
from crossprop.models.fitted import FittedModel, standardised
from crossprop.models.networks import build_elemnet, build_resnet
from crossprop.models.target_transform import TargetTransform
from crossprop.training.trainer import EVALUATIONS, feature_scaling, learning_rate

Outcome = tuple[FittedModel, pd.DataFrame] | DivergedError
"""A fitted model with its history, or why this one fit failed."""


@dataclass(frozen=True, eq=False)
class FitJob:
    """One fit, with the arguments of :meth:`~crossprop.training.trainer.NetworkTrainer.fit`.

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


CHUNK = 2048
"""Validation rows of each member that are evaluated at once."""

GPU_ROWS = 20_000
"""Up to so many training rows a fit is taken to be too small to fill a GPU by itself; an estimate, not measured."""


def worth_batching(n_rows: int, n_members: int, device_is_gpu: bool) -> bool:
    """Whether fits are faster together than one by one.

    Args:
        n_rows: Training rows of one fit.
        n_members: Fits that could be trained together.
        device_is_gpu: Whether an accelerator computes.

    Returns:
        Never on a CPU, where ElemNet gains nothing (docs/engine.md) and the cores are busy with one fit each; on a GPU
        for two fits or more on few rows.
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
    members = [Member(job, f"job {number} of {len(jobs)}") for number, job in enumerate(jobs, start=1)]
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, member in enumerate(members):
        groups[member.shape].append(place)
    outcomes: dict[int, Outcome] = {}
    for places in groups.values():
        fitted = _fit_group([members[place] for place in places], jit, precision)
        outcomes |= dict(zip(places, fitted, strict=True))
    return [outcomes[place] for place in range(len(jobs))]


def _fit_group(group: list[Member], jit: bool, precision: Literal["float32", "mixed"]) -> list[Outcome]:
    """Train members of one shape."""
    from keras import ops

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
            member.hear(done, losses[:, place].reshape(now, steps), output, _weights(state[0], place))
    return [
        member.outcome(program.new_network, _weights(state[0], place)) for place, member in enumerate(group)
    ]


def _validate(program: BatchedSteps, weights: list[Any], group: list[Member]) -> list[np.ndarray]:
    """Output of every member for its validation rows."""
    longest = max(len(member.x_val) for member in group)
    width = min(CHUNK, padded(longest))
    parts = []
    for start in range(0, longest, width):
        x = np.stack([_fill(member.x_val[start : start + width], width) for member in group])
        parts.append(program.predict(weights, x))
    outputs = np.concatenate(parts, axis=1)
    return [output[: len(member.x_val)] for output, member in zip(outputs, group, strict=True)]


def _weights(stacked: list[Any], place: int) -> Callable[[], list[np.ndarray]]:
    """Fetches the weights of one member from the device."""
    from keras import ops

    return lambda: [ops.convert_to_numpy(array[place]) for array in stacked]


def _fill(array: np.ndarray, length: int) -> np.ndarray:
    """The array with zeros behind it, up to a length."""
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])


Precision = Literal["float32", "mixed"]
Stack = list[Any]
"""One array for each weight of the network, shape (k, *shape of the weight)."""

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
"""Of Keras' AdamW, which single fits use."""


class BatchedSteps:
    """Trains and evaluates k networks of one shape at once: every layer is one batched product.

    Args:
        architecture: Which network.
        input_size: Width of its input.
        jit: Compile with XLA, which fuses the update of the weights.
        precision: ``mixed`` computes the layers in bfloat16 while training; weights, the head and predictions
            stay float32.
    """

    def __init__(
        self, architecture: Architecture, input_size: int, *, jit: bool, precision: Precision
    ) -> None:
        self._build = lambda: _build(architecture, input_size)
        self.network = self._build()
        learner = self.network if precision == "float32" else _in_mixed_precision(self._build)
        self._train = _compiled(_training(learner), jit, donated=3)
        self._predict = _compiled(lambda weights, x: _outputs(self.network, weights, x), jit, donated=0)

    def new_network(self, weights: list[np.ndarray]) -> keras.Model:
        """An ordinary network with the weights of one member."""
        network = self._build()
        network.set_weights(weights)
        return network

    def start(self, weights: list[list[np.ndarray]]) -> tuple[Stack, Stack, Stack]:
        """Stacked weights, and the two moments of each at zero, from the weights of every member."""
        stacked = [ops.convert_to_tensor(np.stack(arrays)) for arrays in zip(*weights, strict=True)]
        return stacked, [ops.zeros_like(w) for w in stacked], [ops.zeros_like(w) for w in stacked]

    def train(
        self,
        state: tuple[Stack, Stack, Stack],
        data: tuple[Any, Any],
        rows: np.ndarray,
        shares: np.ndarray,
        rates: np.ndarray,
        decays: np.ndarray,
        first: int,
    ) -> tuple[tuple[Stack, Stack, Stack], np.ndarray]:
        """Make some steps.

        Args:
            state: What :meth:`start` or the last call gave; used up.
            data: Inputs, shape (k · n, n_features), and scaled values, shape (k · n, 1), member after member.
            rows: Rows of ``data`` that each step reads, shape (steps, k, batch).
            shares: Weight of each of a batch's rows in the loss, shape (k, batch); 0 for padding.
            rates: Learning rates, shape (steps, k).
            decays: Weight decay of every member, shape (k,).
            first: Steps that were made before.

        Returns:
            The new state, and the mean absolute error of every step and member, shape (steps, k).
        """
        count, room = len(rows), padded(len(rows))
        step = np.arange(first + 1, first + count + 1, dtype=np.float32)[:, None]
        one = np.float32(1)
        bias = np.sqrt(one - np.float32(BETA_2) ** step) / (one - np.float32(BETA_1) ** step)
        sizes = rates.astype(np.float32) * bias
        shrink = rates.astype(np.float32) * decays.astype(np.float32)

        def filled(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array, np.zeros((room - count, *array.shape[1:]), array.dtype)])

        plan = (
            filled(rows),
            shares.astype(np.float32),
            filled(sizes),
            filled(shrink),
            np.array(count, np.int32),
        )
        *new, losses = self._train(*state, *data, *(ops.convert_to_tensor(array) for array in plan))
        return (new[0], new[1], new[2]), ops.convert_to_numpy(losses)[:count]

    def predict(self, weights: Stack, x: np.ndarray) -> np.ndarray:
        """Outputs for inputs of shape (k, n_samples, n_features); returns shape (k, n_samples)."""
        return np.asarray(ops.convert_to_numpy(self._predict(weights, ops.convert_to_tensor(x))))[..., 0]


@cache
def batched_steps(
    architecture: Architecture, input_size: int, jit: bool, precision: Precision
) -> BatchedSteps:
    """The steps of one shape, traced and compiled once in a process for every number of members and rows."""
    return BatchedSteps(architecture, input_size, jit=jit, precision=precision)


def padded(n: int) -> int:
    """The next power of two: rows and steps are padded to few lengths, since each one is compiled anew."""
    return 1 << max(n - 1, 0).bit_length()


def _build(architecture: Architecture, input_size: int) -> keras.Model:
    return build_resnet(input_size) if architecture is Architecture.RESNET else build_elemnet(input_size)


def _in_mixed_precision(build: Callable[[], keras.Model]) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build()
    finally:
        keras.config.set_dtype_policy(before)
    network.get_layer(HEAD).dtype_policy = "float32"
    return network


def _outputs(network: keras.Model, weights: Stack, x: Any) -> Any:
    """Outputs of every member for its own inputs, shape (k, n_samples, 1)."""

    def member(given: tuple[Stack, Any]) -> Any:
        return network.stateless_call(list(given[0]), [], given[1], training=False)[0]

    return ops.vectorized_map(member, (list(weights), x))


def _training(network: keras.Model) -> Callable[..., tuple[Stack, Stack, Stack, Any]]:
    """A function of the state, the data and the plan of some steps that makes them all."""

    def error(weights: list[Any], x: Any, y: Any, shares: Any) -> Any:
        output = network.stateless_call(weights, [], x, training=True)[0]
        return ops.sum(ops.abs(ops.cast(output, "float32") - y)[:, 0] * shares)  # padding has no share

    member = _with_slopes(error)

    def train(
        weights: Stack, means: Stack, squares: Stack, x: Any, y: Any,
        rows: Any, shares: Any, sizes: Any, shrink: Any, count: Any,
    ) -> tuple[Stack, Stack, Stack, Any]:  # fmt: skip
        room, k, batch = rows.shape
        places = ops.arange(room, dtype="int32")

        def step(
            number: Any, w: Stack, m: Stack, v: Stack, losses: Any
        ) -> tuple[Any, Stack, Stack, Stack, Any]:
            chosen = ops.reshape(ops.take(rows, number, axis=0), (-1,))
            inputs = ops.reshape(ops.take(x, chosen, axis=0), (k, batch, x.shape[1]))
            values = ops.reshape(ops.take(y, chosen, axis=0), (k, batch, 1))
            loss, gradients = ops.vectorized_map(member, (w, inputs, values, shares))
            size, decay = ops.take(sizes, number, axis=0), ops.take(shrink, number, axis=0)
            updated = [_adamw(*four, size, decay) for four in zip(w, m, v, gradients, strict=True)]
            w, m, v = ([three[i] for three in updated] for i in range(3))
            return number + 1, w, m, v, ops.where(ops.equal(places, number)[:, None], loss, losses)

        start = (ops.zeros((), "int32"), weights, means, squares, ops.zeros((room, k), "float32"))
        _, *state = ops.while_loop(lambda number, *_: number < count, step, start)
        return state[0], state[1], state[2], state[3]

    return train


def _adamw(w: Any, m: Any, v: Any, gradient: Any, size: Any, decay: Any) -> tuple[Any, Any, Any]:
    """One update of a stacked weight and its moments, with a rate and a decay for every member."""
    shape = (-1, *(1,) * (len(w.shape) - 1))
    m = m + (gradient - m) * (1 - BETA_1)
    v = v + (gradient * gradient - v) * (1 - BETA_2)
    w = w - w * ops.reshape(decay, shape)
    return w - ops.reshape(size, shape) * m / (ops.sqrt(v) + EPSILON), m, v


def _with_slopes(function: Callable[..., Any]) -> Callable[[tuple[Any, ...]], tuple[Any, Stack]]:
    """From a scalar function of weights and data to one of their tuple that also gives its slopes in the weights."""
    if keras.backend.backend() == "jax":
        import jax

        derived = jax.value_and_grad(function)
        return lambda given: derived(list(given[0]), *given[1:])

    import tensorflow as tf

    def slopes(given: tuple[Any, ...]) -> tuple[Any, Stack]:
        weights = list(given[0])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value = function(weights, *given[1:])
        return value, tape.gradient(value, weights)

    return slopes


def _compiled(function: Callable[..., Any], jit: bool, donated: int) -> Callable[..., Any]:
    """Trace and compile; the first ``donated`` arguments may be overwritten."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function, donate_argnums=tuple(range(donated))) if jit else function
    import tensorflow as tf

    return tf.function(function, jit_compile=jit, reduce_retracing=False)
