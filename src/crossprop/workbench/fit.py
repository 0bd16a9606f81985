"""``crossprop fit``: from one file to a saved model with its evidence and a report, resumable until it is done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import pandas as pd

from crossprop.data.cleaning import report_frame
from crossprop.data.own_file import MIN_ROWS, OwnTable, read_own_file
from crossprop.data.prepared import together_in
from crossprop.errors import OwnFileError
from crossprop.experiments.progress import Print, show
from crossprop.paths import StudyPaths
from crossprop.serving.coverage import folder_coverage
from crossprop.workbench.decision import Settings
from crossprop.workbench.fit_report import report_of, write_report
from crossprop.workbench.learn import STUDY
from crossprop.workbench.out_folder import commit_folder, refuse_taken
from crossprop.workbench.protocol import Outcome, run_protocol

BAD_LINES_SHOWN: Final = 5
MAX_BAD_SHARE: Final = 0.1
DATA_FILE: Final = "data.csv"


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How the file is to be read; what is ``None`` is guessed.

    Attributes:
        formula_column: Column of the formulas.
        value_column: Column of the values, where it is not called as the target.
        split_column: Column that says ``train`` or ``test`` for every row; without one the hold-out is drawn.
        group_column: Column that says what stays on one side of every split.
        element_columns: ``atomic`` or ``weight``, where every element has a column instead of a formula.
        sheet: Sheet of a workbook.
        encoding: Encoding of the text.
        delimiter: Separator of the fields.
        decimal: Sign of the decimals.
        drop_invalid: Go on without the rows that are unusable, however many.
    """

    formula_column: str | None = None
    value_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    element_columns: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    drop_invalid: bool = False


@dataclass(frozen=True)
class Fitted:
    """A finished fit.

    Attributes:
        folder: The model's folder.
        report: What ``report.json`` holds.
    """

    folder: Path
    report: dict[str, Any]


def fit_file(
    path: Path,
    settings: Settings,
    out: Path,
    options: FileOptions | None = None,
    *,
    overwrite: bool = False,
    write: Print = show,
) -> Fitted:
    """The whole protocol for one file.

    What is finished is kept in a hidden folder beside ``out`` until the model is complete, so that a fit that was
    stopped goes on when it is started again.

    Args:
        path: CSV or Excel file.
        settings: What was asked for; its ``target`` names the column of values.
        out: Where the model goes: new, empty, or to be replaced.
        options: How the file is to be read.
        overwrite: Replace what is at ``out``, once the new model is complete.
        write: Receives lines of progress.

    Raises:
        OwnFileError: The file cannot be read, or too many of its rows are unusable.
        StoreError: ``out`` is not empty, or cannot be written.
        DataError: There is too little to learn from.
        ConfigError: What was asked for is impossible.
    """
    started = perf_counter()
    options = options or FileOptions()
    refuse_taken(out, replace=overwrite)
    table = read_own_file(
        path,
        target=settings.target,
        formula_column=options.formula_column,
        value_column=options.value_column,
        split_column=options.split_column,
        group_column=options.group_column,
        element_columns=options.element_columns,
        sheet=options.sheet,
        encoding=options.encoding,
        delimiter=options.delimiter,
        decimal=options.decimal,
    )
    settings = replace(settings, unit=settings.unit or table.unit or "")
    _tell(path, table, settings, options, write)
    if "split" in table.rows.columns:
        table = replace(table, rows=_kept_apart(table.rows, write))
    work = out.with_name(f".{out.name}.fit")
    outcome = run_protocol(table.rows, settings, work, cleaning=_cleaning(path, table), write=write)
    for note in outcome.notes:
        write(f"note: {note}")
    seconds = perf_counter() - started
    report = report_of(path, table, settings, outcome, folder_coverage(outcome.learnt.model), seconds)

    def fill(draft: Path) -> None:
        shutil.copytree(outcome.learnt.model, draft, dirs_exist_ok=True)
        _data(outcome, work).to_csv(draft / DATA_FILE, index=False, lineterminator="\n")
        write_report(report, draft)

    commit_folder(out, fill, replace=overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return Fitted(out, report)


def _tell(path: Path, table: OwnTable, settings: Settings, options: FileOptions, write: Print) -> None:
    """Say what was read; refuse a file of which too much is unusable.

    Raises:
        OwnFileError: More than a tenth of the rows is unusable, or fewer than twenty are usable.
    """
    known = table.rows["composition"].nunique()
    unit = settings.unit or "no unit given"
    grouped = table.group_column is not None
    groups = f" in {len(set(table.together)):,} groups that stay together" if grouped else ""
    write(
        f"{path}: {len(table.rows):,} rows of {known:,} compositions{groups}; {table.formula_column!r} holds formulas, "
        f"{table.value_column!r} values ({unit}); read as {table.dialect}"
    )
    for note in table.notes:
        write(f"note: {note}")
    for problem in table.problems[:BAD_LINES_SHOWN]:
        write(f"left out: {problem}")
    if len(table.problems) > BAD_LINES_SHOWN:
        write(f"left out: {len(table.problems) - BAD_LINES_SHOWN} more; all of them stand in report.json")
    if len(table.problems) > MAX_BAD_SHARE * table.n_read and not options.drop_invalid:
        raise OwnFileError(
            f"{len(table.problems)} of {table.n_read} rows of {path} are unusable ({table.problems[0]}). More than one "
            "in ten is no accident: check the columns, or go on without them with --drop-invalid."
        )
    if len(table.rows) < MIN_ROWS:
        raise OwnFileError(
            f"{path} has {len(table.rows)} usable rows; at least {MIN_ROWS} are needed for a hold-out, folds and a "
            "screening split."
        )


def _kept_apart(rows: pd.DataFrame, write: Print) -> pd.DataFrame:
    """Without the learning rows whose composition is in the given hold-out."""
    together = together_in(rows)
    tested = set(rows.loc[rows["split"] == "test", together])
    shared = (rows["split"] == "train") & rows[together].isin(tested)
    if not tested or not (rows["split"] == "train").any():
        raise OwnFileError("The split column leaves one side empty. Mark some rows 'train' and some 'test'.")
    if shared.any():
        write(f"note: {int(shared.sum())} training rows repeat a {together} of the hold-out; left out")
    return rows[~shared]


def _cleaning(path: Path, table: OwnTable) -> pd.DataFrame:
    return report_frame(
        (problem.line, path.name, problem.text, "", "dropped", problem.reason) for problem in table.problems
    )


def _data(outcome: Outcome, work: Path) -> pd.DataFrame:
    """The rows as they were learnt from, with their side."""
    return pd.read_parquet(StudyPaths(STUDY, work).prepared(outcome.task.target))
