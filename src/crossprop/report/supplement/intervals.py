"""How often the intervals of the served models held the value, and what lies outside of their domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossprop.paths import StudyPaths
from crossprop.report.part import Drawing, Part, Row, markdown_table, number, unit_name
from crossprop.report.study import TargetResults
from crossprop.uncertainty.evidence import Coverage, folder_coverage
from crossprop.uncertainty.neighbours import QUANTILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY_ROWS = 500
"""Hold-out rows from which on a coverage of 90 % is known to about 1.3 percentage points."""
_TOLERANCE = 0.03


@dataclass(frozen=True)
class TargetCoverage:
    """What was measured of one target's model.

    Attributes:
        target: The target.
        coverage: Its model's coverage, with a measured share.
    """

    target: TargetResults
    coverage: Coverage

    @property
    def share(self) -> float:
        """Measured coverage."""
        return self.coverage.share or 0.0

    @property
    def relative_width(self) -> float | None:
        """Mean width of the intervals over the hold-out MAE."""
        width, mae = self.coverage.mean_width, self.coverage.mae
        return None if width is None or not mae else width / mae

    @property
    def ratio(self) -> float | None:
        """MAE outside of the training domain over that within."""
        inside, outside = self.coverage.mae_inside, self.coverage.mae_outside
        return None if outside is None or not inside else outside / inside


def target_coverages(results: Sequence[TargetResults], paths: StudyPaths) -> tuple[TargetCoverage, ...]:
    """The targets whose models carry evidence; those that were saved without it are left out.

    Raises:
        ModelFormatError: The evidence of a model is damaged.
    """
    found = []
    for target in results:
        coverage = folder_coverage(paths.results(target.info.key) / "model")
        if coverage is not None and coverage.share is not None:
            found.append(TargetCoverage(target, coverage))
    return tuple(found)


def coverage_rows(found: Sequence[TargetCoverage]) -> list[Row]:
    """One row a target, errors and widths in its unit."""
    return [
        {
            "target": one.target.info.key,
            "label": one.target.info.label,
            "unit": one.target.info.unit,
            "n_test": one.coverage.n,
            "stated": one.coverage.stated,
            "measured": one.coverage.share,
            "mean_width": one.coverage.mean_width,
            "test_mae_ensemble": one.coverage.mae,
            "outside_domain": one.coverage.flagged,
            "mae_inside": one.coverage.mae_inside,
            "mae_outside": one.coverage.mae_outside,
            "winner_run_id": one.target.run_id(one.target.winner),
        }
        for one in found
    ]


def coverage_sentence(found: Sequence[TargetCoverage]) -> str:
    """The finding in short; empty without evidence."""
    if not found:
        return ""
    rows = sum(one.coverage.n for one in found)
    share = sum(one.share * one.coverage.n for one in found) / rows
    many = [one for one in found if one.coverage.n >= _MANY_ROWS]
    near = sum(abs(one.share - one.coverage.stated) <= _TOLERANCE for one in many)
    more = (
        f", within 3 percentage points of what is stated on **{near} of {len(many)}** targets with {_MANY_ROWS} or more"
        if many
        else ""
    )
    return (
        f"The {100 * found[0].coverage.stated:.0f} % intervals of the models to be served hold **{100 * share:.1f} %** "
        f"of {rows:,} hold-out values{more}."
    )


def coverage_part(found: Sequence[TargetCoverage]) -> Part:
    """The section; without a headline where no model carries evidence."""
    if not found:
        return Part()
    header = [
        "target",
        "unit",
        "rows",
        "stated",
        "measured",
        "width / MAE",
        "outside",
        "MAE within",
        "MAE outside",
    ]
    lines = [
        [
            one.target.info.label,
            unit_name(one.target.info.unit),
            str(one.coverage.n),
            f"{100 * one.coverage.stated:.0f} %",
            f"{100 * one.share:.1f} %",
            number(one.relative_width, 3),
            f"{100 * (one.coverage.flagged or 0.0):.1f} %",
            number(one.coverage.mae_inside, 3),
            number(one.coverage.mae_outside, 3),
        ]
        for one in found
    ]
    text = (
        "Intervals and domain of the ensembles that are served, calibrated on out-of-fold residuals and held against "
        "the hold-out, which had no say in them. *Outside* is the share of the hold-out with an element that was "
        f"never seen or farther from every training composition than {100 * QUANTILE:.0f} % of those are from their "
        "nearest other one."
        f"{_outside_sentence(found)}\n\n{markdown_table(header, lines, left=(0, 1))}"
    )
    drawing = Drawing(
        draw=lambda: _figure(found),
        caption="Measured coverage of the intervals on the hold-out with its 95 % interval (Clopper-Pearson); line: "
        "what is stated, band: 3 percentage points around it; hollow: fewer than 500 rows",
    )
    return Part(
        title="Intervals and training domain",
        text=text,
        tables={"tables/coverage.csv": coverage_rows(found)},
        drawings={"figures/coverage.png": drawing},
    )


def _outside_sentence(found: Sequence[TargetCoverage]) -> str:
    """How the model does on the rows that it was said not to know; empty without such rows."""
    ratios = [one.ratio for one in found if one.ratio]
    if not ratios:
        return ""
    outside = [(one.coverage.flagged or 0.0) * one.coverage.n for one in found]
    held = sum(n * (one.coverage.share_outside or 0.0) for n, one in zip(outside, found, strict=True))
    return (
        f" Of the {sum(outside):,.0f} values there the intervals hold {100 * held / sum(outside):.1f} %; the error is "
        f"{np.median(ratios):.2f} times that within the domain (median over the {len(ratios)} targets that have such "
        "rows; most have a handful, so the single ones are rough)."
    )


def _figure(found: Sequence[TargetCoverage]) -> Figure:
    from scipy.stats import binomtest

    from crossprop.report.figures import QUALITATIVE, house_style, single_axes

    ordered = sorted(found, key=lambda one: (-one.share, one.target.info.label))
    stated = 100 * found[0].coverage.stated
    with house_style():
        figure, axes = single_axes(7.6, 1.4 + (0.3 if len(ordered) <= 16 else 0.2) * len(ordered))
        axes.axvspan(
            stated - 100 * _TOLERANCE,
            stated + 100 * _TOLERANCE,
            color=QUALITATIVE[2],
            alpha=0.12,
            linewidth=0,
        )
        axes.axvline(stated, color="#222222", linewidth=1.0)
        for place, one in enumerate(ordered):
            held = round(one.share * one.coverage.n)
            known = binomtest(held, one.coverage.n).proportion_ci(confidence_level=0.95, method="exact")
            axes.plot(
                [100 * known.low, 100 * known.high], [place, place], color=QUALITATIVE[0], linewidth=1.2
            )
            face = QUALITATIVE[0] if one.coverage.n >= _MANY_ROWS else "white"
            axes.plot(100 * one.share, place, "o", color=QUALITATIVE[0], markerfacecolor=face, markersize=5)
        axes.set_yticks(range(len(ordered)), [one.target.info.label for one in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("hold-out values within their interval, %")
        axes.set_title("Coverage of the intervals")
        axes.grid(axis="x")
    return figure
