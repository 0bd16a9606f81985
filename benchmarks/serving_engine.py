"""Compiled ensembles beside the saved ones they are made from: loading, one formula, thousands, and the difference.

    python benchmarks/serving_engine.py results/jarvis/*/*/model --threads 4
    python benchmarks/serving_engine.py results/jarvis/*/*/model --against ../other/src

Every model is measured in processes of its own, compiled (cold, then with its files at hand) and as it was saved. The
formulas are drawn from the elements that the model has seen. A formula's time is parsing, features and prediction; its
processor time, which others on the machine disturb less, is that of all threads.

``--against`` measures another checkout's ``src`` in turns with this one, three times each; the best of each is shown.
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil

ONE, FEW, MANY = 300, 16, 2000
ROUNDS = 3


def formulas(folder: Path, n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    seen = json.loads((folder / "model.json").read_text())["seen_elements"]
    drawn = []
    for _ in range(n):
        elements = rng.choice(seen, size=rng.integers(2, 5), replace=False)
        drawn.append("".join(f"{e}{rng.integers(1, 7)}" for e in elements))
    return drawn


def holdout_mae(folder: Path) -> float | None:
    """Mean absolute error of the ensemble on its hold-out, where the folder or the results around it tell."""
    note = json.loads((folder / "model.json").read_text())
    if (folder / "evidence.parquet").is_file():
        import pandas as pd

        rows = pd.read_parquet(folder / "evidence.parquet").query("split == 'test'")
        return float((rows["y_true"] - rows["y_pred"]).abs().mean())
    cells = folder.parent / "cells.json"
    if not cells.is_file():
        return None
    found = [cell for cell in json.loads(cells.read_text()) if cell["cell"] == note["cell"]]
    return float(found[0]["test_mae_ensemble"]) if found else None


def measure(folder: Path, saved: bool, cache: Path, threads: int, answers: Path, many: int) -> dict[str, Any]:
    """In a process of its own: load one model and predict with it."""
    from crossprop.data.compositions import parse_formulas

    process = psutil.Process()
    texts = formulas(folder, max(ONE, many))
    before = process.memory_full_info().uss
    started = time.perf_counter()
    predictor: Any
    if saved:
        from crossprop.models.saved import load_predictor

        predictor = load_predictor(folder)
    else:
        from crossprop.inference.compiled import load_compiled

        predictor = load_compiled(folder, cache=cache, threads=threads)
    load = time.perf_counter() - started
    predictor.predict(parse_formulas(texts[:1])[0])
    single = []
    for text in texts[: 30 if saved else ONE]:
        started = time.perf_counter()
        predictor.predict(parse_formulas([text])[0])
        single.append(time.perf_counter() - started)
    few = []
    for start in range(0, 0 if saved else ONE - FEW, FEW):
        started = time.perf_counter()
        predictor.predict(parse_formulas(texts[start : start + FEW])[0])
        few.append(time.perf_counter() - started)
    batch, cpu, predicted = [], [], np.zeros(0)
    for _ in range(1 if saved else 3):
        started, busy = time.perf_counter(), time.process_time()
        predicted = predictor.predict(parse_formulas(texts[:many])[0])
        batch.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    np.save(answers, predicted)
    return {
        "load": load,
        "memory": (process.memory_full_info().uss - before) / 1e6,
        "p50": 1e3 * float(np.quantile(single, 0.5)),
        "p99": 1e3 * float(np.quantile(single, 0.99)),
        "few": 1e3 * float(np.median(few)) if few else 0.0,
        "rate": many / min(batch),
        "cpu": 1e3 * min(cpu) / many,
    }


def measured(
    arguments: argparse.Namespace,
    folder: Path,
    answers: Path,
    saved: bool = False,
    source: Path | None = None,
) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        str(folder),
        "--threads",
        str(arguments.threads),
        "--many",
        str(arguments.many),
    ]
    command += ["--cache", str(arguments.cache), "--inside", str(answers), *(["--saved"] if saved else [])]
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())} if source else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--many", type=int, default=MANY, help="formulas of the batch")
    parser.add_argument(
        "--cache", type=Path, help="compiled files; by default a new folder, so that all is made anew"
    )
    parser.add_argument("--without-saved", action="store_true", help="measure the compiled form only")
    parser.add_argument("--against", type=Path, help="the src of another checkout, measured in turns")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--saved", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        (folder,) = arguments.folders
        given = arguments.cache, arguments.threads, arguments.inside, arguments.many
        print(json.dumps(measure(folder, arguments.saved, *given)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        arguments.cache = arguments.cache or Path(scratch) / "cache"
        print(f"{psutil.cpu_count()} cores, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
        print(
            f"{'target':<20}{'parts':>6}{'cold s':>8}{'cached s':>9}{'MB':>6}{'p50 ms':>8}{'p99 ms':>8}"
            f"{f'{FEW} ms':>8}{'rate/s':>8}{'CPU ms':>8}"
            f"{'| saved s':>11}{'MB':>6}{'p50 ms':>8}{'rate/s':>8}{'difference/MAE':>16}"
        )
        for folder in arguments.folders:
            report(arguments, folder, Path(scratch))


def report(arguments: argparse.Namespace, folder: Path, scratch: Path) -> None:
    note = json.loads((folder / "model.json").read_text())
    cold = measured(arguments, folder, scratch / "cold.npy")
    if arguments.against:
        compare(arguments, folder, note, scratch)
        return
    warm = measured(arguments, folder, scratch / "warm.npy")
    line = f"{note['target']:<20}{len(note.get('parts', [1])):>6}{cold['load']:>8.2f}{warm['load']:>9.2f}"
    line += f"{warm['memory']:>6.0f}{warm['p50']:>8.2f}{warm['p99']:>8.2f}"
    line += f"{warm['few']:>8.2f}{warm['rate']:>8.0f}{warm['cpu']:>8.3f}"
    if not arguments.without_saved:
        saved = measured(arguments, folder, scratch / "saved.npy", saved=True)
        mae = holdout_mae(folder)
        difference = np.abs(np.load(scratch / "warm.npy") - np.load(scratch / "saved.npy")).max()
        line += f"{saved['load']:>11.2f}{saved['memory']:>6.0f}{saved['p50']:>8.1f}{saved['rate']:>8.0f}"
        line += f"{difference / mae:>16.1e}" if mae else f"{difference:>12.1e} (*)"
    print(line, flush=True)


def compare(arguments: argparse.Namespace, folder: Path, note: dict[str, Any], scratch: Path) -> None:
    """Two lines, the other checkout's first, and how far their predictions differ at most."""
    sources = {"other": arguments.against, "this": None}
    for name, source in sources.items():
        measured(arguments, folder, scratch / f"{name}.npy", source=source)  # compiled by now
    rounds = [
        {
            name: measured(arguments, folder, scratch / f"{name}.npy", source=source)
            for name, source in sources.items()
        }
        for _ in range(ROUNDS)
    ]
    for name in sources:
        best = {key: min(one[name][key] for one in rounds) for key in rounds[0][name]}
        best["rate"] = max(one[name]["rate"] for one in rounds)
        line = (
            f"{note['target'][:13]:<14}{name:<6}{len(note.get('parts', [1])):>6}{'':>8}{best['load']:>9.2f}"
        )
        line += f"{best['memory']:>6.0f}{best['p50']:>8.2f}{best['p99']:>8.2f}"
        print(line + f"{best['few']:>8.2f}{best['rate']:>8.0f}{best['cpu']:>8.3f}", flush=True)
    other, this = (np.load(scratch / f"{name}.npy") for name in sources)
    mae = holdout_mae(folder)
    print(f"{'':<20}difference {np.abs(other - this).max() / (mae or 1):.1e}{' of the MAE' if mae else ''}")


if __name__ == "__main__":
    main()
