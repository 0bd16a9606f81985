"""Sections of ``supplement.md`` on data: repeats, coverage, learning curves, correlations, extraction layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS, Protocol, Side
from crossprop.paths import StudyPaths
from crossprop.report import figures as draw
from crossprop.report.pages import Section
from crossprop.report.statistics import SIGNIFICANCE, geometric_mean, holm_adjusted, sign_test
from crossprop.report.study import TargetResults
from crossprop.report.tables import cell_name, table_of
from crossprop.uncertainty.evidence import folder_coverage
from crossprop.uncertainty.grouped import standard_error
from crossprop.uncertainty.neighbours import QUANTILE

FEWEST_SHARED = 30  # compositions of a pair of properties that gets a coefficient
_SHOWN_PAIRS = 12
_LEGIBLE = 0.25  # least coefficient that is written into the figure among many properties
FIRST_LAYERS = 4  # the paper found accurate models from these only
MANY_ROWS = 500  # of a hold-out: a coverage of 90 % is known to about 1.3 percentage points
TOLERANCE = 0.03
_COVERAGE = {
    "n_test": "n", "stated": "stated", "measured": "share", "mean_width": "mean_width", "test_mae_ensemble": "mae",
    "outside_domain": "flagged", "mae_inside": "mae_inside", "mae_outside": "mae_outside",
}  # fmt: skip


def repeats_section(results: Sequence[TargetResults]) -> Section | None:
    """What repeated compositions are worth; None where no hold-out repeats a composition of the training rows."""
    table = repeats_table(results)
    if table.empty or not table["n_test_repeated"].any():
        return None
    targets = table.drop_duplicates("target")
    views = []
    for role in ("best SC", "best TL", "winner"):
        of_role = table[table["role"] == role]
        ratios = of_role["strict_over_published"].dropna().tolist()
        both = of_role[of_role["mae_on_repeated"].notna() & of_role["mae_on_new"].astype(float).gt(0)]
        on_repeated = (both["mae_on_repeated"] / both["mae_on_new"]).tolist() if role != "winner" else []
        views.append(
            {
                "role": role,
                "n_strict": len(ratios),
                "change": geometric_mean(ratios) - 1,
                "strict_test": sign_test([1.0] * len(ratios), ratios),
                "n_repeated": len(on_repeated),
                "ratio": geometric_mean(on_repeated),
                "repeated_test": sign_test(on_repeated, [1.0] * len(on_repeated)),
            }
        )
    context = {
        "rows": int(targets["n_test"].sum()),
        "repeated": int(targets["n_test_repeated"].sum()),
        "views": views,
        "cells": table.assign(change=table["strict_over_published"] - 1)[table["role"] != "winner"],
    }
    refitted = table[table["strict_over_published"].notna()]
    figure = partial(draw.strict_against_published, refitted)
    tables = {"tables/repeats.csv": table.drop(columns="method")}
    figures = {} if refitted.empty else {"figures/strict_against_published.png": figure}
    return Section(context=context, tables=tables, figures=figures)


def repeats_table(results: Sequence[TargetResults]) -> pd.DataFrame:
    """One row per chosen cell: its errors on hold-out rows whose composition was, or was not, in the training rows."""
    rows = []
    for target in results:
        prepared = target.prepared
        for role, cell in target.chosen.items():
            if role == "winner" and not cell.method.extension:
                continue
            measured = target.hold_out(cell)
            held_out = measured["composition"]
            learnt = prepared.loc[prepared["split"] != "test", "composition"]
            if cell.protocol == Protocol.STRICT:
                learnt = learnt[~learnt.isin(held_out)]
            repeated = held_out.isin(learnt)
            row = {
                **target.described,
                "role": role,
                "cell": cell_name(cell),
                "n_test": len(measured),
                "n_test_repeated": int(repeated.sum()),
                "n_train_repeated": int(learnt.isin(held_out).sum()),
                "mae": cell.test_mae,
            }
            measured["error"] = (measured["y_true"] - measured["y_pred"]).abs()
            for name, part in (("repeated", measured[repeated]), ("new", measured[~repeated])):
                row[f"mae_on_{name}"] = float(part["error"].mean()) if len(part) else None
                error = standard_error(part["error"].to_numpy(), part["together"].to_numpy())
                row[f"standard_error_on_{name}"] = None if np.isnan(error) else error
            published, strict = cell.test_mae, cell.strict_test_mae
            row |= {
                "strict_mae": strict,
                "strict_n_train": cell.strict_n_train,
                "strict_over_published": strict / published if strict is not None and published else None,
                "run_id": target.run_id(cell),
                "method": cell.method,
            }
            rows.append(row)
    return table_of(rows)


def coverage_section(results: Sequence[TargetResults], paths: StudyPaths) -> Section | None:
    """How often the intervals of the served models contain the value; None where no model carries evidence."""
    found = [(target, folder_coverage(paths.results(target.info.key) / "model")) for target in results]
    measured = [(target, one) for target, one in found if one is not None and one.share is not None]
    if not measured:
        return None
    rows = []
    for target, one in measured:
        row = {column: getattr(one, name) for column, name in _COVERAGE.items()}
        rows.append(target.described | row | {"winner_run_id": target.run_id(target.winner)})
    table = table_of(rows)
    numbers = table[list(_COVERAGE)].astype(float)
    n, many = numbers["n_test"], numbers[numbers["n_test"] >= MANY_ROWS]
    ratios = (numbers["mae_outside"] / numbers["mae_inside"].where(numbers["mae_inside"] > 0)).dropna()
    ratios = ratios[ratios > 0]
    outside = numbers["outside_domain"].fillna(0.0) * n
    held_outside = outside * [one.share_outside or 0.0 for _, one in measured]
    mae = numbers["test_mae_ensemble"]
    context = {
        "rows": table.assign(relative_width=numbers["mean_width"] / mae.where(mae > 0)),
        "stated": numbers["stated"].iloc[0],
        "n": int(n.sum()),
        "share": (numbers["measured"] * n).sum() / n.sum(),
        "many_rows": MANY_ROWS,
        "many": len(many),
        "near": int(((many["measured"] - many["stated"]).abs() <= TOLERANCE + 1e-9).sum()),
        "quantile": QUANTILE,
        "outside": outside.sum(),
        "share_outside": held_outside.sum() / outside.sum() if outside.any() else 0.0,
        "ratios": len(ratios),
        "ratio": ratios.median() if len(ratios) else 0.0,
    }
    drawn = partial(draw.coverage, table, tolerance=TOLERANCE, many_rows=MANY_ROWS)
    figures = {"figures/coverage.png": drawn}
    return Section(context=context, tables={"tables/coverage.csv": table}, figures=figures)


def learning_curves_section(results: Sequence[TargetResults], cells: pd.DataFrame) -> Section | None:
    """Hold-out error against the number of training rows; None where no target has a curve (Fig. S1)."""
    table = learning_curve_table(results, cells)
    if table.empty:
        return None
    points = table.pivot_table("test_mae", ["target", "share"], "side", aggfunc="last")
    both = points.reindex(columns=[Side.SCRATCH.value, Side.TRANSFER.value]).dropna()
    both = both[both[Side.TRANSFER.value] != both[Side.SCRATCH.value]]
    tl_lower = both[Side.TRANSFER.value] < both[Side.SCRATCH.value]
    context = {
        "lower": tl_lower.tolist(),
        "lower_on_small": tl_lower[both.index.get_level_values("share") < 1].tolist(),
    }
    figures = {"figures/learning_curve.png": partial(draw.learning_curves, results)}
    return Section(context=context, tables={"tables/learning_curve.csv": table}, figures=figures)


def learning_curve_table(results: Sequence[TargetResults], cells: pd.DataFrame) -> pd.DataFrame:
    """Every refit: side, cell, share, rows, hold-out MAE, and the run of the cell; ordered by side and rows."""
    order = ["side", "n_train", "cell"]
    curves = [t.learning_curve.assign(target=t.info.key).sort_values(order, kind="stable") for t in results]
    points = pd.concat([curve for curve in curves if len(curve)] or curves[:1])
    known = cells[["cell", "target", "label", "unit", "name", "run_id"]]
    table = points.merge(known, on=["cell", "target"], how="left")
    columns = ["target", "label", "unit", "side", "cell", "share", "n_train", "test_mae", "run_id"]
    return table.assign(cell=table["name"])[columns]


def correlations_section(results: Sequence[TargetResults]) -> Section | None:
    """Correlations of the targets; None for fewer than two that share compositions (Fig. S2)."""
    values = values_by_composition({target.info.label: target.prepared for target in results})
    table = correlation_table(values)
    if table.empty or table["spearman"].isna().all():
        return None
    measured = table[table["spearman"].notna()].astype({"spearman": float, "pearson": float})
    different = measured[~measured["identical"].astype(bool)]
    strongest = different.sort_values("spearman", key=lambda rho: -rho.abs(), kind="stable")[:_SHOWN_PAIRS]
    twins = table[table["identical"].astype(bool)]
    context = {
        "measured": len(measured),
        "pairs": len(table),
        "fewest": FEWEST_SHARED,
        "significant": int((measured["p_adjusted"] < SIGNIFICANCE).sum()),
        "legible": _LEGIBLE,
        "strongest": strongest.assign(pair=strongest["first"] + ", " + strongest["second"]),
        "twins": (twins["first"] + " and " + twins["second"]).tolist(),
    }
    figure = partial(draw.correlations, correlation_matrix(values.columns, measured), _LEGIBLE)
    tables, figures = {"tables/correlations.csv": table}, {"figures/correlations.png": figure}
    return Section(context=context, tables=tables, figures=figures)


def values_by_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Prepared tables as one row per composition and one column per property; the median over polymorphs."""
    return pd.DataFrame({name: t.groupby("composition")["value"].median() for name, t in tables.items()})


def correlation_table(values: pd.DataFrame) -> pd.DataFrame:
    """All pairs of columns over shared compositions; None for fewer than ``FEWEST_SHARED`` or constant values."""
    rows = []
    known = values.count()
    for first, second in combinations(values.columns, 2):
        x, y = values[[first, second]].dropna().to_numpy().T
        row: dict[str, Any] = {"first": first, "second": second, "n": len(x)}
        row |= dict.fromkeys(("pearson", "spearman", "p_value", "p_adjusted"))
        row["identical"] = bool(0 < len(x) == known[first] == known[second] and (x == y).all())
        if len(x) >= FEWEST_SHARED and np.ptp(x) > 0 and np.ptp(y) > 0:
            ranked = spearmanr(x, y)
            row["pearson"], row["spearman"] = float(np.corrcoef(x, y)[0, 1]), float(ranked.statistic)
            row["p_value"] = float(ranked.pvalue)
        rows.append(row)
    tested = [row for row in rows if row["p_value"] is not None]
    for row, p in zip(tested, holm_adjusted([row["p_value"] for row in tested]), strict=True):
        row["p_adjusted"] = p
    return table_of(rows)


def correlation_matrix(labels: pd.Index[str], pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman below the diagonal, Pearson above it; NaN where there is none, and on the diagonal."""
    above = pairs.pivot(index="first", columns="second", values="pearson")
    below = pairs.pivot(index="second", columns="first", values="spearman")
    return above.reindex(index=labels, columns=labels).fillna(below).astype(float)


def layers_section(results: Sequence[TargetResults], cells: pd.DataFrame) -> Section | None:
    """Error by extraction layer; None where no cell extracts features."""
    trials = layer_trials(results, cells)
    ratios = layer_ratios(trials)
    if ratios.empty:
        return None
    early = ratios["layer"].isin(EXTRACTION_LAYERS[:FIRST_LAYERS])
    views = []
    for method in draw.EXTRACTORS:
        of_method = ratios["method"] == method.notation
        first, later = ratios[of_method & early], ratios[of_method & ~early]
        if len(first) and len(later):
            views.append(
                {
                    "method": method.notation,
                    "means": [geometric_mean(first["ratio"]), geometric_mean(later["ratio"])],
                    "counts": [len(first), len(later)],
                    "chosen": [int(first["chosen"].sum()), int(ratios.loc[of_method, "chosen"].sum())],
                }
            )
    tables = {"tables/extraction_layers.csv": layer_table(trials, ratios)}
    figures = {
        "figures/layer_errors.png": partial(draw.layer_errors, ratios),
        "figures/extraction_layers.png": partial(draw.extraction_layers, cells),
    }
    return Section(context={"views": views, "first": FIRST_LAYERS}, tables=tables, figures=figures)


def layer_trials(results: Sequence[TargetResults], cells: pd.DataFrame) -> pd.DataFrame:
    """Trials of feature-extracting cells: ``method, cell, layer, value, complete``, in the order of the cells."""
    extracting = cells[cells["method"].isin(list(draw.EXTRACTORS)) & cells["failure"].isna()]
    trials = pd.concat([target.trials for target in results])
    found = extracting[["notation", "cell"]].rename(columns={"notation": "method"}).merge(trials, on="cell")
    layers = found["params"].map(lambda text: json.loads(text).get("layer"))
    complete = found["state"].eq("COMPLETE") & np.isfinite(found["value"].astype(float))
    found = found.assign(layer=layers, complete=complete)[layers.isin(EXTRACTION_LAYERS)]
    return found[["method", "cell", "layer", "value", "complete"]].astype({"value": float})


def layer_ratios(trials: pd.DataFrame) -> pd.DataFrame:
    """Every cell and layer with a finished trial: its lowest screening MAE there over its lowest anywhere."""
    finished = trials[trials["complete"]]
    lowest = finished.groupby(["method", "cell", "layer"], sort=False)["value"].min().reset_index()
    best = lowest.groupby("cell")["value"].transform("min")
    first = ~lowest.assign(best=lowest["value"] == best).duplicated(["cell", "best"])
    ratios = lowest.assign(ratio=lowest["value"] / best, chosen=first & (lowest["value"] == best))
    return ratios.loc[best > 0, ["method", "cell", "layer", "ratio", "chosen"]]


def layer_table(trials: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """One row per method and layer that any trial used: trials, cells, and the mean ratio to the best layer."""
    keys = ["method", "layer"]
    counts = trials.groupby(keys)["complete"].agg(trials="sum", all="size")
    measures: dict[str, Any] = {"cells": ("ratio", "size"), "ratio_to_best_layer": ("ratio", geometric_mean)}
    of_layer = ratios.groupby(keys).agg(chosen=("chosen", "sum"), **measures)
    order = pd.MultiIndex.from_product([[m.notation for m in draw.EXTRACTORS], EXTRACTION_LAYERS], names=keys)
    table = counts.join(of_layer).reindex(order).dropna(subset="all").reset_index()
    table = table.fillna({"cells": 0, "chosen": 0}).assign(
        units=table["layer"].map(dict(zip(EXTRACTION_LAYERS, HIDDEN_UNITS, strict=True))),
        trials_stopped_early=table["all"] - table["trials"],
    )
    counted = ["units", "cells", "trials", "trials_stopped_early", "chosen"]
    columns = [*keys, "units", "cells", "trials", "trials_stopped_early", "ratio_to_best_layer", "chosen"]
    return table.astype(dict.fromkeys(counted, int))[columns]
