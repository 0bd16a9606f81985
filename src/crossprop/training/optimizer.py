"""AdamW with a fused update for small batches on TensorFlow."""

from __future__ import annotations

from typing import Any

import keras


class FusedAdamW(keras.optimizers.AdamW):
    """Keras' AdamW, whose update is one pass over weights and moments.

    ElemNet has 4.4 million weights and a small data set means small batches: without a compiler that fuses them,
    the dozen passes of Keras' formula take longer than the network itself, most of all when several workers share
    the memory. TensorFlow has the whole update as one kernel. On other backends this is Keras' AdamW.
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
