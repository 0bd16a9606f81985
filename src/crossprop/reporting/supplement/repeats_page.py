"""The section on repeated compositions: findings, table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossprop.reporting.part import Drawing, Part
from crossprop.reporting.statistics import geometric_mean
from crossprop.reporting.supplement.repeats import (
    Repeats,
    repeat_rows,
    repeats,
    repeats_findings,
    repeats_sentence,
)
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, markdown_table, number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def repeats_part(results: Sequence[TargetResults]) -> Part:
    """The section; without a headline where no hold-out repeats a composition of the training rows."""
    found = repeats(results)
    if not any(one.n_repeated for one in found):
        return Part()
    text = [
        f"{repeats_sentence(found)} Such a row has another spelling or multiple of the composition and a value of its "
        "own. `published` keeps these training rows, `strict` drops them. Two views: the same fold model refitted "
        "without them and measured on the same hold-out, and the published model's errors on repeated and on new rows.",
        "\n".join(f"- {line}" for line in repeats_findings(found)),
        _table([one for one in found if one.role != "winner"]),
        "“Change”: strict over published MAE. A refit differs by chance too (other batches, other trees), so small "
        "changes of single targets mean little; look at all of them.",
    ]
    drawings = {}
    if any(one.strict_ratio for one in found):
        drawings["figures/strict_against_published.png"] = Drawing(
            draw=lambda: _figure([one for one in found if one.strict_ratio]),
            caption="Change of the hold-out MAE when the training rows whose composition is in the hold-out are "
            "dropped; circles: SC, diamonds: TL, hollow: the winner where it is ours; right of 0: the published split "
            "flatters",
        )
    return Part(
        title="Published against strict: what repeated compositions are worth",
        text="\n\n".join(text),
        tables={"tables/repeats.csv": repeat_rows(found)},
        drawings=drawings,
    )


def _table(found: Sequence[Repeats]) -> str:
    header = ["target", "repeated", "cell", "MAE", "strict", "change", "on repeated", "on new"]
    lines = [
        [
            one.target.info.label,
            f"{one.n_repeated} of {one.n_test}",
            cell_name(one.cell),
            number(one.cell.test_mae),
            number(one.cell.strict_test_mae),
            percent(one.strict_ratio - 1, 1) if one.strict_ratio else "–",
            _with_error(one.mae_repeated, one.error_repeated),
            _with_error(one.mae_new, one.error_new),
        ]
        for one in found
    ]
    return markdown_table(header, lines, left=(0, 2))


def _with_error(value: float | None, error: float | None) -> str:
    return number(value) if error is None else f"{number(value)} ± {number(error, 2)}"


def _figure(found: Sequence[Repeats]) -> Figure:
    from crossprop.reporting.figure_style import SIDE_COLOURS, SIDE_MARKERS, house_style, single_axes

    means: dict[str, list[float]] = {}
    for one in found:
        means.setdefault(one.target.info.label, []).append(one.strict_ratio or 1.0)
    labels = sorted(means, key=lambda label: -geometric_mean(means[label]))
    with house_style():
        figure, axes = single_axes(7.6, 1.4 + (0.3 if len(labels) <= 16 else 0.22) * len(labels))
        for one in found:
            side = one.cell.method.side
            axes.plot(
                100 * ((one.strict_ratio or 1.0) - 1),
                labels.index(one.target.info.label),
                SIDE_MARKERS[side],
                color=SIDE_COLOURS[side],
                markerfacecolor="white" if one.cell.method.ours else SIDE_COLOURS[side],
                markersize=5,
            )
        axes.axvline(0.0, color="#222222", linewidth=1.0)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("change of the hold-out MAE without the repeated compositions, %")
        axes.set_title("Strict against published")
        axes.grid(axis="x")
    return figure
