"""What only the chosen cells of a target get: the strict refit, the learning curve, and a model to be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.config import StudyConfig
from crossprop.experiments.cells import Cell
from crossprop.experiments.fits import fold_name
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.pieces import FoldReport
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.experiments.selection import Winners
from crossprop.experiments.store import CellStore
from crossprop.training.metrics import mean_absolute_error
from crossprop.vocabulary import Method, Protocol, Side

CURVE = ["cell", "side", "share", "n_train", "test_mae"]
"""Columns of a learning curve."""


@dataclass(frozen=True)
class ModelPart:
    """The fold models of one cell, and what they count in the whole.

    Attributes:
        result: The cell.
        weights: Weight of the cell in every fold's model; 1 where it stands alone.
        folders: Saved model of every fold, or ``None`` where it is gone.
    """

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
        model: What the winner's model is put together from; ``None`` where nobody won.
        curve: Learning curve; columns as in :data:`CURVE`.
    """

    outcomes: tuple[CellOutcome, ...]
    winners: Winners
    model: ChosenModel | None
    curve: pd.DataFrame


def refits_of(study: StudyConfig, target: str, method: Method) -> list[float | None]:
    """Refits that a chosen cell gets: shares of its rows for the learning curve, ``None`` for the strict one."""
    if method.side in (Side.BASE, Side.BLEND):
        return []
    curve = study.learning_curve
    shares = curve.shares if curve is not None and target in curve.targets and not method.ours else ()
    return [*([None] if study.protocol is Protocol.PUBLISHED else []), *shares]


def planned_refits(study: StudyConfig, target: str) -> int:
    """How many refits are to be expected before anybody is chosen: those of best SC and best TL."""
    sides = {method.side: method for method in study.methods if not method.ours}
    return sum(len(refits_of(study, target, method)) for method in sides.values())


def chosen_model(
    winners: Winners,
    results: Sequence[CellResult],
    cells: Sequence[Cell],
    weights: np.ndarray,
    store: CellStore,
) -> ChosenModel | None:
    """What the winner's model is put together from, or ``None`` where nobody won.

    Args:
        winners: The chosen cells.
        results: The winner, or the cells that it blends.
        cells: The same, as they were enumerated.
        weights: Weight of each in every fold's model, shape (n_cells, n_folds).
        store: Keeps the models of the folds.
    """
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
        whole = f"fold_{result.best_fold:02d}"
        for piece, report in fits[result.cell].items():
            if piece != whole and not piece.startswith(f"{whole}.share_"):
                continue
            share = 1.0 if piece == whole else float(piece.removeprefix(f"{whole}.share_"))
            error = mean_absolute_error(inputs.values[inputs.test], report.test_pred)
            rows.append((result.cell, str(result.method.side), share, report.n_train, error))
    table = pd.DataFrame(rows, columns=CURVE)
    if table["share"].nunique() < 2:
        table = table.iloc[:0]
    return table.sort_values(["side", "share"], ignore_index=True)
