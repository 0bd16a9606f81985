"""What the command line prints about a screening."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table

from crossprop.screening.plan import duration
from crossprop.screening.properties import PropertyModel
from crossprop.screening.result import RESULTS, TOP, ScreenResult
from crossprop.screening.space import ListedSpace

if TYPE_CHECKING:
    from crossprop.screening.run import Screening


def announcement(screening: Screening) -> Iterator[str]:
    """Lines to print before a screening runs: how many compositions, what the models know, how long it will take."""
    if screening.pipeline is None:
        yield f"{screening.request.out} is finished; only the ranking is done again."
        return
    n, count, space = screening.positions, screening.count, screening.pipeline.space
    possible = f", {'' if count.exact else 'about '}{count.compositions:,} of them charge-balanced"
    yield f"{n:,} composition{'s' * (n != 1)}{possible if screening.pipeline.chemistry else ''}"
    if isinstance(space, ListedSpace):
        yield from space.notes
        if space.repeated:
            yield f"{space.repeated:,} further row(s) repeat a composition and are left out"
        if space.n_bad:
            yield f"{space.n_bad:,} row(s) hold no formula and are left out; the first:"
            yield from (f"  {reason}" for reason in space.bad)
    ranges = [f"{model.name} {_known_range(model)}" for model in screening.ranker.properties if model.known]
    if ranges:
        yield f"values in the models' data: {', '.join(ranges)}"
    done = screening.done
    if done.stop:
        yield f"going on after {done.stop:,} of {n:,} positions, {done.kept:,} kept so far"
    order = ", ".join(screening.pipeline.order)
    yield f"about {duration(screening.seconds)} on {screening.workers} threads; order: {order}"


def _known_range(model: PropertyModel) -> str:
    return model.with_unit(f"{model.least:.4g} to {model.most:.4g}")


def summary(result: ScreenResult) -> Iterator[str]:
    """Lines about a finished screening: what was done, where the results are, and warnings about the top rows."""
    note, top = result.note, result.top
    counts, ranking = note["counts"], note["ranking"]
    yield (
        f"{counts['predicted']:,} compositions predicted in {duration(note['seconds'])} "
        f"({note['predicted_per_second']:,.0f}/s, {note['peak_memory_gib']:.1f} GiB), {counts['kept']:,} kept: "
        f"{result.folder / RESULTS}, the best {len(top)} in {result.folder / TOP}"
    )
    if not counts["predicted"]:
        yield "nothing was left to predict: widen the elements or the rules (--all, --mixed-valence)"
    elif not counts["kept"]:
        yield "nothing met the condition: in a new folder, ask for less, or for nothing to see all predictions"
    goals = ", ".join(
        f"{o['quantity']} ({'more' if o['goal'] == 'maximize' else 'less'} is better)"
        for o in ranking["objectives"]
    )
    kinds = {"value": "ranked by", "ei": "ranked by expected improvement of", "pareto": "Pareto front of"}
    beat = "" if ranking["best"] is None else f" over {ranking['best']:g}"
    yield f"{kinds[ranking['rank']]} {goals}{beat}"
    models = [PropertyModel(**noted) for noted in note["models"].values()]
    if outside := int((~top[[f"{model.column}_in_domain" for model in models]].all(axis=1)).sum()):
        yield (
            f"{outside} of the best {len(top)} lie outside the training domain of a model (column note): "
            "extrapolation, not prediction. --in-domain in a new folder keeps only the others."
        )
    for model in models:
        values = top[model.column]
        beyond = 0 if model.known is None else int((model.known.beyond(values.to_numpy()) != 0).sum())
        if beyond:
            yield (
                f"{beyond} of the best {len(top)} have a {model.name} beyond all values in its model's data "
                f"({_known_range(model)}): the order may be right, the values are uncertain."
            )
        if ranking["rank"] == "value" and ranking["objectives"][0]["quantity"] == model.name and model.mae:
            equal = int(((values - values.iloc[:1].max()).abs() < model.mae).sum())
            if equal > 1:
                yield (
                    f"the first {equal} of the best {len(top)} differ by less than the error of the model of "
                    f"{model.name} (hold-out MAE {model.with_unit(f'{model.mae:.3g}')}): their order is uncertain."
                )


def table(result: ScreenResult, rows: int, width: int) -> Table:
    """The first rows for a terminal: values with their intervals and domain, formulas uncut.

    Where the ``width`` in characters is too small, intervals are left out first, then columns from the right.
    """
    top = result.top.head(rows)
    models = {model.column: model for model in (PropertyModel(**m) for m in result.note["models"].values())}
    hidden = {f"{column}_{end}" for column in models for end in ("lower", "upper", "in_domain")}
    hidden |= {"rank", "formula", "position", "n_elements", "note", "log_expected_improvement"}
    names = [str(column) for column in top if column not in hidden]
    inside = top[[f"{column}_in_domain" for column in models]].all(axis=1)
    for intervals, shown in [(True, len(names)), *((False, n) for n in range(len(names), -1, -1))]:
        columns = {"rank": top["rank"].astype(str), "formula": top["formula"]}
        for name in names[:shown]:
            heading = name.replace("_", "\n")
            if name in models and models[name].with_unit(""):
                heading += f"\n{models[name].unit}"
            columns[heading] = _cells(top, name, intervals and name in models)
        columns["in\ndomain"] = inside.map({True: "yes", False: "no"})
        widths = [max(*cells.str.len(), *map(len, name.split("\n"))) + 3 for name, cells in columns.items()]
        if sum(widths) < width:
            break
    made = Table(caption="" if shown == len(names) else f"further columns: {', '.join(names[shown:])}")
    for heading in columns:
        made.add_column(heading, justify="left" if heading == "formula" else "right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        made.add_row(*row)
    return made


def _cells(top: pd.DataFrame, name: str, intervals: bool) -> pd.Series[str]:
    """A column as text: three significant digits of its largest value, with as many decimals in every row."""
    largest = float(top[name].abs().max())
    fixed = 1e-4 <= largest < 1e7 and name != "expected_improvement"
    form = f"{{:.{max(0, 2 - math.floor(math.log10(largest)))}f}}" if fixed else "{:.3g}"
    shown = top[name].map(form.format)
    if not intervals:
        return shown
    ends = [top[f"{name}_{end}"].map(form.format) for end in ("lower", "upper")]
    return shown + " (" + ends[0] + "…" + ends[1] + ")"
