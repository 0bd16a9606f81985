"""What a screening says on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.console import JustifyMethod
from rich.table import Table

from crossprop.screening.listed import ListedSpace
from crossprop.screening.result import RESULTS, TOP, ScreenResult

if TYPE_CHECKING:
    from crossprop.screening.run import Screening


def counted(screening: Screening) -> list[str]:
    """How many compositions there are to predict, and what of a file was left out."""
    n = screening.positions
    assert screening.pipeline is not None
    lines = [f"{n:,} compositions"]
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
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def summary(result: ScreenResult) -> str:
    """What was done, where it lies, and what to think of it."""
    note = result.note
    counts = note["counts"]
    lines = [
        f"{counts['predicted']:,} compositions predicted in {duration(note['seconds'])} "
        f"({note['predicted_per_second']:,.0f}/s, {note['peak_memory_gib']:.1f} GiB), {counts['kept']:,} kept: "
        f"{result.folder / RESULTS}, the best {len(result.top)} in {result.folder / TOP}"
    ]
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
        beyond = 0 if column is None else int(((column < least) | (column > most)).sum())
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


def table(top: pd.DataFrame) -> Table:
    """The first rows for a terminal: values with their intervals, domain, notes."""
    shown = Table()
    properties = [str(c).removesuffix("_lower") for c in top if str(c).endswith("_lower")]
    hidden = {f"{p}{ending}" for p in properties for ending in ("_lower", "_upper", "_in_domain")}
    hidden |= {"position", "n_elements", "note", "log_expected_improvement"}
    columns = [str(c) for c in top if c not in hidden]
    for column in [*columns, "in domain"]:
        whole = column in ("rank", "formula", *properties)
        justify: JustifyMethod = "left" if column == "formula" else "right"
        shown.add_column(column.replace("_", " "), justify=justify, no_wrap=whole)
    for _, row in top.iterrows():
        cells = []
        for column in columns:
            value = row[column]
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            if column in properties:
                text = f"{value:.3g} ({row[f'{column}_lower']:.3g}…{row[f'{column}_upper']:.3g})"
            cells.append(text)
        inside = all(row[f"{p}_in_domain"] for p in properties)
        shown.add_row(*cells, "yes" if inside else "no")
    return shown
