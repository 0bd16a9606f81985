"""Fits that are trained together give what each gives alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossprop.config import Recipe
from crossprop.errors import ConfigError, DivergedError, ShapeMismatchError
from crossprop.methods import Architecture
from crossprop.models.fitted import FittedModel
from crossprop.models.networks import initial_weights
from crossprop.training.batched import FitJob, fit_together, worth_batching

RNG = np.random.default_rng(0)
X = RNG.dirichlet(np.full(86, 0.05), 160).astype(np.float32)
Y = 5 * X[:, :43].sum(axis=1).astype(np.float64) + 2 * X[:, 3]
DENSE = RNG.dirichlet(np.full(86, 5.0), 160).astype(np.float32)
ELEMNET, RESNET = Architecture.ELEMNET, Architecture.RESNET


def job(n=120, seed=1, standardise=False, architecture=RESNET, values=Y, last=160, **recipe):
    """A fit on the first n rows, judged on those from 125 on."""
    given = {"epochs": 2, "batch_size": 40, "learning_rate": 1e-3, "weight_decay": 0.01, **recipe}
    return FitJob(
        X[:n], values[:n], (X[125:last], Y[125:last]), Recipe(**given),
        lambda network: initial_weights(network, seed), seed, standardise, architecture=architecture,
    )  # fmt: skip


def together(jobs, jit=False, **options):
    """Without a compiler the tests are quicker; one of them has it."""
    return fit_together(jobs, jit=jit, **options)


@pytest.fixture(scope="module")
def trainer(tensorflow):
    from crossprop.training.trainer import NetworkTrainer

    return NetworkTrainer()


def single(job, trainer):
    """The model and history of one fit by itself; the model lasts until the next fit."""
    return trainer.fit(
        job.features, job.values, job.validation, job.recipe, job.weights, job.seed,
        standardise=job.standardise, scaling=job.scaling, architecture=job.architecture,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(trainer):
    """Predictions for all rows, and the history, of one fit by itself."""

    def run(job):
        model, history = single(job, trainer)
        return model.predict(X), history

    return run


def largest_difference(model, expected):
    """As a share of the range of the values."""
    return np.abs(model.predict(X) - expected).max() / np.ptp(Y)


@pytest.mark.parametrize("architecture", [ELEMNET, RESNET])
def test_the_first_step_is_that_of_a_single_fit(architecture, alone):
    first = {"epochs": 1, "batch_size": 120, "architecture": architecture}
    jobs = [
        job(seed=seed, learning_rate=rate, standardise=seed > 1, **first)
        for seed, rate in enumerate((1e-5, 1e-4, 3e-4))
    ]
    for (model, _), given in zip(together(jobs), jobs, strict=True):
        assert largest_difference(model, alone(given)[0]) < 5e-5


def initial_predictions(job, trainer):
    """What the model predicts before its first step."""
    model, _ = trainer.fit(
        job.features, job.values, job.validation, job.recipe.model_copy(update={"learning_rate": 1e-30}),
        job.weights, job.seed, standardise=job.standardise, architecture=job.architecture,
    )  # fmt: skip
    return model.predict(job.features)


@pytest.mark.parametrize(("architecture", "scale"), [(ELEMNET, 0.03), (RESNET, 1.0)])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_many_steps_with_rates_decays_and_rows_of_their_own_are_those_of_single_fits(
    architecture, scale, jit, trainer
):
    """ElemNet's rates are small: with great ones a row whose error changes its sign by rounding grows to anything."""
    jobs = [
        replace(
            job(
                n, seed=n, epochs=8, batch_size=8, architecture=architecture,
                learning_rate=scale * rate, weight_decay=decay,
            ),
            features=DENSE[:n], validation=(DENSE[125:], Y[125:]), standardise=n == 26,
        )
        for n, rate, decay in ((24, 1e-3, 0.01), (25, 5e-4, 2.0), (26, 2e-3, 0.01))
    ]  # fmt: skip
    for (model, history), given in zip(together(jobs, jit=jit), jobs, strict=True):
        one, expected_history = single(given, trainer)
        expected = one.predict(given.features)
        moved = np.abs(expected - initial_predictions(given, trainer)).max()
        assert np.abs(model.predict(given.features) - expected).max() < 1e-2 * moved
        assert history["epoch"].tolist() == expected_history["epoch"].tolist()
        for column in ("loss", "val_mae"):
            assert history[column].to_numpy() == pytest.approx(expected_history[column].to_numpy(), rel=1e-3)


def test_whole_batches_of_different_length_are_padded_without_a_trace(alone):
    jobs = [job(n, seed=n, epochs=12, batch_size=256, last=160 - n // 10) for n in (97, 100, 101)]
    for (model, history), given in zip(together(jobs), jobs, strict=True):
        expected, expected_history = alone(given)
        assert largest_difference(model, expected) < 1e-4
        assert history.to_numpy() == pytest.approx(expected_history.to_numpy(), rel=1e-4)


def test_jobs_of_several_shapes_come_back_in_their_order(alone):
    jobs = [job(120), job(60, epochs=3), job(119), job(121, seed=2)]  # 3, 1, 2 and 3 steps an epoch
    outcomes = together(jobs)
    assert [history["epoch"].iloc[-1] for _, history in outcomes] == [2, 3, 2, 2]
    for (model, _), given in zip(outcomes, jobs, strict=True):
        assert largest_difference(model, alone(given)[0]) < 1e-4


def test_a_given_scaling_replaces_that_of_the_rows(alone):
    scaling = np.stack([np.full(86, 0.01), np.full(86, 0.02)]).astype(np.float32)
    jobs = [replace(job(seed=seed), scaling=scaling) for seed in (1, 2)]
    for (model, _), given in zip(together(jobs), jobs, strict=True):
        assert np.array_equal(model.scaling, scaling)
        assert largest_difference(model, alone(given)[0]) < 1e-4


def test_a_member_that_diverges_fails_alone():
    spoilt = Y.copy()
    spoilt[7] = np.nan
    healthy = together([job(seed=1), job(seed=2), job(seed=3)])
    first, second, third = together([job(seed=1), job(seed=2, values=spoilt), job(seed=3)])
    assert isinstance(second, DivergedError)
    assert str(second).startswith("the loss is nan after epoch 1. Lower the learning rate")
    for got, expected in ((first, healthy[0]), (third, healthy[2])):
        assert np.array_equal(got[0].predict(X), expected[0].predict(X))
        assert got[1].equals(expected[1])


def test_a_validation_error_that_is_no_number_fails_its_member():
    features = X[125:].copy()
    features[3] = np.nan
    spoilt = replace(job(seed=2), validation=(features, Y[125:]))
    first, second = together([job(seed=1), spoilt])
    assert isinstance(second, DivergedError)
    assert "the validation MAE is nan after epoch 1. Look for NaN" in str(second)
    assert len(first[1]) == 2


def test_the_best_epoch_is_kept_for_every_member_by_itself(alone):
    rising = 10 * (Y.mean() - Y)
    jobs = [
        replace(job(seed=1, epochs=8, restore_best=True), validation=(X[125:], rising[125:])),
        job(seed=2, epochs=8, restore_best=True),
    ]
    outcomes = together(jobs)
    best = [int(history["val_mae"].idxmin()) for _, history in outcomes]
    assert best[0] < best[1]
    for (model, history), given in zip(outcomes, jobs, strict=True):
        error = np.abs(model.predict(given.validation[0]) - given.validation[1]).mean()
        assert error == pytest.approx(history["val_mae"].min(), rel=1e-5)
        assert largest_difference(model, alone(given)[0]) < 1e-3


def test_every_model_has_a_network_of_its_own_and_can_be_saved(tmp_path: Path):
    outcomes = together([job(seed=1), job(seed=2)])
    predictions = [model.predict(X) for model, _ in outcomes]
    assert not np.allclose(*predictions)
    for (model, _), expected in zip(outcomes, predictions, strict=True):
        model.save(tmp_path)
        assert np.array_equal(FittedModel.load(tmp_path).predict(X), expected)


def test_mixed_precision_computes_otherwise_and_gives_ordinary_networks():
    jobs = [job(seed=1, epochs=5), job(seed=2, epochs=5)]
    for (mixed, _), (single, _) in zip(together(jobs, precision="mixed"), together(jobs), strict=True):
        assert 1e-6 < largest_difference(mixed, single.predict(X)) < 0.2
        assert {layer.compute_dtype for layer in mixed.body.layers} == {"float32"}


@pytest.mark.parametrize("field", [{"patience": 3}, {"dropout": 0.2}])
def test_what_only_single_fits_can_do_is_refused(field):
    with pytest.raises(
        ConfigError, match=f"job 2 of 2 has a recipe with {next(iter(field))}.*NetworkTrainer"
    ):
        fit_together([job(), job(**field)])


def test_features_and_values_that_do_not_belong_together_are_refused():
    with pytest.raises(ShapeMismatchError, match="job 1 of 1"):
        fit_together([replace(job(), values=Y[:7])])
    with pytest.raises(ShapeMismatchError, match="job 1 of 1"):
        fit_together([replace(job(), validation=(X[0], Y[:86]))])


def test_nothing_to_fit_gives_nothing():
    assert fit_together([]) == []


@pytest.mark.parametrize(
    ("rows", "members", "gpu", "worth"),
    [(500, 10, False, False), (500, 10, True, True), (500, 1, True, False), (50_000, 10, True, False)],
)
def test_batching_is_for_several_small_fits_on_a_gpu(rows, members, gpu, worth):
    assert worth_batching(rows, members, gpu) is worth


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_on_jax_too_together_is_as_alone():
    code = (
        "from crossprop.training.device import configure\n"
        "configure('jax', 1)\n"
        "import test_batched as t\n"
        "from crossprop.training.trainer import NetworkTrainer\n"
        "jobs = [t.job(n, seed=n, epochs=10, learning_rate=rate) for n, rate in ((120, 1e-3), (122, 2e-3))]\n"
        "for given, (model, _) in zip(jobs, t.fit_together(jobs), strict=True):\n"
        "    one, _ = NetworkTrainer().fit(given.features, given.values, given.validation, given.recipe,\n"
        "        given.weights, given.seed, standardise=False, architecture=t.RESNET)\n"
        "    print(t.largest_difference(model, one.predict(t.X)))\n"
    )
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path]), "KERAS_BACKEND": "jax"}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    differences = [float(line) for line in finished.stdout.split()]
    assert len(differences) == 2
    assert max(differences) < 1e-3
