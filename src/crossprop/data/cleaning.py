"""Reading the catalogue's files, with a written account of every row that was repaired or dropped."""

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from crossprop.data.compositions import composition_keys, parse_formulas
from crossprop.errors import DataError, FormulaError

# ``action`` is ``repaired`` or ``dropped`` for a line, ``noted`` for a statement about many rows.
REPORT_COLUMNS: Final = ("line", "file", "formula", "value", "action", "reason")
EXCEL_DATES: Final = {"2-Feb": "FeB2", "3-Feb": "FeB3"}  # formulas that a spreadsheet turned into dates
LARGEST_VALUE: Final = 1e30  # beyond it 32-bit numbers and squares overflow
MAX_BAD_SHARE: Final = 0.1  # share of bad rows above which a file is refused rather than cleaned
_DATE: Final = re.compile(r"\d{1,4}[-/.](?:\d{1,2}|[A-Za-z]{3})(?:[-/.]\d{2,4})?|[A-Za-z]{3}[-/]\d{2,4}", re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True)
class CleanTable:
    """Rows that can be learnt from, and the account of the others."""

    rows: pd.DataFrame  # line, formula, composition (key), value, and group where one was named
    report: pd.DataFrame  # columns REPORT_COLUMNS


def read_table(path: Path, formula: str, value: str, group: str | None = None) -> CleanTable:
    """Read and clean the named columns of a CSV file: UTF-8, comma-separated, with a header; else a DataError.

    Nothing is taken for a missing value but an empty field: ``NaN`` in the formula column is sodium nitride. Rows that
    repeat a formula stay: with another value they are polymorphs.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}. Fetch the data first.")
    wanted = [name for name in (formula, value, group) if name is not None]
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in wanted if name not in header]:
                raise DataError(
                    f"{path} has no column {' and '.join(map(repr, missing))}; its header is "
                    f"{', '.join(map(repr, header[:12]))}. Separate columns by commas, or correct the names."
                )
            places = [header.index(name) for name in wanted]
            records = [
                (reader.line_num, *(row[at] if at < len(row) else None for at in places))
                for row in filter(None, reader)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}. Export it again.") from None
    lines, formulas, values, *groups = zip(*records, strict=True) if records else ((), (), ())
    table = clean_rows(path.name, lines, formulas, values)
    if groups:
        named = dict(zip(lines, groups[0], strict=True))
        table.rows["group"] = [(named[line] or "").strip() for line in table.rows["line"]]
        if unnamed := int((table.rows["group"] == "").sum()):
            raise DataError(f"{path}: {unnamed} row(s) name no {group!r}. Give every row a group.")
    return table


def clean_rows(
    name: str, lines: Iterable[int], formulas: Iterable[str | None], values: Iterable[str | None]
) -> CleanTable:
    """Clean rows of texts that are already in memory (``name`` is for messages); otherwise as :func:`read_table`."""
    rows = pd.DataFrame({"line": list(lines), "raw": list(formulas), "text": list(values)}, dtype=object)
    if rows.empty:
        raise DataError(f"{name} holds no rows below its header. Fetch or export it again.")
    stripped = rows["raw"].map(lambda text: text.strip() if isinstance(text, str) else text)
    repaired = stripped.isin(EXCEL_DATES.keys())
    rows["formula"] = stripped.replace(EXCEL_DATES)
    rows["value"] = [float(text) if text is not None and _NUMBER.fullmatch(text) else math.nan for text in rows["text"]]
    fractions, good, errors = parse_formulas(rows["formula"])
    problems = {i: why_no_formula(rows["formula"].iloc[i], error) for i, error in errors.items()}
    for i in np.flatnonzero(~np.isfinite(rows["value"].to_numpy())).tolist():
        text = rows["text"].iloc[i]
        blank = not (text or "").strip()
        problems[i] = "the value is missing" if blank else f"the value {text[:40]!r} is no finite number"
    report: list[tuple[Any, ...]] = []
    for position in sorted({*problems, *np.flatnonzero(repaired).tolist()}):
        row = rows.iloc[position]
        place = (row["line"], name, row["raw"], row["text"])
        if repaired.iloc[position]:
            reason = f"a spreadsheet had turned the formula {row['formula']} into a date"
            report.append((*place, "repaired", reason))
        if position in problems:
            report.append((*place, "dropped", problems[position]))
    if len(problems) > MAX_BAD_SHARE * len(rows):
        examples = "; ".join(f"line {rows['line'].iloc[i]}: {problems[i]}" for i in sorted(problems)[:3])
        raise DataError(
            f"{len(problems)} of {len(rows)} rows of {name} are unusable ({examples}), more than one in ten: check the "
            "columns, the decimal sign and the units, and correct the file."
        )
    kept = [i not in problems for i in good.tolist()]
    rows = rows.drop(index=list(problems))[["line", "formula", "value"]].reset_index(drop=True)
    rows = rows.astype({"line": "int64", "value": "float64"})
    rows.insert(2, "composition", composition_keys(fractions[kept]))
    if repeated := int(rows["formula"].duplicated().sum()):
        same = int(rows.duplicated(["formula", "value"]).sum())
        reason = f"{repeated} rows repeat a formula of this file, {same} of them with the same value; kept here"
        report.append((pd.NA, name, "", "", "noted", reason))
    return CleanTable(rows, report_frame(report))


def report_frame(records: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Cleaning report from records in the order of :data:`REPORT_COLUMNS`."""
    frame = pd.DataFrame(list(records), columns=list(REPORT_COLUMNS))
    texts = {c: frame[c].map(lambda v: "" if v is None else str(v)).astype(object) for c in REPORT_COLUMNS[1:]}
    return frame.assign(**texts, line=frame["line"].astype("Int64"))


def noted(name: str, texts: Iterable[str]) -> pd.DataFrame:
    """Cleaning report of statements about many rows of a file or property."""
    return report_frame((pd.NA, name, "", "", "noted", text) for text in texts)


def refuse_unlearnable(values: np.ndarray, what: str) -> None:
    """Raise a :class:`DataError` where no model can be fitted: fewer than two values, all the same, or too large."""
    if (n := len(values)) < 2:
        raise DataError(f"{what} holds {n} usable row(s); at least two are needed to learn from.")
    if (largest := float(np.abs(values).max())) > LARGEST_VALUE:
        raise DataError(
            f"The values of {what} reach {largest:.3g}; the methods compute with numbers up to {LARGEST_VALUE:g}. "
            "Give the values in a larger unit, or their logarithm."
        )
    if np.ptp(values) == 0.0:
        raise DataError(f"All {n} values of {what} are {values[0]:g}: a constant. Check the column.")


def why_no_formula(formula: object, error: FormulaError) -> str:
    """Why a cell that gave this error cannot be used."""
    if formula is None:
        return "the formula is missing"
    if isinstance(formula, str) and _DATE.fullmatch(formula):
        return f"{formula!r} is a date: a spreadsheet destroyed the formula"
    return str(error)
