"""``crossprop fit``: from one file to a saved model with its evidence and a report, resumable until it is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import pandas as pd

from crossprop.data.cleaning import report_frame
from crossprop.data.prepared import together_in
from crossprop.data.user_rows import MIN_ROWS, OwnTable, read_own_file
from crossprop.errors import OwnFileError, StoreError
from crossprop.estimator.decision import Settings
from crossprop.estimator.learn import STUDY, Outcome, run_protocol
from crossprop.estimator.report import report_of, write_report
from crossprop.experiments.progress import Print, show
from crossprop.models.saved import INFO_FILE
from crossprop.paths import StudyPaths
from crossprop.uncertainty.evidence import folder_coverage


def refuse_taken(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that holds something, unless that is a saved model and to be replaced.

    Raises:
        StoreError: As said, or the place is taken by a file.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file. Name a folder that is not there yet.")
    if not replace and folder.is_dir() and any(folder.iterdir()):
        raise StoreError(
            f"{folder} is not empty. Name another folder, or replace it with --replace (replace=True)."
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INFO_FILE).is_file():
        raise StoreError(
            f"{folder} holds something, but no saved model (there is no {INFO_FILE}): it is not replaced. Name "
            "another folder, or empty this one yourself."
        )


def commit_folder(folder: Path, write: Callable[[Path], None], *, replace: bool = False) -> Path:
    """Write a folder beside its place, then rename it into place.

    Args:
        folder: New, empty, or to be replaced.
        write: Fills the folder that it is handed.
        replace: Replace what is there; it stays until the new one is complete.

    Returns:
        The folder.

    Raises:
        StoreError: It is not empty, or cannot be written.
    """
    refuse_taken(folder, replace=replace)
    place = folder.resolve()  # "." has no name to put anything beside
    draft = place.with_name(f".{place.name}.{os.getpid()}.draft")
    former = place.with_name(f".{place.name}.{os.getpid()}.former")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        write(draft)
        if place.is_dir():
            place.rename(former)
        try:
            draft.rename(place)
        except OSError:
            if former.is_dir():
                former.rename(place)
            raise
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error}. Free some space or mend the permissions, then run again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if place.is_dir():
            shutil.rmtree(former, ignore_errors=True)
    return folder


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
        unit=settings.unit or None,
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
