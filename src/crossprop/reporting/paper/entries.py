"""One number of ours beside one of the paper's: what it is, how far apart they are, who has the lower error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from crossprop.experiments.results import CellResult
from crossprop.reporting.statistics import p_against_constant, standard_error
from crossprop.reporting.target_results import TargetResults, best_validated
from crossprop.reporting.wording import cell_name, number, status


class Outcome(StrEnum):
    """Our error against a published one."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell of ours beside a published error.

    Attributes:
        target: Key of the target.
        cell: The cell whose number stands here; None where none was cross-validated.
        run_id: Where it is tracked.
        status: ``cross-validated``, or why there is no number.
        validated: How many of the cells that could stand here were cross-validated.
        candidates: How many could.
        mae: Hold-out error of the best fold model, the paper's number, in the target's unit.
        standard_error: Standard error of that mean over the hold-out's rows.
        p_value: Two-sided p of "our error equals the published one".
        ensemble_mae: Hold-out error of the mean of all fold models.
        ensemble_standard_error: Its standard error.
        published: The paper's error.
    """

    target: str
    cell: CellResult | None
    run_id: str
    status: str
    validated: int
    candidates: int
    published: float | None
    mae: float | None = None
    standard_error: float | None = None
    p_value: float | None = None
    ensemble_mae: float | None = None
    ensemble_standard_error: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our error over the published one."""
        return self.mae / self.published if self.mae is not None and self.published else None

    @property
    def ensemble_ratio(self) -> float | None:
        """The same of the mean of all fold models."""
        return (
            self.ensemble_mae / self.published if self.ensemble_mae is not None and self.published else None
        )

    @property
    def outcome(self) -> Outcome | None:
        """Win, tie or loss of the best fold model; None without either number."""
        return judge(self.mae, self.standard_error, self.published)

    @property
    def ensemble_outcome(self) -> Outcome | None:
        """Win, tie or loss of the mean of all fold models."""
        return judge(self.ensemble_mae, self.ensemble_standard_error, self.published)


def judge(ours: float | None, error: float | None, published: float | None) -> Outcome | None:
    """A tie where the two are within one standard error of ours, else a win for the lower one.

    >>> str(judge(1.00, 0.05, 1.04)), str(judge(1.00, 0.05, 1.06))
    ('tie', 'win')
    """
    if ours is None or published is None:
        return None
    if error is not None and abs(ours - published) <= error:
        return Outcome.TIE
    return Outcome.WIN if ours < published else Outcome.LOSS


def enter(target: TargetResults, candidates: Sequence[CellResult], published: float | None) -> Entry:
    """The best of some cells by cross-validation beside a published error.

    Where none was cross-validated, the one that came furthest stands there with what became of it.

    Args:
        target: Results of the target.
        candidates: Cells that the published number is to be held against.
        published: The paper's error, None where it has none.
    """
    validated = [cell for cell in candidates if cell.cv_mae is not None and cell.failure is None]
    best = best_validated(candidates)
    if best is None:
        return Entry(
            target=target.info.key,
            cell=None,
            run_id=target.run_id(_furthest(candidates)),
            status=_why_none(candidates),
            validated=0,
            candidates=len(candidates),
            published=published,
        )
    rows = target.hold_out(best)
    true, pred, mean = (rows[c].to_numpy(dtype=float) for c in ("y_true", "y_pred", "y_pred_ensemble"))
    errors, ensemble = np.abs(true - pred), np.abs(true - mean)
    known = bool(np.isfinite(ensemble).all()) and best.test_mae_ensemble is not None
    return Entry(
        target=target.info.key,
        cell=best,
        run_id=target.run_id(best),
        status=status(best),
        validated=len(validated),
        candidates=len(candidates),
        published=published,
        mae=best.test_mae,
        standard_error=standard_error(errors),
        p_value=None if published is None else p_against_constant(errors, published),
        ensemble_mae=best.test_mae_ensemble if known else None,
        ensemble_standard_error=standard_error(ensemble) if known else None,
    )


def _furthest(cells: Sequence[CellResult]) -> CellResult | None:
    """The cell with the least screening error; any failed one where none was screened."""
    screened = [(cell.val_mae, cell) for cell in cells if cell.val_mae is not None]
    if screened:
        return min(screened, key=lambda pair: pair[0])[1]
    return cells[0] if cells else None


def _why_none(cells: Sequence[CellResult]) -> str:
    best = _furthest(cells)
    if best is None:
        return "not in this study"
    where = "" if best.val_mae is None else f" (screening MAE {number(best.val_mae)})"
    return f"{status(best)}: {cell_name(best)}{where}"
