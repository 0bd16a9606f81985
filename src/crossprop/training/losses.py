"""Loss of a network that learns several properties, of which few are known for any one material."""

from __future__ import annotations

from typing import Any

import keras


def masked_mae(y_true: Any, y_pred: Any) -> Any:
    """Mean absolute error over the values that are there.

    Args:
        y_true: Values, shape (batch, n_properties); NaN where unknown.
        y_pred: Predictions, same shape.

    Returns:
        A scalar: every known value of the batch counts the same.
    """
    known = keras.ops.cast(keras.ops.isfinite(y_true), y_pred.dtype)
    filled = keras.ops.where(keras.ops.isfinite(y_true), y_true, 0.0)
    error = keras.ops.abs(y_pred - filled) * known
    return keras.ops.sum(error) / keras.ops.maximum(keras.ops.sum(known), 1.0)
