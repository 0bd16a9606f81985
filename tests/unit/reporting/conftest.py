"""A study that never ran: results of every method, as `transfer` would write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.experiments.results import CellResult
from crossprop.reporting.study_info import StudyInfo, TargetInfo
from crossprop.reporting.summary import summarize
from crossprop.training.metrics import bootstrap_interval, mean_absolute_error, mean_absolute_error_q95, r2
from crossprop.vocabulary import EXTRACTION_LAYERS, Method, Protocol, Representation

SOURCES = ("formation_energy", "band_gap")
_EF, _PA, _ACT = (
    Representation.ELEMENTAL_FRACTIONS,
    Representation.PHYSICAL_ATTRIBUTES,
    Representation.ACTIVATIONS,
)
_GRID = [
    (Method.BASE, None, False),
    (Method.ML, _EF, False),
    (Method.ML, _PA, False),
    (Method.DL, _EF, False),
    (Method.DL, _PA, False),
    (Method.ML_FEATEXTR, _ACT, True),
    (Method.DL_FEATEXTR, _ACT, True),
    (Method.FINETUNE, _EF, True),
    (Method.MODFINETUNE, _EF, True),
    (Method.FREEZING, _ACT, True),
]
_ERROR_OF = {
    Method.ML: 0.50, Method.DL: 0.60, Method.ML_FEATEXTR: 0.46, Method.DL_FEATEXTR: 0.49,
    Method.FINETUNE: 0.53, Method.MODFINETUNE: 0.51, Method.FREEZING: 0.80,
}  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """The paper's errors of one target."""

    base_mae: float | None = None
    sc_ef_mae_table2: float | None = None
    tl_mae_table2: float | None = None
    tl_mae_table3_or_5: float | None = None
    sc_mae_table4_or_5: float | None = None
    lowest_mae: float | None = None


@dataclass(frozen=True)
class SyntheticStudy:
    """A written results tree with what is known of it."""

    info: StudyInfo
    results_root: Path
    paper: dict[str, Paper]

    def folder(self, target: str) -> Path:
        return self.results_root / self.info.name / target


def write_study(
    root: Path,
    targets: Sequence[tuple[str, str, str, float, int]],
    *,
    failed: str | None = None,
    seed: int = 7,
) -> SyntheticStudy:
    """Write a study; `targets` are (key, label, unit, scale of the values, rows)."""
    infos, paper = [], {}
    for position, (key, label, unit, scale, n_rows) in enumerate(targets):
        cells = _write_target(
            root / "small" / key, key, unit, scale, n_rows, np.random.default_rng(seed + position), failed
        )
        infos.append(TargetInfo(key=key, label=label, unit=unit, description=f"Made-up {label}", cells=cells))
        if position % 3 != 2:
            paper[key] = Paper(scale, 0.6 * scale, 0.45 * scale, 0.44 * scale, 0.5 * scale, 0.44 * scale)
    info = StudyInfo(
        name="small",
        title="Two small targets",
        protocol=Protocol.PUBLISHED,
        edition="open",
        seed=1234567,
        targets=tuple(infos),
        sources=SOURCES,
        budget=("SC and TL alike: 40 trials and 600 s per target", "10 folds, at most 60 epochs"),
    )
    return SyntheticStudy(info, root, paper)


def _write_target(folder, key, unit, scale, n_rows, rng, failed) -> tuple[str, ...]:
    folder.mkdir(parents=True)
    n_test = n_rows // 10
    y = scale * rng.gamma(2.0, 0.7, n_test)
    spread = {method: error * rng.uniform(0.9, 1.15) for method, error in _ERROR_OF.items()}
    shared = rng.normal(size=n_test)
    cells, predictions = [], []
    for method, representation, from_source in _GRID:
        for source in SOURCES if from_source else (None,):
            name = "/".join(
                filter(None, (key, method, source or (representation and representation.short.lower())))
            )
            if name == failed:
                cells.append(_failed_cell(name, key, unit, source, method, representation, n_rows, n_test))
                continue
            cell, table = _cell(
                name, key, unit, source, method, representation, n_rows, y, scale, spread, shared, rng
            )
            cells.append(cell)
            predictions.append(table)
    _write(folder, cells, predictions, rng)
    return tuple(cell.cell for cell in cells)


def _cell(name, key, unit, source, method, representation, n_rows, y, scale, spread, shared, rng):
    n_test = len(y)
    if method is Method.BASE:
        pred, folds = np.full(n_test, 1.4 * scale), (0.8 * scale,)
    else:
        error = (
            spread[method]
            * (1.0 if source != "band_gap" else 1.06)
            * (0.92 if representation is _PA else 1.0)
        )
        pred = y + scale * error * (0.8 * shared + 0.6 * rng.normal(size=n_test))
        folds = tuple(error * scale * 0.8 * rng.uniform(0.9, 1.1, 10))
    ensemble = 0.5 * pred + 0.5 * y * rng.uniform(0.7, 1.3, n_test)
    low, high = bootstrap_interval(y, pred)
    layers = {Method.FREEZING: EXTRACTION_LAYERS[-1]}
    chosen = EXTRACTION_LAYERS[min(15, rng.geometric(0.3))] if "featextr" in method else layers.get(method)
    cell = CellResult(
        cell=name,
        study="small",
        protocol="published",
        target=key,
        unit=unit,
        source=source,
        method=method,
        representation=representation,
        layer=chosen,
        hyperparameters={} if method is Method.BASE else {"learning_rate": 1e-3},
        n_train=n_rows - n_test,
        n_test=n_test,
        n_trials=0 if method is Method.BASE else 20 if source is None else 8,
        val_mae=float(np.mean(folds) * rng.uniform(0.95, 1.05)),
        cv_mae=tuple(float(fold) for fold in folds),
        best_fold=int(np.argmin(folds)),
        test_mae=mean_absolute_error(y, pred),
        test_mae_low=low,
        test_mae_high=high,
        test_q95=mean_absolute_error_q95(y, pred),
        test_r2=r2(y, pred),
        test_mae_ensemble=mean_absolute_error(y, ensemble),
        test_mae_median=mean_absolute_error(y, np.full(n_test, 1.2 * scale))
        if method is Method.BASE
        else None,
    )
    table = pd.DataFrame(
        {
            "cell": name,
            "split": "test",
            "fold": cell.best_fold,
            "formula": [f"X{i}" for i in range(n_test)],
            "y_true": y,
            "y_pred": pred,
            "y_pred_ensemble": ensemble,
        }
    )
    out_of_fold = table.assign(split="validation", fold=0, y_pred_ensemble=np.nan)
    return cell, pd.concat([out_of_fold, table], ignore_index=True)


def _failed_cell(name, key, unit, source, method, representation, n_rows, n_test) -> CellResult:
    return CellResult(
        cell=name,
        study="small",
        protocol="published",
        target=key,
        unit=unit,
        source=source,
        method=method,
        representation=representation,
        n_train=n_rows - n_test,
        n_test=n_test,
        failure="DivergedError: the loss became NaN in epoch 3 | of 60",
    )


def _write(folder: Path, cells: list[CellResult], predictions: list[pd.DataFrame], rng) -> None:
    done = [cell for cell in cells if cell.failure is None]
    best = {
        side: min((c for c in done if c.method.side == side), key=lambda c: c.cv_mae_mean)
        for side in ("scratch", "transfer")
    }
    chosen = {"best_sc": best["scratch"], "best_tl": best["transfer"]}
    chosen["winner"] = min(chosen.values(), key=lambda c: c.cv_mae_mean)
    runs = [
        {
            "cell": c.cell,
            "run_id": rng.bytes(16).hex(),
            "tune_seconds": float(rng.uniform(5, 60)),
            "fit_seconds": float(rng.uniform(5, 90)),
            "peak_memory": int(rng.integers(5e8, 2e9)),
        }
        for c in cells
    ]
    shuffled = [cells[i] for i in rng.permutation(len(cells))]
    (folder / "cells.json").write_text(json.dumps([c.as_dict() for c in shuffled]), encoding="utf-8")
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    (folder / "winners.json").write_text(json.dumps({k: c.cell for k, c in chosen.items()}), encoding="utf-8")
    pd.concat(predictions, ignore_index=True).to_parquet(folder / "predictions.parquet")


TWO_TARGETS = (
    ("exfoliation_energy", "Exfoli", "meV/atom", 60.0, 1200),
    ("slme", "SLME", "%", 9.4, 1500),
)


@pytest.fixture
def study(tmp_path: Path) -> SyntheticStudy:
    """Two targets, eight methods, two sources."""
    return write_study(tmp_path / "results", TWO_TARGETS)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The written report of the same study; tests only read it."""
    made = write_study(tmp_path_factory.mktemp("results"), TWO_TARGETS)
    folder = tmp_path_factory.mktemp("report")
    summarize(made.info, made.results_root, folder, made.paper)
    return folder


@pytest.fixture
def study_with_failure(tmp_path: Path) -> SyntheticStudy:
    """The same with one cell that diverged."""
    return write_study(tmp_path / "results", TWO_TARGETS, failed="slme/finetune/band_gap")


def rewrite_cells(study: SyntheticStudy, target: str, change) -> None:
    """Change the list of cells of a target in place."""
    path = study.folder(target) / "cells.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")


@pytest.fixture
def edit_cells():
    """Function (study, target, change of the list of cells)."""
    return rewrite_cells


@pytest.fixture
def with_targets():
    """Function (study, target infos) that gives the study other targets."""
    return lambda study, targets: replace(study, info=replace(study.info, targets=tuple(targets)))
