"""Numbers, names and tables as a report shows them, and its CSV files."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossprop.experiments.results import CellResult
from crossprop.methods import Method
from crossprop.report.study import TargetResults, best_transfer
from crossprop.uncertainty.evidence import evenly

_CELL_COLUMNS = [
    "study", "protocol", "target", "unit", "source", "method", "representation", "layer", "n_train", "n_test",
    "val_mae", "cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_low", "test_mae_high", "test_q95",
    "test_mae_ensemble",
]  # fmt: skip
_RUN_COLUMNS = ["cell", "run_id", "tune_seconds", "fit_seconds", "peak_memory", "target", "name", "status"]
_TARGET_COLUMNS = [
    "study", "protocol", "target", "unit", "n_train", "n_test", "base_mae", "best_sc", "best_sc_test_mae", "best_tl",
    "best_tl_test_mae", "tl_beats_sc", "paper_sc_mae", "paper_tl_mae", "paper_lowest_mae", "base_mae_of_median",
    "winner", "winner_test_mae", "winner_test_mae_ensemble", "winner_is_ours", "best_sc_test_r2", "best_tl_test_r2",
    "r2",
]  # fmt: skip
_MOST_POINTS = 300  # of a target in the parity plot


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits and no exponent where that reads well; – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """``[low, high]`` with the decimals of ``digits`` digits of the largest; empty for none."""
    if value is None or low is None or high is None:
        return ""
    exponent = math.floor(math.log10(max(abs(value), abs(low), abs(high)) or 1.0))
    if not -5 < exponent < 7:
        return f"[{number(low, digits)}, {number(high, digits)}]"
    decimals = max(0, digits - 1 - exponent)
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def p_value(p: float) -> str:
    """A p-value as it stands in a sentence: ``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.3f}"


def two_digits(p: float | None) -> str:
    """A p-value in a table: two significant digits, small ones bounded; – for none."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as per cent with its sign: ``+3 %``, ``-12 %``; – for none."""
    return "–" if share is None else f"{100 * share:+.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds in a unit that reads well: ``48 s``, ``3.2 min``, ``1.6 h``."""
    for unit, size, least in (("years", 31536000, 2), ("days", 86400, 2), ("h", 3600, 1.5), ("min", 60, 1.5)):
        if seconds >= least * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def words(key: str) -> str:
    """A key of the catalogue as words."""
    return key.replace("_", " ")


def cell_name(cell: CellResult | None) -> str:
    """The paper's notation of a cell with what it learns from, ``TL:ModFineTune from formation energy``; – for none."""
    if cell is None:
        return "–"
    name = cell.method.notation
    if cell.method in (Method.ML, Method.DL) and cell.representation:
        name += f"({cell.representation.short})"
    if cell.source is None:
        return name
    layer = f", {cell.layer}" if cell.layer and cell.method is not Method.FREEZING else ""
    return f"{name} from {words(cell.source)}{layer}"


def status(cell: CellResult) -> str:
    """How far a cell came: ``cross-validated``, ``stopped after …``, ``screened only``, ``failed: …``."""
    if cell.failure is not None:
        return f"failed: {cell.failure}"
    if cell.stopped is not None:
        return f"stopped {cell.stopped}" if cell.stopped.startswith("after ") else f"stopped: {cell.stopped}"
    return "screened only" if cell.cv_mae is None else "cross-validated"


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table that keeps every value as it is: None stays None, a whole number stays whole."""
    return pd.DataFrame(rows, dtype=object)


def in_table(text: Any) -> str:
    """A text without the characters that would end a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def cell_table(results: Sequence[TargetResults]) -> pd.DataFrame:
    """One row per cell, in the order of targets and methods: its fields, its method's, status, run and cost."""
    rows = [
        {
            **vars(cell),
            **target.runs[cell.cell],
            **target.described,
            "cv_mae_mean": cell.cv_mae_mean,
            "cv_mae_std": cell.cv_mae_std,
            **{fact: getattr(cell.method, fact) for fact in ("side", "family", "notation", "extension")},
            "name": cell_name(cell),
            "short_name": cell.label,
            "status": status(cell),
            "chosen_as": "; ".join(role for role, one in target.chosen.items() if one.cell == cell.cell),
            "finished_folds": " ".join(f"{mae:.6g}" for mae in cell.rung_mae) if cell.rung_mae else None,
        }
        for target in results
        for cell in target.cells
    ]
    numbers = {"n_trials": int, "tune_seconds": float, "fit_seconds": float, "peak_memory": int}
    return table_of(rows).astype({"extension": bool, **numbers})


def target_table(results: Sequence[TargetResults]) -> pd.DataFrame:
    """One row per target: the best cell of each side (by cross-validation) beside the paper's errors."""
    rows = []
    for target in results:
        row = {
            **target.described,
            **{name: getattr(target.cells[0], name) for name in ("study", "protocol", "n_train", "n_test")},
            "base_mae": target.base_mae,
            "base_mae_of_median": target.base_mae_of_median,
            "tl_beats_sc": lower(target.best_tl, target.best_sc, "test_mae"),
            "paper_sc_mae": target.paper and target.paper.sc_mae_table4_or_5,
            "paper_tl_mae": target.paper and best_transfer(target.paper),
            "paper_lowest_mae": target.paper and target.paper.lowest_mae,
            "winner_is_ours": target.winner and target.winner.method.extension,
        }
        for role in ("best_sc", "best_tl", "winner"):
            cell = getattr(target, role)
            row[role] = cell and cell.label
            for field in ("test_mae", "test_mae_ensemble", "test_r2"):
                row[f"{role}_{field}"] = cell and getattr(cell, field)
        rows.append(row)
    return table_of(rows).rename(columns={"winner_test_r2": "r2"})[_TARGET_COLUMNS]


def lower(first: CellResult | None, second: CellResult | None, field: str) -> bool | None:
    """Whether the first of two cells has the lower error in this field; None without either."""
    one, other = getattr(first, field, None), getattr(second, field, None)
    return None if one is None or other is None else one < other


def relative_errors(cells: pd.DataFrame, error: str, name: str = "notation") -> pd.DataFrame:
    """Lowest error per method (``name``; rows) and target (columns) over the base's; NaN where there is none."""
    finished = cells[cells["failure"].isna() & cells[error].notna()].astype({error: float})
    lowest = finished.groupby([name, "target"])[error].min().unstack()
    base = finished[finished["method"] == Method.BASE].set_index("target")[error].reindex(lowest.columns)
    papers_first = sorted(Method, key=lambda method: method.extension)
    ordered = cells.sort_values("method", key=lambda column: column.map(papers_first.index), kind="stable")
    index, columns = ordered[name].unique(), cells["target"].unique()
    ratios = (lowest / base.where(base > 0)).reindex(index=index, columns=columns)
    return ratios.drop(index=Method.BASE.notation, errors="ignore")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table: six significant digits, nothing for what is missing, lines end in a line feed."""
    table.map(_text).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_data(out: Path, results: Sequence[TargetResults], cells: pd.DataFrame) -> None:
    """Write the data files; without ``runs.csv`` they are equal byte for byte when a study runs twice."""
    (out / "plots").mkdir(parents=True, exist_ok=True)
    write_csv(out / "cells.csv", cells[_CELL_COLUMNS])
    write_csv(out / "targets.csv", target_table(results))
    runs = cells.assign(name=cells["short_name"], status=cells["status"].str.split(":").str[0])
    write_csv(out / "runs.csv", runs[_RUN_COLUMNS])
    write_csv(out / "plots" / "methods.csv", _method_points(cells))
    write_csv(out / "plots" / "parity.csv", _parity_points(results))
    text = json.dumps({target.info.key: target_metrics(target) for target in results}, indent=2)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")


def target_metrics(target: TargetResults) -> dict[str, float | str | None]:
    """What `dvc exp show` has of a target: hold-out MAE of best scratch and transfer cell, the winner and its MAE."""
    sc, tl, winner = target.best_sc, target.best_tl, target.winner
    values = {"sc": sc and sc.test_mae, "tl": tl and tl.test_mae, "cv": winner and winner.cv_mae_mean}
    short = {name: None if value is None else float(f"{value:.6g}") for name, value in values.items()}
    return {**short, "winner": winner.label if winner else None}


def _method_points(cells: pd.DataFrame) -> pd.DataFrame:
    """Cross-validated MAE of every method (its best cell), divided by that of the base method."""
    ratios = relative_errors(cells, "cv_mae_mean")
    ratios.loc[Method.BASE.notation] = 1.0
    order = [method.notation for method in Method if method.notation in ratios.index]
    points = ratios.loc[order].T.stack().dropna().reset_index()
    points.columns = ["target", "method", "cv_mae_relative"]
    return points.assign(target=points["target"].map(cells.groupby("target")["label"].first()))


def _parity_points(results: Sequence[TargetResults]) -> pd.DataFrame:
    """Hold-out values and the winner's predictions, minus the median value, in units of the base MAE."""
    rows = []
    for target in results:
        if target.winner is not None and target.base_mae:
            values = target.hold_out(target.winner)[["y_true", "y_pred"]].to_numpy(dtype=float)
            scaled = (values[evenly(len(values), _MOST_POINTS)] - np.median(values[:, 0])) / target.base_mae
            rows += [(target.info.label, float(t), float(p)) for t, p in scaled]
    return pd.DataFrame(rows, columns=["target", "y_true", "y_pred"])
