"""Tables 2 to 5 of the paper, re-made: our best cells beside the published columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossprop.experiments.results import CellResult
from crossprop.reporting.paper.entries import Entry, Outcome, enter
from crossprop.reporting.paper.published import is_experimental, paper_sources
from crossprop.reporting.part import Row
from crossprop.reporting.study_info import PaperFigures, PaperTable
from crossprop.reporting.target_results import TargetResults
from crossprop.reporting.wording import cell_name, interval, markdown_table, number, unit_name
from crossprop.vocabulary import Representation, Side

Chooser = Callable[[CellResult], bool]


def _scratch(cell: CellResult) -> bool:
    return cell.method.side is Side.SCRATCH and not cell.method.ours


def _scratch_on_fractions(cell: CellResult) -> bool:
    return _scratch(cell) and cell.representation is Representation.ELEMENTAL_FRACTIONS


def _transfer(cell: CellResult) -> bool:
    return cell.method.side is Side.TRANSFER and not cell.method.ours


def _transfer_of_table_2(cell: CellResult) -> bool:
    return _transfer(cell) and cell.source in {s.source for s in paper_sources() if s.table_2}


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One of the paper's tables: which of our cells may stand in it, and which of its columns beside them.

    Attributes:
        number: Its number.
        title: What it compares.
        experimental: Whether it holds the experimental sets.
        scratch: Cells that may stand in its SC column.
        transfer: Cells that may stand in its TL column.
        scratch_field: Field of the published SC error.
        transfer_field: Field of the published TL error.
    """

    number: int
    title: str
    experimental: bool
    scratch: Chooser
    transfer: Chooser
    scratch_field: str
    transfer_field: str


TABLES = (
    PublishedTable(
        number=2,
        title="one source: SC on elemental fractions against TL from formation energy alone",
        experimental=False,
        scratch=_scratch_on_fractions,
        transfer=_transfer_of_table_2,
        scratch_field="sc_ef_mae_table2",
        transfer_field="tl_mae_table2",
    ),
    PublishedTable(
        number=3,
        title="all sources: SC on elemental fractions against the best TL of any source",
        experimental=False,
        scratch=_scratch_on_fractions,
        transfer=_transfer,
        scratch_field="sc_ef_mae_table2",
        transfer_field="tl_mae_table3_or_5",
    ),
    PublishedTable(
        number=4,
        title="physical attributes allowed: SC on either representation against the best TL of any source",
        experimental=False,
        scratch=_scratch,
        transfer=_transfer,
        scratch_field="sc_mae_table4_or_5",
        transfer_field="tl_mae_table3_or_5",
    ),
    PublishedTable(
        number=5,
        title="the experimental sets: SC on either representation against TL (the paper's from two sources)",
        experimental=True,
        scratch=_scratch,
        transfer=_transfer,
        scratch_field="sc_mae_table4_or_5",
        transfer_field="tl_mae_table3_or_5",
    ),
)


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One target of a table."""

    target: TargetResults
    base_published: float | None
    scratch: Entry
    transfer: Entry

    @property
    def transfer_is_lower(self) -> bool | None:
        """Whether our TL has the lower hold-out error; None without one of the two."""
        if self.scratch.mae is None or self.transfer.mae is None:
            return None
        return self.transfer.mae < self.scratch.mae


def table_lines(
    table: PublishedTable, results: Sequence[TargetResults], paper: PaperTable
) -> list[TableLine]:
    """The lines of one table, for the targets that stand in it; in the study's order."""
    lines = []
    for target in results:
        figures: PaperFigures | None = paper.get(target.info.key)
        if figures is None or is_experimental(figures) is not table.experimental:
            continue
        lines.append(
            TableLine(
                target=target,
                base_published=figures.base_mae,
                scratch=enter(
                    target,
                    [c for c in target.cells if table.scratch(c)],
                    getattr(figures, table.scratch_field),
                ),
                transfer=enter(
                    target,
                    [c for c in target.cells if table.transfer(c)],
                    getattr(figures, table.transfer_field),
                ),
            )
        )
    return lines


def table_rows(lines: Sequence[TableLine]) -> list[Row]:
    """The same as plain rows; an entry without a number says why in its status."""
    return [
        {
            "target": line.target.info.key,
            "label": line.target.info.label,
            "unit": line.target.info.unit,
            "n_train": line.target.cells[0].n_train,
            "n_test": line.target.cells[0].n_test,
            "folds": line.target.info.folds,
            "base_mae": line.target.base_mae,
            "base_mae_of_median": line.target.base.test_mae_median if line.target.base else None,
            "base_paper": line.base_published,
            "base_run_id": line.target.run_id(line.target.base),
            **_columns("sc", line.scratch),
            **_columns("tl", line.transfer),
            "tl_lower_than_sc": line.transfer_is_lower,
        }
        for line in lines
    ]


def table_markdown(lines: Sequence[TableLine]) -> str:
    """The same as a person reads it."""
    header = ["target", "unit", "base", "our SC", "paper", "ratio", "our TL", "paper", "ratio"]
    rows = [
        [
            line.target.info.label,
            unit_name(line.target.info.unit),
            _base(line),
            _ours(line.scratch),
            plain(line.scratch.published),
            judged(line.scratch.ratio, line.scratch.outcome),
            _ours(line.transfer),
            plain(line.transfer.published),
            judged(line.transfer.ratio, line.transfer.outcome),
        ]
        for line in lines
    ]
    return markdown_table(header, rows, left=(0, 1, 3, 5, 6, 8))


def judged(ratio: float | None, outcome: Outcome | None) -> str:
    """A ratio with its verdict, bold for a win: ``**0.92** win``."""
    if ratio is None or outcome is None:
        return "–"
    return f"**{ratio:.2f}** {outcome}" if outcome is Outcome.WIN else f"{ratio:.2f} {outcome}"


def plain(value: float | None) -> str:
    """The paper's number as it was printed, but for trailing zeros."""
    return "–" if value is None else f"{value:g}"


def _columns(side: str, entry: Entry) -> dict[str, str | int | float | None]:
    cell = entry.cell
    return {
        f"{side}_cell": cell_name(cell) if cell else None,
        f"{side}_status": entry.status,
        f"{side}_cross_validated": f"{entry.validated} of {entry.candidates}",
        f"{side}_cv_mae": cell.cv_mae_mean if cell else None,
        f"{side}_mae": entry.mae,
        f"{side}_mae_low": cell.test_mae_low if cell else None,
        f"{side}_mae_high": cell.test_mae_high if cell else None,
        f"{side}_standard_error": entry.standard_error,
        f"{side}_mae_of_mean_of_folds": entry.ensemble_mae,
        f"{side}_paper": entry.published,
        f"{side}_ratio": entry.ratio,
        f"{side}_outcome": entry.outcome,
        f"{side}_outcome_of_mean_of_folds": entry.ensemble_outcome,
        f"{side}_run_id": entry.run_id,
    }


def _base(line: TableLine) -> str:
    base = line.target.base
    median = f"<br>median {number(base.test_mae_median)}" if base and base.test_mae_median is not None else ""
    return f"{number(line.target.base_mae)} (paper {plain(line.base_published)}){median}"


def _ours(entry: Entry) -> str:
    """Our number with its interval, the mean of folds and the cell; or what became of the cells."""
    if entry.cell is None:
        return f"– {entry.status}"
    bounds = interval(entry.mae, entry.cell.test_mae_low, entry.cell.test_mae_high)
    ensemble = f"folds' mean {number(entry.ensemble_mae)}, " if entry.ensemble_mae is not None else ""
    few = (
        ""
        if entry.validated == entry.candidates
        else f" ({entry.validated} of {entry.candidates} cells validated)"
    )
    return f"{number(entry.mae)} {bounds}<br>{ensemble}{cell_name(entry.cell)}{few}"
