"""Compositions from a file instead of an enumeration."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, parse_formula
from crossprop.data.user_columns import plain_formula
from crossprop.data.user_table import decode, read_bytes
from crossprop.errors import FormulaError, OwnFileError, ScreeningError
from crossprop.screening.space import Compositions

_COLUMN = {symbol: i for i, symbol in enumerate(ELEMENTS)}
_DECIMALS = 6
_NAMED = 10
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class ListedSpace:
    """The distinct compositions of a file, in its order; the first formula of a composition stands for it.

    Attributes:
        elements: Columns of ``ELEMENTS``, shape (n, most elements).
        amounts: Amounts in the formula, float64, same shape; 0 where a row has fewer elements.
        written: The formulas as they stand in the file, shape (n,), object: what a table is joined by.
        repeated: Rows left out since their composition had come before.
        bad: What is wrong with rows that hold no formula, the first ten of them.
        n_bad: Rows that hold no formula.
    """

    elements: NDArray[np.int16]
    amounts: NDArray[Any]
    written: NDArray[np.object_]
    repeated: int = 0
    bad: tuple[str, ...] = ()
    n_bad: int = 0

    @property
    def total(self) -> int:
        """Number of distinct compositions."""
        return len(self.elements)

    def block(self, start: int, stop: int) -> Compositions:
        """The compositions from one position to before another."""
        stop = max(start, min(stop, self.total))
        rows = slice(start, stop)
        return Compositions(
            np.arange(start, stop), self.elements[rows], self.amounts[rows], self.written[rows]
        )


def read_formulas(path: Path) -> ListedSpace:
    """Read a list of formulas: one per line, or a CSV file with a column ``formula`` (or one column only).

    Raises:
        ScreeningError: The file is not there, is no text, has no such column, or holds no formula at all.
    """
    seen: set[tuple[tuple[int, float], ...]] = set()
    rows: list[list[tuple[int, float]]] = []
    written: list[str] = []
    bad: list[str] = []
    n_bad = repeated = 0
    try:
        for line, text in _formulas(path):
            try:
                amounts = parse_formula(plain_formula(text))
            except FormulaError as error:
                n_bad += 1
                if len(bad) < _NAMED:
                    bad.append(f"line {line}: {error}")
                continue
            row = sorted((_COLUMN[symbol], amount) for symbol, amount in amounts.items())
            whole = sum(amounts.values())
            key = tuple((column, round(amount / whole, _DECIMALS)) for column, amount in row)
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
            rows.append(row)
            written.append(text)
    except OwnFileError as error:
        raise ScreeningError(str(error)) from error
    except csv.Error as error:
        raise ScreeningError(f"{path} cannot be read as a list of formulas: {error}.") from error
    if not rows:
        reason = f" The first: {bad[0]}" if bad else ""
        raise ScreeningError(f"{path} holds no formula in {n_bad} row(s). Write one in each line.{reason}")
    width = max(map(len, rows))
    elements, amounts_of = np.zeros((len(rows), width), np.int16), np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        elements[i, : len(row)] = [column for column, _ in row]
        amounts_of[i, : len(row)] = [amount for _, amount in row]
    return ListedSpace(elements, amounts_of, np.array(written, dtype=object), repeated, tuple(bad), n_bad)


def _formulas(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and formulas; a first line without a formula is the header."""
    text, _ = decode(path, read_bytes(path))
    first = text.lstrip().split("\n", 1)[0]
    sign = next((sign for sign in _SEPARATORS if sign in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    column, before, headed = 0, 0, False
    for cells in reader:
        line, before = before + 1, reader.line_num
        names = [cell.strip().lower() for cell in cells]
        if not any(names):
            continue
        if not headed:
            headed = True
            if "formula" in names:
                column = names.index("formula")
                continue
            if len(names) > 1:
                raise ScreeningError(
                    f"{path} has {len(names)} columns ({', '.join(cells[:8])}) and none is called 'formula'. "
                    "Name the column that holds the formulas 'formula'."
                )
        cell = cells[column].strip() if column < len(cells) else ""
        if "\n" in cell:
            raise ScreeningError(
                f"{path}, line {line}: a quotation mark is opened there and not closed before the line ends. Close it, "
                "or remove it."
            )
        yield line, cell
