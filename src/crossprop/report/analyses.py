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

from crossprop.errors import StoreError
from crossprop.experiments.results import CellResult
from crossprop.methods import EXTRACTION_LAYERS, HIDDEN_UNITS, Method, Protocol, Side
from crossprop.paths import StudyPaths
from crossprop.report import figures as draw
from crossprop.report.pages import Section
from crossprop.report.statistics import SIGNIFICANCE, geometric_mean, holm_adjusted, sign_test, standard_error
from crossprop.report.study import TargetResults
from crossprop.report.tables import cell_name, described, records, table_of
from crossprop.uncertainty.evidence import folder_coverage
from crossprop.uncertainty.neighbours import QUANTILE

FEWEST_SHARED = 30
"""Pairs of properties with fewer shared compositions get no coefficient."""
_SHOWN_PAIRS = 12
_LEGIBLE = 0.25
"""Among many properties only coefficients of this size are written into the figure."""

EXTRACTORS = (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
FIRST_LAYERS = 4
"""The paper found accurate models from the first four layers only."""

MANY_ROWS = 500
"""Hold-out rows from which on a coverage of 90 % is known to about 1.3 percentage points."""
TOLERANCE = 0.03


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
    refitted = [
        (row["label"], target.chosen[row["role"]], row["strict_over_published"])
        for target in results
        for row in table[table["target"] == target.info.key].to_dict("records")
        if row["strict_over_published"] is not None
    ]
    figure = partial(draw.strict_against_published, refitted)
    figures = {"figures/strict_against_published.png": figure} if refitted else {}
    return Section(context=context, tables={"tables/repeats.csv": table}, figures=figures)


def repeats_table(results: Sequence[TargetResults]) -> pd.DataFrame:
    """One row per chosen cell: errors on hold-out rows whose composition it has, or has not, learnt from.

    ``strict_mae`` is that of the same fold model refitted without the repeated compositions.
    """
    rows = []
    for target in results:
        for role, cell in target.chosen.items():
            if role == "winner" and not cell.method.extension:
                continue
            split = _repeated_rows(target, cell)
            published, strict = cell.test_mae, cell.strict_test_mae
            rows.append(
                {
                    **described(target),
                    "role": role,
                    "cell": cell_name(cell),
                    **split,
                    "strict_mae": strict,
                    "strict_n_train": cell.strict_n_train,
                    "strict_over_published": strict / published if strict is not None and published else None,
                    "run_id": target.run_id(cell),
                }
            )
    return table_of(rows)


def _repeated_rows(target: TargetResults, cell: CellResult) -> dict[str, float | int | None]:
    prepared, rows = target.prepared, target.hold_out(cell)
    compositions = dict(zip(prepared["formula"], prepared["composition"], strict=True))
    if unknown := [formula for formula in rows["formula"] if formula not in compositions]:
        raise StoreError(
            f"Target '{target.info.key}': hold-out row '{unknown[0]}' is not in the prepared table. Run the stages "
            "`prepare` and `transfer` of this target again."
        )
    held_out = rows["formula"].map(compositions)
    learnt = prepared.loc[prepared["split"] != "test", "composition"]
    if cell.protocol == Protocol.STRICT:
        learnt = learnt[~learnt.isin(held_out)]
    repeated = held_out.isin(learnt).to_numpy()
    errors = np.abs(rows["y_true"].to_numpy(dtype=float) - rows["y_pred"].to_numpy(dtype=float))
    split: dict[str, float | int | None] = {
        "n_test": len(rows),
        "n_test_repeated": int(repeated.sum()),
        "n_train_repeated": int(learnt.isin(held_out).sum()),
        "mae": cell.test_mae,
    }
    for name, of in (("repeated", errors[repeated]), ("new", errors[~repeated])):
        split[f"mae_on_{name}"] = float(of.mean()) if len(of) else None
        split[f"standard_error_on_{name}"] = standard_error(of) if len(of) > 1 else None
    return split


def coverage_section(results: Sequence[TargetResults], paths: StudyPaths) -> Section | None:
    """How often the intervals of the served models contain the value; None where no model carries evidence."""
    found = coverage_table(results, paths)
    if found.empty:
        return None
    table = found.drop(columns="share_outside")
    numbers = found.drop(columns=["target", "label", "unit", "winner_run_id"]).astype(float)
    n, share, flagged = numbers["n_test"], numbers["measured"], numbers["outside_domain"].fillna(0.0)
    many = numbers[n >= MANY_ROWS]
    ratios = (numbers["mae_outside"] / numbers["mae_inside"].where(numbers["mae_inside"] > 0)).dropna()
    ratios = ratios[ratios > 0]
    of_ratio = numbers["share_outside"].fillna(0.0)
    width = numbers["mean_width"] / numbers["test_mae_ensemble"].where(numbers["test_mae_ensemble"] > 0)
    outside = float((flagged * n).sum())
    context = {
        "rows": table.assign(relative_width=width),
        "stated": float(numbers["stated"].iloc[0]),
        "n": int(n.sum()),
        "share": float((share * n).sum() / n.sum()),
        "many_rows": MANY_ROWS,
        "many": len(many),
        "near": int(((many["measured"] - many["stated"]).abs() <= TOLERANCE).sum()),
        "quantile": QUANTILE,
        "outside": outside,
        "share_outside": float((of_ratio * flagged * n).sum() / outside) if outside else 0.0,
        "ratios": len(ratios),
        "ratio": float(ratios.median()) if len(ratios) else 0.0,
    }
    figure = partial(draw.coverage, table, tolerance=TOLERANCE, many_rows=MANY_ROWS)
    return Section(
        context=context, tables={"tables/coverage.csv": table}, figures={"figures/coverage.png": figure}
    )


def coverage_table(results: Sequence[TargetResults], paths: StudyPaths) -> pd.DataFrame:
    """One row per target whose model carries evidence, errors and widths in its unit."""
    rows = []
    for target in results:
        found = folder_coverage(paths.results(target.info.key) / "model")
        if found is not None and found.share is not None:
            rows.append(
                {
                    **described(target),
                    "n_test": found.n,
                    "stated": found.stated,
                    "measured": found.share,
                    "mean_width": found.mean_width,
                    "test_mae_ensemble": found.mae,
                    "outside_domain": found.flagged,
                    "mae_inside": found.mae_inside,
                    "mae_outside": found.mae_outside,
                    "winner_run_id": target.run_id(target.winner),
                    "share_outside": found.share_outside,
                }
            )
    return table_of(rows)


def learning_curves_section(results: Sequence[TargetResults], cells: pd.DataFrame) -> Section | None:
    """Hold-out error against the number of training rows; None where no target has a curve (Fig. S1)."""
    table = learning_curve_table(results, cells)
    if table.empty:
        return None
    points = table.pivot_table("test_mae", ["target", "share"], "side", aggfunc="last")
    both = points.reindex(columns=[Side.SCRATCH.value, Side.TRANSFER.value]).dropna()
    tl_lower = both[Side.TRANSFER.value] < both[Side.SCRATCH.value]
    context = {
        "untied": int((both[Side.TRANSFER.value] != both[Side.SCRATCH.value]).sum()),
        "lower": tl_lower.tolist(),
        "lower_on_small": tl_lower[both.index.get_level_values("share") < 1].tolist(),
    }
    return Section(
        context=context,
        tables={"tables/learning_curve.csv": table},
        figures={"figures/learning_curve.png": partial(draw.learning_curves, results)},
    )


def learning_curve_table(results: Sequence[TargetResults], cells: pd.DataFrame) -> pd.DataFrame:
    """Every refit: side, cell, share, rows, hold-out MAE, and the run of the cell; ordered by side and rows."""
    curves = []
    for target in results:
        curve = target.learning_curve.sort_values(["side", "n_train", "cell"], kind="stable")
        if unknown := sorted(set(curve["cell"]) - {cell.cell for cell in target.cells}):
            raise StoreError(
                f"learning_curve.parquet of target '{target.info.key}' names '{unknown[0]}', which is no cell of "
                "it. Run the stage `transfer` of this target again."
            )
        curves.append(curve)
    known = cells[["cell", "target", "label", "unit", "name", "run_id"]]
    table = (
        pd.concat([curve for curve in curves if len(curve)] or curves[:1])
        .merge(known, on="cell")
        .assign(cell=lambda merged: merged["name"])
    )
    return table[["target", "label", "unit", "side", "cell", "share", "n_train", "test_mae", "run_id"]]


def correlations_section(results: Sequence[TargetResults]) -> Section | None:
    """Correlations of the targets; None for fewer than two that share compositions (Fig. S2)."""
    values = values_by_composition({target.info.label: target.prepared for target in results})
    table = correlation_table(values)
    if table.empty or table["spearman"].isna().all():
        return None
    measured = table[table["spearman"].notna()].astype({"spearman": float, "pearson": float})
    different = measured[~measured["identical"].astype(bool)]
    strongest = different.sort_values("spearman", key=lambda rho: -rho.abs(), kind="stable").head(
        _SHOWN_PAIRS
    )
    strongest = strongest.assign(pair=strongest["first"] + ", " + strongest["second"])
    twins = table[table["identical"].astype(bool)]
    context = {
        "measured": len(measured),
        "pairs": len(table),
        "fewest": FEWEST_SHARED,
        "significant": int((measured["p_adjusted"] < SIGNIFICANCE).sum()),
        "legible": _LEGIBLE,
        "strongest": strongest,
        "twins": [
            f"{first} and {second}" for first, second in zip(twins["first"], twins["second"], strict=True)
        ],
    }
    matrix = correlation_matrix([target.info.label for target in results], measured)
    return Section(
        context=context,
        tables={"tables/correlations.csv": table},
        figures={"figures/correlations.png": partial(draw.correlations, matrix, _LEGIBLE)},
    )


def values_by_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Prepared tables as one row per composition and one column per property; the median over polymorphs."""
    return pd.DataFrame(
        {name: table.groupby("composition")["value"].median() for name, table in tables.items()}
    )


def correlation_table(values: pd.DataFrame) -> pd.DataFrame:
    """All pairs of columns over the compositions that both have.

    Columns: ``first, second, n, pearson, spearman, p_value`` (of the rank correlation), ``p_adjusted`` (Holm, over
    all tested pairs), ``identical`` (same compositions with the same values). Coefficients are None for fewer than
    ``FEWEST_SHARED`` compositions or constant values.
    """
    rows: list[dict[str, Any]] = []
    tested: list[dict[str, Any]] = []
    known, columns = values.notna().to_numpy(), values.to_numpy(dtype=float)
    for i, j in combinations(range(values.shape[1]), 2):
        both = known[:, i] & known[:, j]
        x, y = columns[both, i], columns[both, j]
        n = len(x)
        row: dict[str, Any] = {"first": str(values.columns[i]), "second": str(values.columns[j]), "n": n}
        row |= dict.fromkeys(("pearson", "spearman", "p_value", "p_adjusted"))
        row["identical"] = bool(n > 0 and n == known[:, i].sum() == known[:, j].sum() and (x == y).all())
        if n >= FEWEST_SHARED and np.ptp(x) > 0 and np.ptp(y) > 0:
            ranked = spearmanr(x, y)
            row["pearson"], row["spearman"] = float(np.corrcoef(x, y)[0, 1]), float(ranked.statistic)
            row["p_value"] = float(ranked.pvalue)
            tested.append(row)
        rows.append(row)
    for row, p in zip(tested, holm_adjusted([row["p_value"] for row in tested]), strict=True):
        row["p_adjusted"] = p
    return table_of(rows)


def correlation_matrix(labels: Sequence[str], pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman below the diagonal, Pearson above it; NaN where there is none, and on the diagonal."""
    matrix = pd.DataFrame(
        np.full((len(labels), len(labels)), np.nan), index=list(labels), columns=list(labels)
    )
    for row in records(pairs):
        matrix.loc[row["first"], row["second"]] = row["pearson"]
        matrix.loc[row["second"], row["first"]] = row["spearman"]
    return matrix


def layers_section(results: Sequence[TargetResults]) -> Section | None:
    """Error by extraction layer; None where no cell extracts features."""
    trials = layer_trials(results)
    ratios = layer_ratios(trials)
    if ratios.empty:
        return None
    early = ratios["layer"].isin(EXTRACTION_LAYERS[:FIRST_LAYERS])
    views = []
    for method in EXTRACTORS:
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
    return Section(
        context={"views": views, "first": FIRST_LAYERS},
        tables={"tables/extraction_layers.csv": layer_table(trials, ratios)},
        figures={
            "figures/layer_errors.png": partial(draw.layer_errors, ratios),
            "figures/extraction_layers.png": partial(draw.extraction_layers, results),
        },
    )


def layer_trials(results: Sequence[TargetResults]) -> pd.DataFrame:
    """Trials of feature-extracting cells: ``method, cell, layer, value, complete``, in the order of the cells."""
    rows = []
    for target in results:
        of_cell = dict(list(target.trials.groupby("cell", sort=False)))
        for cell in target.cells:
            if cell.method in EXTRACTORS and cell.failure is None and cell.cell in of_cell:
                for trial in records(of_cell[cell.cell]):
                    layer = json.loads(trial["params"]).get("layer")
                    complete = trial["state"] == "COMPLETE" and bool(np.isfinite(trial["value"]))
                    rows.append((cell.method.notation, cell.cell, layer, trial["value"], complete))
    trials = pd.DataFrame(rows, columns=["method", "cell", "layer", "value", "complete"])
    return trials[trials["layer"].isin(EXTRACTION_LAYERS)].astype({"complete": bool, "value": float})


def layer_ratios(trials: pd.DataFrame) -> pd.DataFrame:
    """Every cell and layer with a finished trial: its lowest screening MAE there over its lowest anywhere.

    Columns: ``method, cell, layer, ratio, chosen``; the first layer with the lowest error is the chosen one.
    """
    finished = trials[trials["complete"]]
    lowest = finished.groupby(["method", "cell", "layer"], sort=False)["value"].min().reset_index()
    best = lowest.groupby("cell")["value"].transform("min")
    first = ~lowest.assign(best=lowest["value"] == best).duplicated(["cell", "best"])
    ratios = lowest.assign(ratio=lowest["value"] / best, chosen=first & (lowest["value"] == best))
    return ratios.loc[best > 0, ["method", "cell", "layer", "ratio", "chosen"]]


def layer_table(trials: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """One row per method and layer that any trial used: trials, cells, and the mean ratio to the best layer."""
    keys = ["method", "layer"]
    counts = trials.groupby(keys)["complete"].agg(["sum", "size"])
    of_layer = ratios.groupby(keys).agg(
        cells=("ratio", "size"), mean=("ratio", geometric_mean), chosen=("chosen", "sum")
    )
    order = pd.MultiIndex.from_product(
        [[method.notation for method in EXTRACTORS], EXTRACTION_LAYERS], names=keys
    )
    table = counts.join(of_layer).reindex(order).dropna(subset="size").reset_index()
    return pd.DataFrame(
        {
            "method": table["method"],
            "layer": table["layer"],
            "units": table["layer"].map(dict(zip(EXTRACTION_LAYERS, HIDDEN_UNITS, strict=True))),
            "cells": table["cells"].fillna(0).astype(int),
            "trials": table["sum"].astype(int),
            "trials_stopped_early": (table["size"] - table["sum"]).astype(int),
            "ratio_to_best_layer": table["mean"],
            "chosen": table["chosen"].fillna(0).astype(int),
        }
    )
