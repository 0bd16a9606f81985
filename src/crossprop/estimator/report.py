"""The report of one fit: ``report.json`` for programs, ``report.md`` and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from crossprop.data.splits import together_in
from crossprop.data.user_rows import UserTable
from crossprop.estimator import REPORT_FILE
from crossprop.experiments.blend import blended_error
from crossprop.experiments.results import CellResult
from crossprop.experiments.scheduler import PLAIN_MEMBER_ROWS
from crossprop.io import read_json, write_json
from crossprop.methods import Method, Side, unit_behind
from crossprop.training.metrics import r2
from crossprop.uncertainty.evidence import Coverage
from crossprop.uncertainty.grouped import mean_interval

if TYPE_CHECKING:
    from crossprop.estimator.learn import Outcome, Settings  # imports Keras

REPORT_PAGE: Final = "report.md"
COLUMNS: Final = ("method", "CV MAE", "hold-out MAE", "95 % interval", "R²", "trials", "remark")
CV_COLUMNS: Final = {  # columns of ``cv_results_``, as scikit-learn names them, and keys of a cell's description
    "method": "method", "label": "label", "side": "side", "source": "source", "screening_mae": "screening_mae",
    "mean_val_mae": "cv_mae", "std_val_mae": "cv_mae_std", "fold_val_mae": "folds", "n_trials": "trials",
    "params": "hyperparameters", "note": "note",
}  # fmt: skip


def cv_results(results: Sequence[CellResult]) -> dict[str, list[Any]]:
    """Every cell as columns: what it is, its screening and cross-validated errors, and why it stopped."""
    rows = list(map(_describe, results))
    return {name: [row[given] for row in rows] for name, given in CV_COLUMNS.items()}


def _describe(result: CellResult) -> dict[str, Any]:
    way = result.method
    what: dict[str, Any] = {"method": str(way), "label": result.label, "notation": way.notation}
    what |= {"side": str(way.side), "source": result.source, "extension": way.extension}
    errors = {"screening_mae": result.val_mae, "cv_mae": result.cv_mae_mean, "cv_mae_std": result.cv_mae_std}
    folds = {"folds": None if result.cv_mae is None else list(result.cv_mae)}
    tuning = {"trials": result.n_trials, "hyperparameters": dict(result.hyperparameters)}
    return {**what, **errors, **folds, **tuning, "note": result.failure or result.stopped or ""}


def report_of(
    path: Path,
    table: UserTable,
    prepared: pd.DataFrame,
    settings: Settings,
    outcome: Outcome,
    coverage: Coverage | None,
    seconds: float,
    finished: bool = True,
) -> dict[str, Any]:
    """The content of ``report.json``; ``finished`` is false for the plain model that is saved while the fit goes on."""
    plan, winner = outcome.plan, outcome.winner
    study, networks, groups = plan.params.study, plan.networks, table.group_column
    predictions = pd.read_parquet(outcome.folder / "predictions.parquet")
    keys = prepared.loc[prepared["split"] == "test", together_in(prepared)].to_numpy()
    methods = _method_rows(outcome.results, predictions, keys)
    measured: dict[str, Any] | None = None
    if coverage is not None and coverage.share is not None:
        measured = {"stated": coverage.stated, "measured": coverage.share}
        measured |= {"rows": coverage.n, "outside_domain": coverage.flagged}
    sources: dict[str, Any] | None = None
    if networks is not None:
        sources = {"recipe": networks.recipe, "sources": list(networks.sources)}
        sources |= {"elemnets": list(networks.elemnets), "compositions": networks.n_seen}
    known = int(table.rows["composition"].nunique())
    n_groups = None if groups is None else len(set(table.together))
    rows: dict[str, Any] = {"read": table.n_read, "used": len(table.rows), "compositions": known}
    rows |= {"training": winner.n_train, "holdout": winner.n_test, "groups": n_groups}
    rows["left_out"] = [{"line": p.line, "reason": p.reason, "text": p.text} for p in table.problems]
    budget: dict[str, Any] = {"minutes": settings.minutes, "took_minutes": round(seconds / 60, 2)}
    return {
        "target": plan.target,
        "unit": settings.unit,
        "file": path.name,
        "finished": finished,
        "rows": rows,
        "columns": {"formula": table.formula_column, "value": table.value_column}
        | ({} if groups is None else {"group": groups}),
        "budget": budget | {"effort": study.tier, "folds": study.folds, "seed": study.seed},
        "winner": next(row for row in methods if row["label"] == winner.label),
        "coverage": measured,
        "transfer": transfer_verdict(outcome.results),
        "sources": sources,
        "methods": methods,
        "gains": _gains(outcome, predictions, prepared),
        "notes": [*table.notes, *plan.notes],
    }


def _method_rows(results: Sequence[CellResult], predictions: pd.DataFrame, keys: np.ndarray) -> list[dict[str, Any]]:
    """Every cell with its errors, the cross-validated ones first, best first; hold-out errors of the saved ensemble."""
    tested = dict(list(predictions[predictions["split"] == "test"].groupby("cell")))
    rows = []
    for result in results:
        row = _describe(result)
        if result.cell in tested:
            held = tested[result.cell]
            y_true, y_pred = held["y_true"].to_numpy(float), held["y_pred_ensemble"].to_numpy(float)
            mae = mean_interval(np.abs(y_true - y_pred), keys, least=0.0)
            explained = r2(y_true, y_pred) if np.ptp(y_true) > 0 else None
            row["holdout"] = {"mae": mae.mean, "mae_low": mae.low, "mae_high": mae.high, "r2": explained}
        rows.append(row)
    errors = ("cv_mae", "screening_mae")
    return sorted(rows, key=lambda row: [(row[name] is None, row[name] or 0.0) for name in errors])


def _gains(outcome: Outcome, predictions: pd.DataFrame, prepared: pd.DataFrame) -> list[dict[str, Any]]:
    """What each method bought, the plain median first: worker minutes, and the CV MAE of the blend up to it."""
    runs = read_json(outcome.folder / "runs.json")
    seconds = {run["cell"]: run["tune_seconds"] + run["fit_seconds"] for run in runs}
    validation = dict(list(predictions[predictions["split"] == "validation"].groupby("cell")))
    compared = (Method.BASE, Method.PLAIN_BASELINE, Method.BLEND)
    cells = [r for r in outcome.results if r.method not in compared and r.cell in validation]
    simple = next((i for i, r in enumerate(cells) if r.method is Method.PLAIN_MEDIAN), None)
    if simple is None:
        return []
    cells.insert(0, cells.pop(simple))
    group_of = prepared.drop_duplicates("formula").set_index("formula")[together_in(prepared)]
    rows: list[dict[str, Any]] = []
    for n, result in enumerate(cells, start=1):
        member = n == 1 or result.n_train <= PLAIN_MEMBER_ROWS
        tables = [validation[cell.cell] for cell in cells[0 if member else 1 : n]]
        predicted = np.stack([table["y_pred"].to_numpy(float) for table in tables])
        values, folds = tables[0]["y_true"].to_numpy(float), tables[0]["fold"].to_numpy(int)
        # cells of the method that were screened only are part of what its cross-validated ones cost
        same = [r for r in outcome.results if r.method is result.method and r not in cells]
        share = 1 / sum(r.method is result.method for r in cells)
        spent = seconds[result.cell] + share * sum(seconds[r.cell] for r in same)
        groups = group_of.loc[tables[0]["formula"]].to_numpy()
        error = blended_error(predicted, values, groups, folds, 0 if member else None)
        change = error / rows[-1]["cv_mae"] - 1 if rows and rows[-1]["cv_mae"] else None
        rows.append({"label": result.label, "minutes": spent / 60, "cv_mae": error, "change": change})
    return rows


def transfer_verdict(results: Sequence[CellResult]) -> dict[str, Any] | None:
    """Whether transfer helped: the best cross-validated cell of each side, on the same folds."""
    if not any(r.method.side is Side.TRANSFER for r in results):
        return None
    best = []
    for side in (Side.SCRATCH, Side.TRANSFER):
        validated = [(r, r.cv_mae) for r in results if r.method.side is side and r.cv_mae is not None]
        if not validated:
            text = f"No method of the side {str(side)!r} was cross-validated: nothing to compare."
            return {"helped": None, "text": text}
        best.append(min(validated, key=lambda found: float(np.mean(found[1]))))
    (scratch, of_scratch), (transfer, of_transfer) = best
    scratch_mae, transfer_mae = float(np.mean(of_scratch)), float(np.mean(of_transfer))
    change, helped = transfer_mae / scratch_mae - 1 if scratch_mae else None, transfer_mae < scratch_mae
    won = sum(t < s for t, s in zip(of_transfer, of_scratch, strict=True))
    word = "lowers" if helped else "does not lower"
    percent = "" if change is None else f"{100 * change:+.1f} %, "
    text = (
        f"Transfer from {transfer.source} {word} the cross-validated MAE: {transfer.label} {transfer_mae:.4g}, "
        f"best from scratch {scratch.label} {scratch_mae:.4g} ({percent}better in {won} of "
        f"{len(of_scratch)} folds)."
    )
    labels = {"scratch": scratch.label, "transfer": transfer.label, "source": transfer.source, "text": text}
    return {"helped": helped, "change": change, "folds_won": won, "folds": len(of_scratch), **labels}


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` into a folder."""
    write_json(folder / REPORT_FILE, report)
    page = [
        f"# {report['target']}{unit_behind(report['unit'], ' ({})')}",
        "\n".join(f"- {line}" for line in summary_lines(report)),
        table_of_methods(report, "pipe"),
        "The winner was chosen by cross-validation, not by the hold-out. Hold-out errors are those of the mean of a "
        "method's fold models, which is what the folder holds of the winner.",
        "\n".join(f"- {note}" for note in report["notes"]),
    ]
    (folder / REPORT_PAGE).write_text("\n\n".join(page).rstrip() + "\n", encoding="utf-8")


def summary_lines(report: dict[str, Any]) -> list[str]:
    """The main results, a sentence each."""
    winner, rows, coverage = report["winner"], report["rows"], report["coverage"]
    unit = unit_behind(report["unit"])
    groups = "" if rows["groups"] is None else f" in {rows['groups']:,} groups that stay together"
    notation = "" if winner["notation"].lower() == winner["label"].lower() else f" ({winner['notation']})"
    lines = [
        f"{rows['used']:,} of {rows['read']:,} rows of {report['file']}, {rows['compositions']:,} compositions"
        f"{groups}: {rows['training']:,} to learn from, {rows['holdout']:,} held out",
        f"winner: {winner['label']}{notation}, cross-validated MAE {winner['cv_mae']:.4g}{unit}",
    ]
    told = [row for row in report["methods"] if row["method"] not in ("base", "plain_baseline")]
    single = next((row for row in told if row["cv_mae"] is not None), winner)
    if report["methods"][0]["method"] == "base":
        lines.append("nothing was learnt: cross-validated, no method beats the mean of the training values")
    elif single["cv_mae"] < winner["cv_mae"]:  # the winner is the blend, or the plain median beside one
        lines.append(
            f"{single['label']} alone has {single['cv_mae']:.4g}, but the least of many errors is the least by chance: "
            "the blend, or the plain median where the blend does not beat it clearly, is better on new rows on average"
        )
    if figures := winner.get("holdout"):
        base = next((row.get("holdout") for row in report["methods"] if row["method"] == "base"), None)
        beside = f"; the mean of the training values: {base['mae']:.4g}" if base else ""
        lines.append(f"hold-out MAE {figures['mae']:.4g}{unit}{_interval(figures, ' (95 % interval {})')}{beside}")
        if base and winner["label"] != "base" and figures["mae"] >= base["mae"]:
            lines.append(
                f"on the {rows['holdout']:,} hold-out rows the winner is not better than that mean: test it on more "
                "rows before you rely on it"
            )
    if coverage:
        lines.append(
            f"{100 * coverage['stated']:.0f} % intervals hold {100 * coverage['measured']:.0f} % of the "
            f"{coverage['rows']} hold-out values"
        )
    transfer, budget = report["transfer"], report["budget"]
    lines.append(transfer["text"] if transfer else "No transfer: learnt from these rows alone.")
    if len(report["gains"]) > 1:
        first, *later = report["gains"]
        steps = [
            f"{row['label']} {row['minutes']:.1f} min, "
            + (f"MAE {100 * row['change']:+.1f} %" if row["change"] and abs(row["change"]) > 5e-4 else "no change")
            for row in later
        ]
        start = f"{first['label']} {first['minutes']:.1f} min, CV MAE {first['cv_mae']:.4g}{unit}"
        lines.append(
            f"what the time of each method (on one core) bought: {start}; added to the blend, {'; '.join(steps)}; "
            f"all together CV MAE {later[-1]['cv_mae']:.4g}{unit}"
        )
    lines.append(f"this start took {budget['took_minutes']:g} minutes, effort {budget['effort']!r}")
    return lines


def table_of_methods(report: dict[str, Any], form: str = "simple") -> str:
    """The table of methods, for a screen or (``pipe``) in Markdown."""
    rows, none = [], "–"
    for row in report["methods"]:
        figures, won = row.get("holdout"), row["label"] == report["winner"]["label"]
        texts = [
            row["label"],
            none if row["cv_mae"] is None else f"{row['cv_mae']:.4g} ± {row['cv_mae_std']:.3g}",
            f"{figures['mae']:.4g}" if figures else none,
            (_interval(figures) if figures else "") or none,
            f"{figures['r2']:.2f}" if figures and figures["r2"] is not None else none,
            str(row["trials"]),
            "winner" if won else row["note"],
        ]
        rows.append(texts)
    return text_table(rows, COLUMNS, ("left", *["right"] * 5, "left"), form)


def text_table(
    rows: Sequence[Sequence[str]], columns: Sequence[str], alignment: Sequence[str], form: str = "simple"
) -> str:
    """A table of texts as they are, for a screen or (``pipe``) in Markdown."""
    table = pd.DataFrame(rows, columns=list(columns))
    options: dict[str, Any] = {"colalign": alignment, "disable_numparse": True}
    return str(table.to_markdown(tablefmt=form, index=False, **options))


def _interval(figures: Mapping[str, Any], form: str = "{}") -> str:
    """The interval of a hold-out error, empty where one group alone is held out."""
    known = figures["mae_low"] is not None
    return form.format(f"{figures['mae_low']:.3g} to {figures['mae_high']:.3g}") if known else ""
