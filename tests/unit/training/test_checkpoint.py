"""A fit that was stopped goes on after its last complete epoch, with the same result; precision of the layers."""

import numpy as np
import pytest

from crossprop.config import Recipe
from crossprop.models.networks import initial_weights
from crossprop.training.checkpoint import Checkpoint
from crossprop.training.trainer import NetworkTrainer

RNG = np.random.default_rng(0)
X = RNG.dirichlet(np.full(86, 0.05), 160).astype(np.float32)
Y = 5 * X[:, :43].sum(axis=1).astype(np.float64)


class StopError(Exception):
    """Ends a fit."""


def fit(trainer, checkpoint=None, stop_at=None, **recipe):
    def on_epoch(epoch, mae):
        if epoch == stop_at:
            raise StopError

    settings = Recipe(epochs=5, batch_size=40, learning_rate=1e-3, **recipe)
    return trainer.fit(
        X[:120], Y[:120], (X[120:], Y[120:]), settings, lambda network: initial_weights(network, 1), 1,
        standardise=False, on_epoch=on_epoch, checkpoint=checkpoint,
    )  # fmt: skip


@pytest.mark.parametrize("recipe", [{}, {"patience": 4, "restore_best": True}])
def test_stopped_fit_goes_on_with_the_same_result(tensorflow, tmp_path, recipe):
    whole, history = fit(NetworkTrainer(), Checkpoint(tmp_path / "whole.npz", "key"), **recipe)
    expected = whole.predict(X)
    file = tmp_path / "state.npz"
    with pytest.raises(StopError):
        fit(NetworkTrainer(), Checkpoint(file, "key"), stop_at=4, **recipe)
    assert [path.name for path in tmp_path.glob("*.tmp")] == []
    model, again = fit(NetworkTrainer(), Checkpoint(file, "key"), **recipe)
    assert np.array_equal(model.predict(X), expected)
    assert again.equals(history)


def test_state_of_another_fit_and_a_damaged_one_are_not_used(tensorflow, tmp_path):
    trainer, file = NetworkTrainer(), tmp_path / "state.npz"
    fit(trainer, Checkpoint(file, "key"))
    model = trainer.network(86, Recipe(epochs=5, batch_size=40, learning_rate=1e-3))
    assert (again := Checkpoint(file, "key")).load(model) is not None
    assert again.seconds > again.earlier > 0
    assert Checkpoint(file, "another").load(model) is None
    file.write_bytes(file.read_bytes()[:-200])
    assert Checkpoint(file, "key").load(model) is None
    Checkpoint(file, "key").remove()
    assert Checkpoint(file, "key").load(model) is None


def test_network_that_learnt_in_bfloat16_answers_in_float32(tensorflow):
    model, history = fit(NetworkTrainer(precision="mixed_bfloat16"))
    assert {layer.dtype_policy.name for layer in model.body.layers} == {"float32"}
    error = np.abs(model.predict(X[120:]) - Y[120:]).mean()
    assert history["val_mae"].iloc[-1] == pytest.approx(error, rel=0.05)  # measured in bfloat16
    assert error < 0.8 * np.abs(np.median(Y[:120]) - Y[120:]).mean()
