"""Exact sign tests, Holm's correction, mean ratios, and the differences between chosen cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from crossprop.experiments.results import CellResult
from crossprop.methods import Method
from crossprop.report.study import TargetResults
from crossprop.uncertainty.grouped import MeanInterval, mean_interval

SIGNIFICANCE = 0.05  # as in the paper


@dataclass(frozen=True)
class SignTest:
    """How often the first of two is lower (a win), and how likely that is if both are equal; ties do not count."""

    wins: int
    losses: int
    ties: int = 0

    @property
    def n(self) -> int:
        """Untied pairs."""
        return self.wins + self.losses

    @property
    def p_value(self) -> float:
        """Exact one-tailed p of "the first is not better"; 1 without any untied pair."""
        return float(binomtest(self.wins, self.n, alternative="greater").pvalue) if self.n else 1.0

    @property
    def reversed(self) -> "SignTest":
        """The same pairs with the second named first."""
        return SignTest(self.losses, self.wins, self.ties)

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson interval (95 %) of the share; 0 to 1 without any untied pair."""
        if not self.n:
            return 0.0, 1.0
        ends = binomtest(self.wins, self.n).proportion_ci()
        return float(ends.low), float(ends.high)


def sign_test(first: Sequence[float], second: Sequence[float]) -> SignTest:
    """One-tailed exact sign test of "the first is lower", of errors in pairs; units may differ between pairs."""
    signs = np.sign(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))
    return SignTest(*(int(np.count_nonzero(signs == sign)) for sign in (-1, 1, 0)))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's step-down correction (Holm 1979, Scand. J. Statist. 6, 65-70), in the same order."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(steps)
    return [float(value) for value in adjusted]


def geometric_mean(ratios: ArrayLike) -> float:
    """Geometric mean of the positive ratios: 0.5 and 2 cancel out. NaN for none."""
    values = np.asarray(ratios, dtype=float)
    positive = values[values > 0]
    return float(np.exp(np.mean(np.log(positive)))) if len(positive) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Hold-out MAE of one cell minus that of another on the same rows; its p is corrected over the targets (Holm)."""

    target: TargetResults
    first: CellResult
    second: CellResult
    names: tuple[str, str]
    gap: MeanInterval
    p_adjusted: float

    @property
    def columns(self) -> dict[str, float | str | None]:
        """The interval, both p-values and the verdict, as columns of a table."""
        p_values = {"p": self.gap.p_value, "p_holm": self.p_adjusted}
        return {"low": self.gap.low, "high": self.gap.high, **p_values, "verdict": self.verdict}

    @property
    def ratio(self) -> float | None:
        """Hold-out MAE of the first over that of the second."""
        first, second = self.first.test_mae, self.second.test_mae
        return first / second if first is not None and second else None

    @property
    def verdict(self) -> str:
        """``TL better`` or ``SC better`` beyond the noise of the hold-out, else ``within noise``."""
        if self.p_adjusted >= SIGNIFICANCE:
            return "within noise"
        return f"{self.names[0 if self.gap.mean < 0 else 1]} better"


def transfer_gains(results: Sequence[TargetResults]) -> list[Gain]:
    """Paired bootstrap of best TL against best SC for every target that has both."""
    return _gains(("TL", "SC"), [(t, t.best_tl, t.best_sc) for t in results])


def extension_gains(results: Sequence[TargetResults]) -> list[Gain]:
    """Paired bootstrap of the best extension method against the best of the paper's, both by cross-validation."""
    return _gains(("extension", "paper's"), [(t, t.best_extension, t.paper_winner) for t in results])


def _gains(
    names: tuple[str, str], chosen: Sequence[tuple[TargetResults, CellResult | None, CellResult | None]]
) -> list[Gain]:
    pairs = [(target, one, other) for target, one, other in chosen if one and other]
    gaps = [_paired(*pair) for pair in pairs]
    adjusted = holm_adjusted([gap.p_value for gap in gaps])
    return [
        Gain(target=target, first=one, second=other, names=names, gap=gap, p_adjusted=p)
        for (target, one, other), gap, p in zip(pairs, gaps, adjusted, strict=True)
    ]


def _paired(target: TargetResults, first: CellResult, second: CellResult) -> MeanInterval:
    one, other = target.hold_out(first), target.hold_out(second)
    gaps = (one["y_true"] - one["y_pred"]).abs() - (other["y_true"] - other["y_pred"]).abs()
    return mean_interval(gaps.to_numpy(), one["together"].to_numpy())


def transfer_against_scratch(results: Sequence[TargetResults], field: str) -> SignTest:
    """Sign test of "best TL lower than best SC" in a field of ``CellResult``, over the targets that have both."""
    pairs = [(getattr(t.best_tl, field, None), getattr(t.best_sc, field, None)) for t in results]
    known = [(tl, sc) for tl, sc in pairs if tl is not None and sc is not None]
    return sign_test([tl for tl, _ in known], [sc for _, sc in known])


def modified_against_plain(results: Sequence[TargetResults]) -> SignTest:
    """Sign test over target x source of "modified fine-tuning validates better than plain fine-tuning"."""
    errors: dict[Method, dict[Any, float]] = {Method.MODFINETUNE: {}, Method.FINETUNE: {}}
    for cell in (cell for target in results for cell in target.cells if cell.method in errors):
        if cell.failure is None and cell.val_mae is not None:
            errors[cell.method][cell.target, cell.source] = cell.val_mae
    modified, plain = errors.values()
    both = modified.keys() & plain.keys()
    return sign_test([modified[pair] for pair in both], [plain[pair] for pair in both])
