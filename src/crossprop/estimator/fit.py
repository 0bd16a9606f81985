"""``crossprop fit``: from one file to a saved model with its evidence and a report; a stopped fit can be resumed."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import pandas as pd

from crossprop.data.cleaning import MAX_BAD_SHARE, report_frame
from crossprop.data.splits import together_in, without_repeats
from crossprop.data.user_rows import MIN_ROWS, Problem, read_user_table
from crossprop.data.user_summary import describe
from crossprop.data.user_values import is_no_unit, known_unit_in
from crossprop.errors import StoreError, UserFileError
from crossprop.estimator import REPORT_FILE
from crossprop.estimator.learn import STUDY, Outcome, Settings, run_fit
from crossprop.estimator.report import REPORT_PAGE, report_of, write_report
from crossprop.experiments.fingerprint import digest
from crossprop.experiments.progress import Print, show
from crossprop.io import DIGESTS_FILE, atomic_folder, digested, read_json
from crossprop.models.saved import INFO_FILE
from crossprop.paths import StudyPaths
from crossprop.uncertainty.evidence import folder_coverage

DATA_FILE: Final = "data.csv"
NOTE_FILE: Final = "estimator.json"  # of a saved estimator
_BESIDE_MODEL: Final = (DATA_FILE, REPORT_FILE, REPORT_PAGE, NOTE_FILE)


def fit_file(
    path: Path,
    settings: Settings,
    out: Path,
    reading: Mapping[str, Any] | None = None,
    *,
    drop_invalid: bool = False,
    overwrite: bool = False,
    write: Print = show,
) -> dict[str, Any]:
    """The whole protocol for one file; returns the content of ``report.json``.

    A hidden folder beside ``out`` lets a stopped fit go on. ``reading`` is what ``read_user_table`` takes;
    ``drop_invalid`` goes on without unusable rows, however many.
    """
    started = perf_counter()
    asked = _digest_of(path, settings.target, reading)
    goes_on = _holds_unfinished(out, asked)
    refuse_taken(out, replace=overwrite or goes_on)
    table = read_user_table(path, target=settings.target, unit=settings.unit or None, **(reading or {}))
    unit = settings.unit or table.unit or known_unit_in(table.value_column) or known_unit_in(settings.target)
    settings = settings.model_copy(update={"unit": "" if is_no_unit(unit) else unit})
    for line in describe(path, table, settings.unit):
        write(line)
    if len(table.problems) > MAX_BAD_SHARE * table.n_read and not drop_invalid:
        raise UserFileError(
            f"{len(table.problems)} of {table.n_read} rows of {path} are unusable ({table.problems[0]}). That is more "
            "than one in ten: check the columns, or go on without these rows with --drop-invalid."
        )
    if len(table.rows) < MIN_ROWS:
        raise UserFileError(f"{path} has {len(table.rows)} usable rows; give at least {MIN_ROWS}.")
    if "split" in table.rows:
        rows, why = without_repeats(table.rows), f"it repeats a {together_in(table.rows)} of the hold-out"
        repeats = table.rows.drop(rows.index).to_dict("records")
        gone = [Problem(r["line"], why, f"{r['formula']} | {r['value']:g}", "split") for r in repeats]
        if gone:
            write(f"note: {len(gone)} training rows repeat a {together_in(rows)} of the hold-out; left out")
        table = replace(table, rows=rows, problems=(*table.problems, *gone))
    cleaning = report_frame((p.line, path.name, p.text, "", "dropped", p.reason) for p in table.problems)
    work = out.resolve().with_name(f".{out.resolve().name}.fit")  # "." has no name

    def save(outcome: Outcome, *, finished: bool) -> dict[str, Any]:
        seconds, coverage = perf_counter() - started, folder_coverage(outcome.model)
        learnt = pd.read_parquet(StudyPaths(STUDY, work).prepared(outcome.plan.target))
        report = report_of(path, table, learnt, settings, outcome, coverage, seconds, finished)
        if "weight" in (reading or {}).values():
            report["columns"]["amounts"] = "weight"
        report |= {} if finished else {"asked_sha256": asked}

        def fill(draft: Path) -> None:
            shutil.copytree(outcome.model, draft, dirs_exist_ok=True)
            learnt.to_csv(draft / DATA_FILE, index=False, lineterminator="\n")
            write_report(report, draft)

        commit_folder(out, fill, replace=overwrite or _holds_unfinished(out, asked))
        return report

    def save_plain(outcome: Outcome) -> None:
        best = outcome.winner
        error = f"{best.label}, cross-validated MAE {best.cv_mae_mean:.4g} {settings.unit}"
        if out.is_dir() and any(out.iterdir()) and not goes_on:
            write(f"{error.rstrip()}; {out} keeps its earlier model until the fit is complete")
            return
        save(outcome, finished=False)
        write(
            f"{error.rstrip()}: saved in {out} after {perf_counter() - started:.0f} s (crossprop predict {out} NaCl). "
            "Stop whenever you like: this model stays, and the same command goes on from here."
        )

    reports: list[dict[str, Any]] = []

    def save_best(outcome: Outcome) -> None:
        for note in outcome.plan.notes:
            write(f"note: {note}")
        reports.append(save(outcome, finished=True))
        shutil.rmtree(work, ignore_errors=True)

    run_fit(table.rows, settings, work, cleaning=cleaning, write=write, on_plain=save_plain, on_end=save_best)
    return reports[0]


def _digest_of(path: Path, target: str, reading: Mapping[str, Any] | None) -> str:
    """Tells fits apart by file, target and reading, without the path itself, which is nothing to publish."""
    return digest([str(path.resolve()), target, sorted((name, str(value)) for name, value in (reading or {}).items())])


def _holds_unfinished(out: Path, asked: str) -> bool:
    """Whether a folder holds the plain model of a stopped fit that asked for the same."""
    try:
        report = read_json(out / REPORT_FILE)
        return bool(report["asked_sha256"] == asked and report["finished"] is False)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_taken(folder: Path, *, replace: bool) -> None:
    """Refuse a path that is a file, or a folder that is not empty unless it holds a saved model to replace."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file. Name a folder that is not there yet.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not replace:
        raise StoreError(f"{folder} is not empty. Name another, or replace it (--replace, replace=True).")
    if not (folder / INFO_FILE).is_file():
        raise StoreError(f"{folder} is not empty and holds no saved model. Name another, or empty it.")


def commit_folder(folder: Path, write: Callable[[Path], None], *, replace: bool = False) -> Path:
    """Have ``write`` fill a new, empty or replaced folder, completely or not at all.

    Files in a replaced folder that are not those of its model stay.
    """
    refuse_taken(folder, replace=replace)
    with atomic_folder(folder.resolve()) as draft:  # "." has no name to put a draft beside
        write(draft)
        if folder.is_dir():
            of_model = {name.split("/")[0] for name in digested(folder)} | {DIGESTS_FILE, *_BESIDE_MODEL}
            for other in (path for path in folder.iterdir() if path.name not in of_model):
                if other.is_dir() and not other.is_symlink():
                    shutil.copytree(other, draft / other.name, symlinks=True)
                else:
                    shutil.copy2(other, draft / other.name, follow_symlinks=False)
    return folder
