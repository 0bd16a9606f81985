"""Who wins: the best cell of each method, the best of each side; by validation errors alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossprop.experiments.cells import Cell
from crossprop.experiments.results import CellResult
from crossprop.vocabulary import Method, Side


@dataclass(frozen=True)
class Winners:
    """Cells chosen by mean validation MAE of the cross-validation; the hold-out has no say.

    Attributes:
        best_sc: Best scratch cell of the paper's methods, or ``None`` where none finished.
        best_tl: Best transfer cell of the paper's methods, likewise.
        best_own: Best cell of the methods of ours, likewise.
    """

    best_sc: CellResult | None
    best_tl: CellResult | None
    best_own: CellResult | None = None

    @property
    def winner(self) -> CellResult | None:
        """The best of them; the earlier, being simpler, where they are equal."""
        finished = [result for result in (self.best_sc, self.best_tl, self.best_own) if result is not None]
        return min(finished, key=_cv_mean) if finished else None


def best_of_method(cells: Sequence[Cell], val_mae: Mapping[str, float]) -> dict[Method, Cell]:
    """For every method the cell with the least validation MAE of the screening; the earlier one of equals.

    Args:
        cells: Cells in the order of enumeration.
        val_mae: Validation MAE by cell id; cells that failed are missing.
    """
    best: dict[Method, Cell] = {}
    for cell in cells:
        if cell.id not in val_mae:
            continue
        if cell.method not in best or val_mae[cell.id] < val_mae[best[cell.method].id]:
            best[cell.method] = cell
    return best


def choose_winners(results: Iterable[CellResult]) -> Winners:
    """The best scratch, transfer and own cell among those with a whole cross-validation."""
    validated = [result for result in results if result.cv_mae is not None]

    def best(side: Side) -> CellResult | None:
        return min(
            (r for r in validated if r.method.side is side and not r.method.ours), key=_cv_mean, default=None
        )

    own = min((r for r in validated if r.method.ours), key=_cv_mean, default=None)
    return Winners(best(Side.SCRATCH), best(Side.TRANSFER), own)


def _cv_mean(result: CellResult) -> float:
    mean = result.cv_mae_mean
    assert mean is not None
    return mean
