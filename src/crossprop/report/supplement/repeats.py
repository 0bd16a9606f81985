"""`published` against `strict`: how much of the published error is owed to compositions seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.report.part import Drawing, Part, Row, cell_name, markdown_table, number, p_value, percent
from crossprop.report.statistics import geometric_mean, sign_test, standard_error
from crossprop.report.study import TargetResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        if cell is not None and (role != "winner" or cell.method.extension)
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
    from crossprop.report.figures import SIDE_COLOURS, SIDE_MARKERS, house_style, single_axes

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
                markerfacecolor="white" if one.cell.method.extension else SIDE_COLOURS[side],
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
