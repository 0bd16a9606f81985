"""95th percentile of the absolute error: Supplementary Table 12."""

from __future__ import annotations

from collections.abc import Sequence

from crossprop.experiments.results import CellResult
from crossprop.reporting.part import Part, Row
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, markdown_table, number, unit_name


def tail_rows(results: Sequence[TargetResults]) -> list[Row]:
    """Q95 of the hold-out error of the chosen cells, in the target's unit."""
    return [
        {
            "target": target.info.key,
            "label": target.info.label,
            "unit": target.info.unit,
            **_columns("base", target, target.base),
            **_columns("sc", target, target.best_sc),
            **_columns("tl", target, target.best_tl),
            **_columns("winner", target, target.winner),
            "tl_lower_than_sc": _lower(target),
        }
        for target in results
    ]


def tails_part(results: Sequence[TargetResults], *, of_paper: bool) -> Part:
    """The section; with the paper's count where the study has its targets."""
    lines = []
    for target in results:
        cells = (target.base, target.best_sc, target.best_tl, target.winner)
        values = [number(cell.test_q95) if cell else "–" for cell in cells]
        if _lower(target) is not None:
            best = 2 if _lower(target) else 1
            values[best] = f"**{values[best]}**"
        lines.append([target.info.label, unit_name(target.info.unit), *values, cell_name(target.winner)])
    known = [lower for target in results if (lower := _lower(target)) is not None]
    header = ["target", "unit", "base", "best SC", "best TL", "winner", "the winner"]
    theirs = " (the paper: 26 of 41; exact tests in [paper.md](paper.md))" if of_paper else ""
    text = (
        f"The error that 95 % of the hold-out stay below. TL has the lower one on {sum(known)} of {len(known)} "
        f"targets{theirs}. Bold: the lower one of best SC and best TL.\n\n"
        f"{markdown_table(header, lines, left=(0, 1, 6))}"
    )
    return Part(
        title="Tails of the error: Q95 (S12)", text=text, tables={"tables/table_s12.csv": tail_rows(results)}
    )


def _lower(target: TargetResults) -> bool | None:
    scratch = target.best_sc.test_q95 if target.best_sc else None
    transfer = target.best_tl.test_q95 if target.best_tl else None
    return None if scratch is None or transfer is None else transfer < scratch


def _columns(role: str, target: TargetResults, cell: CellResult | None) -> dict[str, str | float | None]:
    return {
        f"{role}_cell": cell_name(cell) if cell else None,
        f"{role}_q95": cell.test_q95 if cell else None,
        f"{role}_run_id": target.run_id(cell),
    }
