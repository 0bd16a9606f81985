"""The table in a file of one's own, of whatever dialect: its header and rows as texts."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crossprop.data.own_sheet import is_workbook, read_sheet
from crossprop.data.own_text import Record, decode, is_comment, read_bytes, split_records
from crossprop.errors import OwnFileError

DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
"""Separators that are recognised, with their names."""

_SAMPLE: Final = 300
_TITLE_LINES: Final = 30
_NUMBER_LIKE: Final = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Dialect:
    """How a file was read.

    Attributes:
        encoding: Encoding of the text; empty for a workbook.
        delimiter: Separator of the fields; empty for a workbook.
        decimal: Sign of the decimals in the column of values.
        header_line: Line of the header.
        sheet: Sheet of a workbook.
    """

    encoding: str
    delimiter: str
    decimal: str = "."
    header_line: int = 1
    sheet: str | None = None

    def __str__(self) -> str:
        if self.sheet is not None:
            return f"sheet {self.sheet!r} of a workbook"
        sign = ", decimal comma" if self.decimal == "," else ""
        separator = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        return f"{self.encoding.upper().removesuffix('-SIG')}, separated by {separator}{sign}"


@dataclass(frozen=True)
class TextTable:
    """Header and rows as texts, with how they were found.

    Attributes:
        header: Names of the columns, stripped; an empty one is an unnamed column.
        records: The rows below the header.
        dialect: How the file was read.
        notes: What was skipped.
    """

    header: tuple[str, ...]
    records: tuple[Record, ...]
    dialect: Dialect
    notes: tuple[str, ...] = ()


def read_text_table(
    path: Path,
    wanted: Iterable[str] = (),
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> TextTable:
    """Read a table of whatever dialect.

    Args:
        path: Separated text, or a workbook (``.xlsx``).
        wanted: Names of columns that are expected; they help to find separator and header.
        encoding: Encoding; guessed if ``None``.
        delimiter: Separator; guessed if ``None``.
        sheet: Sheet of a workbook.

    Raises:
        OwnFileError: The file is missing, empty, too large or no table, has one column or no rows.
    """
    content, names = read_bytes(path), {fold(name) for name in wanted if name}
    if is_workbook(content):
        name, records, told = read_sheet(path, sheet, lambda record: len(_names(names, record)) == len(names))
        made = _with_header(path, records, names, Dialect("", "", sheet=name), ())
        return replace(made, notes=(*told, *made.notes))
    if sheet is not None:
        raise OwnFileError(f"{path} is no workbook: it has no sheet {sheet!r}. Leave --sheet out.")
    text, encoding = decode(path, content, encoding)
    first = text.lstrip().split("\n", 1)[0].strip().strip('"')
    if first.lower().startswith("sep=") and len(first) == 5:  # a line that Excel writes for itself
        delimiter = delimiter or first[4]
        text = re.sub(r'^\s*"?sep=."?', "", text, count=1, flags=re.IGNORECASE)
    delimiter = delimiter or _guess_delimiter(path, text, names)
    records = list(split_records(path, text, delimiter))
    return _with_header(path, records, names, Dialect(encoding, delimiter), _comments(text))


def fold(name: str) -> str:
    """A column's name as it is compared: without case, outer blanks and underscores."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def bare_name(name: str) -> str:
    """The same without the unit in brackets or behind a slash at its end: ``Hardness (GPa)``, ``E / eV``."""
    bare = re.sub(r"\s*[(\[][^()\[\]]*[)\]]\s*$|\s+/\s+[^/]+$|\s*,\s*[^\s,]+$", "", name)
    return fold(bare) or fold(name)


def _guess_delimiter(path: Path, text: str, names: set[str]) -> str:
    """The separator that finds most of the wanted columns, then the most even rows."""
    scores, problem = {}, None
    for sign in DELIMITERS:
        try:
            sample = list(split_records(path, text, sign, _SAMPLE))
        except OwnFileError as error:
            problem = problem or error
            continue
        if not sample:
            break
        width, count = _usual_width(sample)
        found = max(len(_names(names, record)) for record in sample[:_TITLE_LINES])
        headed = len(_trimmed(sample[0].fields)) == width
        if width >= 2:
            scores[sign] = (found, sign != " ", round(count / len(sample), 1), headed, width)
    if not scores and problem is not None:
        raise problem
    if not scores:
        first = text.strip().split("\n", 1)[0].strip()
        raise OwnFileError(
            f"{path} has one column only (its first line is {first[:80]!r}). Give a table with a column of "
            "formulas and one of values, or name the separator with --delimiter."
        )
    return max(scores, key=lambda sign: scores[sign])


def _names(wanted: set[str], record: Record) -> set[str]:
    """The wanted names that stand in a record, with or without a unit."""
    return wanted & {name for text in record.fields for name in (fold(text), bare_name(text))}


def _usual_width(records: Sequence[Record]) -> tuple[int, int]:
    """The number of fields that most rows have, and how many rows have it."""
    return Counter(len(_trimmed(record.fields)) for record in records).most_common(1)[0]


def _trimmed(fields: Sequence[str]) -> tuple[str, ...]:
    """The fields without empty ones at the end."""
    end = len(fields)
    while end and not fields[end - 1].strip():
        end -= 1
    return tuple(fields[:end])


def _comments(text: str) -> tuple[tuple[int, str], ...]:
    """Comment lines with their numbers."""
    lines = io.StringIO(text, newline=None)
    return tuple((i, line.rstrip("\n")) for i, line in enumerate(lines, start=1) if is_comment(line))


def _with_header(
    path: Path,
    records: Sequence[Record],
    names: set[str],
    dialect: Dialect,
    comments: Sequence[tuple[int, str]],
) -> TextTable:
    if not records:
        raise OwnFileError(f"{path} holds nothing but comments. Export it anew.")
    width, _ = _usual_width(records[:_SAMPLE])
    top = records[:_TITLE_LINES]
    at = next((i for i, r in enumerate(top) if _names(names, r)), None)
    if at is None:
        at = next((i for i, r in enumerate(top) if len(_trimmed(r.fields)) >= width), 0)
    notes = [f"line {r.line} taken for a title: {' '.join(r.fields).strip()[:60]!r}" for r in records[:at]]
    head, rows = records[at], records[at + 1 :]
    if any(_NUMBER_LIKE.fullmatch(field.strip()) for field in head.fields):
        commented = _commented_header(path, comments, head, dialect.delimiter)
        if commented is None:
            raise OwnFileError(
                f"{path} has no header: line {head.line} holds numbers "
                f"({dialect.delimiter.join(head.fields)[:80]!r}). Add a line of column names above it."
            )
        head, rows = commented, records[at:]
    header = tuple(name.strip() for name in _trimmed(head.fields))
    if len(header) < 2:
        raise OwnFileError(
            f"{path} has one column only ({header[0]!r}). Give a table with a column of formulas and one of values."
        )
    if not rows:
        raise OwnFileError(
            f"{path} holds a header ({', '.join(header)[:80]}) but no rows below it. Export it anew."
        )
    skipped = [number for number, _ in comments if number != head.line]
    if skipped:
        notes.append(f"{len(skipped)} comment line(s) skipped, the first is line {skipped[0]}")
    found = Dialect(dialect.encoding, dialect.delimiter, ".", head.line, dialect.sheet)
    return TextTable(header, tuple(rows), found, tuple(notes))


def _commented_header(
    path: Path, comments: Sequence[tuple[int, str]], first: Record, delimiter: str
) -> Record | None:
    """The comment line right above the first row, if it has a name for each of its fields."""
    above = [(number, text) for number, text in comments if number < first.line]
    if not above:
        return None
    number, text = above[-1]
    fields = next(iter(split_records(path, text.lstrip(' "').lstrip("#%"), delimiter)), None)
    if fields is None or len(fields.fields) != len(first.fields):
        return None
    return Record(number, fields.fields)
