"""A study that never ran: its prepared tables, networks and results of every method, as the stages would write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.catalog import PaperFigures
from crossprop.experiments.results import CellResult
from crossprop.methods import EXTRACTION_LAYERS, Method, Protocol, Representation, Side
from crossprop.paths import StudyPaths
from crossprop.report.study import StudyInfo, TargetInfo
from crossprop.training.metrics import bootstrap_interval, mean_absolute_error, mean_absolute_error_q95, r2

SOURCES = ("formation_energy", "band_gap")
JOINT = "all_sources"
REPEATED = 5
"""Hold-out rows of every target whose composition is in the training rows."""

_EF, _PA, _ACT = (
    Representation.ELEMENTAL_FRACTIONS,
    Representation.PHYSICAL_ATTRIBUTES,
    Representation.ACTIVATIONS,
)
Point = tuple[Method, Representation | None, str | None]
_PAPERS: list[Point] = [
    (Method.BASE, None, None),
    *[(method, taken, None) for method in (Method.ML, Method.DL) for taken in (_EF, _PA)],
    *[(method, _ACT, s) for method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR) for s in SOURCES],
    *[(method, _EF, s) for method in (Method.FINETUNE, Method.MODFINETUNE) for s in SOURCES],
    *[(Method.FREEZING, _ACT, s) for s in SOURCES],
]
_EXTENSIONS: list[Point] = [
    (Method.BOOST, _PA, None),
    (Method.BOOST_SOURCES, Representation.PREDICTED_SOURCES, JOINT),
    (Method.RESNET, Representation.COMBINED, None),
    (Method.RESNET_FINETUNE, Representation.COMBINED, JOINT),
    (Method.BLEND, None, None),
]
_ERROR_OF = {
    Method.ML: 0.50, Method.DL: 0.60, Method.ML_FEATEXTR: 0.46, Method.DL_FEATEXTR: 0.49,
    Method.FINETUNE: 0.53, Method.MODFINETUNE: 0.51, Method.FREEZING: 0.80, Method.BOOST: 0.44,
    Method.BOOST_SOURCES: 0.43, Method.RESNET: 0.45, Method.RESNET_FINETUNE: 0.42, Method.BLEND: 0.40,
}  # fmt: skip


_MEASURED = (
    "cv_mae", "best_fold", "test_mae", "test_mae_low", "test_mae_high", "test_q95", "test_r2", "test_mae_ensemble",
    "strict_test_mae", "strict_n_train",
)  # fmt: skip


@dataclass(frozen=True)
class SyntheticStudy:
    """A written study with what is known of it."""

    info: StudyInfo
    paths: StudyPaths
    paper: dict[str, Any]

    def folder(self, target: str) -> Path:
        return self.paths.results(target)


@dataclass(frozen=True)
class Making:
    """How a study is made; ``failed`` is the cell that fails, ``<target>/<method>/<source or representation>``.

    ``extended`` adds the extension methods; ``halved`` cross-validates only the best cell of a method, and stops
    networks on activations.
    """

    failed: str | None = None
    extended: bool = False
    halved: bool = False


def write_study(
    root: Path,
    targets: Sequence[tuple[str, str, str, float, int]],
    making: Making | None = None,
    shards: dict[str, tuple[str, ...]] | None = None,
) -> SyntheticStudy:
    """Write a study; `targets` are (key, label, unit, scale of the values, rows)."""
    making = making or Making()
    paths, infos, figures = StudyPaths("small", root, shards or {}), [], {}
    for position, (key, label, unit, scale, n_rows) in enumerate(targets):
        rng = np.random.default_rng(7 + position)
        cells = _write_target(paths, key, unit, scale, n_rows, rng, making, curve=not position)
        infos.append(
            TargetInfo(key=key, label=label, unit=unit, description=f"Made-up {label}", cells=cells, folds=10)
        )
        if position % 3 != 2:
            figures[key] = PaperFigures(
                base_mae=scale, sc_ef_mae_table2=0.6 * scale, tl_mae_table2=0.45 * scale,
                tl_mae_table3_or_5=0.44 * scale, sc_mae_table4_or_5=0.5 * scale, lowest_mae=0.44 * scale,
            )  # fmt: skip
    for source in SOURCES:
        write_source(paths.source_model(source), source)
    if making.extended:
        write_source(paths.joint_model(JOINT), JOINT, SOURCES)
    info = StudyInfo(
        name="small",
        title="Two small targets",
        protocol=Protocol.PUBLISHED,
        edition="open",
        seed=1234567,
        targets=tuple(infos),
        sources=SOURCES,
        tier="quick" if making.extended else "",
        elemnets=SOURCES,
        joint={JOINT: SOURCES} if making.extended else {},
        units={"formation_energy": "eV/atom", "band_gap": "eV"},
        budget=("SC and TL alike: 40 trials and 600 s per target", "10 folds, at most 60 epochs"),
    )
    return SyntheticStudy(info, paths, figures)


def rewrite_cells(
    study: SyntheticStudy, target: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    """Change the list of cells of a target in place."""
    path = study.folder(target) / "cells.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")


def _write_target(paths, key, unit, scale, n_rows, rng, making, *, curve) -> tuple[str, ...]:
    n_test = n_rows // 10
    y = scale * rng.gamma(2.0, 0.7, n_test)
    spread = {method: error * rng.uniform(0.9, 1.15) for method, error in _ERROR_OF.items()}
    shared = rng.normal(size=n_test)
    facts = {
        "key": key,
        "unit": unit,
        "n_rows": n_rows,
        "y": y,
        "scale": scale,
        "spread": spread,
        "shared": shared,
    }
    cells, tables = [], []
    for point in _PAPERS + (_EXTENSIONS if making.extended else []):
        method, taken, source = point
        name = "/".join(filter(None, (key, method, source or (taken and taken.short.lower()))))
        cell, table = _cell(name, point, facts, rng)
        if name == making.failed:
            failure = "DivergedError: the loss became NaN in epoch 3 | of 60"
            cell = without_cross_validation(cell, n_trials=0, val_mae=None, failure=failure)
            table = table.iloc[:0]
        cells.append(cell)
        tables.append(table)
    if making.halved:
        cells, tables = halve(cells, tables)
    folder = paths.results(key)
    folder.mkdir(parents=True)
    write_results(folder, cells, tables, rng)
    trials_of(cells, rng).to_parquet(folder / "trials.parquet")
    curve_of(cells if curve else [], n_rows - n_test).to_parquet(folder / "learning_curve.parquet")
    learnt = scale * rng.gamma(2.0, 0.7, n_rows - n_test)
    paths.prepared_folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "formula": [f"T{i}" for i in range(len(learnt))] + [f"X{i}" for i in range(n_test)],
            "composition": [f"c{i}" if i < REPEATED else f"d{i}" for i in range(len(learnt))]
            + [f"c{i}" for i in range(n_test)],
            "value": np.concatenate([learnt, y]),
            "split": ["train"] * len(learnt) + ["test"] * n_test,
        }
    ).to_parquet(paths.prepared(key))
    return tuple(cell.cell for cell in cells)


def _cell(name, point, facts, rng) -> tuple[CellResult, pd.DataFrame]:
    method, taken, source = point
    y, scale, n_test = facts["y"], facts["scale"], len(facts["y"])
    if method is Method.BASE:
        pred, folds = np.full(n_test, 1.4 * scale), (0.8 * scale,)
    else:
        error = (
            facts["spread"][method]
            * (1.06 if source == "band_gap" else 1.0)
            * (0.92 if taken is _PA else 1.0)
        )
        pred = y + scale * error * (0.8 * facts["shared"] + 0.6 * rng.normal(size=n_test))
        folds = tuple(error * scale * 0.8 * rng.uniform(0.9, 1.1, 10))
    ensemble = 0.5 * pred + 0.5 * y * rng.uniform(0.7, 1.3, n_test)
    low, high = bootstrap_interval(y, pred)
    extracts = method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
    layer = EXTRACTION_LAYERS[min(15, rng.geometric(0.3))] if extracts else None
    mae, single = mean_absolute_error(y, pred), method in (Method.BASE, Method.BLEND)
    cell = CellResult(
        cell=name,
        study="small",
        protocol="published",
        target=facts["key"],
        unit=facts["unit"],
        source=source,
        method=method,
        representation=taken,
        layer=EXTRACTION_LAYERS[-1] if method is Method.FREEZING else layer,
        hyperparameters={"ml(PA)": 0.4, "resnet(EF+PA)": 0.6} if method is Method.BLEND else {},
        n_train=facts["n_rows"] - n_test,
        n_test=n_test,
        n_trials=0 if single else 20 if source is None else 8,
        val_mae=None if method is Method.BLEND else float(np.mean(folds) * rng.uniform(0.95, 1.05)),
        cv_mae=tuple(float(fold) for fold in folds),
        best_fold=int(np.argmin(folds)),
        test_mae=mae,
        test_mae_low=low,
        test_mae_high=high,
        test_q95=mean_absolute_error_q95(y, pred),
        test_r2=r2(y, pred),
        test_mae_ensemble=mean_absolute_error(y, ensemble),
        test_mae_median=mean_absolute_error(y, np.full(n_test, 1.2 * scale))
        if method is Method.BASE
        else None,
        strict_test_mae=None if single else mae * rng.uniform(0.99, 1.06),
        strict_n_train=None if single else facts["n_rows"] - n_test - REPEATED,
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


def without_cross_validation(cell: CellResult, **changes) -> CellResult:
    """The same cell as it is when it was only screened."""
    return replace(cell, **dict.fromkeys(_MEASURED), **changes)


def halve(cells: list[CellResult], tables: list[pd.DataFrame]) -> tuple[list[CellResult], list[pd.DataFrame]]:
    """Only the best cell of a method is cross-validated; networks on activations are stopped."""
    best = {c.method: c.cell for c in sorted(cells, key=lambda c: -(c.val_mae or 0.0)) if c.failure is None}
    kept_cells, kept_tables = [], []
    for cell, table in zip(cells, tables, strict=True):
        if cell.failure is not None:
            kept = cell
        elif best[cell.method] != cell.cell:
            kept = without_cross_validation(cell)
        elif cell.method is Method.FREEZING:
            kept = without_cross_validation(cell, stopped="after screening: 61.0 % behind finetune(band_gap)")
        elif cell.method is Method.DL_FEATEXTR:
            reason = "after fold 1 of 10: 12.0 % behind ml(PA)"
            kept = without_cross_validation(cell, stopped=reason, rung_mae=(cell.cv_mae or ())[:1])
        else:
            kept = cell
        kept_cells.append(kept)
        kept_tables.append(table if kept.cv_mae else table.iloc[:0])
    return kept_cells, kept_tables


def write_results(folder: Path, cells: list[CellResult], tables: list[pd.DataFrame], rng) -> None:
    """Write cells, runs, winners and predictions; the cells in any order."""
    done = [cell for cell in cells if cell.cv_mae is not None]
    papers = [c for c in done if not c.method.extension and c.method.side is not Side.BASE]
    best = {
        role: min((c for c in papers if c.method.side is side), key=lambda c: c.cv_mae_mean)
        for role, side in (("best_sc", Side.SCRATCH), ("best_tl", Side.TRANSFER))
    }
    extensions = [c for c in done if c.method.extension]
    best["winner"] = min([*best.values(), *extensions], key=lambda c: c.cv_mae_mean)
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
    chosen = {c.cell for c in best.values()}
    cells = [c if c.cell in chosen else replace(c, strict_test_mae=None, strict_n_train=None) for c in cells]
    shuffled = [cells[i] for i in rng.permutation(len(cells))]
    (folder / "cells.json").write_text(json.dumps([c.as_dict() for c in shuffled]), encoding="utf-8")
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    (folder / "winners.json").write_text(json.dumps({k: c.cell for k, c in best.items()}), encoding="utf-8")
    pd.concat(tables, ignore_index=True).to_parquet(folder / "predictions.parquet")


def trials_of(cells: list[CellResult], rng) -> pd.DataFrame:
    """Four trials a cell, one of them pruned; those of extracting cells on other layers than the chosen one."""
    rows = []
    for cell in cells:
        if cell.val_mae is None or not cell.n_trials:
            continue
        extracts = cell.method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
        layers = [cell.layer, *rng.choice(EXTRACTION_LAYERS, 3, replace=False)] if extracts else [None] * 4
        for number, layer in enumerate(layers):
            params = {"learning_rate": 0.001} | ({"layer": str(layer)} if layer else {})
            value = cell.val_mae * (1.0 if number == 0 else rng.uniform(1.01, 1.6))
            state = "PRUNED" if number == 3 else "COMPLETE"
            rows.append((cell.cell, number, state, value, 1.0, json.dumps(params)))
    return pd.DataFrame(rows, columns=["cell", "number", "state", "value", "seconds", "params"])


def curve_of(cells: list[CellResult], n_train: int) -> pd.DataFrame:
    """The best scratch and transfer cell of the paper's on three shares of the rows; nothing without cells."""
    rows = []
    for side in (Side.SCRATCH, Side.TRANSFER):
        of_side = [
            c for c in cells if c.method.side is side and not c.method.extension and c.cv_mae is not None
        ]
        if of_side:
            best = min(of_side, key=lambda c: c.cv_mae_mean)
            rows += [
                (best.cell, side.value, share, int(share * n_train), best.test_mae * share**-0.3)
                for share in (0.1, 0.5, 1.0)
            ]
    return pd.DataFrame(rows, columns=["cell", "side", "share", "n_train", "test_mae"])


def write_source(folder: Path, name: str, sources: tuple[str, ...] = ()) -> None:
    """Write the provenance of a source network; of a joint one if it has sources."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "source": name, "edition": "open", "n_train": 9000, "n_validation": 1000, "validation_mae": 0.0812,
        "validation_mae_of_median": 0.522, "seconds": 430.9, "peak_memory": 2**30, "key": f"key of {name}",
    }  # fmt: skip
    if sources:
        values |= {
            "n_train_by_source": {source: 9000 + i for i, source in enumerate(sources)},
            "validation_mae_by_source": {source: 0.07 + 0.01 * i for i, source in enumerate(sources)},
            "validation_mae_of_median_by_source": dict.fromkeys(sources, 0.5),
        }
    (folder / "provenance.json").write_text(json.dumps(values), encoding="utf-8")
