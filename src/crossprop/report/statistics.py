"""Exact sign tests, multiplicity correction and mean ratios; pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, ttest_1samp

from crossprop.errors import ShapeMismatchError, StoreError
from crossprop.experiments.results import CellResult
from crossprop.methods import Method
from crossprop.report.study import TargetResults
from crossprop.training.metrics import PairedDifference, paired_bootstrap_difference


@dataclass(frozen=True, kw_only=True)
class SignTest:
    """How often the first of two is lower, and how surprising that is if both are equally good.

    Attributes:
        wins: Pairs in which the first is lower.
        losses: Pairs in which the first is higher.
        ties: Equal pairs, which the test leaves out.
        p_value: Exact one-tailed p of "the first is not better"; 1 without any untied pair.
        share: Share of wins among the untied pairs; NaN without any.
        low: Lower end of its Clopper-Pearson interval (95 %).
        high: Upper end.
    """

    wins: int
    losses: int
    ties: int
    p_value: float
    share: float
    low: float
    high: float

    @property
    def n(self) -> int:
        """Untied pairs."""
        return self.wins + self.losses


def sign_test(first: Sequence[float], second: Sequence[float]) -> SignTest:
    """One-tailed exact sign test of "the first is lower".

    Args:
        first: Errors of the one, shape (n_pairs,).
        second: Errors of the other, same shape; only the order within a pair counts, so units may differ.

    Returns:
        Counts, exact binomial p and the interval of the share of wins.

    Raises:
        ShapeMismatchError: The lengths differ.

    Source: Gupta et al. 2021, Discussion ("Signed Test"). The paper's p-values (0.00397 for 29 of 41) are
        those of the normal approximation; the exact one of 29 of 41 is 0.0058.
    """
    if len(first) != len(second):
        raise ShapeMismatchError(
            f"A sign test needs pairs, but was given {len(first)} and {len(second)} values. "
            "Pass one of each per pair."
        )
    signs = np.sign(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))
    wins, losses, ties = (int(np.count_nonzero(signs == sign)) for sign in (-1, 1, 0))
    return sign_test_of_counts(wins, losses, ties)


def sign_test_of_counts(wins: int, losses: int, ties: int = 0) -> SignTest:
    """The same where only the counts are known."""
    if wins + losses == 0:
        return SignTest(wins=0, losses=0, ties=ties, p_value=1.0, share=float("nan"), low=0.0, high=1.0)
    test = binomtest(wins, wins + losses, 0.5, alternative="greater")
    interval = binomtest(wins, wins + losses, 0.5).proportion_ci(confidence_level=0.95, method="exact")
    return SignTest(
        wins=wins,
        losses=losses,
        ties=ties,
        p_value=float(test.pvalue),
        share=wins / (wins + losses),
        low=float(interval.low),
        high=float(interval.high),
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: what is below alpha holds over all comparisons together.

    Args:
        p_values: One p per comparison, shape (n,).

    Returns:
        Adjusted p in the same order, at most 1.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = np.argsort(np.asarray(p_values, dtype=float), kind="stable")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[int(index)] = running
    return adjusted


def geometric_mean(ratios: Sequence[float]) -> float:
    """Geometric mean of positive ratios: 0.5 and 2 cancel out. NaN for none."""
    if len(ratios) == 0:
        return float("nan")
    return float(np.exp(np.mean(np.log(np.asarray(ratios, dtype=float)))))


def standard_error(errors: np.ndarray) -> float:
    """Standard error of the mean of absolute errors; NaN for fewer than two.

    Args:
        errors: Absolute errors of the hold-out, shape (n,).
    """
    if len(errors) < 2:
        return float("nan")
    return float(np.std(errors, ddof=1) / np.sqrt(len(errors)))


def p_against_constant(errors: np.ndarray, reference: float) -> float:
    """Two-sided p of "these errors have this mean", by Student's t; 1 for fewer than two errors.

    A published error is taken as it is printed: what it would be with other rows or another seed is not
    known, so that the p is, if anything, too small.

    Args:
        errors: Absolute errors of the hold-out, shape (n,).
        reference: The published mean absolute error, in the same unit.
    """
    if len(errors) < 2:
        return 1.0
    if np.ptp(errors) == 0:
        return 1.0 if float(errors[0]) == reference else 0.0
    return float(ttest_1samp(errors, reference).pvalue)


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
