"""From the bytes of a file of one's own to records of text fields: encoding, comments, quotes, line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
