"""What the paper's ten folds would change: the chosen cells of a finished study, fitted on nine tenths of the rows.

    python benchmarks/ten_folds.py --params params.yaml --root . --fits 2 --out ten_folds.csv

The tier ``quick`` measures on the hold-out a model of three to five folds, which has learnt from 67 to 80 % of the
training rows; the paper's models learnt from 90 %. This fits best SC and best TL of every target, with the
hyperparameters that the study chose, on the first ``--fits`` of ten folds. Nothing is chosen here: the cells are those
of the study. Prints and writes one line for each target and side, in the property's unit; a table that is there already
is continued. It needs the study's results, prepared data, networks and stored screenings.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.experiments.cache import SCREENING, CellStore
from crossprop.experiments.executor import Failure, WorkerPool
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import plan_target
from crossprop.experiments.tasks import FoldReport, FoldTask, ScreenReport, run_task
from crossprop.io import read_json
from crossprop.paths import StudyPaths
from crossprop.training.metrics import mean_absolute_error

FOLDS = 10
SIDES = {"best_sc": "SC", "best_tl": "TL"}


def main() -> None:
    """Fit the chosen cells of every target that has results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--targets", nargs="+", help="by default all that have results")
    parser.add_argument("--fits", type=int, default=2, help="of the ten folds")
    parser.add_argument("--out", type=Path, default=Path("ten_folds.csv"))
    args = parser.parse_args()
    params = load_params(args.params)
    paths = StudyPaths(params.study.name, args.root, params.study.shards)
    rows: list[dict] = pd.read_csv(args.out).to_dict("records") if args.out.is_file() else []
    targets = args.targets or [t for t in params.study.targets if paths.results(t).is_dir()]
    tasks, results, reports = (
        list[FoldTask](),
        dict[str, tuple[str, CellResult]](),
        dict[str, list[FoldReport]](),
    )
    for target in targets:
        cells, files, _ = plan_target(params, target, paths)
        measured = {row["cell"]: row for row in read_json(paths.results(target) / "cells.json")}
        for role, chosen in read_json(paths.results(target) / "winners.json").items():
            done = any((row["target"], row["side"]) == (target, SIDES.get(role)) for row in rows)
            if role not in SIDES or chosen is None or done:
                continue
            cell = next(cell for cell in cells if cell.id == chosen)
            screening = CellStore(paths).find(cell, SCREENING, ScreenReport)
            if screening is None:
                parser.error(f"{target}: the screening of {cell.label} is not stored; run the study again")
            results[chosen] = SIDES[role], CellResult.from_dict(measured[chosen])
            cell = replace(cell, folds=FOLDS)
            tasks += [FoldTask(cell, files, screening.hyperparameters, fold) for fold in range(args.fits)]
    with WorkerPool(run_task, workers=params.compute.workers, backend=params.compute.backend) as executor:
        for task in tasks:
            executor.submit(task, 0.0)
        for task, report in executor.results():
            if isinstance(report, Failure):
                parser.error(f"{task.cell.target}: {report}")
            fitted = reports.setdefault(task.cell.id, [])
            fitted.append(report)
            if len(fitted) < args.fits:
                continue
            frame = pd.read_parquet(task.files.prepared)
            y_true = frame.loc[frame["split"] == "test", "value"].to_numpy(np.float64)
            errors = [mean_absolute_error(y_true, one.test_pred) for one in fitted]
            best = int(np.argmin([one.val_mae for one in fitted]))
            side, result = results[task.cell.id]
            row = {
                "target": result.target, "side": side, "cell": result.label, "folds": task.cell.folds,
                "study_folds": len(result.cv_mae or ()), "mae_of_study": result.test_mae,
                "mae": errors[best], "mean_mae": float(np.mean(errors)),
                "ratio": errors[best] / (result.test_mae or np.nan),
                "seconds": sum(one.seconds for one in fitted),
            }  # fmt: skip
            rows.append(row)
            pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.6g")
            print(
                " ".join(
                    f"{name}={value:.4g}" if isinstance(value, float) else f"{value}" for name, value in row.items()
                )
            )
    if not rows:
        parser.error("The study chose no scratch or transfer cell of the paper's methods: nothing to fit.")
    table = pd.DataFrame(rows)
    for of_side, ratios in table.groupby("side")["ratio"]:
        mean = np.exp(np.log(ratios).mean())
        print(f"{of_side}: {mean:.3f} times the error of the study on {len(ratios)} targets")


if __name__ == "__main__":
    main()
