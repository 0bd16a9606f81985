"""One fit: a regressor, a network, or the base; seeded, on the rows it is given and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Recipe
from crossprop.errors import ShapeMismatchError
from crossprop.models.elemnet import build_elemnet
from crossprop.models.fitted import FittedModel, network_output, standardised
from crossprop.models.regressors import build_regressor
from crossprop.models.resnet import build_resnet
from crossprop.models.target_transform import Kind, TargetTransform
from crossprop.training.descent import EpochCallback, descend, learning_rate
from crossprop.vocabulary import Architecture

__all__ = ["NetworkTrainer", "feature_scaling", "fit_base", "fit_regressor", "learning_rate"]


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
    """Fit one regressor of the zoo.

    Args:
        algorithm: Name in the zoo.
        hyperparameters: Its arguments.
        features: Shape (n_samples, n_features).
        values: Shape (n_samples,), in the property's unit.
        seed: Seed of algorithms that draw.
        transform: Scale in which the values are learnt.

    Raises:
        ConfigError: Unknown algorithm or hyperparameter.
        ShapeMismatchError: Features and values differ in length.
    """
    _check(features, values)
    scale = TargetTransform.fit(values, transform)
    estimator = build_regressor(algorithm, hyperparameters, seed)
    estimator.fit(np.asarray(features), scale.forward(values))
    return FittedModel("regressor", estimator, scale)


class NetworkTrainer:
    """Fits networks one after the other, building and tracing each shape only once in a process.

    A fitted model shares its network with the trainer: use or save it before the next fit of the same shape.

    Args:
        jit: Compile the training step with XLA: worth its seconds on long fits only.
    """

    def __init__(self, jit: bool = False) -> None:
        self._jit = jit
        self._models: dict[tuple[Architecture, int, int, float, float], Any] = {}

    def network(
        self,
        input_size: int,
        recipe: Recipe,
        architecture: Architecture = Architecture.ELEMNET,
        outputs: int = 1,
    ) -> Any:
        """The compiled network of one shape, with whatever weights the last fit left."""
        import keras

        from crossprop.training.losses import masked_mae
        from crossprop.training.optimizer import FusedAdamW

        key = (architecture, input_size, outputs, recipe.dropout, recipe.weight_decay)
        if key not in self._models:
            if architecture is Architecture.RESNET:
                model = build_resnet(input_size, outputs, recipe.dropout)
            else:
                model = build_elemnet(input_size, recipe.dropout)
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
    ) -> tuple[FittedModel, pd.DataFrame]:
        """Fit one network.

        Args:
            features: Shape (n_samples, n_features).
            values: Shape (n_samples,), in the property's unit.
            validation: Features and values of the validation rows; they steer early stopping and pruning only.
            recipe: Schedule.
            weights: Gives the initial weights of the network that it is handed.
            seed: Seed of the order of rows.
            standardise: Scale every feature by its training mean and deviation.
            scaling: Mean and deviation of every feature to scale by instead, shape (2, n_features): those that a
                transferred network was trained with.
            architecture: Which network.
            on_epoch: Called after every evaluated epoch.

        Returns:
            The fitted model, and its history with the columns ``epoch``, ``loss`` (transformed scale) and ``val_mae``
            (in the property's unit).

        Raises:
            DivergedError: The loss became NaN or infinite.
            ShapeMismatchError: Features and values differ in length.
        """
        _check(features, values)
        _check(*validation)
        transform = TargetTransform.fit(values)
        x = np.asarray(features, np.float32)
        x_val = np.asarray(validation[0], np.float32)
        if standardise and scaling is None:
            scaling = feature_scaling(x)
        if scaling is not None:
            x, x_val = standardised(x, scaling), standardised(x_val, scaling)
        y = transform.forward(values).astype(np.float32)[:, None]
        model = self.network(x.shape[1], recipe, architecture)

        def error() -> float:
            return float(np.abs(transform.inverse(network_output(model, x_val)) - validation[1]).mean())

        history = descend(model, weights(model), (x, y), error, recipe, seed, on_epoch)
        return FittedModel("network", model, transform, scaling), history


def feature_scaling(features: np.ndarray) -> np.ndarray:
    """Mean and deviation of every feature, shape (2, n_features); 1 for the deviation of one that is constant."""
    deviation = features.std(axis=0)
    return np.stack([features.mean(axis=0), np.where(deviation > 1e-6, deviation, 1.0)]).astype(np.float32)


def _check(features: np.ndarray, values: np.ndarray) -> None:
    if features.ndim != 2 or values.shape != (len(features),) or not len(values):
        raise ShapeMismatchError(
            f"features have shape {features.shape} and values {values.shape}; "
            "(n_samples, n_features) and (n_samples,) with at least one sample are needed."
        )
