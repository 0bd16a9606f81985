"""The table in a file of one's own, of whatever dialect: its header and rows as texts."""

from __future__ import annotations

import csv
import datetime
import importlib
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from crossprop.errors import OwnFileError

MAX_BYTES: Final = 256 * 2**20
"""Size above which a file is refused: a table of formulas and values is far smaller."""

_LONGEST_RECORD: Final = 50
_ERROR_CELLS: Final = ("#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!")
_MAGIC: Final = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old format",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF document",
    b"PAR1": "a parquet file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x93NUMPY": "a NumPy array",
}
_MARKUP: Final = {"{": "JSON", "[{": "JSON", "<": "HTML or XML"}


@dataclass(frozen=True)
class Record:
    """The fields of one row, and the line of the file (from 1) on which it starts."""

    line: int
    fields: tuple[str, ...]


def read_bytes(path: Path) -> bytes:
    """Content of a file that can be a table.

    Raises:
        OwnFileError: There is no such file, it cannot be read, is empty or larger than :data:`MAX_BYTES`.
    """
    try:
        if str(path).startswith(("http:/", "https:/", "ftp:/")):
            raise OwnFileError(f"{path} is an address of the web. Download the file and name it here.")
        if not path.exists():
            raise OwnFileError(f"There is no file {path}. Check the path; the folder is {Path.cwd()}.")
        if path.is_dir():
            raise OwnFileError(f"{path} is no file but a folder. Name the CSV file itself.")
        if not path.is_file():
            raise OwnFileError(f"{path} is no file. Write what comes from a pipe to a file, and name that.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise OwnFileError(
                f"{path} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES // 2**20} MiB are read. "
                "Write the columns of formulas and values alone to a new file."
            )
        content = path.read_bytes()
    except OSError as error:
        raise OwnFileError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    if not content.strip():
        raise OwnFileError(f"{path} is empty. Export it anew.")
    return content


def decode(path: Path, content: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Text of a file, and the encoding it is in.

    A byte order mark decides; without one UTF-8 is tried, then UTF-16, then Windows-1252.

    Args:
        path: For messages.
        content: The bytes.
        encoding: Encoding that the user named; nothing is guessed then.

    Raises:
        OwnFileError: It is no text, or not in that encoding.
    """
    if encoding is not None:
        try:
            return _clean(path, content.decode(encoding)), encoding
        except LookupError:
            raise OwnFileError(
                f"{encoding!r} is no encoding. Try utf-8, utf-16, cp1252 or latin-1."
            ) from None
        except UnicodeDecodeError as error:
            raise OwnFileError(f"{path} is not in {encoding}: {error}. Leave --encoding out.") from None
    for start, what in _MAGIC.items():
        if content.startswith(start):
            raise OwnFileError(f"{path} is {what}, no table of text. Save it as CSV.")
    for name in _candidates(content):
        try:
            return _clean(path, content.decode(name)), name
        except UnicodeDecodeError:
            continue
    return _clean(path, content.decode("latin-1")), "latin-1"


def split_records(path: Path, text: str, delimiter: str, most: int | None = None) -> Iterator[Record]:
    """Rows of a text, without blank ones and without comments (lines that begin with ``#`` or ``%``).

    Args:
        path: For messages.
        text: The text.
        delimiter: Separator of the fields; a blank stands for any run of blanks.
        most: Rows after which to stop; all if ``None``.

    Raises:
        OwnFileError: A quote is never closed.
    """
    lines = _Lines(text)
    if delimiter == " ":
        rows: Iterator[list[str]] = (line.split() for line in lines)
    else:
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    found = 0
    while most is None or found < most:
        try:
            fields = next(rows, None)
        except csv.Error as error:
            raise OwnFileError(f"{path}, line {lines.start}: {error}. Is a quote left open there?") from None
        if fields is None:
            return
        lines.within = False
        if lines.number - lines.start > _LONGEST_RECORD:
            raise OwnFileError(
                f"{path}, line {lines.start}: a quote is opened there and not closed for "
                f"{lines.number - lines.start} lines. Close it, or remove it."
            )
        if any(field.strip() for field in fields):
            found += 1
            yield Record(lines.start, tuple(fields))


def is_comment(line: str) -> bool:
    """Whether a line is one for people; error cells of spreadsheets such as ``#N/A`` are none."""
    bare = line.lstrip(' "')
    return bare.startswith(("#", "%")) and not bare.startswith(_ERROR_CELLS)


class _Lines:
    """Lines of a text that are no comments, with the number of the one where the present row began."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline=None)
        self.number = 0
        self.start = 0
        self.within = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while True:
            line = next(self._lines)
            self.number += 1
            if self.within:
                return line
            if not is_comment(line):
                self.start, self.within = self.number, True
                return line


def _candidates(content: bytes) -> list[str]:
    """Encodings to try, in order."""
    if content.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return ["utf-32"]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ["utf-16"]
    head = content[:4096]
    if len(head) >= 4 and head.count(0) > len(head) // 4:  # every other byte of plain text
        return ["utf-16-le"] if head[1::2].count(0) > head[0::2].count(0) else ["utf-16-be"]
    return ["utf-8-sig", "cp1252"]


def _clean(path: Path, text: str) -> str:
    """The text without its byte order mark, once it is one."""
    text = text.removeprefix("\ufeff")
    sample = text[:65536]
    if "\0" in text or sum(c < " " and c not in "\t\r\n\f" for c in sample) > len(sample) // 100:
        raise OwnFileError(f"{path} is a binary file, no table of text. Save it as CSV.")
    for start, what in _MARKUP.items():
        if sample.lstrip().startswith(start):
            raise OwnFileError(f"{path} is {what}, no table. Save it as CSV.")
    return text


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
