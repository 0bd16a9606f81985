"""Workers of one thread each against one process with several threads: samples/s and memory, in one run.

    python benchmarks/worker_scaling.py
    python benchmarks/worker_scaling.py --workers 1 2 4 8 --batch 64 --seconds 20

Every process trains ElemNet with our recipe's update on rows of one memory-mapped matrix for the same time, all of
them side by side. Memory is PSS: what processes share counts once, divided among them (Linux only).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED
from crossprop.training.device import configure, process_environment

WAIT = 300.0
"""Seconds after which a process that never arrives ends the measurement."""


@dataclass(frozen=True)
class Plan:
    """What every process does."""

    matrix: Path
    threads: int
    batch: int
    seconds: float


def pss() -> float:
    """Proportional set size of this process, in MiB; NaN where the system does not tell."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def work(plan: Plan, barrier: Barrier, answers: Any) -> None:
    """Train for a while beside the others; answers with samples, seconds and memory."""
    configure("tensorflow", plan.threads)
    from crossprop.config import Recipe
    from crossprop.models.networks import initial_weights
    from crossprop.training.trainer import NetworkTrainer

    x = np.load(plan.matrix, mmap_mode="r")
    y = np.asarray(x[:, :1]) * 2 - 1
    recipe = Recipe(epochs=1, batch_size=plan.batch, learning_rate=1e-4, weight_decay=0.01)
    network = NetworkTrainer().network(x.shape[1], recipe)
    network.set_weights(initial_weights(network, DEFAULT_SEED))
    rng = np.random.default_rng(DEFAULT_SEED)

    def step() -> None:
        rows = rng.integers(0, len(x), plan.batch)
        network.train_on_batch(x[rows], y[rows])

    for _ in range(3):
        step()
    barrier.wait(WAIT)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < plan.seconds:
        step()
        done += plan.batch
    rate = done / (time.perf_counter() - start)
    barrier.wait(WAIT)  # everybody is still there when memory is measured
    answers.put((rate, pss()))
    barrier.wait(WAIT)


def measure(workers: int, plan: Plan) -> tuple[float, float]:
    """Samples/s of all processes together, and their mean PSS in MiB."""
    os.environ.update(process_environment("tensorflow", plan.threads))
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=work, args=(plan, barrier, answers)) for _ in range(workers)]
    for process in processes:
        process.start()
    given = [answers.get(timeout=2 * WAIT) for _ in processes]
    for process in processes:
        process.join()
    return sum(rate for rate, _ in given), float(np.mean([memory for _, memory in given]))


def main() -> None:
    cores = usable_cores()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, 2, cores}))
    parser.add_argument("--threads", type=int, default=cores, help="of the one process; default: all cores")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each setting trains")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the memory-mapped matrix")
    given = parser.parse_args()

    print(
        f"batch {given.batch}, {given.seconds:g} s each; load of the machine {os.getloadavg()[0]:.1f} on {cores} cores"
    )
    print(f"{'processes':>10}{'threads':>9}{'samples/s':>12}{'ratio':>8}{'PSS each':>12}{'PSS in all':>13}")
    with tempfile.TemporaryDirectory() as folder:
        matrix = Path(folder) / "features.npy"
        rng = np.random.default_rng(DEFAULT_SEED)
        np.save(matrix, rng.random((given.rows, 86), dtype=np.float32))
        settings = [(1, given.threads), *((workers, 1) for workers in given.workers)]
        reference = 0.0
        for workers, threads in settings:
            rate, memory = measure(workers, Plan(matrix, threads, given.batch, given.seconds))
            reference = reference or rate
            print(f"{workers:>10}{threads:>9}{rate:>12,.0f}{rate / reference:>8.2f}{memory:>8,.0f} MiB"
                  f"{workers * memory:>9,.0f} MiB", flush=True)  # fmt: skip
    size = given.rows * 86 * 4 / 2**20
    print(f"the matrix takes {size:.0f} MiB, once; ratios are to the one process with {given.threads} threads")


if __name__ == "__main__":
    main()
