"""One fit: a regressor, a network, or the base; seeded, on the rows it is given and no others."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Recipe
from crossprop.errors import DivergedError, ShapeMismatchError
from crossprop.methods import Architecture
from crossprop.models.fitted import FittedModel, network_outputs, standardised
from crossprop.models.networks import build_elemnet, build_resnet
from crossprop.models.regressors import build_regressor
from crossprop.models.target_transform import Kind, TargetTransform
from crossprop.training.checkpoint import Checkpoint, Progress

EpochCallback = Callable[[int, float], None]
"""Receives the epoch (from 1) and the validation MAE in the property's unit; may raise to stop the fit."""

EVALUATIONS = 10  # validation points of a schedule without early stopping
MOST_NETWORKS = 8  # that a trainer keeps, 50 MB each with its moments
LEAST_BATCH = 16


def descend(
    model: Any,
    weights: list[np.ndarray],
    rows: tuple[np.ndarray, np.ndarray],
    error: Callable[[], float],
    recipe: Recipe,
    seed: int,
    on_epoch: EpochCallback | None = None,
    checkpoint: Checkpoint | None = None,
) -> pd.DataFrame:
    """Train a compiled network from initial weights, with a fresh optimizer state; it holds the outcome afterwards.

    ``rows`` are inputs, shape (n_samples, n_features), and scaled values, shape (n_samples, n_outputs); ``error``
    measures the network on the validation rows. With a ``checkpoint``, a fit that was stopped goes on after its last
    complete epoch, with the same result. Returns ``epoch``, ``loss`` (transformed scale) and ``val_mae`` of every
    evaluation, or raises DivergedError where one of them is no number.
    """
    x, y = rows
    model.set_weights(weights)
    for variable in model.optimizer.variables:
        if variable.path != model.optimizer.learning_rate.path:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    rng = np.random.default_rng(seed)
    batch = min(recipe.batch_size, len(x))
    steps = len(x) // batch
    every = (
        1 if recipe.patience or recipe.restore_best or checkpoint is not None else max(1, recipe.epochs // EVALUATIONS)
    )
    progress, best_weights = Progress(), None
    if checkpoint is not None:
        progress, best_weights = checkpoint.load(model) or (progress, best_weights)
    complete = progress.epoch
    for epoch in range(1, recipe.epochs + 1):
        order = rng.permutation(len(x))
        if epoch <= complete:
            continue
        for place, layer in enumerate(model.layers):
            if hasattr(layer, "seed_generator"):  # of dropout: the same draws whatever was fitted before
                layer.seed_generator.state.assign([(seed + place) % 2**31, (epoch - 1) * steps])
        model.reset_metrics()
        loss = math.nan
        for step in range(steps):
            rate = learning_rate(recipe, (epoch - 1) * steps + step, recipe.epochs * steps)
            model.optimizer.learning_rate.assign(rate)
            chosen = order[step * batch : (step + 1) * batch]
            loss = float(np.asarray(model.train_on_batch(x[chosen], y[chosen])))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} after epoch {epoch}. Lower the learning rate.")
        if epoch % every and epoch != recipe.epochs:
            continue
        val_mae = error()
        progress.epoch = epoch
        progress.points.append((epoch, loss, val_mae))
        if not math.isfinite(val_mae):
            raise DivergedError(f"the validation MAE is {val_mae}. Look for NaN among the features.")
        if on_epoch is not None:
            on_epoch(epoch, val_mae)
        if val_mae < progress.best:
            progress.best, progress.best_epoch = val_mae, epoch
            best_weights = model.get_weights() if recipe.restore_best else None
        elif recipe.patience and epoch - progress.best_epoch >= recipe.patience:
            break
        if checkpoint is not None:
            checkpoint.save(model, progress, best_weights)
    if recipe.restore_best and best_weights is not None:
        model.set_weights(best_weights)
    return pd.DataFrame(progress.points, columns=["epoch", "loss", "val_mae"])


def suited(recipe: Recipe, n_rows: int, most_steps: int | None = None) -> Recipe:
    """The recipe as it is for so many rows: its least batches and steps kept, its steps cut where asked."""
    batch = min(recipe.batch_size, n_rows)
    while n_rows // batch < recipe.min_batches and batch // 2 >= LEAST_BATCH:
        batch //= 2
    steps = n_rows // batch
    epochs = max(recipe.epochs, math.ceil(recipe.min_steps / steps))
    if most_steps is not None:
        epochs = min(epochs, math.ceil(most_steps / steps))
    return recipe.model_copy(update={"batch_size": batch, "epochs": epochs})


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Learning rate of one step (from 0) of ``total``: linear warm-up, then constant or half a cosine to zero."""
    warm = int(recipe.warmup_fraction * total)
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warm) / max(total - warm, 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def fit_base(values: np.ndarray) -> FittedModel:
    """The naive model: the mean of the training values, shape (n_samples,)."""
    return FittedModel("base", float(np.mean(values)))


def fit_regressor(
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    features: np.ndarray,
    values: np.ndarray,
    seed: int,
    transform: Kind = "arcsinh",
) -> FittedModel:
    """Fit one regressor to features, shape (n_samples, n_features), and values in the property's unit."""
    _check(features, values)
    scale = TargetTransform.fit(values, transform)
    estimator = build_regressor(algorithm, hyperparameters, seed)
    scaled = scale.forward(values)
    if algorithm == "hist_gradient_boosting":
        scaled = _around_the_median(scaled, seed)
    estimator.fit(np.asarray(features), scaled)
    return FittedModel("regressor", estimator, scale)


def _around_the_median(values: np.ndarray, seed: int) -> np.ndarray:
    """Values with those that equal their median moved up or down at random, by a thousandth of the deviation at most.

    Boosting on the absolute error starts from the median, and scikit-learn counts the error of an equal value as that
    of a higher one: where most values are equal, such as the band gap of metals, all gradients are equal, and nothing
    is learnt.
    """
    moves = np.random.default_rng(seed).uniform(-1e-3, 1e-3, len(values)) * np.std(values)
    return np.where(values == np.median(values), values + moves, values)


class NetworkTrainer:
    """Fits networks one after the other, building and tracing each shape only once in a process.

    A fitted model shares its network with the trainer: use or save it before the next fit of the same shape. ``jit``
    compiles the training step with XLA, which pays on long fits only; ``precision`` is Keras' dtype policy of the
    hidden layers while they learn.
    """

    def __init__(self, jit: bool = False, precision: str = "float32") -> None:
        self._jit = jit
        self._precision = precision
        self._predicts = self if precision == "float32" else NetworkTrainer()
        self._models: dict[tuple[Architecture, int, int, float, float], Any] = {}

    def network(
        self,
        input_size: int,
        recipe: Recipe,
        architecture: Architecture = Architecture.ELEMNET,
        outputs: int = 1,
    ) -> Any:
        """The compiled network of one shape, with the weights that the last fit left."""
        import keras

        from crossprop.training.optimizer import FusedAdamW, masked_mae

        key = (architecture, input_size, outputs, recipe.dropout, recipe.weight_decay)
        if key not in self._models:
            while len(self._models) >= MOST_NETWORKS:
                del self._models[next(iter(self._models))]
            before = keras.config.dtype_policy()
            keras.config.set_dtype_policy(self._precision)
            try:
                if architecture is Architecture.RESNET:
                    model = build_resnet(input_size, outputs, recipe.dropout)
                else:
                    model = build_elemnet(input_size, recipe.dropout)
            finally:
                keras.config.set_dtype_policy(before)
            jit = self._jit or keras.backend.backend() == "jax"
            adam = keras.optimizers.AdamW if jit else FusedAdamW  # XLA fuses the update by itself
            optimizer = adam(recipe.learning_rate, weight_decay=recipe.weight_decay)
            model.compile(optimizer=optimizer, loss="mae" if outputs == 1 else masked_mae, jit_compile=jit)
            optimizer.build(model.trainable_variables)
            self._models[key] = model
        return self._models[key]

    def fit(
        self,
        features: np.ndarray,
        values: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray],
        recipe: Recipe,
        weights: Callable[[Any], list[np.ndarray]],
        seed: int,
        *,
        standardise: bool,
        scaling: np.ndarray | None = None,
        architecture: Architecture = Architecture.ELEMNET,
        on_epoch: EpochCallback | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> tuple[FittedModel, pd.DataFrame]:
        """Fit one network to features, shape (n_samples, n_features), and values in the property's unit.

        The ``validation`` rows (features and values) are for early stopping and pruning only; ``weights`` takes the
        network and gives its initial weights. Features are scaled by their training mean and deviation
        (``standardise``) or by the given ``scaling``, shape (2, n_features): that of a transferred network. Returns the
        model and its history, as :func:`descend`.
        """
        _check(features, values)
        _check(*validation)
        transform = TargetTransform.fit(values, recipe.target_transform)
        x = np.asarray(features, np.float32)
        x_val = np.asarray(validation[0], np.float32)
        if standardise and scaling is None:
            scaling = feature_scaling(x)
        if scaling is not None:
            x, x_val = standardised(x, scaling), standardised(x_val, scaling)
        y = transform.forward(values).astype(np.float32)[:, None]
        model = self.network(x.shape[1], recipe, architecture)

        def error() -> float:
            return float(np.abs(transform.inverse(network_outputs(model, x_val)[:, 0]) - validation[1]).mean())

        history = descend(model, weights(model), (x, y), error, recipe, seed, on_epoch, checkpoint)
        fitted = self.in_float32(model, recipe, architecture)
        return FittedModel("network", fitted, transform, scaling), history

    def in_float32(self, network: Any, recipe: Recipe, architecture: Architecture) -> Any:
        """The network itself, or its float32 copy where it learnt in another precision."""
        if self._predicts is self:
            return network
        size, outputs = network.input_shape[1], network.output_shape[1]
        copy = self._predicts.network(size, recipe, architecture, outputs)
        copy.set_weights(network.get_weights())
        return copy


def feature_scaling(features: np.ndarray) -> np.ndarray:
    """Mean and deviation of every feature, shape (2, n_features); 1 for the deviation of one that is constant."""
    # sums in float32 are not exact
    deviation, mean = (f(axis=0, dtype=np.float64) for f in (features.std, features.mean))
    return np.stack([mean, np.where(deviation > 1e-6, deviation, 1.0)]).astype(np.float32)


def _check(features: np.ndarray, values: np.ndarray) -> None:
    if features.ndim != 2 or values.shape != (len(features),) or not len(values):
        raise ShapeMismatchError(
            f"features have shape {features.shape} and values {values.shape}; "
            "(n_samples, n_features) and (n_samples,) with at least one sample are needed."
        )
