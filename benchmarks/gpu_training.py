"""What benchmarks/gpu.sh measures: one row of its table for each call.

    python benchmarks/gpu_training.py pretrain --backend jax --precision mixed_bfloat16
    python benchmarks/gpu_training.py fits --workers 4

``pretrain``: samples/s of ElemNet by the recipe ``study.pretrain`` of params.yaml, after the first epoch, which
compiles. ``fits``: small fits of ElemNet (1,500 rows) a second, by workers of Ray that share the first card equally, or
the CPUs where there is none; the first fit of each worker, which loads and compiles, does not count.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from crossprop.config import PARAMS_FILE, RayConfig, Recipe, load_params
from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED
from crossprop.training.device import configure
from crossprop.training.trainer import EVALUATIONS

SMALL = Recipe(epochs=10, batch_size=64, learning_rate=1e-3)
ROWS_OF_SMALL = 1500


def main() -> None:
    """Measure one row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pretrain", "fits"])
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--fits", type=int, default=32)
    arguments = parser.parse_args()
    if arguments.what == "pretrain":
        pretrain(arguments)
    else:
        fits(arguments)


def pretrain(arguments: argparse.Namespace) -> None:
    """Samples a second of a long fit."""
    configure(arguments.backend, usable_cores())
    recipe = load_params(PARAMS_FILE).study.pretrain.model_copy(update={"epochs": arguments.epochs})
    ends = [time.perf_counter()]
    n = fit(recipe, arguments.rows, arguments.precision, ends)
    between = max(1, arguments.epochs // EVALUATIONS)  # epochs from one end to the next
    rate = n * between * (len(ends) - 2) / (ends[-1] - ends[1])
    row(
        f"{arguments.backend} {arguments.precision}",
        device(),
        f"{ends[1] - ends[0]:.1f} s",
        f"{rate:,.0f} samples/s",
    )


def fits(arguments: argparse.Namespace) -> None:
    """Small fits a second on shares of a card."""
    import subprocess

    from crossprop.experiments.executor import Failure
    from crossprop.experiments.ray_executor import RayPool

    try:
        card = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, check=True).stdout != b""
    except (OSError, subprocess.CalledProcessError):
        card = False
    workers = arguments.workers
    share = RayConfig(gpus=1 / workers if card else 0.0, cpus=usable_cores() / workers)
    with RayPool(small_fit, cluster=share, workers=workers, write=lambda line: None, retries=0) as pool:
        seconds, used = [], set[str]()
        for count in (workers, arguments.fits):  # the first of each worker does not count
            for _ in range(count):
                pool.submit(str(Path(__file__).parent))
            started = time.perf_counter()
            for _, result in pool.results():
                if isinstance(result, Failure):
                    raise SystemExit(result.reason)
                used.add(result)
            seconds.append(time.perf_counter() - started)
    row(
        f"{workers} fits side by side",
        "/".join(sorted(used)),
        f"{seconds[0]:.1f} s",
        f"{arguments.fits / seconds[1]:.2f} fits/s",
    )


def small_fit(folder: str) -> str:
    """One small fit in a worker, and the device that it ran on."""
    import sys

    sys.path.append(folder)  # this module's neighbour
    fit(SMALL, ROWS_OF_SMALL, "float32", [])
    return device()


def fit(recipe: Recipe, rows: int, precision: str, ends: list[float]) -> int:
    """Fit ElemNet to random compositions, note the end of every epoch, and tell the rows that it learnt from."""
    from elemnet_training import random_rows

    from crossprop.models.networks import initial_weights
    from crossprop.training.trainer import NetworkTrainer

    made = random_rows(rows)
    validation = tuple(part[:256] for part in made.validation)
    started = time.perf_counter()
    if ends:
        ends[0] = started
    NetworkTrainer(jit=True, precision=precision).fit(
        *made.train,
        (validation[0], validation[1]),
        recipe,
        lambda network: initial_weights(network, DEFAULT_SEED),
        DEFAULT_SEED,
        standardise=False,
        on_epoch=lambda epoch, mae: ends.append(time.perf_counter()),
    )
    return len(made.train[0])


def device() -> str:
    """The kind of device that the backend computes on."""
    import keras

    kinds = {name.split(":")[0] for name in keras.distribution.list_devices()}
    return next((kind for kind in ("gpu", "cuda") if kind in kinds), "cpu")


def row(what: str, where: str, first: str, rate: str) -> None:
    """A row of the table."""
    print(f"{what:<28} {where:<8} {first:>14} {rate:>14}", flush=True)


if __name__ == "__main__":
    main()
