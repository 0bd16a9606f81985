"""Workbooks (``.xlsx``) as a source of rows; they need the package openpyxl, which crossprop does not bring along."""

from __future__ import annotations

import datetime
import importlib
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from crossprop.data.own_text import Record
from crossprop.errors import OwnFileError


def is_workbook(content: bytes) -> bool:
    """Whether these bytes are an Excel workbook of the present format."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def read_sheet(path: Path, sheet: str | None = None) -> tuple[str, list[Record]]:
    """Rows of a sheet as texts.

    Args:
        path: The workbook.
        sheet: Name of the sheet; may be left out where one sheet alone holds something.

    Returns:
        Name of the sheet and its rows, blank ones left out.

    Raises:
        OwnFileError: openpyxl is not installed, the workbook is damaged, or the sheet has to be named.
    """
    try:
        load_workbook = importlib.import_module("openpyxl").load_workbook
    except ImportError:
        raise OwnFileError(
            f"{path} is an Excel workbook. Save the sheet as CSV, or install openpyxl ('pip install openpyxl')."
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        filled = {name: _records(book[name]) for name in book.sheetnames if hasattr(book[name], "iter_rows")}
    except Exception as error:  # openpyxl raises whatever its XML parser does
        raise OwnFileError(f"{path} is a damaged workbook: {error}. Save it anew, or as CSV.") from None
    filled = {name: records for name, records in filled.items() if records}
    if sheet is None and len(filled) == 1:
        sheet = next(iter(filled))
    if not filled:
        raise OwnFileError(f"{path} holds no filled sheet. Save it anew.")
    if sheet is None or sheet not in filled:
        what = f"no filled sheet {sheet!r}" if sheet is not None else "several sheets"
        raise OwnFileError(f"{path} has {what}. Choose one with --sheet: {', '.join(map(repr, filled))}.")
    return sheet, filled[sheet]


def _records(sheet: Any) -> list[Record]:
    rows = ((i, tuple(_text(v) for v in row)) for i, row in enumerate(sheet.iter_rows(values_only=True), 1))
    return [Record(line, fields) for line, fields in rows if any(fields)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.strftime("%Y-%m-%d")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
