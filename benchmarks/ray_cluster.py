"""Ray: one node of one core against two with the same study, scheduling of short tasks, and the object store.

    python benchmarks/ray_cluster.py
    python benchmarks/ray_cluster.py --tasks 2000 --rows 600

All nodes are processes of this machine, which needs two idle cores for the first figure; every figure is a ratio or a
rate of one run. The short tasks sleep, so that they measure the scheduler and not the cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

from crossprop.config import ComputeConfig, Params, RayConfig, load_params
from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.experiments.executor import Executor, WorkerPool
from crossprop.experiments.ray_executor import RayPool
from crossprop.experiments.targets import run_targets
from crossprop.features.matrices import write_features
from crossprop.methods import Method, Representation
from crossprop.paths import StudyPaths

NODE = {"include_dashboard": False, "object_store_memory": 512 * 2**20}
TARGETS = ("seebeck_n", "log_mass_n", "log_kappa_n", "slme", "spillage", "klu")
"""Names only: the values are made."""


def main() -> None:
    """Measure, and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="short tasks")
    parser.add_argument("--milliseconds", type=float, default=10.0, help="of a short task")
    parser.add_argument("--sleepers", type=int, default=8, help="workers for the short tasks")
    parser.add_argument("--rows", type=int, default=1500, help="rows of each target of the study")
    parser.add_argument("--trials", type=int, default=24, help="trials of each target")
    arguments = parser.parse_args()
    short_tasks(arguments)
    two_nodes(arguments)


def short_tasks(arguments: argparse.Namespace) -> None:
    """Tasks a second through both executors, and bytes a second through the object store."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": arguments.sleepers})
    seconds = arguments.milliseconds / 1000
    given = RayConfig(address=cluster.address)
    pools: dict[str, Callable[[], Executor]] = {
        "local": lambda: Sleepers(nap, workers=arguments.sleepers, backend="jax"),
        "ray": lambda: RayPool(nap, cluster=given, workers=arguments.sleepers, backend="jax"),
    }
    for name, make in pools.items():
        with make() as pool:
            for _ in range(pool.workers):  # all workers have started
                pool.submit(1.0)
            list(pool.results())
            for _ in range(arguments.tasks):
                pool.submit(seconds)
            started = time.perf_counter()
            cpu = time.process_time()
            done = sum(1 for _ in pool.results())
            spent = time.perf_counter() - started
            cpu = time.process_time() - cpu
            busy = done * seconds / (pool.workers * spent)
            print(
                f"{name}: {done:,} tasks of {arguments.milliseconds:g} ms on {pool.workers} workers: "
                f"{done / spent:,.0f} tasks/s, workers busy {100 * busy:.0f} %, "
                f"driver {1e6 * cpu / done:,.0f} µs of processor time a task",
                flush=True,
            )
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    array = np.random.default_rng(0).integers(0, 255, 64 * 2**20, dtype=np.uint8)
    started = time.perf_counter()
    references = [ray.put(array) for _ in range(6)]
    put = time.perf_counter() - started
    started = time.perf_counter()
    for reference in references:
        ray.get(reference).copy()
    read = time.perf_counter() - started
    gigabytes = 6 * array.nbytes / 1e9
    print(f"object store: written {gigabytes / put:.1f} GB/s, read and copied {gigabytes / read:.1f} GB/s")
    ray.shutdown()
    cluster.shutdown()


class Sleepers(WorkerPool):
    """More workers than cores: they sleep."""

    def __init__(self, run: Callable[[Any], Any], *, workers: int, **options: Any) -> None:
        super().__init__(run, workers=1, **options)
        self.workers = workers


def nap(seconds: float) -> None:
    """A task that costs time and no processor."""
    time.sleep(seconds)


def two_nodes(arguments: argparse.Namespace) -> None:
    """The same study on one and on two nodes of one core."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
    seconds = []
    with tempfile.TemporaryDirectory(prefix="crossprop-bench-") as folder:
        for nodes in (1, 2):
            cluster.add_node(**NODE, num_cpus=1)
            params = study(arguments, RayConfig(address=cluster.address))
            paths = StudyPaths("bench", Path(folder) / str(nodes))
            for number, target in enumerate(TARGETS):
                write_target(paths, target, arguments.rows, number)
            lines: list[str] = []
            timed = SimpleNamespace(first=0.0)

            def note(line: str, lines: list[str] = lines, timed: Any = timed) -> None:
                timed.first = timed.first or (time.perf_counter() if "/" in line else 0.0)
                lines.append(line)

            run_targets(params, list(TARGETS), paths, lambda digests: lambda cell: "", note)
            seconds.append(time.perf_counter() - timed.first)
            busy = next(line for line in lines if "were busy" in line)
            print(f"{nodes} nodes of one core: {seconds[-1]:.1f} s after the first task; {busy}", flush=True)
    print(f"two nodes are {seconds[0] / seconds[1]:.2f} times as fast as one")
    cluster.shutdown()


def study(arguments: argparse.Namespace, cluster: RayConfig) -> Params:
    """A study of several targets with the regressors of the paper: a screening is one task, however many its trials."""
    params = load_params()
    methods = (Method.BASE, Method.ML)
    changed = {
        "name": "bench", "targets": TARGETS, "shards": {}, "sources": (), "elemnet_sources": (), "joint": {},
        "methods": methods, "representations": (Representation.ELEMENTAL_FRACTIONS,), "folds": 10,
        "learning_curve": None, "fidelity": None, "joint_pretrain": None,
        "budget": params.study.budget.model_copy(update={"ml_trials": arguments.trials, "seconds": 1e6}),
    }  # fmt: skip
    compute = ComputeConfig(executor="ray", ray=cluster, backend="jax")  # no network is fitted: it is not loaded
    return params.model_copy(update={"study": params.study.model_copy(update=changed), "compute": compute})


def write_target(paths: StudyPaths, target: str, n: int, seed: int) -> None:
    """A prepared target of binary compositions whose value is a smooth function of them."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation([(a, b) for a in range(80) for b in range(a + 1, 80)])[:n]
    formulas = [f"{ELEMENTS[a]}{i % 4 + 1}{ELEMENTS[b]}{i % 3 + 1}" for i, (a, b) in enumerate(pairs)]
    fractions = fraction_matrix(formulas)
    frame = pd.DataFrame({"formula": formulas, "composition": composition_keys(fractions)})
    frame["value"] = fractions @ rng.normal(size=fractions.shape[1])
    frame["split"] = np.where(np.arange(n) % 10 == 9, "test", "train")
    paths.prepared_folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(paths.prepared(target), index=False)
    write_features(frame, paths.features(target), [Representation.ELEMENTAL_FRACTIONS])


if __name__ == "__main__":
    main()
