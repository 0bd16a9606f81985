"""Writes what a target's stage hands on: tables of its cells and the folder of its winning model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import StoreError
from crossprop.experiments.chosen import ChosenModel, ModelPart, TargetOutcome
from crossprop.experiments.folders import replaced_whole
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.results import CellOutcome
from crossprop.features.matrices import load_features
from crossprop.models.joint import SCALING_FILE
from crossprop.models.saved import FORMAT, INFO_FILE, SOURCE_FILE
from crossprop.serving.evidence import evidence_of, write_evidence
from crossprop.serving.intervals import COVERAGE, conformal_half_width
from crossprop.vocabulary import Method, Representation


def write_target(
    outcome: TargetOutcome, run_ids: Mapping[str, str], files: TargetFiles, folder: Path
) -> None:
    """Write a target's results, whole or not at all.

    Args:
        outcome: All its cells.
        run_ids: Id of every cell's record.
        files: Where the target's inputs lie.
        folder: The target's results folder; replaced.

    Raises:
        StoreError: The folder cannot be written, or a model of the winner is gone.
    """
    winners = outcome.winners
    with replaced_whole(folder) as draft:
        _write_json(draft / "cells.json", [o.result.as_dict() for o in outcome.outcomes])
        _write_json(draft / "runs.json", [_run(o, run_ids) for o in outcome.outcomes])
        _write_json(
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
            _write_model(won, outcome.model, files, draft / "model")
            write_evidence(draft / "model", evidence_of(won.predictions))


def _write_model(won: CellOutcome, model: ChosenModel, files: TargetFiles, folder: Path) -> None:
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
    own = {"cell": won.result.cell, "method": str(won.result.method), "parts": weights}
    _write_json(folder / INFO_FILE, shared | own)


def _write_part(part: ModelPart, shared: dict[str, Any], files: TargetFiles, folder: Path) -> None:
    result = part.result
    folder.mkdir(exist_ok=True)
    members = [f"fold_{i:02d}" for i in range(len(part.folders))]
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
    own = {
        "cell": result.cell,
        "method": str(result.method),
        "representation": str(result.representation or Representation.ELEMENTAL_FRACTIONS),
        "layer": result.layer,
        "source": result.source,
        "members": members,
    }
    _write_json(folder / INFO_FILE, shared | own)


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
    columns = ["number", "state", "value", "seconds"]
    parts = []
    for outcome in outcomes:
        table = outcome.trials
        if not len(table):
            continue
        names = [c for c in table.columns if c.startswith("params_")]
        values = [
            json.dumps(
                {str(n).removeprefix("params_"): v for n, v in row.items() if not pd.isna(v)}, default=float
            )
            for row in table[names].to_dict("records")
        ]
        parts.append(table[columns].assign(cell=outcome.result.cell, params=values))
    if not parts:
        return pd.DataFrame(columns=["cell", *columns, "params"])
    return pd.concat(parts, ignore_index=True)[["cell", *columns, "params"]]


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
