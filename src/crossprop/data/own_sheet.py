"""Workbooks (``.xlsx``) as a source of rows; they need the package openpyxl, which crossprop does not bring along."""

from __future__ import annotations

import datetime
import importlib
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from crossprop.data.own_text import Record
from crossprop.errors import OwnFileError

MERGED_BELOW: Final = 20 * 2**20
"""Bytes of a workbook up to which merged cells are looked for; beyond, that would take too much memory."""


def is_workbook(content: bytes) -> bool:
    """Whether these bytes are an Excel workbook of the present format."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def read_sheet(
    path: Path, sheet: str | None = None, wanted: Callable[[Record], bool] = lambda record: False
) -> tuple[str, list[Record], tuple[str, ...]]:
    """Rows of a sheet as texts; what stands in cells that were merged over several rows stands in each of them.

    Args:
        path: The workbook.
        sheet: Name of the sheet; may be left out where one sheet alone holds something, or what is wanted.
        wanted: Whether a row names the columns that are looked for.

    Returns:
        Name of the sheet, its rows, blank ones left out, and what is worth knowing about them.

    Raises:
        OwnFileError: openpyxl is not installed, the workbook is damaged, its formulas have no results, or the sheet
            has to be named.
    """
    try:
        load_workbook = importlib.import_module("openpyxl").load_workbook
    except ImportError:
        raise OwnFileError(
            f"{path} is an Excel workbook. Save the sheet as CSV, or install openpyxl ('pip install openpyxl')."
        ) from None
    try:
        book = load_workbook(path, read_only=path.stat().st_size > MERGED_BELOW, data_only=True)
        sheets = {name: book[name] for name in book.sheetnames if hasattr(book[name], "iter_rows")}
        filled = {name: rows for name, found in sheets.items() if (rows := _records(found))}
    except Exception as error:  # openpyxl raises whatever its XML parser does
        raise OwnFileError(f"{path} is a damaged workbook: {error}. Save it anew, or as CSV.") from None
    if not filled:
        _refuse_uncomputed(path, load_workbook, None)
        raise OwnFileError(f"{path} holds no filled sheet. Save it anew.")
    name = _chosen(path, sheet, filled, wanted)
    width = max(len(record.fields) for record in filled[name])
    for position in range(width):
        cells = [r.fields[position] for r in filled[name] if position < len(r.fields) and r.fields[position]]
        if len(cells) == 1 and len(filled[name]) > 2:  # a header above nothing
            _refuse_uncomputed(path, load_workbook, name)
            break
    note = _merged_note(sheets[name])
    return name, filled[name], (note,) if note else ()


def _chosen(
    path: Path, sheet: str | None, filled: dict[str, list[Record]], wanted: Callable[[Record], bool]
) -> str:
    """The sheet that was named, or the only one that may be meant."""
    if sheet is not None:
        found = [n for n in filled if n == sheet] or [n for n in filled if n.casefold() == sheet.casefold()]
    else:
        found = list(filled)
        if len(found) > 1:
            found = [name for name, records in filled.items() if any(map(wanted, records[:30]))]
    if len(found) == 1:
        return found[0]
    what = f"no filled sheet {sheet!r}" if sheet is not None else "several sheets"
    raise OwnFileError(f"{path} has {what}. Choose one with --sheet: {', '.join(map(repr, filled))}.")


def _refuse_uncomputed(path: Path, load_workbook: Any, sheet: str | None) -> None:
    """Refuse formulas of the spreadsheet that no program has computed yet: their cells read as empty."""
    book, stored = load_workbook(path), load_workbook(path, data_only=True)
    for name in [sheet] if sheet is not None else book.sheetnames:
        for row in book[name].iter_rows():
            for cell in row:
                if cell.data_type == "f" and stored[name][cell.coordinate].value is None:
                    raise OwnFileError(
                        f"{path}, sheet {name!r}: {cell.coordinate} holds the formula {str(cell.value)[:40]!r} "
                        "without a stored result. Open and save the workbook in a spreadsheet program, or save the "
                        "sheet as CSV."
                    )


def _records(sheet: Any) -> list[Record]:
    above = {
        (row, area.min_col): (area.min_row, area.min_col)
        for area in _merged(sheet)
        for row in range(area.min_row + 1, area.max_row + 1)
    }
    records: list[Record] = []
    texts: dict[tuple[int, int], str] = {}
    for i, row in enumerate(sheet.iter_rows(values_only=True), 1):
        fields = [_text(value) for value in row]
        if above:
            texts.update({(i, j): text for j, text in enumerate(fields, 1) if text})
            fields = [
                texts.get(above[i, j], text) if (i, j) in above else text for j, text in enumerate(fields, 1)
            ]
        if any(fields):
            records.append(Record(i, tuple(fields)))
    return records


def _merged(sheet: Any) -> list[Any]:
    """Areas that were merged over several rows; none are known of a large workbook."""
    areas = getattr(sheet, "merged_cells", None)
    return [area for area in (areas.ranges if areas else ()) if area.max_row > area.min_row]


def _merged_note(sheet: Any) -> str | None:
    areas = sorted(_merged(sheet), key=lambda area: (area.min_row, area.min_col))
    if not areas:
        return None
    return f"{len(areas)} cell(s) merged over several rows, the first {areas[0].coord}: each of the rows has the text"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.strftime("%Y-%m-%d")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
