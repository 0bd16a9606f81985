"""The table in a user's file: its header and its rows as texts, in any dialect."""

import csv
import datetime
import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from crossprop.data.compositions import parse_formulas
from crossprop.data.user_values import NumberCell, is_known_unit, is_number, sign_of
from crossprop.errors import UserFileError

MAX_BYTES: Final = 256 * 2**20  # size above which a file is refused
# Bytes of a workbook up to which merged cells are looked for: it takes memory.
MERGED_BELOW: Final = 20 * 2**20
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
_FORMULAS_ONLY: Final = (
    "formula", "composition", "chemical formula", "pretty formula", "reduced formula", "chemical composition",
    "stoichiometry", "formel", "summenformel", "zusammensetzung", "formule", "formula unit", "nominal composition",
)  # fmt: skip
_FORMULA_NAMES: Final = (
    *_FORMULAS_ONLY, "compound", "material", "materials", "alloy", "system", "comp", "verbindung",
)  # fmt: skip
_LONGEST_RECORD: Final = 50
_SAMPLE: Final = 300
_SAMPLE_CHARACTERS: Final = 2**20
_TITLE_LINES: Final = 30
_CELLS_TO_JUDGE_BY: Final = 1000
_NUMBER_LIKE: Final = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_CUT_DECIMAL: Final = re.compile(r"(?<![^,])[+-]?\d+,\d+(?![^,])", re.ASCII)  # 1,5 as two fields
_ERROR_CELLS: Final = ("#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!")
# A line with a separator that is no decimal comma.
_SEPARATED: Final = re.compile(r"^(?!(?:[A-Z][a-z]?(?:\d+(?:,\d+)?)?)*\d,\d+[A-Z][\w,]*$).*[,;\t|]")


@dataclass(frozen=True)
class Dialect:
    """How a file was read; a workbook has no encoding and delimiter, a table without a header has line 0."""

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
class Record:
    """The stripped fields of one row, the line on which it starts, and whether that looks like a comment."""

    line: int
    fields: list[str]
    comment: bool = False

    @property
    def is_remark(self) -> bool:
        """Whether it is a comment that cannot be a row; one that begins with an id such as ``#4`` may be one."""
        return self.comment and re.match(r"[#%]\w", self.fields[0]) is None

    @property
    def width(self) -> int:
        """Number of fields without empty ones at the end."""
        return max((i for i, field in enumerate(self.fields, 1) if field), default=0)


@dataclass(frozen=True)
class Column:
    """A column of a table: its position, its name, and the rows of the table."""

    position: int
    name: str
    rows: Sequence[Sequence[str]]

    @cached_property
    def cells(self) -> list[str]:
        """The cells from top to bottom."""
        return [row[self.position] for row in self.rows]

    @property
    def filled(self) -> list[str]:
        """The first filled cells, by which a column is judged."""
        return [cell for cell in self.cells[: 2 * _CELLS_TO_JUDGE_BY] if cell][:_CELLS_TO_JUDGE_BY]

    @property
    def names(self) -> tuple[str, str]:
        """The name as it is compared, with and without a unit at its end."""
        return fold(self.name), bare_name(self.name)

    @property
    def holds_numbers(self) -> bool:
        """Whether half of the filled cells are numbers."""
        return bool(self.filled) and 2 * sum(map(is_number, self.filled)) >= len(self.filled)

    @property
    def holds_formulas_only(self) -> bool:
        """Whether all filled cells are formulas and none is a number."""
        cells = self.filled
        return bool(cells) and not parse_formulas(cells)[2] and not any(map(is_number, cells))


@dataclass(frozen=True)
class TextTable:
    """Header and rows as texts, and the line of each row; a row may have more fields than the header, never fewer."""

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    dialect: Dialect
    notes: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the header names."""
        return tuple(Column(position, name, self.rows) for position, name in enumerate(self.header))

    @property
    def decimal(self) -> str | None:
        """The sign of the decimals that the table proves by its cells, or by commas between them."""
        proven = sign_of(cell for row in self.rows[:_CELLS_TO_JUDGE_BY] for cell in row)
        return proven or ("." if self.dialect.delimiter == "," else None)

    @property
    def surplus(self) -> dict[int, str]:
        """Rows whose cells are shifted against the header, with a reason: none of them can be trusted."""
        width, blanks = len(self.header), self.dialect.delimiter == " "
        hints = {",": " (a comma within a cell needs quotes)", " ": " (write NA into an empty cell)"}
        hint = hints.get(self.dialect.delimiter, "")
        longer = {i for i, row in enumerate(self.rows) if self.dialect.delimiter == "," and len(row) > width}
        cut = {i for i in longer if _CUT_DECIMAL.search(",".join(self.rows[i]))}
        if cut and sign_of(itertools.chain.from_iterable(self.rows)) == ".":
            cut = set()
        return {
            i: f"the row has {sum(map(bool, row)) if blanks else len(row)} fields where the header has {width}{hint}"
            for i, row in enumerate(self.rows)
            if any(row[width:]) or (blanks and not row[width - 1]) or i in cut
        }

    def __str__(self) -> str:
        """The names of all columns, for messages."""
        names = [repr(name) if name else f"(column {i}, unnamed)" for i, name in enumerate(self.header, 1)]
        return "the column(s) " + ", ".join(names[:15]) + (", …" if len(names) > 15 else "")


def read_text_table(
    source: Path | bytes,
    wanted: Iterable[str | None] = (),
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    listed: bool = False,
) -> TextTable:
    """Read a table of any dialect: separated text, or a workbook (``.xlsx``); a file, or the bytes of a pipe.

    The columns ``wanted`` help to find separator and header. ``listed`` takes a list or a table without a header, too.
    """
    path, content = (source, read_bytes(source)) if isinstance(source, Path) else (Path("the input"), source)
    names = {fold(name) for name in wanted if name}
    if b"xl/workbook.xml" in content and zipfile.is_zipfile(BytesIO(content)):
        return _workbook_table(path, content, names, sheet, listed)
    if sheet is not None:
        raise UserFileError(f"{path} is no workbook: it has no sheet {sheet!r}. Leave --sheet out.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UserFileError(f"{delimiter!r} is no separator of one character. Leave --delimiter out.")
    text, encoding = decode(path, content, encoding)
    if listed and delimiter is None and (bare := _bare_list(path, text, encoding, names)) is not None:
        return bare
    first = text.lstrip().split("\n", 1)[0].strip().strip('"')
    if first.lower().startswith("sep=") and len(first) == 5:  # a line that Excel writes for itself
        delimiter = delimiter or first[4]
        text = re.sub(r'^\s*"?sep=."?', "", text, count=1, flags=re.IGNORECASE)
    delimiter = delimiter or guess_delimiter(path, text, names)
    records = list(split_records(path, text, delimiter))
    return _with_header(path, records, names, Dialect(encoding, delimiter), listed)


def read_bytes(path: Path) -> bytes:
    """Content of a file that can be a table; one that is missing, unreadable, empty or too large is refused."""
    if str(path).startswith(("http:/", "https:/", "ftp:/")):
        raise UserFileError(f"{path} is a web address. Download the file and name it here.")
    try:
        if not path.exists():
            raise UserFileError(f"There is no file {path}. Check the path; the folder is {Path.cwd()}.")
        if not path.is_file():
            raise UserFileError(f"{path} is no file. Name one; write what comes from a pipe to a file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserFileError(
                f"{path} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES // 2**20} MiB are read. "
                "Write the columns of formulas and values alone to a new file."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UserFileError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    if not content.strip():
        raise UserFileError(f"{path} is empty. Export it again.")
    return content


def decode(path: Path, content: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Text of a file, and the encoding it is in: that of its byte order mark, else UTF-8, UTF-16 or Windows-1252."""
    if encoding is not None:
        try:
            return _text_only(path, content.decode(encoding)), encoding
        except (LookupError, UnicodeDecodeError) as error:
            raise UserFileError(
                f"{path} is not in {encoding}: {error}. Leave --encoding out, or try utf-8, cp1252 or latin-1."
            ) from None
    head = content[:4096]
    candidates = ["utf-8-sig", "cp1252"]
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        candidates = ["utf-32"]
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = ["utf-16"]
    elif len(head) >= 4 and head.count(0) > len(head) // 4:  # every other byte of plain text
        candidates = ["utf-16-le" if head[1::2].count(0) > head[0::2].count(0) else "utf-16-be"]
    for name in candidates:
        try:
            return _text_only(path, content.decode(name)), name
        except UnicodeDecodeError:
            continue
    return _text_only(path, content.decode("latin-1")), "latin-1"


def _text_only(path: Path, text: str) -> str:
    """The text without its byte order mark; what is no table of text is refused."""
    text = text.removeprefix("\ufeff")
    sample = text[:65536]
    if "\0" in text or sum(c < " " and c not in "\t\r\n\f" for c in sample) > len(sample) // 100:
        raise UserFileError(
            f"{path} is a binary file (an .xls of an old Excel, an archive, a picture), no table of text. Save it as "
            ".xlsx or CSV."
        )
    if sample.lstrip().startswith(("{", "[{", "<", "%PDF")):
        raise UserFileError(f"{path} is JSON, HTML, XML or PDF, no table. Save it as CSV.")
    return text


def is_comment(line: str) -> bool:
    """Whether a line begins with ``#`` or ``%``; error cells of spreadsheets such as ``#N/A`` are no comments."""
    bare = line.lstrip(' "')
    return bare.startswith(("#", "%")) and not bare.startswith(_ERROR_CELLS)


def _bare_list(path: Path, text: str, encoding: str, names: set[str]) -> TextTable | None:
    """The one-column table of a text that is a list of formulas; ``None`` for a text with several columns."""
    raw = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not is_comment(line)]
    lines = [(i, line.strip().strip('"')) for i, line in raw]
    if not lines:
        raise UserFileError(f"{path} is empty. Give one formula a line, or a table with a header.")
    sample = [line for _, line in lines[:200]]
    separated = [_SEPARATED.search(line) is not None for _, line in raw[:200]]
    blanks = sum(re.search(r" (?!\()", line) is not None for line in sample)
    formulas = sum(not parse_formulas(line.split())[2] for line in sample)
    several = separated[0] and sum(separated) >= 0.5 * len(sample)
    few = blanks + sum(separated) < 0.5 * len(sample) or formulas >= 0.5 * len(sample)
    if several or not (is_formula_name(sample[0]) or few):
        return None
    headed = is_formula_name(sample[0]) or fold(sample[0]) in names
    header, rows = (sample[0], lines[1:]) if headed else ("formula", lines)
    if not rows:
        raise UserFileError(f"{path} holds a header ({header!r}) but no formula below it.")
    if names and not headed:
        raise UserFileError(f"{path} is a list without a header: it has no column {', '.join(map(repr, names))}.")
    dialect = Dialect(encoding, "", header_line=lines[0][0] if headed else 0)
    return TextTable(path, (header,), [[line] for _, line in rows], [i for i, _ in rows], dialect)


def split_records(path: Path, text: str, delimiter: str, most: int | None = None) -> Iterator[Record]:
    """Rows of a text without blank ones, comment lines among them, at most so many; an open quote is refused."""
    lines = re.split(r"\r\n|\r|\n", text)
    at = found = 0
    while at < len(lines) and (most is None or found < most):
        line, taken = lines[at], 1
        comment = is_comment(line)
        if delimiter == " ":
            fields = [field.strip('"') for field in re.findall(r'"[^"]*"(?!\S)|\S+', line)]
        elif '"' not in line:
            fields = line.split(delimiter)
        else:
            reader = csv.reader(
                (f"{rest}\n" for rest in lines[at : at + _LONGEST_RECORD]),
                delimiter=delimiter, skipinitialspace=True, strict=True,
            )  # fmt: skip
            try:
                fields, taken = next(reader), reader.line_num
            except csv.Error as error:
                if not comment:
                    raise UserFileError(
                        f"{path}, line {at + 1}: a quote is opened there and not closed ({error}). Close or remove it."
                    ) from None
                fields = line.split(delimiter)
        if any(field.strip() for field in fields):
            found += 1
            yield Record(at + 1, [field.strip() for field in fields], comment)
        at += taken


def guess_delimiter(path: Path, text: str, names: set[str]) -> str:
    """The separator that gives rows of one width; among several, the one that finds most of the wanted columns."""
    scores, problem = {}, None
    if len(text) > _SAMPLE_CHARACTERS:
        text = text[: text.rfind("\n", 0, _SAMPLE_CHARACTERS)]
    for sign in DELIMITERS:
        try:
            sample = [r for r in split_records(path, text, sign, _SAMPLE) if not r.is_remark]
        except UserFileError as error:
            problem = problem or error
            continue
        if not sample:
            break
        width, count = Counter(record.width for record in sample).most_common(1)[0]
        usual = {width, Counter(len(record.fields) for record in sample).most_common(1)[0][0]}
        head = [r for r in sample[:_TITLE_LINES] if usual & {r.width, len(r.fields)}]
        found = max((len(named_in(names, r)) for r in head), default=0)
        headed = width in (len(sample[0].fields), sample[0].width)
        if width >= 2:
            scores[sign] = (found, sign != " ", round(count / len(sample), 1), headed, width)
    if scores:
        return max(scores, key=lambda sign: scores[sign])
    if problem is not None:
        raise problem
    first = text.strip().split("\n", 1)[0].strip()
    raise UserFileError(f"{path} has one column only (the first line is {first[:80]!r}). Name the separator.")


def fold(name: str) -> str:
    """A column's name as it is compared: without case, outer blanks and underscores."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def bare_name(name: str) -> str:
    """The same without a unit at its end: ``Hardness (GPa)``, ``E / eV``."""
    bare = re.sub(r"\s*[(\[][^()\[\]]*[)\]]\s*$|\s+/\s+[^/]+$|\s*,\s*[^\s,]+$", "", name)
    return fold(bare) or fold(name)


def is_formula_name(name: str, *, surely: bool = False) -> bool:
    """Whether a column's name says that it holds formulas; ``surely`` leaves out those such as ``material``."""
    return bare_name(name) in (_FORMULAS_ONLY if surely else _FORMULA_NAMES)


def named_in(wanted: set[str], record: Record) -> set[str]:
    """The wanted names that stand in a record."""
    return wanted & {name for text in record.fields for name in (fold(text), bare_name(text))}


def _with_header(path: Path, records: Sequence[Record], names: set[str], dialect: Dialect, listed: bool) -> TextTable:
    """The table below the header, which is the first row with a wanted name, or the first of the usual width."""
    plain = [record for record in records if not record.comment]
    if not plain:
        raise UserFileError(f"{path} holds nothing but comments. Export it again.")
    counted = [record.width for record in records[:_SAMPLE] if not record.is_remark]
    width = Counter(counted or [record.width for record in plain]).most_common(1)[0][0]
    top = plain[:_TITLE_LINES]
    at = next((i for i, r in enumerate(top) if named_in(names, r) and (r.width > 1 or width == 1)), None)
    if at is None and listed:  # no row is lost: only lines above a sure header are titles
        headers = (i for i, r in enumerate(top) if any(map(is_formula_name, r.fields)))
        at = next((i for i in headers if all(title.width < width for title in top[:i])), 0)
    elif at is None:
        at = next((i for i, r in enumerate(top) if r.width >= width), 0)
    notes = [f"line {r.line} taken for a title: {' '.join(r.fields).strip()[:60]!r}" for r in plain[:at]]
    first = plain[at]
    start, header = first.line, tuple(first.fields[: first.width])
    if dialect.delimiter == " " and len(header) > width:  # "T (K)" is one name
        header = tuple(re.findall(r"\S+(?:\s[(\[]\S+[)\]](?!\S))?", " ".join(header)))
    if listed and width == 1 and not (named_in(names, first) or is_formula_name(header[0])):
        start, header = 0, ("column_1",)  # as in a text that is a bare list
    elif any(_NUMBER_LIKE.fullmatch(field) for field in first.fields):
        above = [record for record in records if record.comment and record.line < first.line]
        if above and len(above[-1].fields) == len(first.fields):  # the comment right above names each field
            start, fields = above[-1].line, above[-1].fields
            header = (fields[0].lstrip("#% "), *fields[1 : above[-1].width])
        elif listed:
            start, header = 0, tuple(f"column_{i}" for i in range(1, width + 1))
        else:
            raise UserFileError(
                f"{path} has no header: line {first.line} holds numbers "
                f"({dialect.delimiter.join(first.fields)[:80]!r}). Add a line of column names above it."
            )
    if len(header) < 2 and (width > 1 or not listed):
        raise UserFileError(f"{path} has one column only ({header[0]!r}). Give formulas and values.")
    below = [record for record in records if record.line > start]
    rows = [r for r in below if not r.comment or (not r.is_remark and len(r.fields) == len(header))]
    if rows and all(re.fullmatch("[-:+]{3,}", field) for field in rows[0].fields if field):
        rows = rows[1:]  # the line below the header of a Markdown table
    if not rows:
        raise UserFileError(f"{path} holds a header ({', '.join(header)[:80]}) but no rows below it.")
    lines = [r.line for r in rows]
    taken = {start, *lines}
    if skipped := [r.line for r in records if r.comment and r.line not in taken]:
        notes.append(f"{len(skipped)} comment line(s) skipped, the first is line {skipped[0]}")
    numbered = all(len(r.fields) == len(header) + 1 and r.fields[0] == str(i) for i, r in enumerate(rows, 1))
    if numbered and dialect.delimiter in ("\t", " ", ";"):  # R writes row names without a header
        header = ("", *header)
    most = max(len(first.fields), len(header))  # empty fields behind these are those of a row that is too long
    cells = [r.fields[: r.width if len(r.fields) <= most else None] for r in rows]
    cells = [row + [""] * (len(header) - len(row)) for row in cells]
    return TextTable(path, header, cells, lines, replace(dialect, header_line=start), tuple(notes))


def _workbook_table(path: Path, content: bytes, names: set[str], sheet: str | None, listed: bool) -> TextTable:
    """The table of the named sheet, or of the one that holds something, or the wanted columns (folded names)."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(BytesIO(content), read_only=len(content) > MERGED_BELOW, data_only=True)
        sheets = {name: book[name] for name in book.sheetnames if hasattr(book[name], "iter_rows")}
        filled = {name: records for name, found in sheets.items() if (records := _sheet_records(found))}
    except Exception as error:  # openpyxl raises anything that its XML parser does
        raise UserFileError(f"{path} is a damaged workbook: {error}. Save it again, or as CSV.") from None
    if not filled:
        _refuse_uncomputed(path, content, book.sheetnames)
        raise UserFileError(f"{path} holds no filled sheet. Save it again.")
    if sheet is not None:
        chosen = [n for n in filled if n == sheet] or [n for n in filled if n.casefold() == sheet.casefold()]
    else:
        chosen = [
            name
            for name, records in filled.items()
            if len(filled) == 1 or any(len(named_in(names, r)) == len(names) for r in records[:_TITLE_LINES])
        ]
    if len(chosen) != 1:
        what = f"no filled sheet {sheet!r}" if sheet is not None else "several sheets"
        raise UserFileError(f"{path} has {what}. Choose one with --sheet: {', '.join(map(repr, filled))}.")
    records = filled[chosen[0]]
    for column in itertools.zip_longest(*(record.fields for record in records), fillvalue=""):
        if sum(map(bool, column)) == 1 and len(records) > 2:  # a header above nothing
            _refuse_uncomputed(path, content, chosen)
    table = _with_header(path, records, names, Dialect("", "", sheet=chosen[0]), listed)
    rows = getattr(sheets[chosen[0]], "row_dimensions", {})
    if hidden := [line for line in table.lines if getattr(rows.get(line), "hidden", False)]:
        note = f"{len(hidden)} row(s) that the sheet hides are read, too, the first is row {hidden[0]}"
        table = replace(table, notes=(note, *table.notes))
    areas = sorted(_merged(sheets[chosen[0]]), key=lambda area: (area.min_row, area.min_col))
    if not areas:
        return table
    first = f"the first {areas[0].coord}: each of the rows has the text"
    return replace(table, notes=(f"{len(areas)} cell(s) merged over several rows, {first}", *table.notes))


def _refuse_uncomputed(path: Path, content: bytes, sheets: Sequence[str]) -> None:
    """Refuse formulas of the spreadsheet that no program has computed yet: their cells read as empty."""
    from openpyxl import load_workbook

    book, stored = load_workbook(BytesIO(content)), load_workbook(BytesIO(content), data_only=True)
    for cell in (cell for name in sheets for row in book[name].iter_rows() for cell in row):
        if cell.data_type == "f" and stored[cell.parent.title][cell.coordinate].value is None:
            raise UserFileError(
                f"{path}, sheet {cell.parent.title!r}: {cell.coordinate} holds the formula {str(cell.value)[:40]!r} "
                "without a stored result. Open and save it in a spreadsheet program, or save the sheet as CSV."
            )


def _sheet_records(sheet: Any) -> list[Record]:
    """Rows of a sheet that hold something; the text of cells that were merged stands in each of their rows."""
    cells = [[_cell_text(cell.value, cell.number_format) for cell in row] for row in sheet.iter_rows()]
    for area in _merged(sheet):
        for row in range(area.min_row, area.max_row):
            cells[row][area.min_col - 1] = cells[area.min_row - 1][area.min_col - 1]
    return [Record(i, fields) for i, fields in enumerate(cells, 1) if any(fields)]


def _merged(sheet: Any) -> list[Any]:
    areas = getattr(sheet, "merged_cells", None)
    return [area for area in (areas.ranges if areas else ()) if area.max_row > area.min_row]


def _cell_text(value: Any, number_format: str | None) -> str:
    if value is None:
        return ""
    shown = re.sub("[_*].", "", number_format or "")  # without blanks and filling
    if isinstance(value, int | float) and "%" in shown:  # 0.12 is shown as 12%, by 0.00"%" as 0.12%
        scale = 100 if "%" in re.sub(r'"[^"]*"|\\.', "", shown) else 1
        return f"{scale * value:.15g}%"
    if isinstance(value, datetime.date):
        return str(value).removesuffix(" 00:00:00")
    if isinstance(value, int | float) and (unit := _unit_shown(shown)):
        return NumberCell(f"{value:.15g} {unit}")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return NumberCell(value) if isinstance(value, float) else str(value).strip()


def _unit_shown(number_format: str) -> str:
    """The unit that a number format such as ``0.0" GPa"`` shows behind the number itself, else nothing."""
    positive = re.sub(r"\\(.)", r'"\1"', number_format.split(";")[0]).replace('""', "")
    found = re.fullmatch(r'[^"]*(?:[#0?]|General)\s*"([^"]+)"', positive)
    return found[1].strip() if found and is_known_unit(found[1]) else ""
