"""What a screening says on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table

from crossprop.screening.listed import ListedSpace
from crossprop.screening.result import RESULTS, TOP, ScreenResult
from crossprop.serving.known_values import KnownValues

if TYPE_CHECKING:
    from crossprop.screening.run import Screening

_YEAR = 365 * 86400


def counted(screening: Screening) -> list[str]:
    """How many compositions there are to predict, and what of a file was left out."""
    n = screening.positions
    assert screening.pipeline is not None
    lines = [f"{n:,} composition{'s' * (n != 1)}"]
    if screening.pipeline.chemistry is not None:
        about = "" if screening.count.exact else "about "
        lines[0] += f", {about}{screening.count.compositions:,} of them charge-balanced"
    space = screening.pipeline.space
    if isinstance(space, ListedSpace):
        if space.repeated:
            lines.append(f"{space.repeated:,} further row(s) repeat a composition and are left out")
        if space.n_bad:
            more = "" if space.n_bad == len(space.bad) else f" and {space.n_bad - len(space.bad):,} more"
            lines.append(f"{space.n_bad:,} row(s) hold no formula and are left out:")
            lines += [f"  {reason}" for reason in space.bad] + ([f" {more}"] if more else [])
    return lines


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 2 * _YEAR else f"{seconds / _YEAR:,.0f} years"


def summary(result: ScreenResult) -> str:
    """What was done, where it lies, and what to think of it."""
    note = result.note
    counts = note["counts"]
    lines = [
        f"{counts['predicted']:,} compositions predicted in {duration(note['seconds'])} "
        f"({note['predicted_per_second']:,.0f}/s, {note['peak_memory_gib']:.1f} GiB), {counts['kept']:,} kept: "
        f"{result.folder / RESULTS}, the best {len(result.top)} in {result.folder / TOP}"
    ]
    if not counts["predicted"]:
        lines.append("nothing was left to predict: widen the elements or the rules (--all, --mixed-valence)")
    elif not counts["kept"]:
        lines.append(
            "nothing met the condition: in a new folder, ask for less, or for nothing to see what there is"
        )
    goals = [
        f"{o['quantity']} ({'more' if o['goal'] == 'maximize' else 'less'} is better)"
        for o in note["ranking"]["objectives"]
    ]
    kinds = {"value": "ranked by", "ei": "ranked by expected improvement of", "pareto": "Pareto front of"}
    beat = "" if note["ranking"]["best"] is None else f" over {note['ranking']['best']:g}"
    lines.append(f"{kinds[note['ranking']['rank']]} {', '.join(goals)}{beat}")
    flags = [column for column in result.top if str(column).endswith("_in_domain")]
    if flags and (outside := int((~result.top[flags].all(axis=1)).sum())):
        lines.append(
            f"{outside} of the best {len(result.top)} lie outside the training domain of a model (column note): "
            "extrapolation, not prediction. --in-domain in a new folder keeps the others only."
        )
    for name, (least, most) in note["known"].items():
        model = note["models"][name]
        column = result.top.get(name.replace(".", "_"))
        beyond = 0 if column is None else int((KnownValues(least, most, 0).beyond(column) != 0).sum())
        if beyond:
            lines.append(
                f"{beyond} of the best {len(result.top)} have a {name} beyond all values in its model's data "
                f"({_range(least, most, model['unit'])}): the order may be right, the figures are not known to be."
            )
    return "\n".join(lines)


def known_values(screening: Screening) -> str:
    """Which values the models have learnt from: what lies beyond them they can only guess."""
    units = {model.name: model.unit for model in screening.ranker.properties}
    ranges = [f"{name} {_range(low, high, units[name])}" for name, (low, high) in screening.known.items()]
    return f"values in the models' data: {', '.join(ranges)}" if ranges else ""


def _range(least: float, most: float, unit: str) -> str:
    return f"{least:.4g} to {most:.4g}{f' {unit}' if unit and unit != '1' else ''}"


def table(top: pd.DataFrame, width: int) -> Table:
    """The first rows for a terminal: values with their intervals and domain, as much as has room, formulas whole.

    Args:
        top: The ranked table.
        width: Characters of a line; intervals go first where they do not fit, then columns from the right.
    """
    properties = [str(c).removesuffix("_lower") for c in top if str(c).endswith("_lower")]
    hidden = {f"{p}{ending}" for p in properties for ending in ("_lower", "_upper", "_in_domain")}
    hidden |= {"rank", "formula", "position", "n_elements", "note", "log_expected_improvement"}
    names = [str(c) for c in top if c not in hidden]
    inside = top[[f"{p}_in_domain" for p in properties]].all(axis=1)
    first = {"rank": top["rank"].astype(str), "formula": top["formula"]}
    last = {"in_domain": inside.map({True: "yes", False: "no"})}
    for intervals, shown in [(True, len(names)), *((False, n) for n in range(len(names), -1, -1))]:
        values = {name: _values(top, name, intervals and name in properties) for name in names[:shown]}
        columns = {**first, **values, **last}
        if (
            sum(max(cells.str.len().max(), _longest_word(name)) + 3 for name, cells in columns.items())
            < width
        ):
            break
    made = Table(caption="" if shown == len(names) else f"further columns: {', '.join(names[shown:])}")
    for name in columns:
        made.add_column(
            "\n".join(name.split("_")), justify="left" if name == "formula" else "right", no_wrap=True
        )
    for row in zip(*columns.values(), strict=True):
        made.add_row(*row)
    return made


def _values(top: pd.DataFrame, name: str, intervals: bool) -> pd.Series[str]:
    shown = top[name].map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    if not intervals:
        return shown
    ends = [top[f"{name}{ending}"].map("{:.3g}".format) for ending in ("_lower", "_upper")]
    return top[name].map("{:.3g}".format) + " (" + ends[0] + "…" + ends[1] + ")"


def _longest_word(name: str) -> int:
    return max(map(len, name.split("_")))
