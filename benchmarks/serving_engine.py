"""Saved models as they are served: loading, memory, one formula, sixteen, thousands.

    python benchmarks/serving_engine.py results/jarvis/*/*/model --threads 4
    python benchmarks/serving_engine.py results/jarvis/*/*/model --against ../other/src

Every model is measured in a process of its own. The formulas are drawn from the elements that the model has seen. A
formula's time is parsing, features and prediction; processor time, which others on the machine disturb less, is that of
all threads. ``--against`` measures another checkout's ``src`` in turns with this one, three times each, and shows the
best of each; it has to read the format of the models.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ONE, FEW, ROUNDS = 300, 16, 3
COLUMNS = {
    "load": "load s",
    "memory": "MB",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "few": f"{FEW} ms",
    "rate": "rate/s",
    "cpu": "CPU ms",
}


def formulas(folder: Path, n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    seen = json.loads((folder / "model.json").read_text())["seen_elements"]
    drawn = [rng.choice(seen, size=rng.integers(2, 5), replace=False) for _ in range(n)]
    return ["".join(f"{element}{rng.integers(1, 7)}" for element in elements) for elements in drawn]


def measure(folder: Path, threads: int, many: int, answers: Path) -> dict[str, float]:
    """In a process of its own: load one model and predict with it."""
    from crossprop.data.compositions import parse_formulas
    from crossprop.models.saved import load_predictor

    process, texts = psutil.Process(), formulas(folder, max(ONE, many))
    before, started = process.memory_full_info().uss, time.perf_counter()
    predictor = load_predictor(folder, threads=threads)
    load = time.perf_counter() - started

    def seconds(first: int, n: int) -> float:
        started = time.perf_counter()
        predictor.predict(parse_formulas(texts[first : first + n])[0])
        return time.perf_counter() - started

    seconds(0, 1)
    single = [seconds(i, 1) for i in range(ONE)]
    few = [seconds(i, FEW) for i in range(0, ONE - FEW, FEW)]
    batch, cpu = [], []
    for _ in range(ROUNDS):
        busy = time.process_time()
        batch.append(seconds(0, many))
        cpu.append(time.process_time() - busy)
    np.save(answers, predictor.predict(parse_formulas(texts[:many])[0]))
    return {
        "load": load,
        "memory": (process.memory_full_info().uss - before) / 1e6,
        "p50": 1e3 * float(np.quantile(single, 0.5)),
        "p99": 1e3 * float(np.quantile(single, 0.99)),
        "few": 1e3 * float(np.median(few)),
        "rate": many / min(batch),
        "cpu": 1e3 * min(cpu) / many,
    }


def measured(arguments: argparse.Namespace, folder: Path, answers: Path, source: Path | None) -> dict[str, float]:
    command = [sys.executable, __file__, str(folder), "--threads", str(arguments.threads)]
    command += ["--many", str(arguments.many), "--inside", str(answers)]
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())} if source else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(arguments: argparse.Namespace, folder: Path, scratch: Path) -> None:
    """One line for each checkout, and how far their predictions differ at most."""
    sources: dict[str, Path | None] = {"this": None}
    if arguments.against:
        sources = {"other": arguments.against, **sources}
    rounds: list[dict[str, Any]] = []
    for _ in range(ROUNDS if arguments.against else 1):
        rounds.append({n: measured(arguments, folder, scratch / f"{n}.npy", s) for n, s in sources.items()})
    for name in sources:
        best = {key: (max if key == "rate" else min)(one[name][key] for one in rounds) for key in COLUMNS}
        print(
            f"{str(folder)[-30:]:<31}{name:<6}" + "".join(f"{value:>9.4g}" for value in best.values()),
            flush=True,
        )
    if arguments.against:
        other, this = (np.load(scratch / f"{name}.npy") for name in sources)
        print(f"{'':<37}difference {np.abs(other - this).max() / this.std():.1e} deviations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--many", type=int, default=2000, help="formulas of the batch")
    parser.add_argument("--against", type=Path, help="the src of another checkout, measured in turns")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        (folder,) = arguments.folders
        print(json.dumps(measure(folder, arguments.threads, arguments.many, arguments.inside)))
        return
    print(f"{psutil.cpu_count()} cores, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{'model':<31}{'':<6}" + "".join(f"{title:>9}" for title in COLUMNS.values()))
    with tempfile.TemporaryDirectory() as scratch:
        for folder in arguments.folders:
            report(arguments, folder, Path(scratch))


if __name__ == "__main__":
    main()
