"""What a network is trained with: Keras' AdamW in one pass, and the loss of several properties."""

from typing import Any

import keras


def masked_mae(y_true: Any, y_pred: Any) -> Any:
    """Mean absolute error over the known (not NaN) values of a batch, shape (batch, n_properties), all alike."""
    known = keras.ops.cast(keras.ops.isfinite(y_true), y_pred.dtype)
    filled = keras.ops.where(keras.ops.isfinite(y_true), y_true, 0.0)
    error = keras.ops.abs(y_pred - filled) * known
    return keras.ops.sum(error) / keras.ops.maximum(keras.ops.sum(known), 1.0)


class FusedAdamW(keras.optimizers.AdamW):
    """Keras' AdamW, whose update is one pass over weights and moments (a TensorFlow kernel).

    Without a compiler that fuses them, the dozen passes of Keras' formula over ElemNet's 4.4 million weights take
    longer than the network itself. On other backends this is Keras' AdamW.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, and its two moments, from its gradient."""
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value, tf.float32) + 1.0
        weights = variable.value if isinstance(variable, keras.Variable) else variable
        tf.raw_ops.ResourceApplyAdam(
            var=weights.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
