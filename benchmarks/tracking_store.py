"""A tracking store of a whole study: tens of thousands of runs in one SQLite file, written and read at the same time.

    python benchmarks/tracking_store.py --runs 20500

A first share of the runs is written by crossprop's own recorder while a second process searches; they are then
multiplied inside the database, with values of their own (writing all of them would take a quarter of an hour). Last,
the recorder writes into the full store, again beside a reader, and the calls that people wait for are timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pandas as pd

from crossprop.experiments.results import BackgroundRecorder, CellCost, CellOutcome, CellResult
from crossprop.methods import Method, Representation
from crossprop.tracking.provenance import RunContext
from crossprop.tracking.runs import record_cell
from crossprop.tracking.store import open_client, prepare_store
from crossprop.tracking.ui import ui_command

TARGETS = [f"target_{i:02d}" for i in range(41)]
STUDY = "bench"
WANTED_SECONDS = 2.0
ORDER = "metrics.`cv_mae_mean` ASC"


def main() -> None:
    """Fill a store, then time writing, searching and the web interface's own calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20500, help="runs in the full store")
    parser.add_argument("--written", type=int, default=4, help="cells per target that the recorder writes first")
    parser.add_argument("--port", type=int, default=5077)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crossprop-bench-") as folder:
        uri = prepare_store(f"sqlite:///{folder}/mlflow.db")
        first = [outcome(t, i, screened=i % 4 > 0) for t in TARGETS for i in range(arguments.written)]
        write(uri, first, "empty store")
        started = time.perf_counter()
        total = multiply(Path(folder) / "mlflow.db", arguments.runs)
        prepare_store(uri)  # brings its statistics up to date
        size = (Path(folder) / "mlflow.db").stat().st_size / 2**20
        print(f"multiplied to {total:,} runs in {time.perf_counter() - started:.0f} s; {size:,.0f} MiB")
        for screened, cells in ((True, 100), (False, 30)):
            later = [outcome(TARGETS[screened], 10_000 + i, screened=screened) for i in range(cells)]
            write(uri, later, f"full store, {'screened' if screened else 'cross-validated'} cells")
        time_client(uri)
        time_interface(uri, arguments.port)


def outcome(target: str, number: int, *, screened: bool) -> CellOutcome:
    """A network's cell of realistic size: 3,000 predictions, 10 folds of 60 epochs, 8 trials."""
    rng = np.random.default_rng([number, int(target[-2:])])
    mae = float(rng.uniform(1, 2))
    folds = [("fold", f, e, 1 / (e + 1), mae + 1 / (e + 1)) for f in range(10) for e in range(60)]
    history = pd.DataFrame(folds, columns=["stage", "fold", "epoch", "loss", "val_mae"])
    values = rng.normal(size=3000)
    predictions = pd.DataFrame(
        {
            "split": ["validation"] * 2700 + ["test"] * 300,
            "fold": np.arange(3000) % 10,
            "formula": [f"Na{i % 7 + 1}Cl{i % 11 + 1}" for i in range(3000)],
            "y_true": values,
            "y_pred": values + rng.normal(scale=0.3, size=3000),
            "y_pred_ensemble": np.where(np.arange(3000) < 2700, np.nan, values),
        }
    )
    trials = pd.DataFrame(
        {
            "number": range(8),
            "state": ["COMPLETE"] * 6 + ["PRUNED", "FAIL"],
            "value": [*(mae + rng.uniform(0, 1, 6)), np.nan, np.nan],
            "seconds": 3.0,
            "params_learning_rate": rng.uniform(1e-4, 1e-2, 8),
        }
    )
    validated: dict[str, Any] = {} if screened else {
        "cv_mae": tuple(mae + rng.normal(scale=0.02, size=10)), "best_fold": 3, "test_mae": mae, "test_q95": 3 * mae,
        "test_mae_low": 0.9 * mae, "test_mae_high": 1.1 * mae, "test_r2": 0.7, "test_mae_ensemble": 0.95 * mae,
    }  # fmt: skip
    result = CellResult(
        cell=f"{target}-{number}", study=STUDY, protocol="published", target=target, unit="eV",

        source=f"source_{number % 6}", method=Method.FINETUNE, representation=Representation.ELEMENTAL_FRACTIONS,
        hyperparameters={"learning_rate": 0.001, "batch_size": 64, "epochs": 60}, n_train=2700, n_test=300, n_trials=8,
        val_mae=mae, **validated,
    )  # fmt: skip
    return CellOutcome(
        result=result,
        cost=CellCost(tune_seconds=20.0, fit_seconds=30.0, peak_memory=600 * 2**20),
        trials=trials,
        history=history[history["fold"] == 0].assign(stage="screening") if screened else history,
        predictions=predictions.iloc[:0] if screened else predictions,
    )


def write(uri: str, outcomes: list[CellOutcome], where: str) -> None:
    """Record cells while another process searches without a pause; anything that locks would raise here or there."""
    context = RunContext(uri=uri, study=STUDY, data_hashes=dict.fromkeys(TARGETS, "d" * 64), config_text="x: 1\n" * 200)
    spawn = multiprocessing.get_context("spawn")
    stop, answers = spawn.Event(), spawn.Queue()
    reader = spawn.Process(target=read_all_the_time, args=(uri, stop, answers))
    reader.start()
    answers.get()  # it reads
    started = time.perf_counter()
    with BackgroundRecorder(partial(record_cell, context)) as recorder:
        for one in outcomes:
            recorder.submit(one)
        recorder.finish()
    seconds = time.perf_counter() - started
    stop.set()
    reads, slowest = answers.get()
    reader.join()
    print(
        f"{where}: {len(outcomes)} runs, {1000 * seconds / len(outcomes):.0f} ms a run, beside {reads} searches of "
        f"another process (slowest {slowest:.2f} s); nothing was locked"
    )


def read_all_the_time(uri: str, stop: Any, answers: Any) -> None:
    """Search the store again and again; an error ends the process, which its parent notices."""
    client = open_client(uri)
    answers.put("ready")
    reads, slowest = 0, 0.0
    while not stop.is_set():
        started = time.perf_counter()
        ids = [e.experiment_id for e in client.search_experiments(max_results=50)]
        client.search_runs(ids[:1], order_by=[ORDER], max_results=100)
        reads, slowest = reads + 1, max(slowest, time.perf_counter() - started)
    answers.put((reads, slowest))


def multiply(path: Path, wanted: int) -> int:
    """Copy every run with all its rows until there are as many as wanted; values vary, names of cells are new."""
    with closing(sqlite3.connect(path)) as db:
        originals = [row[0] for row in db.execute("SELECT run_uuid FROM runs ORDER BY start_time, run_uuid")]
        tables = {
            "runs": "run_uuid", "tags": "run_uuid", "params": "run_uuid", "metrics": "run_uuid",
            "latest_metrics": "run_uuid",
        }  # fmt: skip
        columns = {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in [*tables, "inputs"]
        }
        db.execute("CREATE TEMP TABLE copies (original TEXT, fresh TEXT, factor REAL)")
        copies = -(-(wanted - len(originals)) // len(originals))
        rng = np.random.default_rng(0)
        rows = [(r, rng.bytes(16).hex(), float(rng.uniform(0.5, 2))) for _ in range(copies) for r in originals]
        db.executemany("INSERT INTO copies VALUES (?, ?, ?)", rows)
        for table, key in tables.items():
            chosen = {key: "c.fresh"}
            if "metrics" in table:
                chosen["value"] = "t.value * c.factor"
            if table == "tags":
                chosen["value"] = "CASE WHEN t.key = 'crossprop.cell' THEN c.fresh ELSE t.value END"
            values = ", ".join(chosen.get(name, f"t.{name}") for name in columns[table])
            db.execute(
                f"INSERT INTO {table} ({', '.join(columns[table])}) SELECT {values} FROM copies c "
                f"JOIN {table} t ON t.{key} = c.original"
            )
        values = ", ".join(
            {"input_uuid": "lower(hex(randomblob(16)))", "destination_id": "c.fresh"}.get(name, f"t.{name}")
            for name in columns["inputs"]
        )
        db.execute(
            f"INSERT INTO inputs ({', '.join(columns['inputs'])}) SELECT {values} FROM copies c "
            "JOIN inputs t ON t.destination_id = c.original"
        )
        db.commit()
        return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])


def time_client(uri: str) -> None:
    """What a script waits for."""
    client = open_client(uri)
    ids = {t: client.get_experiment_by_name(f"{STUDY}/{t}").experiment_id for t in TARGETS}
    best = {"order_by": [ORDER], "max_results": 1000}
    validated = "metrics.`cv_mae_mean` > 0"
    timed("search_runs, one target, best first, 1,000", lambda: client.search_runs([ids[TARGETS[7]]], **best))
    timed("the same, cross-validated only", lambda: client.search_runs([ids[TARGETS[7]]], validated, **best))
    timed(
        "search_runs, all 41 targets, best first, 1,000",
        lambda: client.search_runs(list(ids.values()), **best),
    )


def time_interface(uri: str, port: int) -> None:
    """What the web interface asks for: its list of experiments, and a target's runs as its table orders them."""
    address = f"http://127.0.0.1:{port}"
    # As `crossprop ui` starts it: MLflow's job queue would cost every answer a second or more.
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        ui_command(uri, "127.0.0.1", port), env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).read()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.5)
        found = ask(address, "experiments/search", {"max_results": 25, "view_type": "ACTIVE_ONLY"})
        ids = [e["experiment_id"] for e in found["experiments"] if e["name"].startswith(STUDY)]
        timed(
            "interface: list of experiments",
            lambda: ask(address, "experiments/search", {"max_results": 25, "order_by": ["last_update_time DESC"]})[
                "experiments"
            ],
        )
        table = {"run_view_type": "ACTIVE_ONLY", "max_results": 100, "order_by": [ORDER]}
        newest = {**table, "order_by": ["attributes.start_time DESC"]}
        timed(
            "interface: a target's runs, best first",
            lambda: ask(address, "runs/search", {**table, "experiment_ids": ids[:1]})["runs"],
        )
        timed(
            "interface: a target's runs, newest first",
            lambda: ask(address, "runs/search", {**newest, "experiment_ids": ids[:1]})["runs"],
        )
    finally:
        server.terminate()
        server.wait()


def ask(address: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call of MLflow's own REST interface, as its pages make it."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{what}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.loads(answer.read()))


def timed(what: str, call: Callable[[], Any]) -> None:
    """Print the first time and the median of five."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        found = len(call())
        seconds.append(time.perf_counter() - started)
    verdict = "" if max(seconds) < WANTED_SECONDS else f"  SLOWER THAN {WANTED_SECONDS:g} s"
    print(f"{what}: first {seconds[0]:.2f} s, median {np.median(seconds):.2f} s ({found} found){verdict}")


if __name__ == "__main__":
    main()
