"""The questions a study is asked: is TL better than SC, where beyond noise, and how far from the paper?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.reporting.statistics import SignTest, holm_adjusted, sign_test
from crossprop.reporting.target_results import TargetResults
from crossprop.training.metrics import PairedDifference, paired_bootstrap_difference
from crossprop.vocabulary import Method

SIGNIFICANCE = 0.05
"""Level of the tests, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Hold-out MAE of one chosen cell minus that of another on the same rows of one target.

    Attributes:
        target: Key of the target.
        names: What the two are called, e.g. ``("TL", "SC")``.
        difference: First minus second, in the target's unit; negative where the first is better.
        low: Lower end of the paired bootstrap interval (95 %).
        high: Upper end.
        p_value: Two-sided bootstrap p.
        p_adjusted: The same after Holm's correction over the study's targets.
    """

    target: str
    names: tuple[str, str]
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float

    @property
    def verdict(self) -> str:
        """``TL better`` or ``SC better`` beyond the noise of the hold-out, else ``within noise``."""
        if self.p_adjusted >= SIGNIFICANCE:
            return "within noise"
        return f"{self.names[0 if self.difference < 0 else 1]} better"


def transfer_gains(results: Sequence[TargetResults]) -> tuple[Gain, ...]:
    """Paired bootstrap of best TL against best SC for every target that has both.

    Raises:
        StoreError: The two cells of a target were not measured on the same rows.
    """
    return _gains(("TL", "SC"), [(t, t.best_tl, t.best_sc) for t in results])


def own_gains(results: Sequence[TargetResults]) -> tuple[Gain, ...]:
    """Paired bootstrap of our best own method against the best of the paper's, both by cross-validation.

    Raises:
        StoreError: The two cells of a target were not measured on the same rows.
    """
    return _gains(("ours", "paper's"), [(t, t.best_own, t.paper_winner) for t in results])


def _gains(
    names: tuple[str, str], chosen: Sequence[tuple[TargetResults, CellResult | None, CellResult | None]]
) -> tuple[Gain, ...]:
    pairs = [(target, one, other) for target, one, other in chosen if one and other]
    gaps = [_paired(target, one, other) for target, one, other in pairs]
    adjusted = holm_adjusted([gap.p_value for gap in gaps])
    return tuple(
        Gain(
            target=target.info.key,
            names=names,
            difference=gap.difference,
            low=gap.low,
            high=gap.high,
            p_value=gap.p_value,
            p_adjusted=p,
        )
        for (target, _, _), gap, p in zip(pairs, gaps, adjusted, strict=True)
    )


def transfer_against_scratch(results: Sequence[TargetResults], field: str) -> SignTest:
    """Sign test over targets of "the best TL has the lower error than the best SC".

    Args:
        results: Targets; those without a best cell on both sides are left out.
        field: Field of ``CellResult`` to compare: ``test_mae``, ``test_q95`` or ``test_mae_ensemble``.
    """
    pairs = [
        (getattr(t.best_tl, field), getattr(t.best_sc, field))
        for t in results
        if getattr(t.best_tl, field, None) is not None and getattr(t.best_sc, field, None) is not None
    ]
    return sign_test([tl for tl, _ in pairs], [sc for _, sc in pairs])


def modified_against_plain(results: Sequence[TargetResults]) -> SignTest:
    """Sign test over target x source of "modified fine-tuning validates better than plain fine-tuning"."""
    plain = _validation_by_source(results, Method.FINETUNE)
    modified = _validation_by_source(results, Method.MODFINETUNE)
    both = [key for key in plain if key in modified]
    return sign_test([modified[key] for key in both], [plain[key] for key in both])


def _validation_by_source(
    results: Sequence[TargetResults], method: Method
) -> dict[tuple[str, str | None], float]:
    return {
        (cell.target, cell.source): cell.val_mae
        for target in results
        for cell in target.cells
        if cell.method is method and cell.failure is None and cell.val_mae is not None
    }


def _paired(target: TargetResults, first: CellResult, second: CellResult) -> PairedDifference:
    one, other = target.hold_out(first), target.hold_out(second)
    if not one[["formula", "y_true"]].equals(other[["formula", "y_true"]]):
        raise StoreError(
            f"Target '{target.info.key}': cells '{first.cell}' ({len(one)} rows) and '{second.cell}' "
            f"({len(other)} rows) were not measured on the same hold-out rows in the same order. "
            "Run the stage `transfer` of this target again."
        )
    return paired_bootstrap_difference(
        one["y_true"].to_numpy(), one["y_pred"].to_numpy(), other["y_pred"].to_numpy()
    )
