"""`published` against `strict`: how much of the published error is owed to compositions seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.reporting.part import Row
from crossprop.reporting.statistics import geometric_mean, sign_test, standard_error
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, number, p_value, percent


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Errors of one chosen cell on hold-out rows whose composition it has, or has not, learnt from.

    Attributes:
        target: Results of the target.
        role: What the cell was chosen as.
        cell: The cell.
        n_test: Hold-out rows.
        n_repeated: Those whose composition stands in the training rows.
        n_train_repeated: Training rows whose composition stands in the hold-out.
        mae_repeated: Hold-out MAE on the repeated rows; None without any.
        mae_new: The same on the new ones.
        error_repeated: Standard error of ``mae_repeated``.
        error_new: Standard error of ``mae_new``.
    """

    target: TargetResults
    role: str
    cell: CellResult
    n_test: int
    n_repeated: int
    n_train_repeated: int
    mae_repeated: float | None
    mae_new: float | None
    error_repeated: float | None
    error_new: float | None

    @property
    def strict_ratio(self) -> float | None:
        """MAE of the same fold model refitted without the repeated compositions over the published one."""
        if self.cell.strict_test_mae is None or not self.cell.test_mae:
            return None
        return self.cell.strict_test_mae / self.cell.test_mae


def repeats(results: Sequence[TargetResults]) -> list[Repeats]:
    """Every chosen cell of every target.

    Raises:
        StoreError: A hold-out row is not in the prepared table.
    """
    return [
        _of_cell(target, role, cell)
        for target in results
        for role, cell in (
            ("best SC", target.best_sc),
            ("best TL", target.best_tl),
            ("winner", target.winner),
        )
        if cell is not None and (role != "winner" or cell.method.ours)
    ]


def repeat_rows(found: Sequence[Repeats]) -> list[Row]:
    """One row per chosen cell."""
    return [
        {
            "target": one.target.info.key,
            "label": one.target.info.label,
            "unit": one.target.info.unit,
            "role": one.role,
            "cell": cell_name(one.cell),
            "n_test": one.n_test,
            "n_test_repeated": one.n_repeated,
            "n_train_repeated": one.n_train_repeated,
            "mae": one.cell.test_mae,
            "mae_on_repeated": one.mae_repeated,
            "standard_error_on_repeated": one.error_repeated,
            "mae_on_new": one.mae_new,
            "standard_error_on_new": one.error_new,
            "strict_mae": one.cell.strict_test_mae,
            "strict_n_train": one.cell.strict_n_train,
            "strict_over_published": one.strict_ratio,
            "run_id": one.target.run_id(one.cell),
        }
        for one in found
    ]


def repeats_sentence(found: Sequence[Repeats]) -> str:
    """How many hold-out rows repeat a composition, and what a strict split changes; empty without any."""
    first = {one.target.info.key: one for one in found}.values()
    rows, repeated = sum(one.n_test for one in first), sum(one.n_repeated for one in first)
    if not repeated:
        return ""
    told = [
        f"the {role} changes by {percent(geometric_mean(ratios) - 1, 1)}"
        for role in ("best SC", "best TL")
        if (ratios := _strict_ratios(found, role))
    ]
    strict = (
        f" Refitted without those training rows, the hold-out MAE of {', that of '.join(told)} in the geometric mean "
        "over the targets."
        if told
        else ""
    )
    return (
        f"{repeated:,} of {rows:,} hold-out rows ({100 * repeated / rows:.1f} %) repeat a composition of the training "
        f"rows.{strict}"
    )


def repeats_findings(found: Sequence[Repeats]) -> list[str]:
    """One sentence a view and side."""
    lines = []
    for role, name in (
        ("best SC", "best SC"),
        ("best TL", "best TL"),
        ("winner", "winner, where it is ours"),
    ):
        if ratios := _strict_ratios(found, role):
            test = sign_test([1.0] * len(ratios), ratios)
            lines.append(
                f"Strict, {name}: the hold-out MAE is {percent(geometric_mean(ratios) - 1, 1)} in the geometric mean "
                f"over {len(ratios)} targets, higher on {test.wins} of {test.n} (one-tailed exact sign test "
                f"{p_value(test.p_value)})."
            )
        both = [one for one in found if one.role == role and one.mae_repeated and one.mae_new]
        if both and role != "winner":
            of_rows = [(one.mae_repeated or 0.0) / (one.mae_new or 1.0) for one in both]
            test = sign_test(of_rows, [1.0] * len(of_rows))
            lines.append(
                f"On repeated rows the {name} has {number(geometric_mean(of_rows), 3)} times the MAE that it has on "
                f"new rows (geometric mean of {len(both)} targets; lower on {test.wins}, {p_value(test.p_value)})."
            )
    return lines


def _strict_ratios(found: Sequence[Repeats], role: str) -> list[float]:
    return [one.strict_ratio for one in found if one.role == role and one.strict_ratio]


def _of_cell(target: TargetResults, role: str, cell: CellResult) -> Repeats:
    prepared, rows = target.prepared, target.hold_out(cell)
    compositions = dict(zip(prepared["formula"], prepared["composition"], strict=True))
    if lost := [formula for formula in rows["formula"] if formula not in compositions]:
        raise StoreError(
            f"Target '{target.info.key}': hold-out row '{lost[0]}' is not in the prepared table. Run the stages "
            "`prepare` and `transfer` of this target again."
        )
    held_out = [compositions[formula] for formula in rows["formula"]]
    learnt = prepared.loc[prepared["split"] != "test", "composition"]
    if cell.protocol == "strict":
        learnt = learnt[~learnt.isin(held_out)]
    seen = set(learnt)
    repeated = np.array([composition in seen for composition in held_out])
    errors = np.abs(rows["y_true"].to_numpy(dtype=float) - rows["y_pred"].to_numpy(dtype=float))
    return Repeats(
        target=target,
        role=role,
        cell=cell,
        n_test=len(rows),
        n_repeated=int(repeated.sum()),
        n_train_repeated=int(learnt.isin(held_out).sum()),
        mae_repeated=float(errors[repeated].mean()) if repeated.any() else None,
        mae_new=float(errors[~repeated].mean()) if (~repeated).any() else None,
        error_repeated=standard_error(errors[repeated]) if repeated.sum() > 1 else None,
        error_new=standard_error(errors[~repeated]) if (~repeated).sum() > 1 else None,
    )
