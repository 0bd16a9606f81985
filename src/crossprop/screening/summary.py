"""What the command line prints about a screening: before it, while it runs, and about its results."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from crossprop.methods import unit_behind
from crossprop.report.tables import duration
from crossprop.screening.properties import PropertyModel
from crossprop.screening.result import RESULTS, TOP, ScreenResult
from crossprop.screening.space import ListedSpace

if TYPE_CHECKING:
    from crossprop.screening.run import Screening

_SECONDS_OF_LINE = 60.0


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
    ranges = [f"{model.name} {_known_range(model)}" for model in screening.ranker.properties]
    yield f"values in the models' data: {', '.join(ranges)}"
    if (done := screening.done).stop:
        yield f"going on after {done.stop:,} of {n:,} positions, {done.kept:,} kept so far"
    order = ", ".join(screening.pipeline.order)
    here = " of this machine alone" if screening.request.executor == "ray" else ""
    threads = f"{screening.workers} thread{'s' * (screening.workers != 1)}"
    yield f"about {duration(screening.seconds)} on {threads}{here}; order: {order}"


def _known_range(model: PropertyModel) -> str:
    return f"{model.least:.4g} to {model.most:.4g}{unit_behind(model.unit)}"


@contextmanager
def progress_bar(total: int, done: int, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows the positions done and rows kept: a bar on a terminal, else a line a minute."""
    terminal = sys.stderr.isatty()
    with Bar(
        TextColumn("screening"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[kept]:,} kept"),
        console=Console(stderr=True),
        speed_estimate_period=60,
        disable=not (shown and terminal),
    ) as bar:
        task = bar.add_task("", total=total, completed=done, kept=0, rate=0.0)
        begun = last = time.monotonic()

        def report(position: int, kept: int) -> None:
            nonlocal last
            bar.update(task, completed=position, kept=kept, rate=bar.tasks[0].speed or 0.0)
            now = time.monotonic()
            if shown and not terminal and now - last >= _SECONDS_OF_LINE:
                last = now
                left = duration((total - position) * (now - begun) / max(1, position - done))
                share = f"{position / total:.1%} of {total:,} positions"
                print(f"{share}, {kept:,} kept, about {left} left", file=sys.stderr, flush=True)

        yield report


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
        yield "nothing was left to predict: widen the elements, the condition or the rules (--all, --mixed-valence)"
    elif not counts["kept"]:
        yield "nothing met the condition: in a new folder, ask for less"
    words = {"maximize": "more", "minimize": "less"}
    goals = ", ".join(f"{o['quantity']} ({words[o['goal']]} is better)" for o in ranking["objectives"])
    kinds = {"value": "ranked by", "ei": "ranked by expected improvement of", "pareto": "Pareto front of"}
    models, inside = _models(result)
    first = ranking["objectives"][0]["quantity"]
    ranked = next((model for model in models.values() if model.name == first), None)
    best = ranking["best"]
    beat = f" over {best:g}{unit_behind(ranked.unit)}" if ranked and best is not None else ""
    yield f"{kinds[ranking['rank']]} {goals}{beat}"
    if outside := int((~inside).sum()):
        yield (
            f"{outside} of the best {len(top)} lie outside the training domain of a model (column note). "
            "--in-domain in a new folder keeps only the others."
        )
    for column, model in models.items():
        values = top[column]
        beyond = int((model.known.beyond(values.to_numpy()) != 0).sum())
        if beyond:
            yield (
                f"{beyond} of the best {len(top)} have a {model.name} beyond all values in its model's data "
                f"({_known_range(model)}): the order may be right, the values are uncertain."
            )
        if ranking["rank"] == "value" and model is ranked and model.mae:
            equal = int(((values - values.iloc[:1].max()).abs() < model.mae).sum())
            if equal > 1:
                which = f"all of the best {equal}" if equal == len(top) else f"the first {equal} of the best {len(top)}"
                yield (
                    f"{which} differ by less than the error of the model of "
                    f"{model.name} (MAE {model.mae:.3g}{unit_behind(model.unit)}): their order is uncertain."
                )


def _models(result: ScreenResult) -> tuple[dict[str, PropertyModel], pd.Series[bool]]:
    """The models of a screening by column, and which rows of its table are in the domain of all of them."""
    models = [PropertyModel(**noted) for noted in result.note["models"].values()]
    inside = result.top[[f"{model.column}_in_domain" for model in models]].all(axis=1)
    return {model.column: model for model in models}, inside


def table(result: ScreenResult, rows: int) -> Table:
    """The first rows for a terminal: values with units, intervals and domain; formulas stay whole."""
    top, (models, inside) = result.top.head(rows), _models(result)
    hidden = {f"{column}_{end}" for column in models for end in ("lower", "upper", "in_domain")}
    hidden |= {"rank", "formula", "position", "n_elements", "note", "log_expected_improvement"}
    ranked = result.note["ranking"]["objectives"][0]["quantity"]
    units = {column: model.unit for column, model in models.items()}
    units["expected_improvement"] = next((model.unit for model in models.values() if model.name == ranked), "")
    columns = {"rank": top["rank"].astype(str), "formula": top["formula"]}
    for name in (str(column) for column in top if column not in hidden):
        unit = unit_behind(units.get(name, ""), "\n{}")
        columns[name.replace("_", "\n") + unit] = _cells(top, name, intervals=name in models)
    columns["in\ndomain"] = inside.head(rows).map({True: "yes", False: "no"})
    shares = " or ".join(sorted({f"{100 * model.coverage:g}" for model in models.values()}))
    made = Table(caption=f"In brackets: {shares} % intervals", caption_justify="left")
    for heading in columns:
        whole = heading in ("rank", "formula")
        made.add_column(escape(heading), justify="left" if heading == "formula" else "right", no_wrap=whole)
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
