"""The report of one fit: ``report.json`` for programs, ``report.md`` and a table for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from crossprop.data.own_file import OwnTable
from crossprop.serving.coverage import Coverage
from crossprop.workbench.decision import Settings
from crossprop.workbench.protocol import Outcome
from crossprop.workbench.tables import method_rows, transfer_verdict

REPORT_JSON, REPORT_PAGE = "report.json", "report.md"
COLUMNS = ("method", "CV MAE", "hold-out MAE", "95 % interval", "R²", "trials", "remark")


def report_of(
    path: Path,
    table: OwnTable,
    settings: Settings,
    outcome: Outcome,
    coverage: Coverage | None,
    seconds: float,
) -> dict[str, Any]:
    """Everything about a fit as plain values."""
    learnt, task = outcome.learnt, outcome.task
    predictions = pd.read_parquet(learnt.folder / "predictions.parquet")
    methods = method_rows(learnt.results, predictions, task.seed)
    networks = outcome.networks
    best = next(row for row in methods if row["label"] == learnt.winner.label)
    return {
        "target": task.target,
        "unit": task.unit,
        "file": path.name,
        "rows": {
            "read": table.n_read,
            "used": len(table.rows),
            "compositions": int(table.rows["composition"].nunique()),
            "training": learnt.winner.n_train,
            "holdout": learnt.winner.n_test,
            "groups": len(set(table.together)) if table.group_column is not None else None,
            "left_out": [{"line": p.line, "reason": p.reason, "text": p.text} for p in table.problems],
        },
        "columns": {"formula": table.formula_column, "value": table.value_column}
        | ({"group": table.group_column} if table.group_column is not None else {}),
        "budget": {
            "minutes": settings.minutes,
            "took_minutes": round(seconds / 60, 2),
            "effort": task.plan.effort.name,
            "folds": task.plan.folds,
            "seed": task.seed,
        },
        "winner": best,
        "coverage": None
        if coverage is None or coverage.share is None
        else {
            "stated": coverage.stated,
            "measured": coverage.share,
            "rows": coverage.n,
            "outside_domain": coverage.flagged,
        },
        "transfer": transfer_verdict(learnt.results),
        "sources": None
        if networks is None
        else {
            "recipe": networks.recipe,
            "sources": list(networks.sources),
            "elemnets": list(networks.elemnets),
            "compositions": len(networks.seen),
        },
        "methods": methods,
        "notes": [*table.notes, *outcome.notes],
    }


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write both files into a folder."""
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    (folder / REPORT_JSON).write_text(text, encoding="utf-8")
    (folder / REPORT_PAGE).write_text(page(report), encoding="utf-8")


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    unit = f" ({report['unit']})" if report["unit"] else ""
    lines = [
        f"# {report['target']}{unit}",
        "",
        *(f"- {line}" for line in summary_lines(report)),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 2) + "---|",
        *("| " + " | ".join(row) + " |" for row in table_rows(report)),
        "",
        "CV MAE is what chose the winner; the hold-out had no say. Hold-out errors are those of the mean of a method's "
        "fold models, which is what the folder holds of the winner.",
        "",
        *(f"- {note}" for note in report["notes"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What matters, in a few sentences."""
    winner, rows, unit = report["winner"], report["rows"], report["unit"]
    lines = [
        f"{rows['used']:,} of {rows['read']:,} rows of {report['file']}, {rows['compositions']:,} compositions"
        + (f" in {rows['groups']:,} groups that stay together" if rows["groups"] is not None else "")
        + ": "
        f"{rows['training']:,} to learn from, {rows['holdout']:,} held out",
        f"winner: {winner['label']} ({winner['notation']}), cross-validated MAE {winner['cv_mae']:.4g} {unit}".rstrip(),
    ]
    if figures := winner.get("holdout"):
        base = next((row.get("holdout") for row in report["methods"] if row["method"] == "base"), None)
        beside = f"; the mean of the training values: {base['mae']:.4g}" if base else ""
        lines.append(
            f"hold-out MAE {figures['mae']:.4g} (95 % bootstrap interval {figures['mae_low']:.4g} to "
            f"{figures['mae_high']:.4g}){beside}"
        )
    if coverage := report["coverage"]:
        lines.append(
            f"{100 * coverage['stated']:.0f} % intervals hold {100 * coverage['measured']:.0f} % of the "
            f"{coverage['rows']} hold-out values"
        )
    lines.append(
        report["transfer"]["text"] if report["transfer"] else "No transfer: learnt from these rows alone."
    )
    lines.append(f"{report['budget']['took_minutes']:g} minutes, effort {report['budget']['effort']!r}")
    return lines


def table_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of methods as texts."""
    return [_texts(row, row["label"] == report["winner"]["label"]) for row in report["methods"]]


def text_table(report: dict[str, Any]) -> str:
    """The table of methods for a screen, as wide as it has to be."""
    rows = [COLUMNS, *table_rows(report)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def _texts(row: dict[str, Any], won: bool) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    figures = row.get("holdout") or {}
    interval = f"{figures['mae_low']:.3g} to {figures['mae_high']:.3g}" if figures else "–"
    remark = "winner" if won else row["note"]
    return (
        row["label"],
        number(row["cv_mae"]) if row["cv_mae"] is None else f"{row['cv_mae']:.4g} ± {row['cv_mae_std']:.2g}",
        number(figures.get("mae")),
        interval,
        "–" if figures.get("r2") is None else f"{figures['r2']:.2f}",
        str(row["trials"]),
        remark,
    )
