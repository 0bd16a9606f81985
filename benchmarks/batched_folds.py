"""The folds of a cell one by one and together as one batched network, in one run.

    python benchmarks/batched_folds.py                              (on the CPU: one thread, as a worker has)
    python benchmarks/batched_folds.py --rows 500 2000 8000 --folds 10 --steps 500     (on a GPU)
    python benchmarks/batched_folds.py --backend jax --precision mixed

Both sides fit the same folds of the same random rows from the same weights. Either is fitted once before the clock
runs, so that neither pays for tracing and compiling; what the first time costs is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from crossprop.config import Recipe
from crossprop.methods import DEFAULT_SEED, Architecture
from crossprop.training.batched import FitJob, fit_together, worth_batching
from crossprop.training.device import configure

WIDTHS = {Architecture.ELEMNET: 86, Architecture.RESNET: 231}


def fold_jobs(n_rows: int, n_folds: int, recipe: Recipe, architecture: Architecture) -> list[FitJob]:
    """Every fold of random rows, each with its training rows and its validation rows."""
    from crossprop.models.networks import initial_weights

    rng = np.random.default_rng(DEFAULT_SEED)
    x = rng.dirichlet(np.full(WIDTHS[architecture], 0.05), n_rows).astype(np.float32)
    y = x[:, ::2].sum(axis=1).astype(np.float64) + rng.normal(scale=0.05, size=n_rows)
    fold = rng.permutation(np.arange(n_rows) % n_folds)
    return [
        FitJob(
            x[fold != k], y[fold != k], (x[fold == k], y[fold == k]), recipe,
            lambda network, seed=k: initial_weights(network, seed), k, False, architecture=architecture,
        )
        for k in range(n_folds)
    ]  # fmt: skip


def one_by_one(jobs: list[FitJob], trainer: Any) -> None:
    for job in jobs:
        trainer.fit(
            job.features, job.values, job.validation, job.recipe, job.weights, job.seed,
            standardise=job.standardise, architecture=job.architecture,
        )  # fmt: skip


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def has_gpu(backend: str) -> bool:
    if backend == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 800], help="rows of the target")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24, help="steps of one fit, about")
    parser.add_argument("--threads", type=int, default=1, help="default: 1, what a worker has")
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--architecture", choices=[a.value for a in Architecture], default="elemnet")
    parser.add_argument("--precision", choices=["float32", "mixed"], default="float32")
    given = parser.parse_args()

    configure(given.backend, given.threads)
    from crossprop.training.trainer import NetworkTrainer

    gpu = has_gpu(given.backend)
    print(f"{given.folds} folds, {given.architecture}, batch {given.batch}, about {given.steps} steps a fit; "
          f"{given.backend} on {'a GPU' if gpu else f'the CPU, {given.threads} thread(s)'}, together in "
          f"{given.precision}; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")  # fmt: skip
    print(f"{'rows':>7}{'one by one':>13}{'together':>12}{'ratio':>8}   first time    worth_batching says")
    trainer = NetworkTrainer()
    for n_rows in given.rows:
        steps = max(1, (n_rows - n_rows // given.folds) // given.batch)
        recipe = Recipe(epochs=max(1, round(given.steps / steps)), batch_size=given.batch, learning_rate=1e-4)
        jobs = fold_jobs(n_rows, given.folds, recipe, Architecture(given.architecture))

        def alone(jobs: list[FitJob] = jobs) -> None:
            one_by_one(jobs, trainer)

        def all_at_once(jobs: list[FitJob] = jobs) -> None:
            for outcome in fit_together(jobs, precision=given.precision):
                if isinstance(outcome, Exception):
                    raise outcome

        one_by_one([jobs[0]], trainer)
        first = seconds(all_at_once)
        single, batched = seconds(alone), seconds(all_at_once)
        verdict = "together" if worth_batching(n_rows, given.folds, gpu) else "one by one"
        print(f"{n_rows:>7,}{single:>11.1f} s{batched:>10.1f} s{single / batched:>8.2f}{first:>11.1f} s    {verdict}",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
