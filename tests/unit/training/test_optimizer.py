"""The fused update is Keras' own AdamW, only faster."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tensorflow")


def trained(optimizer, steps=12):
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

    ours = trained(FusedAdamW(0.01, weight_decay=weight_decay))
    theirs = trained(keras.optimizers.AdamW(0.01, weight_decay=weight_decay))
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


def test_weight_decay_makes_a_difference():
    from crossprop.training.optimizer import FusedAdamW

    assert not np.allclose(
        trained(FusedAdamW(0.01, weight_decay=0.2))[0], trained(FusedAdamW(0.01, weight_decay=0.0))[0]
    )
