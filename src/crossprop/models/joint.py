"""What the joint network of several sources hands on: its predictions as further attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ShapeMismatchError
from crossprop.models.fitted import network_outputs, standardised

if TYPE_CHECKING:
    import keras

SCALING_FILE = "scaling.npy"
"""Lies beside a network that takes standardised inputs."""


def beside_predictions(combined: np.ndarray, network: keras.Model, scaling: np.ndarray) -> np.ndarray:
    """Physical attributes beside what a joint network predicts for its sources.

    Args:
        combined: Fractions beside attributes, shape (n_samples, 231).
        network: A joint network.
        scaling: Mean and deviation of its inputs, shape (2, 231).

    Returns:
        Shape (n_samples, 145 + n_sources), float32; predictions in the transformed scales of the network.

    Raises:
        ShapeMismatchError: The network takes another width.
    """
    if combined.ndim != 2 or combined.shape[1] != network.input_shape[1]:
        raise ShapeMismatchError(
            f"features have shape {combined.shape}, the network takes (n_samples, {network.input_shape[1]})."
        )
    predictions = network_outputs(network, standardised(combined, scaling))
    attributes = combined[:, len(ELEMENTS) :]
    return np.concatenate([attributes, predictions], axis=1).astype(np.float32)
