"""Hold-out error against the number of training rows, SC and TL: Supplementary Figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossprop.errors import StoreError
from crossprop.methods import Side
from crossprop.report.part import Drawing, Part, Row, cell_name, unit_name
from crossprop.report.statistics import sign_test
from crossprop.report.study import TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curve_rows(results: Sequence[TargetResults]) -> list[Row]:
    """Every refit: cell, side, share, rows, hold-out MAE, and the run of the cell; ordered by side and rows.

    Raises:
        StoreError: A curve names a cell that the target does not have.
    """
    rows: list[Row] = []
    for target in results:
        cells = {cell.cell: cell for cell in target.cells}
        curve = target.learning_curve.sort_values(["side", "n_train", "cell"], kind="stable")
        if unknown := sorted(set(curve["cell"]) - set(cells)):
            raise StoreError(
                f"learning_curve.parquet of target '{target.info.key}' names '{unknown[0]}', which is no cell of "
                "it. Run the stage `transfer` of this target again."
            )
        rows += [
            {
                "target": target.info.key,
                "label": target.info.label,
                "unit": target.info.unit,
                "side": str(point["side"]),
                "cell": cell_name(cells[str(point["cell"])]),
                "share": float(point["share"]),
                "n_train": int(point["n_train"]),
                "test_mae": float(point["test_mae"]),
                "run_id": target.run_id(cells[str(point["cell"])]),
            }
            for point in curve.to_dict("records")
        ]
    return rows


def learning_curves_part(results: Sequence[TargetResults]) -> Part:
    """The section; without a headline where no target has a curve.

    Raises:
        StoreError: As of :func:`learning_curve_rows`.
    """
    rows = learning_curve_rows(results)
    if not rows:
        return Part()
    by_point: dict[tuple[str, float], dict[str, float]] = {}
    for row in rows:
        place = by_point.setdefault((str(row["target"]), float(row["share"] or 0)), {})
        place[str(row["side"])] = float(row["test_mae"] or 0)
    both = [sides for sides in by_point.values() if len(sides) == 2]
    test = sign_test([s[Side.TRANSFER] for s in both], [s[Side.SCRATCH] for s in both])
    small = [sides for (_, share), sides in by_point.items() if share < 1 and len(sides) == 2]
    lower = sum(sides[Side.TRANSFER] < sides[Side.SCRATCH] for sides in small)
    text = (
        f"Best SC and best TL refitted on shares of the training rows, hold-out unchanged. TL is lower at "
        f"{test.wins} of {test.n} points, at {lower} of {len(small)} of those with less than all rows. The points "
        "of one target share rows and hold-out, so no test is made of them; each is one fit of one draw."
    )
    return Part(
        title="Learning curves (Fig. S1)",
        text=text,
        tables={"tables/learning_curve.csv": rows},
        drawings={
            "figures/learning_curve.png": Drawing(
                draw=lambda: _figure(rows),
                caption="Hold-out MAE of best SC (blue circles) and best TL (orange diamonds) against the number of "
                "training rows, both axes logarithmic",
            )
        },
    )


def _figure(rows: Sequence[Row]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    from crossprop.report.figures import SIDE_COLOURS, SIDE_MARKERS, house_style

    targets = list(dict.fromkeys(str(row["target"]) for row in rows))
    columns = min(4, len(targets))
    n_rows = -(-len(targets) // columns)
    with house_style():
        figure = Figure(figsize=(max(2.5 * columns, 3.4), 2.4 * n_rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(n_rows, columns, squeeze=False)
        for axes, target in zip(grid.flat, targets, strict=False):
            mine = [row for row in rows if row["target"] == target]
            for side, label in ((Side.SCRATCH, "best SC"), (Side.TRANSFER, "best TL")):
                points = [(row["n_train"], row["test_mae"]) for row in mine if row["side"] == side]
                if points:
                    axes.plot(
                        *zip(*points, strict=True),
                        marker=SIDE_MARKERS[side],
                        color=SIDE_COLOURS[side],
                        markersize=4.5,
                        linewidth=1.3,
                        label=label,
                    )
            axes.set(xscale="log", yscale="log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 3, 5, 10]))
                axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
                axis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelsize=7)
            axes.grid()
            unit = unit_name(str(mine[0]["unit"]))
            axes.set_title(str(mine[0]["label"]) if unit == "–" else f"{mine[0]['label']} [{unit}]")
        for axes in grid.flat[len(targets) :]:
            axes.remove()
        figure.supxlabel("training rows", fontsize=9)
        figure.supylabel("hold-out MAE", fontsize=9)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
