"""Workbooks as people make them: merged cells, several sheets, formulas that nothing has computed."""

from __future__ import annotations

import pytest

from crossprop.data.user_rows import read_own_file
from crossprop.errors import OwnFileError

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture
def book():
    return openpyxl.Workbook()


@pytest.fixture
def read(tmp_path):
    def read(book, **options):
        book.save(tmp_path / "mine.xlsx")
        return read_own_file(tmp_path / "mine.xlsx", target="H", **options)

    return read


def test_a_cell_merged_over_several_rows_stands_in_each_of_them(book, read):
    sheet = book.active
    for row in (
        ["paper", "Formula", "H"],
        ["p", "NaCl", 1],
        [None, None, 2],
        ["q", "KCl", 3],
        [None, "MgO", 4],
    ):
        sheet.append(row)
    for area in ("A2:A3", "B2:B3", "A4:A5"):
        sheet.merge_cells(area)
    table = read(book, group_column="paper")
    assert table.rows["formula"].tolist() == ["NaCl", "NaCl", "KCl", "MgO"]
    assert table.rows["named_group"].tolist() == ["p", "p", "q", "q"]
    assert table.rows["line"].tolist() == [2, 3, 4, 5]
    assert any(note.startswith("3 cell(s) merged over several rows, the first A2:A3") for note in table.notes)


def test_a_title_merged_over_columns_is_no_header(book, read):
    for row in (["Our data", None], ["Formula", "H (GPa)"], ["NaCl", 1]):
        book.active.append(row)
    book.active.merge_cells("A1:B1")
    assert read(book).rows["value"].tolist() == [1.0]


def test_the_sheet_that_has_the_columns_is_taken(book, read):
    book.active.append(["About", "this"])
    data = book.create_sheet("data")
    data.append(["formula", "H"])
    data.append(["NaCl", 2])
    assert read(book).dialect.sheet == "data"
    book.copy_worksheet(data)
    with pytest.raises(OwnFileError, match="several sheets"):
        read(book)


def test_formulas_without_results_are_named(book, read):
    for row in (["formula", "a", "H"], ["NaCl", 1, "=B2*2"], ["KCl", 2, "=B3*2"]):
        book.active.append(row)
    with pytest.raises(OwnFileError, match=r"C2 holds the formula '=B2\*2' without a stored result"):
        read(book)
