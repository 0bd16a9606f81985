"""The fused update is Keras' own AdamW, and the loss of several properties counts the known values."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")
NAN = np.nan


def test_known_values_alone_count_and_have_a_gradient():
    import tensorflow as tf

    from crossprop.training.optimizer import masked_mae

    for y_true, y_pred, expected, gradient in (
        ([[1.0, NAN], [NAN, 4.0]], [[2.0, 9.0], [9.0, 1.0]], 2.0, [[0.5, 0.0], [0.0, -0.5]]),  # (1 + 3) / 2
        ([[1.0, NAN], [3.0, NAN]], [[2.0, 7.0], [6.0, 8.0]], 2.0, [[0.5, 0.0], [0.5, 0.0]]),  # one column
        ([[NAN, NAN]], [[1.0, 2.0]], 0.0, [[0.0, 0.0]]),  # nothing is known of the batch
    ):
        predicted = tf.constant(y_pred)
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            loss = masked_mae(tf.constant(y_true), predicted)
        assert float(loss) == pytest.approx(expected)
        assert tape.gradient(loss, predicted).numpy().tolist() == gradient


def stepped(optimizer, steps=12):
    """Weights of a small network after some steps with a falling rate."""
    import keras

    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    model.compile(optimizer=optimizer, loss="mae")
    x = rng.normal(size=(32, 6)).astype(np.float32)
    y = x[:, :1] - 2 * x[:, 1:2]
    for step in range(steps):
        model.optimizer.learning_rate.assign(0.01 / (step + 1))
        model.train_on_batch(x, y)
    return model.get_weights()


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_fused_update_gives_the_weights_of_keras(weight_decay):
    import keras

    from crossprop.training.optimizer import FusedAdamW

    ours = stepped(FusedAdamW(0.01, weight_decay=weight_decay))
    theirs = stepped(keras.optimizers.AdamW(0.01, weight_decay=weight_decay))
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
