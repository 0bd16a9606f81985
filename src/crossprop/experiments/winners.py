"""What only the chosen cells of a target get: the strict refit, the learning curve, and the model that is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import StudyConfig
from crossprop.data.compositions import ELEMENTS
from crossprop.errors import StoreError
from crossprop.experiments.cache import CellStore
from crossprop.experiments.grid import Cell, fold_name
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.experiments.selection import Winners
from crossprop.experiments.tasks import FoldReport
from crossprop.features.matrices import load_features
from crossprop.io import atomic_folder, write_json
from crossprop.methods import Method, Protocol, Representation, Side
from crossprop.models.saved import FORMAT, INFO_FILE, SCALING_FILE, SOURCE_FILE
from crossprop.training.metrics import mean_absolute_error
from crossprop.uncertainty.conformal import COVERAGE, conformal_half_width
from crossprop.uncertainty.evidence import evidence_of, write_evidence

CURVE = ["cell", "side", "share", "n_train", "test_mae"]
"""Columns of a learning curve."""


@dataclass(frozen=True)
class ModelPart:
    """The fold models of one cell (``None`` where one is gone) and its weight in every fold of the winner's model."""

    result: CellResult
    weights: tuple[float, ...]
    folders: tuple[Path | None, ...]


@dataclass(frozen=True)
class ChosenModel:
    """The winner and the parts that its model is made of: itself, or the cells that it blends."""

    winner: CellResult
    parts: tuple[ModelPart, ...]

    @property
    def missing(self) -> list[str]:
        """Fold models that are gone and could not be fitted again, such as ``fold_01 of ml(EF)``."""
        return [
            f"{fold_name(k)} of {part.result.label}"
            for part in self.parts
            for k, folder in enumerate(part.folders)
            if folder is None
        ]


@dataclass(frozen=True)
class TargetOutcome:
    """All cells of one target, in the order of enumeration, the chosen ones, and what goes with them.

    Attributes:
        outcomes: Every cell.
        winners: The chosen cells.
        model: What the winner's model is made of; ``None`` without a winner.
        curve: Learning curve; columns as in :data:`CURVE`.
    """

    outcomes: tuple[CellOutcome, ...]
    winners: Winners
    model: ChosenModel | None
    curve: pd.DataFrame


def refits_of(study: StudyConfig, target: str, method: Method) -> list[float | None]:
    """Refits that a chosen cell gets: shares of its rows for the learning curve, ``None`` for the strict one."""
    if not method.tuned:
        return []
    curve = study.learning_curve
    shares = curve.shares if curve is not None and target in curve.targets and not method.extension else ()
    return [*([None] if study.protocol is Protocol.PUBLISHED else []), *shares]


def planned_refits(study: StudyConfig, target: str) -> int:
    """How many refits are to be expected before the cells are chosen: those of best SC and best TL."""
    sides = {method.side: method for method in study.methods if not method.extension}
    return sum(len(refits_of(study, target, method)) for method in sides.values())


def chosen_model(
    winners: Winners,
    results: Sequence[CellResult],
    cells: Sequence[Cell],
    weights: np.ndarray,
    store: CellStore,
) -> ChosenModel | None:
    """What the winner's model is made of: the winner or the cells that it blends, with their weights in every fold."""
    if winners.winner is None:
        return None
    parts = [
        ModelPart(
            result,
            tuple(float(w) for w in row),
            tuple(store.model(cell, fold_name(k)) for k in range(cell.folds)),
        )
        for result, cell, row in zip(results, cells, weights, strict=True)
    ]
    return ChosenModel(winners.winner, tuple(parts))


def with_strict(outcome: CellOutcome, refit: FoldReport | None, inputs: TargetInputs) -> CellOutcome:
    """The outcome with the hold-out error of its strict refit, where there is one."""
    if refit is None:
        return outcome
    error = mean_absolute_error(inputs.values[inputs.test], refit.test_pred)
    result = replace(outcome.result, strict_test_mae=error, strict_n_train=refit.n_train)
    cost = replace(outcome.cost, fit_seconds=outcome.cost.fit_seconds + refit.seconds)
    return replace(outcome, result=result, cost=cost)


def curve_table(
    winners: Winners, fits: Mapping[str, Mapping[str, FoldReport]], inputs: TargetInputs
) -> pd.DataFrame:
    """Hold-out error of the best scratch and transfer cell by share of the training rows of their best fold."""
    rows = []
    for result in (winners.best_sc, winners.best_tl):
        if result is None or result.best_fold is None or not len(inputs.test):
            continue
        whole = fold_name(result.best_fold)
        for name, report in fits[result.cell].items():
            if name != whole and not name.startswith(f"{whole}.share_"):
                continue
            share = 1.0 if name == whole else float(name.removeprefix(f"{whole}.share_"))
            error = mean_absolute_error(inputs.values[inputs.test], report.test_pred)
            rows.append((result.cell, str(result.method.side), share, report.n_train, error))
    table = pd.DataFrame(rows, columns=CURVE)
    if table["share"].nunique() < 2:
        table = table.iloc[:0]
    return table.sort_values(["side", "share"], ignore_index=True)


def write_target(
    outcome: TargetOutcome, run_ids: Mapping[str, str], files: TargetFiles, folder: Path
) -> None:
    """Write a target's results folder, whole or not at all; ``run_ids`` are the ids of the cells' records.

    Raises:
        StoreError: The folder cannot be written, or a model of the winner is gone.
    """
    winners = outcome.winners
    with atomic_folder(folder) as draft:
        write_json(draft / "cells.json", [o.result.as_dict() for o in outcome.outcomes])
        write_json(draft / "runs.json", [_run(o, run_ids) for o in outcome.outcomes])
        write_json(
            draft / "winners.json",
            {
                "best_sc": winners.best_sc.cell if winners.best_sc else None,
                "best_tl": winners.best_tl.cell if winners.best_tl else None,
                "winner": winners.winner.cell if winners.winner else None,
            },
        )
        _stack(outcome.outcomes, "predictions").to_parquet(draft / "predictions.parquet")
        _stack(outcome.outcomes, "history").to_parquet(draft / "history.parquet")
        _trials(outcome.outcomes).to_parquet(draft / "trials.parquet")
        outcome.curve.to_parquet(draft / "learning_curve.parquet")
        (draft / "model").mkdir()
        if outcome.model is not None:
            won = next(o for o in outcome.outcomes if o.result.cell == outcome.model.winner.cell)
            _write_model(won, outcome.model, files, draft / "model", _plain_models(outcome.outcomes))
            write_evidence(draft / "model", evidence_of(won.predictions))


def _plain_models(outcomes: Sequence[CellOutcome]) -> dict[str, dict[str, float | None]]:
    """Errors of the plain models, which a saved model states beside its own."""
    return {
        o.result.label: {"cv_mae": o.result.cv_mae_mean, "test_mae": o.result.test_mae_ensemble}
        for o in outcomes
        if o.result.method.side is Side.PLAIN and o.result.cv_mae is not None
    }


def _write_model(
    won: CellOutcome,
    model: ChosenModel,
    files: TargetFiles,
    folder: Path,
    plain: Mapping[str, Mapping[str, float | None]],
) -> None:
    inputs = TargetInputs(files, won.result.protocol)
    fractions = load_features(files.features, Representation.ELEMENTAL_FRACTIONS)[inputs.train]
    validation = won.predictions[won.predictions["split"] == "validation"]
    seen = set(np.flatnonzero(fractions.max(axis=0) > 0))
    residuals = (validation["y_true"] - validation["y_pred"]).to_numpy()
    shared = {
        "format": FORMAT,
        "study": won.result.study,
        "target": won.result.target,
        "unit": won.result.unit,
        "errors": {
            won.result.label: {"cv_mae": won.result.cv_mae_mean, "test_mae": won.result.test_mae_ensemble},
            **plain,
        },
        "elements": list(ELEMENTS),
        "interval": {"coverage": COVERAGE, "half_width": conformal_half_width(residuals)},
        "seen_elements": [element for i, element in enumerate(ELEMENTS) if i in seen],
    }
    if won.result.method is not Method.BLEND:
        _write_part(model.parts[0], shared, files, folder)
        return
    parts = {f"part_{i:02d}": part for i, part in enumerate(model.parts)}
    for name, part in parts.items():
        _write_part(part, shared, files, folder / name)
    weights = {name: list(part.weights) for name, part in parts.items()}
    blend = {"cell": won.result.cell, "method": str(won.result.method), "parts": weights}
    write_json(folder / INFO_FILE, shared | blend)


def _write_part(part: ModelPart, shared: dict[str, Any], files: TargetFiles, folder: Path) -> None:
    result = part.result
    folder.mkdir(exist_ok=True)
    members = [fold_name(i) for i in range(len(part.folders))]
    for name, model in zip(members, part.folders, strict=True):
        if model is None:
            raise StoreError(
                f"the model {name} of {result.label} is gone from the cell store. Run the stage again."
            )
        shutil.copytree(model, folder / name)
    if result.representation in (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES):
        network = dict(files.networks)[str(result.source)]
        shutil.copyfile(network, folder / SOURCE_FILE)
        if result.representation is Representation.PREDICTED_SOURCES:
            shutil.copyfile(network.with_name(SCALING_FILE), folder / SCALING_FILE)
    member = {
        "cell": result.cell,
        "method": str(result.method),
        "representation": str(result.representation or Representation.ELEMENTAL_FRACTIONS),
        "layer": result.layer,
        "source": result.source,
        "members": members,
    }
    write_json(folder / INFO_FILE, shared | member)


def _run(outcome: CellOutcome, run_ids: Mapping[str, str]) -> dict[str, Any]:
    cell = outcome.result.cell
    return {
        "cell": cell,
        "run_id": run_ids[cell],
        "tune_seconds": round(outcome.cost.tune_seconds, 3),
        "fit_seconds": round(outcome.cost.fit_seconds, 3),
        "peak_memory": outcome.cost.peak_memory,
    }


def _stack(outcomes: tuple[CellOutcome, ...], table: str) -> pd.DataFrame:
    frames = [getattr(o, table) for o in outcomes]
    parts = [f.assign(cell=o.result.cell) for f, o in zip(frames, outcomes, strict=True) if len(f)]
    stacked = pd.concat(parts, ignore_index=True) if parts else frames[0].assign(cell="")
    return stacked[["cell", *(c for c in stacked.columns if c != "cell")]]


def _trials(outcomes: tuple[CellOutcome, ...]) -> pd.DataFrame:
    columns = ["cell", "number", "state", "value", "seconds", "params"]
    parts = [pd.DataFrame(columns=columns)] if not any(len(o.trials) for o in outcomes) else []
    for outcome in outcomes:
        named = outcome.trials.filter(like="params_").rename(
            columns=lambda name: name.removeprefix("params_")
        )
        given = [{n: v for n, v in row.items() if not pd.isna(v)} for row in named.to_dict("records")]
        if given:
            params = [json.dumps(row, default=float) for row in given]
            parts.append(outcome.trials.assign(cell=outcome.result.cell, params=params)[columns])
    return pd.concat(parts, ignore_index=True)
