"""Which columns of a user's file hold the formulas, the values, the groups and the split."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from crossprop.data.compositions import COLUMN, Amounts, composition_keys, parse_formulas, plain_formula
from crossprop.data.user_table import Column, TextTable, bare_name, fold, is_formula_name
from crossprop.data.user_values import bare_unit, is_known_unit, is_number, is_unit, read_amounts
from crossprop.errors import UserFileError

_HEADER: Final = re.compile(
    r"([A-Z][a-z]?)(?:[\s_]*[(\[]?\s*(at|wt|mol|mass|weight|atomic|w|x)?[.\s-]*(%?)\s*[)\]]?)?", re.ASCII
)
_KIND_OF: Final = {
    **dict.fromkeys(("at", "mol", "atomic", "x"), Amounts.ATOMIC),
    **dict.fromkeys(("wt", "mass", "weight", "w"), Amounts.WEIGHT),
}
_OTHER_AMOUNT: Final = re.compile(
    r"([A-Z][a-z]?)(?:[\s_,/]+|(?=[(\[]|pp[mb])).*(?:%|ppm|ppb|mg/kg).*|"
    r"(?:wt|at|mol|mass)?[.\s-]*(?:%|ppm|ppb)\s*([A-Z][a-z]?)"
)
_ELEMENT_NAME: Final = re.compile(
    "alumini?um|boron|carbon|chromium|cobalt|copper|gold|hafnium|hydrogen|iron|lead|magnesium|manganese|molybdenum|"
    "nickel|niobium|nitrogen|oxygen|phosphorus|rhenium|silicon|silver|sul(?:f|ph)ur|tantalum|tin|titanium|tungsten|"
    "vanadium|yttrium|zinc|zirconium"
)
_DOPANT: Final = re.compile(r"dopant|doping|additive", re.IGNORECASE)
_UNIT: Final = ("unit", "units", "einheit", "einheiten", "unité", "unités")
_ENOUGH: Final = 0.5  # share of the cells that have to parse for a column to be one of formulas


class Elements(NamedTuple):
    """Columns of amounts: their positions with the element, what they count, whether their names say percent."""

    symbols: Mapping[int, str]
    amounts: str
    percent: bool


@dataclass(frozen=True)
class ChosenColumns:
    """Positions of the columns that are meant."""

    value: int
    formula: int | None  # none where there are columns of elements
    elements: Elements
    split: int | None
    group: int | None
    units: tuple[int, ...]  # columns that may state the unit of the values row by row
    unit_row: str | None  # unit of the values in the first row, if that holds units instead of data
    formula_name: str


def choose_columns(
    table: TextTable,
    target: str,
    *,
    value_column: str | None = None,
    formula_column: str | None = None,
    element_columns: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> ChosenColumns:
    """Find the columns that are named, and guess the one of the formulas; no column serves two purposes."""
    value = value_column_of(table, value_column, target, formula_column)
    split = None if split_column is None else named_column(table, split_column, "--split-column")
    group = None if group_column is None else named_column(table, group_column, "--group-column")
    taken = [at for at in (value, split, group) if at is not None]
    if len(set(taken)) < len(taken):
        raise UserFileError("Columns of values, split and groups have to be different ones. Name each once.")
    elements, formula = Elements({}, Amounts.ATOMIC, False), None
    if element_columns is not None:
        elements = elements_in(table, taken, element_columns)
        formula_name = f"{len(elements.symbols)} columns of elements ({element_columns})"
    else:
        option = "--formula-column"
        given = None if formula_column is None else named_column(table, formula_column, option)
        formula = guess_formula_column(table, taken) if given is None else given
        formula_name = table.header[formula]
    if formula in taken:
        raise UserFileError(f"The column {formula_name!r} cannot hold both formulas and others. Name two.")
    of_values = table.columns[value]
    forms = ("{0}", "{1} {0}", "{0} {1}", "{0} of {1}")
    names = {form.format(word, of_values.names[1]) for word in _UNIT for form in forms}
    units = tuple(c.position for c in table.columns if c.names[0] in names and c is not of_values)
    first, unit_row = table.rows[0], None
    text = "" if formula is None else plain_formula(first[formula])
    certain = is_known_unit(first[value]) and not is_number(first[value])
    likely = len(text) <= 3 and is_unit(first[value]) and not any(map(is_number, first))
    no_data = 0 not in table.surplus and (formula is None or parse_formulas([text])[2])
    if no_data and (certain or likely) and any(map(is_number, of_values.cells[1:])):
        unit_row = first[value]
    return ChosenColumns(value, formula, elements, split, group, units, unit_row, formula_name)


def value_column_of(table: TextTable, name: str | None, target: str, formula_column: str | None) -> int:
    """Position of the column of the values: the named one, else the one that is named like the target."""
    if name is None and not any(fold(target) in column.names for column in table.columns):
        numeric = [c.name or f"(column {c.position + 1})" for c in table.columns if c.holds_numbers]
        rest = ", ".join(map(repr, numeric)) if numeric else f"none; it has {table}"
        raise UserFileError(
            f"{table.path} has no column {target!r}. Choose the column of the values with --value-column; "
            f"numbers stand in: {rest}."
        )
    at = named_column(table, name or target, "--value-column")
    is_other = formula_column is None or fold(formula_column) != fold(table.header[at])
    if is_other and table.columns[at].holds_formulas_only:
        raise UserFileError(
            f"The column {table.header[at]!r} of {table.path} holds formulas, no values. --target names the property; "
            "its values stand in the column of this name, or in the one that --value-column names."
        )
    right = table.columns[at + 1 :]
    if unnamed := list(itertools.takewhile(lambda column: not column.name and column.holds_numbers, right)):
        raise UserFileError(
            f"{table.header[at]!r} stands above {len(unnamed) + 1} columns of {table.path}: give each a name in one "
            "row, and choose one with --value-column."
        )
    return at


def named_column(table: TextTable, name: str, option: str) -> int:
    """Position of the one column that the user named; none, or several different ones, are refused."""
    if not name.strip():
        raise UserFileError(f"The name of a column is empty. Name one with {option}; {table.path} has {table}.")
    exact = [column for column in table.columns if column.name == name.strip()]
    found = exact or [column for column in table.columns if column.names[0] == fold(name)]
    found = found or [column for column in table.columns if column.names[1] == fold(name)]
    if len(found) == 1 or (found and len({tuple(column.cells) for column in found}) == 1):
        return found[0].position
    if not found:
        raise UserFileError(f"{table.path} has no column {name!r}; it has {table}. Name one with {option}.")
    heads = ", ".join(f"{column.name!r} (column {column.position + 1})" for column in found)
    raise UserFileError(
        f"{table.path} has {len(found)} columns named {name!r}: {heads}. Choose one with {option}, or rename them."
    )


def element_columns(header: Sequence[str], taken: Sequence[int] = ()) -> dict[int, str]:
    """Positions of the columns named by an element (``Al``, ``Al (at%)``, ``Al_wt``), with the element."""
    named = {i: _HEADER.fullmatch(name.strip()) for i, name in enumerate(header) if i not in taken}
    return {i: found[1] for i, found in named.items() if found and found[1] in COLUMN}


def amounts_said(name: str) -> str | None:
    """The kind of amounts that the name of an element's column states, as ``Al (wt%)`` does."""
    said = _HEADER.fullmatch(name.strip())
    return _KIND_OF.get(said[2]) if said else None


def elements_in(table: TextTable, taken: Sequence[int], amounts: str) -> Elements:
    """The columns named by elements, at least two; no name may contradict the kind of ``amounts``."""
    path = table.path
    if amounts not in tuple(Amounts):
        raise UserFileError(f"{amounts!r} is no kind of amount. Choose {' or '.join(Amounts)}.")
    found = element_columns(table.header, taken)
    if len(found) < 2 or len(set(found.values())) < len(found):
        raise UserFileError(
            f"{path} has {len(found)} column(s) named by an element, {len(set(found.values()))} different ones; it has "
            f"{table}. Name one column by each element (such as 'Al' or 'Al (at%)'), or leave --element-columns out."
        )
    percent = False
    for position, name in enumerate(table.header):
        other = _OTHER_AMOUNT.fullmatch(name.strip())
        of_element = _ELEMENT_NAME.fullmatch(bare_name(name)) or (other and (other[1] or other[2]) in COLUMN)
        if position not in (*taken, *found) and of_element and table.columns[position].filled:
            raise UserFileError(
                f"The column {name!r} of {path} holds amounts under a name or in a unit that is not read. Convert them "
                "to the kind of the others and name it as in 'C (wt%)', or rename it if it is no part of the "
                "composition."
            )
        said = _HEADER.fullmatch(name.strip()) if position in found else None
        kind = amounts_said(name) if said else None
        percent = percent or bool(said and said[3])
        if kind not in (None, amounts):
            raise UserFileError(
                f"The column {name!r} of {path} says that its amounts are {kind}, not {amounts}. "
                f"Choose --element-columns {kind}, or correct the name."
            )
    return Elements(found, amounts, percent)


def amounts_in(
    table: TextTable, elements: Elements, decimal: str | None, below: Sequence[str] = ()
) -> tuple[list[tuple[float | None, ...]], bool]:
    """Amounts of elements as of :func:`read_amounts`, and whether they are percents.

    Units in their cells, or in the row of units ``below`` the header, have to be of their kind.
    """
    cells = [table.columns[at].cells for at in elements.symbols]
    rows, units = read_amounts(cells, decimal, lambda: table.decimal)
    alone = []  # names of columns that state no percents
    for at, unit, column in zip(elements.symbols, units, zip(*rows, strict=True), strict=True):
        name, stated = table.header[at], unit or (bare_unit(below[at]) if below else "")
        said = _HEADER.fullmatch(f"X ({stated.casefold()})") if stated else None
        other = said is None and (_OTHER_AMOUNT.fullmatch(f"X ({stated})") or is_known_unit(stated))
        if other or (said and _KIND_OF.get(said[2], elements.amounts) != elements.amounts):
            raise UserFileError(
                f"The amounts in the column {name!r} of {table.path} are in {stated!r}. Convert them to "
                f"{elements.amounts} percents, or choose the other kind with --element-columns."
            )
        if "%" not in stated + name and any(amount and amount > 0 for amount in column):
            alone.append(name)
    in_cells = any(unit and "%" in unit for unit in units)
    if in_cells and alone:
        raise UserFileError(
            f"Some columns of elements of {table.path} hold percents, and {', '.join(map(repr, alone[:5]))} not. Write "
            "all amounts alike."
        )
    return rows, elements.percent or in_cells


def guess_formula_column(table: TextTable, taken: Sequence[int] = ()) -> int:
    """Position of the column whose cells are formulas, other than those that are taken; among several a name decides.

    A column of names such as ``Co1``, ``Co2``, which all are one composition, is none of formulas beside another one; a
    column of dopants or hosts is none beside one that is named ``formula``.
    """
    elements = element_columns(table.header, taken)
    found: list[Column] = []
    numbered: list[Column] = []
    examples: dict[int, str] = {}
    for column in table.columns:
        cells = [] if column.position in taken else column.filled
        fractions, good, _ = parse_formulas(cells)
        if not cells or len(good) < _ENOUGH * len(cells):
            continue
        examples[column.position] = cells[good[0]]
        one = len({cells[row] for row in good}) > 1 and len(set(composition_keys(fractions).tolist())) == 1
        (numbered if one else found).append(column)
    found = found or numbered
    telling = [column for column in found if is_formula_name(column.name)]
    named = [column for column in table.columns if is_formula_name(column.name, surely=True)]
    others = [c for c in named if c.position not in taken and c.filled and not c.holds_numbers]
    if found and others and not any(column.position in examples for column in others):
        cells, errors = others[0].filled, parse_formulas(others[0].filled)[2]
        raise UserFileError(
            f"The column {others[0].name!r} of {table.path} holds {len(cells) - len(errors)} formulas in {len(cells)} "
            f"cells: {next(iter(errors.values()))} Correct them, or name the column that is meant with "
            f"--formula-column ({', '.join(repr(c.name) for c in telling or found)} would be read)."
        )
    for chosen in (telling, found):
        if len(chosen) == 1:
            _refuse_dopants(table, chosen[0], taken)
            return chosen[0].position
    if found:
        listed = ", ".join(f"{c.name!r} (e.g. {examples[c.position]!r})" for c in telling or found)
        raise UserFileError(
            f"Several columns of {table.path} hold chemical formulas: {listed}. Choose one with --formula-column."
        )
    hint = "If one does, name it with --formula-column, and its rows will be explained."
    if len(elements) > 1:
        hint = (
            f"The columns {', '.join(table.header[i] for i in list(elements)[:5])} are named by elements: say what "
            "their amounts count with --element-columns atomic or --element-columns weight."
        )
    raise UserFileError(f"No column of {table.path} holds chemical formulas (such as 'Fe2O3'); it has {table}. {hint}")


def _refuse_dopants(table: TextTable, formulas: Column, taken: Sequence[int]) -> None:
    """Refuse a column of dopants whose elements the formulas lack: their samples would all count as the host."""
    for column in table.columns:
        if column.position in taken or column is formulas or not _DOPANT.search(column.name):
            continue
        rows = [(host, added) for host, added in zip(formulas.cells, column.cells, strict=True) if host and added]
        fractions, good, _ = parse_formulas([cell for row in rows for cell in row])
        elements = dict(zip(good.tolist(), fractions > 0, strict=True))
        both = [i for i in range(0, 2 * len(rows), 2) if i in elements and i + 1 in elements]
        lacking = [i // 2 for i in both if not (elements[i] >= elements[i + 1]).all()]
        if 2 * len(lacking) > len(both):
            host, added = rows[lacking[0]]
            raise UserFileError(
                f"The column {column.name!r} of {table.path} names dopants that the formulas of {formulas.name!r} lack "
                f"({added!r} beside {host!r}): doped samples would count as undoped. Write dopants into the formulas, "
                f"or say --formula-column {formulas.name!r} if it does not matter."
            )
