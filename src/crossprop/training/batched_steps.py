"""The compiled steps of several networks of one shape, whose weights are stacked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from crossprop.models.elemnet import build_elemnet
from crossprop.models.resnet import build_resnet
from crossprop.vocabulary import HEAD, Architecture

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
