"""What only the chosen cells of a target get: the strict refit, the learning curve, and the model that is written."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import StudyConfig
from crossprop.data.compositions import ELEMENTS
from crossprop.errors import StoreError
from crossprop.experiments.grid import fold_name
from crossprop.experiments.inputs import TargetFiles, TargetInputs
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.experiments.selection import Winners
from crossprop.experiments.tasks import FoldReport
from crossprop.features.matrices import load_features
from crossprop.io import atomic_folder, write_json
from crossprop.methods import Method, Protocol, Representation, Side
from crossprop.models.saved import FORMAT, INFO_FILE, SCALING_FILE, SOURCE_FILE
from crossprop.models.transfer import check_network
from crossprop.training.metrics import mean_absolute_error
from crossprop.uncertainty.evidence import evidence_of, write_evidence

CURVE = ["cell", "side", "share", "n_train", "test_mae"]


@dataclass(frozen=True)
class ModelPart:
    """The fold models of one cell (``None`` where one is gone) and its weight in every fold of the winner's model."""

    result: CellResult
    weights: tuple[float, ...]
    folders: tuple[Path | None, ...]

    @property
    def missing(self) -> list[str]:
        """Fold models that are gone and could not be fitted again, such as ``fold_01 of ml(EF)``."""
        gone = [k for k, folder in enumerate(self.folders) if folder is None]
        return [f"{fold_name(k)} of {self.result.label}" for k in gone]


@dataclass(frozen=True)
class TargetOutcome:
    """All cells of one target, in the order of enumeration, the chosen ones, and what goes with them.

    ``parts`` make up the winner's model: itself, or the cells that it blends; empty without a winner. ``curve`` is the
    learning curve, with the columns :data:`CURVE`.
    """

    outcomes: tuple[CellOutcome, ...]
    winners: Winners
    parts: tuple[ModelPart, ...]
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


def with_refits(outcome: CellOutcome, refits: Mapping[str, FoldReport], inputs: TargetInputs) -> CellOutcome:
    """The outcome with what its refits, by name, cost, and with the hold-out error of the strict one."""
    result, spent = outcome.result, sum(refit.seconds for refit in refits.values())
    if strict := next((refit for name, refit in refits.items() if name.endswith(".strict")), None):
        error = mean_absolute_error(inputs.values[inputs.test], strict.test_pred)
        result = replace(result, strict_test_mae=error, strict_n_train=strict.n_train)
    cost = replace(outcome.cost, fit_seconds=outcome.cost.fit_seconds + spent)
    return replace(outcome, result=result, cost=cost)


def curve_table(winners: Winners, fits: Mapping[tuple[str, str], FoldReport], inputs: TargetInputs) -> pd.DataFrame:
    """Hold-out error of the best scratch and transfer cell by share of the training rows of their best fold."""
    rows = []
    for result in (winners.best_sc, winners.best_tl):
        if result is None or result.best_fold is None or not len(inputs.test):
            continue
        whole = fold_name(result.best_fold)
        for (cell, name), report in fits.items():
            if cell == result.cell and (name == whole or name.startswith(f"{whole}.share_")):
                share = 1.0 if name == whole else float(name.removeprefix(f"{whole}.share_"))
                error = mean_absolute_error(inputs.values[inputs.test], report.test_pred)
                rows.append((cell, str(result.method.side), share, report.n_train, error))
    table = pd.DataFrame(rows, columns=CURVE).sort_values(["side", "share"], ignore_index=True)
    return table if table["share"].nunique() > 1 else table.iloc[:0]


def write_target(outcome: TargetOutcome, run_ids: Mapping[str, str], files: TargetFiles, folder: Path) -> None:
    """Write a target's results folder, whole or not at all (StoreError); ``run_ids`` are those of the records."""
    winners = outcome.winners
    chosen = {"best_sc": winners.best_sc, "best_tl": winners.best_tl, "winner": winners.winner}
    cells = {one.result.cell: asdict(one.cost) for one in outcome.outcomes}
    runs = [{"cell": cell, "run_id": run_ids[cell], **cost} for cell, cost in cells.items()]
    with atomic_folder(folder) as draft:
        write_json(draft / "cells.json", [one.result.as_dict() for one in outcome.outcomes])
        write_json(draft / "runs.json", runs)
        write_json(draft / "winners.json", {name: cell and cell.cell for name, cell in chosen.items()})
        _stack(outcome.outcomes, "predictions").to_parquet(draft / "predictions.parquet")
        _stack(outcome.outcomes, "history").to_parquet(draft / "history.parquet")
        _trials(outcome.outcomes).to_parquet(draft / "trials.parquet")
        outcome.curve.to_parquet(draft / "learning_curve.parquet")
        (draft / "model").mkdir()
        if winners.winner is not None:
            won = next(one for one in outcome.outcomes if one.result.cell == winners.winner.cell)
            _write_model(won, outcome, files, draft / "model")
            evidence = evidence_of(won.predictions, pd.read_parquet(files.prepared))
            write_evidence(draft / "model", evidence)


def _write_model(won: CellOutcome, outcome: TargetOutcome, files: TargetFiles, folder: Path) -> None:
    parts = outcome.parts
    inputs = TargetInputs(files, won.result.protocol)
    fractions = load_features(files.features, Representation.ELEMENTAL_FRACTIONS)[inputs.train]
    shared = {
        "format": FORMAT,
        "study": won.result.study,
        "target": won.result.target,
        "unit": won.result.unit,
        "errors": {  # beside its own those of the plain models
            o.result.label: {"cv_mae": o.result.cv_mae_mean, "test_mae": o.result.test_mae_ensemble}
            for o in (won, *outcome.outcomes)
            if o is won or (o.result.method.side is Side.PLAIN and o.result.cv_mae is not None)
        },
        "elements": list(ELEMENTS),
        "seen_elements": [ELEMENTS[i] for i in np.flatnonzero(fractions.max(axis=0) > 0)],
    }
    if won.result.method is not Method.BLEND:
        _write_part(parts[0], shared, files, folder)
        return
    weights = {}
    for i, part in enumerate(parts):
        weights[f"part_{i:02d}"] = list(part.weights)
        _write_part(part, shared, files, folder / f"part_{i:02d}")
    blend = {"cell": won.result.cell, "method": str(won.result.method), "parts": weights}
    write_json(folder / INFO_FILE, shared | blend)


def _write_part(part: ModelPart, shared: dict[str, Any], files: TargetFiles, folder: Path) -> None:
    result = part.result
    folder.mkdir(exist_ok=True)
    members = [fold_name(i) for i in range(len(part.folders))]
    for name, model in zip(members, part.folders, strict=True):
        if model is None:
            raise StoreError(f"the model {name} of {result.label} is gone from the cell store. Run the stage again.")
        shutil.copytree(model, folder / name)
    if result.representation in (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES):
        network = dict(files.networks)[str(result.source)]
        check_network(network.parent)
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


def _stack(outcomes: Sequence[CellOutcome], table: str) -> pd.DataFrame:
    """One table of all cells, the cell in front."""
    frames = {one.result.cell: getattr(one, table) for one in outcomes}
    parts = {cell: frame for cell, frame in frames.items() if len(frame)}
    parts = parts or {"": next(iter(frames.values()))}
    stacked = pd.concat([frame.assign(cell=cell) for cell, frame in parts.items()], ignore_index=True)
    return stacked[["cell", *stacked.columns.drop("cell")]]


def _trials(outcomes: Sequence[CellOutcome]) -> pd.DataFrame:
    """All trials, the parameters of each as JSON."""
    columns = ["cell", "number", "state", "value", "seconds", "params"]
    parts = []
    for outcome in outcomes:
        named = outcome.trials.filter(like="params_")
        given = [
            {str(n).removeprefix("params_"): v for n, v in row.items() if not pd.isna(v)}
            for row in named.to_dict("records")
        ]
        if given:
            params = [json.dumps(row, default=float) for row in given]
            parts.append(outcome.trials.assign(cell=outcome.result.cell, params=params)[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
