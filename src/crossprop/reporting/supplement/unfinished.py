"""Cells without a whole cross-validation: failed, stopped, or screened only; with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.reporting.part import Part, Row
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, markdown_table, number, status

Unfinished = tuple[TargetResults, CellResult]


def failed_cells(results: Sequence[TargetResults]) -> list[Unfinished]:
    """Cells that could not be computed, in the order of the report."""
    return [(target, cell) for target in results for cell in target.cells if cell.failure is not None]


def stopped_cells(results: Sequence[TargetResults]) -> list[Unfinished]:
    """Cells that were stopped before the end of their cross-validation."""
    return [(t, c) for t in results for c in t.cells if c.failure is None and c.stopped is not None]


def cell_counts(results: Sequence[TargetResults]) -> str:
    """How many cells came how far, as a sentence."""
    cells = [cell for target in results for cell in target.cells]
    kinds = Counter(status(cell).split(":")[0].split(" ")[0] for cell in cells)
    names = {
        "cross-validated": "cross-validated",
        "screened": "screened only (another cell of their method was better)",
        "stopped": "stopped as hopeless",
        "failed": "failed",
    }
    told = [f"{kinds[kind]} {name}" for kind, name in names.items() if kinds[kind]]
    return f"Of {len(cells)} cells {', '.join(told)}."


def unfinished_rows(results: Sequence[TargetResults]) -> list[Row]:
    """One row per failed or stopped cell."""
    return [
        {
            "target": target.info.key,
            "cell_id": cell.cell,
            "cell": cell_name(cell),
            "status": "failed" if cell.failure is not None else "stopped",
            "reason": cell.failure if cell.failure is not None else cell.stopped,
            "screening_mae": cell.val_mae,
            "mae_of_folds_before_stop": " ".join(f"{mae:.6g}" for mae in cell.race_mae)
            if cell.race_mae
            else None,
            "run_id": target.run_id(cell),
        }
        for target, cell in [*failed_cells(results), *stopped_cells(results)]
    ]


def failed_part(results: Sequence[TargetResults]) -> Part:
    """Failed cells, for the main page; without a headline where every cell came through."""
    failed = failed_cells(results)
    if not failed:
        return Part()
    lines = [
        [target.info.label, f"`{cell.cell}`", cell_name(cell), cell.failure or ""] for target, cell in failed
    ]
    table = markdown_table(["target", "cell", "what", "reason"], lines, left=(0, 1, 2, 3))
    text = f"They stay in `cells.csv` with empty figures and take no part in any comparison.\n\n{table}"
    return Part(title="Cells that failed", text=text)


def stopped_part(results: Sequence[TargetResults]) -> Part:
    """Stopped cells with their reasons, for the supplement; without a headline where none was stopped."""
    failed, stopped = failed_cells(results), stopped_cells(results)
    tables: dict[str, list[Row]] = (
        {"tables/unfinished.csv": unfinished_rows(results)} if failed or stopped else {}
    )
    if not stopped:
        return Part(
            title="Cells that failed or were stopped" if failed else "",
            text=cell_counts(results),
            tables=tables,
        )
    lines = []
    for target, cell in stopped:
        folds = ", ".join(number(mae, 3) for mae in cell.race_mae or ())
        lines.append(
            [target.info.label, cell_name(cell), number(cell.val_mae), folds or "–", cell.stopped or ""]
        )
    header = ["target", "cell", "screening MAE", "MAE of its folds", "stopped"]
    text = (
        f"{cell_counts(results)} A stopped cell cannot have been chosen; whether it would have been, nobody "
        f"knows.\n\n{markdown_table(header, lines, left=(0, 1, 4))}"
    )
    return Part(title="Cells that failed or were stopped", text=text, tables=tables)
