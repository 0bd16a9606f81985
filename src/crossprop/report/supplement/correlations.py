"""How the target properties go together over shared compositions: Supplementary Figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from crossprop.report.part import Drawing, Part, Row, markdown_table, number
from crossprop.report.statistics import holm_adjusted
from crossprop.report.study import TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 30
"""Pairs of properties with fewer shared compositions get no coefficient."""

_SHOWN = 12
_LEGIBLE = 0.25
"""Among many properties only coefficients of this size are written into the figure."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Two properties over the compositions that both have.

    Attributes:
        first: Label of the one.
        second: Label of the other.
        n: Shared compositions.
        pearson: Linear correlation; None for fewer than ``FEWEST`` compositions or constant values.
        spearman: Rank correlation, likewise.
        p_value: Two-sided p of the rank correlation.
        p_adjusted: After Holm's correction over all pairs of the study.
        identical: Whether both have the same compositions with the same values.
    """

    first: str
    second: str
    n: int
    pearson: float | None
    spearman: float | None
    p_value: float | None
    p_adjusted: float | None
    identical: bool


def values_by_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per composition, one column per property; the median over the polymorphs of a composition.

    Args:
        tables: Prepared tables with columns ``composition`` and ``value``, by label.
    """
    return pd.DataFrame(
        {name: table.groupby("composition")["value"].median() for name, table in tables.items()}
    )


def correlations(values: pd.DataFrame) -> list[Correlation]:
    """All pairs of columns, in order.

    Args:
        values: One row per composition, one column per property, NaN where it is not known.
    """
    known, columns = values.notna().to_numpy(), values.to_numpy(dtype=float)
    found: list[tuple[int, int, int, float, float, float, bool]] = []
    for i in range(values.shape[1]):
        for j in range(i + 1, values.shape[1]):
            both = known[:, i] & known[:, j]
            x, y = columns[both, i], columns[both, j]
            n = len(x)
            same = bool(n > 0 and n == known[:, i].sum() == known[:, j].sum() and (x == y).all())
            if n < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
                found.append((i, j, n, np.nan, np.nan, np.nan, same))
                continue
            ranked = spearmanr(x, y)
            found.append(
                (
                    i,
                    j,
                    n,
                    float(np.corrcoef(x, y)[0, 1]),
                    float(ranked.statistic),
                    float(ranked.pvalue),
                    same,
                )
            )
    tested = [k for k, pair in enumerate(found) if np.isfinite(pair[5])]
    adjusted = dict(zip(tested, holm_adjusted([found[k][5] for k in tested]), strict=True))
    names = [str(name) for name in values.columns]
    return [
        Correlation(
            first=names[i],
            second=names[j],
            n=n,
            pearson=pearson if k in adjusted else None,
            spearman=spearman if k in adjusted else None,
            p_value=p if k in adjusted else None,
            p_adjusted=adjusted.get(k),
            identical=same,
        )
        for k, (i, j, n, pearson, spearman, p, same) in enumerate(found)
    ]


def correlations_part(results: Sequence[TargetResults]) -> Part:
    """The section; without a headline for fewer than two targets that share compositions."""
    labels = [target.info.label for target in results]
    found = correlations(values_by_composition({target.info.label: target.prepared for target in results}))
    measured = [pair for pair in found if pair.spearman is not None]
    if not measured:
        return Part()
    strongest = sorted(
        (pair for pair in measured if not pair.identical), key=lambda pair: -abs(pair.spearman or 0.0)
    )
    header = ["pair", "shared compositions", "Spearman", "Pearson"]
    lines = [
        [f"{p.first}, {p.second}", f"{p.n:,}", number(p.spearman, 3), number(p.pearson, 3)]
        for p in strongest[:_SHOWN]
    ]
    significant = sum((pair.p_adjusted or 0.0) < 0.05 for pair in measured)
    twins = [f"{pair.first} and {pair.second}" for pair in found if pair.identical]
    text = [
        f"Reference values of the targets over the compositions that both have (the median of polymorphs): "
        f"{len(measured)} of {len(found)} pairs share at least {FEWEST}. After Holm's correction over all pairs "
        f"{significant} rank correlations differ from zero at 0.05: with thousands of rows nearly every one does, "
        f"so look at the size. The {min(_SHOWN, len(strongest))} strongest:",
        markdown_table(header, lines),
    ]
    if twins:
        text.append(
            f"The same rows under two names: {'; '.join(twins)}. They count twice wherever targets are counted."
        )
    rows: list[Row] = [vars(pair) for pair in found]
    return Part(
        title="Correlation of the targets (Fig. S2)",
        text="\n\n".join(text),
        tables={"tables/correlations.csv": rows},
        drawings={
            "figures/correlations.png": Drawing(
                draw=lambda: _figure(labels, measured),
                caption="Correlation of the targets over shared compositions: below the diagonal Spearman, above it "
                f"Pearson; grey: fewer than {FEWEST} shared compositions; among many, those of {_LEGIBLE:g} and more "
                "are written out",
            )
        },
    )


def correlation_matrix(labels: Sequence[str], pairs: Sequence[Correlation]) -> np.ndarray:
    """Spearman below the diagonal, Pearson above it; NaN where there is none, and on the diagonal."""
    place = {label: i for i, label in enumerate(labels)}
    matrix = np.full((len(labels), len(labels)), np.nan)
    for pair in pairs:
        i, j = sorted((place[pair.first], place[pair.second]))
        matrix[i, j], matrix[j, i] = pair.pearson, pair.spearman
    return matrix


def _figure(labels: Sequence[str], pairs: Sequence[Correlation]) -> Figure:
    from crossprop.report.figures import house_style, single_axes

    matrix = correlation_matrix(labels, pairs)
    n = len(labels)
    side = max(3.2, 1.6 + (0.24 if n > 16 else 0.42) * n)
    with house_style():
        figure, axes = single_axes(side + 0.6, side)
        axes.set_facecolor("#dddddd")
        image = axes.imshow(np.ma.masked_invalid(matrix), cmap="PuOr", vmin=-1, vmax=1)
        axes.set_xticks(range(n), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(n), labels, fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (i, j), value in np.ndenumerate(matrix):
            if np.isfinite(value) and (n <= 16 or abs(value) >= _LEGIBLE):
                colour = "white" if abs(value) > 0.55 else "#222222"
                text = f"{value:.1f}" if n > 16 else f"{value:.2f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=5 if n > 16 else 7.5, color=colour)
        axes.plot([-0.5, n - 0.5], [-0.5, n - 0.5], color="#444444", linewidth=0.8)
        axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
        axes.set_title("Spearman (below) and Pearson (above the diagonal)")
        bar = figure.colorbar(image, ax=axes, pad=0.02, shrink=0.6)
        bar.outline.set_visible(False)
    return figure
