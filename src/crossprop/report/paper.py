"""One number of ours beside one of the paper's: what it is, how far apart they are, who has the lower error."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

import numpy as np

from crossprop.experiments.results import CellResult
from crossprop.methods import Representation, Side
from crossprop.report.part import Row, cell_name, interval, markdown_table, number, status, unit_name
from crossprop.report.statistics import p_against_constant, standard_error
from crossprop.report.study import PaperFigures, PaperTable, TargetResults, best_validated


class Outcome(StrEnum):
    """Our error against a published one."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell of ours beside a published error.

    Attributes:
        target: Key of the target.
        cell: The cell whose number stands here; None where none was cross-validated.
        run_id: Where it is tracked.
        status: ``cross-validated``, or why there is no number.
        validated: How many of the cells that could stand here were cross-validated.
        candidates: How many could.
        mae: Hold-out error of the best fold model, the paper's number, in the target's unit.
        standard_error: Standard error of that mean over the hold-out's rows.
        p_value: Two-sided p of "our error equals the published one".
        ensemble_mae: Hold-out error of the mean of all fold models.
        ensemble_standard_error: Its standard error.
        published: The paper's error.
    """

    target: str
    cell: CellResult | None
    run_id: str
    status: str
    validated: int
    candidates: int
    published: float | None
    mae: float | None = None
    standard_error: float | None = None
    p_value: float | None = None
    ensemble_mae: float | None = None
    ensemble_standard_error: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our error over the published one."""
        return self.mae / self.published if self.mae is not None and self.published else None

    @property
    def ensemble_ratio(self) -> float | None:
        """The same of the mean of all fold models."""
        return (
            self.ensemble_mae / self.published if self.ensemble_mae is not None and self.published else None
        )

    @property
    def outcome(self) -> Outcome | None:
        """Win, tie or loss of the best fold model; None without either number."""
        return judge(self.mae, self.standard_error, self.published)

    @property
    def ensemble_outcome(self) -> Outcome | None:
        """Win, tie or loss of the mean of all fold models."""
        return judge(self.ensemble_mae, self.ensemble_standard_error, self.published)


def judge(ours: float | None, error: float | None, published: float | None) -> Outcome | None:
    """A tie where the two are within one standard error of ours, else a win for the lower one.

    >>> str(judge(1.00, 0.05, 1.04)), str(judge(1.00, 0.05, 1.06))
    ('tie', 'win')
    """
    if ours is None or published is None:
        return None
    if error is not None and abs(ours - published) <= error:
        return Outcome.TIE
    return Outcome.WIN if ours < published else Outcome.LOSS


def enter(target: TargetResults, candidates: Sequence[CellResult], published: float | None) -> Entry:
    """The best of some cells by cross-validation beside a published error.

    Where none was cross-validated, the one that came furthest stands there with what became of it.

    Args:
        target: Results of the target.
        candidates: Cells that the published number is to be held against.
        published: The paper's error, None where it has none.
    """
    validated = [cell for cell in candidates if cell.cv_mae is not None and cell.failure is None]
    best = best_validated(candidates)
    if best is None:
        return Entry(
            target=target.info.key,
            cell=None,
            run_id=target.run_id(_furthest(candidates)),
            status=_why_none(candidates),
            validated=0,
            candidates=len(candidates),
            published=published,
        )
    rows = target.hold_out(best)
    true, pred, mean = (rows[c].to_numpy(dtype=float) for c in ("y_true", "y_pred", "y_pred_ensemble"))
    errors, ensemble = np.abs(true - pred), np.abs(true - mean)
    known = bool(np.isfinite(ensemble).all()) and best.test_mae_ensemble is not None
    return Entry(
        target=target.info.key,
        cell=best,
        run_id=target.run_id(best),
        status=status(best),
        validated=len(validated),
        candidates=len(candidates),
        published=published,
        mae=best.test_mae,
        standard_error=standard_error(errors),
        p_value=None if published is None else p_against_constant(errors, published),
        ensemble_mae=best.test_mae_ensemble if known else None,
        ensemble_standard_error=standard_error(ensemble) if known else None,
    )


def _furthest(cells: Sequence[CellResult]) -> CellResult | None:
    """The cell with the least screening error; any failed one where none was screened."""
    screened = [(cell.val_mae, cell) for cell in cells if cell.val_mae is not None]
    if screened:
        return min(screened, key=lambda pair: pair[0])[1]
    return cells[0] if cells else None


def _why_none(cells: Sequence[CellResult]) -> str:
    best = _furthest(cells)
    if best is None:
        return "not in this study"
    where = "" if best.val_mae is None else f" (screening MAE {number(best.val_mae)})"
    return f"{status(best)}: {cell_name(best)}{where}"


CITATION = "Gupta et al. 2021, doi:10.1038/s41467-021-26921-5"

STATED_WINS = {
    "the 38 targets that TL won in Table 3": {
        "fine-tuning, plain or modified": 8,
        "TL:ML(FeatExtr)": 3,
        "TL:DL(FeatExtr)": 27,
    },
    "the 27 that it won in Table 4": {"feature extraction": 21, "other methods": 6},
}
"""Counts of Supplementary Tables 8 and 10, as the text has them."""


@dataclass(frozen=True, kw_only=True)
class PaperSource:
    """A source property of the paper.

    Attributes:
        source: Its key in the catalogue.
        table_2: Whether Table 2 transfers from it.
        wins: On how many of the 27 targets that TL won in Table 4 its network was the one transferred.
        validation_mae: Validation MAE of its network, where the text has it.
    """

    source: str
    table_2: bool
    wins: int
    validation_mae: float | None


@dataclass(frozen=True, kw_only=True)
class StatedTest:
    """A sign test of the paper.

    Attributes:
        wins: Pairs in which the first is better; None where only the p-value is printed.
        n: All pairs.
        p_value: The one-tailed p-value that the paper prints, which is that of the normal approximation.
    """

    wins: int | None
    n: int
    p_value: float


STATED_MAE = StatedTest(wins=29, n=41, p_value=0.00397)
STATED_Q95 = StatedTest(wins=26, n=41, p_value=0.04291)
STATED_FINE_TUNING = StatedTest(wins=None, n=234, p_value=0.00104)


@cache
def paper_sources() -> tuple[PaperSource, ...]:
    """The paper's six sources, the most successful first."""
    text = files("crossprop.report").joinpath("paper_sources.csv").read_text(encoding="utf-8")
    return tuple(
        PaperSource(
            source=line["source"],
            table_2=line["table_2"] == "yes",
            wins=int(line["table_4_wins"]),
            validation_mae=float(line["validation_mae"]) if line["validation_mae"] else None,
        )
        for line in csv.DictReader(text.splitlines())
    )


def is_experimental(figures: PaperFigures) -> bool:
    """Whether a target stands in Table 5, not in Tables 2 to 4."""
    return figures.sc_ef_mae_table2 is None


def best_transfer(figures: PaperFigures) -> float | None:
    """The lower TL error of Tables 2 and 3, or that of Table 5."""
    known = [mae for mae in (figures.tl_mae_table2, figures.tl_mae_table3_or_5) if mae is not None]
    return min(known, default=None)


def published_wins(
    paper: PaperTable, scratch: str, transfer: str, keys: Sequence[str] = ()
) -> tuple[int, int]:
    """On how many targets the paper's TL has the lower error than its SC, and of how many.

    Args:
        paper: The paper's errors by target.
        scratch: Field of the SC column.
        transfer: Field of the TL column.
        keys: Targets to count; all if empty.
    """
    figures = [paper[key] for key in (keys or paper) if paper.get(key) is not None]
    pairs = [(getattr(f, scratch), getattr(f, transfer)) for f in figures]
    known = [(sc, tl) for sc, tl in pairs if sc is not None and tl is not None]
    return sum(tl < sc for sc, tl in known), len(known)


Chooser = Callable[[CellResult], bool]


def _scratch(cell: CellResult) -> bool:
    return cell.method.side is Side.SCRATCH and not cell.method.extension


def _scratch_on_fractions(cell: CellResult) -> bool:
    return _scratch(cell) and cell.representation is Representation.ELEMENTAL_FRACTIONS


def _transfer(cell: CellResult) -> bool:
    return cell.method.side is Side.TRANSFER and not cell.method.extension


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
