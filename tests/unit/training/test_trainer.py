"""One fit: seeded, on its own rows, with the schedule that the recipe states."""

import math

import numpy as np
import pytest

from crossprop.config import Recipe
from crossprop.errors import DivergedError, ShapeMismatchError
from crossprop.models.networks import initial_weights
from crossprop.training.trainer import NetworkTrainer, fit_base, fit_regressor, learning_rate, suited

RNG = np.random.default_rng(0)
X = RNG.dirichlet(np.full(86, 0.05), 160).astype(np.float32)
Y = 5 * X[:, :43].sum(axis=1).astype(np.float64) + 2 * X[:, 3]
TRAIN, VALIDATION = slice(0, 120), slice(120, 160)


@pytest.fixture(scope="module")
def fit(tensorflow):
    """Fits on the training rows; keywords replace arguments, those of the recipe among them."""
    trainer = NetworkTrainer()

    def run(seed=1, x=X[TRAIN], y=Y[TRAIN], validation=(X[VALIDATION], Y[VALIDATION]), on_epoch=None,
            standardise=False, **recipe):  # fmt: skip
        given = {"epochs": 2, "batch_size": 40, "learning_rate": 1e-3, **recipe}
        return trainer.fit(
            x, y, validation, Recipe(**given), lambda network: initial_weights(network, seed), seed,
            standardise=standardise, on_epoch=on_epoch,
        )  # fmt: skip

    return run


def weights_of(model):
    return [w.copy() for w in model.body.get_weights()]


def test_regressor_learns_in_the_transformed_scale_and_answers_in_the_unit():
    x = np.linspace(0, 1, 50)[:, None].astype(np.float32)
    values = 1000 + np.sinh(6 * x[:, 0].astype(np.float64))
    model = fit_regressor("decision_tree", {}, x, values, seed=1)
    assert model.transform.kind == "arcsinh"
    assert model.predict(x) == pytest.approx(values)
    assert fit_regressor("ridge", {}, x, values, seed=1, transform="identity").transform.kind == "identity"


@pytest.mark.parametrize(("features", "values"), [(X[:4], Y[:5]), (X[0], Y[:86]), (X[:4], Y[:4, None]), (X[:0], Y[:0])])
def test_features_and_values_that_do_not_belong_together_are_refused(features, values, fit):
    with pytest.raises(ShapeMismatchError, match=r"\(n_samples, n_features\) and \(n_samples,\)"):
        fit_regressor("ridge", {}, features, values, seed=1)
    with pytest.raises(ShapeMismatchError):
        fit(x=features, y=values)
    with pytest.raises(ShapeMismatchError):
        fit(validation=(features, values))


def test_schedule_rises_over_the_warm_up_and_stays_or_starts_at_the_peak():
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.01, warmup_fraction=0.2, schedule="constant")
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, *[0.01] * 8])
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.01, warmup_fraction=0.0)
    assert learning_rate(recipe, 0, 10) == learning_rate(recipe, 0, 1) == 0.01
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.01, warmup_fraction=0.1)
    rates = [100 * learning_rate(recipe, step, 20) for step in (0, 1, 2, 11, 19)]  # the cosine falls to zero
    assert rates == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 17 / 18))])


def test_recipe_suits_the_number_of_rows():
    for changes, n_rows, most_steps, batch, epochs in (
        ({}, 1000, None, 256, 3),
        ({}, 100, None, 100, 3),  # fewer rows than a batch are one batch
        ({"min_batches": 4, "min_steps": 5}, 1, None, 1, 5),
        ({"min_batches": 4}, 1000, None, 128, 3),  # 3 batches of 256, 7 of 128
        ({"min_batches": 4}, 1024, None, 256, 3),  # just 4 of 256
        ({"min_batches": 16}, 100, None, 25, 3),  # 1 of 100, 2 of 50, 4 of 25; 12 would be below 16
        ({"min_batches": 9, "batch_size": 8}, 40, None, 8, 3),  # a small batch stays as it is
        ({"min_steps": 9}, 1000, None, 256, 3),  # 3 steps an epoch: just 9 steps
        ({"min_steps": 10}, 1000, None, 256, 4),
        ({}, 1000, 7, 256, 3),  # begun epochs are finished
        ({}, 1000, 1, 256, 1),
        ({}, 1000, 9999, 256, 3),  # a limit is no wish
        ({"min_steps": 100}, 1000, 30, 256, 10),  # the limit goes before the least number
    ):
        recipe = Recipe(**({"epochs": 3, "batch_size": 256, "learning_rate": 0.001} | changes))
        fitting = suited(recipe, n_rows, most_steps)
        assert (fitting.batch_size, fitting.epochs, fitting.learning_rate) == (batch, epochs, 0.001)


@pytest.mark.parametrize("recipe", [{}, {"dropout": 0.2, "epochs": 3}])
def test_same_seed_gives_the_same_weights_whatever_was_fitted_before_and_validated_on(fit, recipe):
    kept = weights_of(fit(seed=1, **recipe)[0])
    fit(seed=2, **recipe)
    with pytest.raises(DivergedError):
        fit(y=np.full(120, np.nan))
    for validation in ((X[VALIDATION], Y[VALIDATION]), misleading()):
        again, _ = fit(seed=1, validation=validation, **recipe)
        assert all(np.array_equal(a, b) for a, b in zip(kept, weights_of(again), strict=True))


def test_fit_that_diverges_ends_with_a_named_error(fit):
    for changes, message in (
        ({"y": np.full(120, np.nan)}, "the loss is nan after epoch 1"),
        ({"x": np.full((120, 86), np.nan, np.float32)}, "Look for NaN among the features"),
        ({"learning_rate": 1e20, "epochs": 5}, "Lower the learning rate"),
    ):
        with pytest.raises(DivergedError, match=message):
            fit(**changes)


def test_a_network_learns_a_linear_function_far_better_than_the_base(fit):
    model, history = fit(epochs=40, batch_size=40)
    error = np.abs(model.predict(X[VALIDATION]) - Y[VALIDATION]).mean()
    base = np.abs(fit_base(Y[TRAIN]).predict(X[VALIDATION]) - Y[VALIDATION]).mean()
    assert error < 0.6 * base
    assert history["val_mae"].iloc[-1] == pytest.approx(error, rel=1e-5)
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]


def test_a_fixed_schedule_is_judged_about_ten_times_and_at_its_end(fit):
    _, history = fit(epochs=25, batch_size=120)
    assert history["epoch"].tolist() == [*range(2, 25, 2), 25]
    assert list(history.columns) == ["epoch", "loss", "val_mae"]


def misleading():
    """Validation rows on which whatever is learnt makes things worse."""
    return X[VALIDATION], Y[TRAIN].mean() - 10 * (Y[VALIDATION] - Y[TRAIN].mean())


def test_early_stopping_stops_and_gives_the_best_epoch_back(fit):
    model, history = fit(epochs=30, patience=2, restore_best=True, validation=misleading())
    best = int(history["val_mae"].idxmin())
    assert len(history) < 30
    assert len(history) == best + 1 + 2
    x, y = misleading()
    assert np.abs(model.predict(x) - y).mean() == pytest.approx(history["val_mae"].min(), rel=1e-5)
    model, history = fit(epochs=30, restore_best=True, validation=misleading())  # every epoch is looked at
    assert len(history) == 30
    model, history = fit(epochs=30, patience=2, validation=misleading())  # without: the last epoch
    assert np.abs(model.predict(x) - y).mean() == pytest.approx(history["val_mae"].iloc[-1], rel=1e-5)
    assert history["val_mae"].iloc[-1] > history["val_mae"].min()


def test_scaling_comes_from_the_training_rows_alone(fit):
    x = X[TRAIN] + np.float32(3)
    x[:, 5] = 3.44  # whose float32 mean over many rows is not it
    model, _ = fit(x=x, validation=(X[VALIDATION] + 100, Y[VALIDATION]), standardise=True)
    assert model.scaling[0] == pytest.approx(x.mean(axis=0), rel=1e-5)
    assert model.scaling[1, 5] == 1.0  # a constant feature is only centred
    assert fit()[0].scaling is None


def test_weight_decay_is_taken_from_the_recipe(fit):
    free, decayed = (np.linalg.norm(weights_of(fit(weight_decay=d)[0])[0]) for d in (0.0, 0.5))
    assert decayed < 0.9999 * free
