"""Formulas to predict or to screen: lists and tables, with and without a header."""

from __future__ import annotations

import pytest

from crossprop.data.formula_list import read_formula_list
from crossprop.errors import UserFileError


@pytest.mark.parametrize(
    ("text", "formulas", "lines"),
    [
        ("formula\nPbTe\n\nPbSe", ["PbTe", "PbSe"], [2, 4]),
        ("# mine\nPbTe\nFe₂O₃\n", ["PbTe", "Fe2O3"], [2, 3]),
        ("compound\nPbTe\n?\n", ["PbTe", "?"], [2, 3]),
        ("PbTe,a\nPbSe,b\n", ["PbTe", "PbSe"], [1, 2]),
        ("PbTe 2.3\nPbSe 2.5\n", ["PbTe", "PbSe"], [1, 2]),
        ("ID,FORMULA,PROPERTY: yield strength\n1,PbTe,3\n2,PbSe,4\n", ["PbTe", "PbSe"], [2, 3]),
    ],
)
def test_no_row_is_lost(text, formulas, lines):
    read = read_formula_list(text.encode())
    assert (read.formulas, read.lines) == (formulas, lines)


@pytest.mark.parametrize(
    ("text", "column", "part"),
    [
        ("", None, "is empty"),
        ("formula\n", None, "no formula below"),
        ("a,b\n1,PbTe\n", "c", "--formula-column"),
        ("PbTe\nPbSe\n", "c", "no column 'c'"),
        ("steel,a\nbrass,b\n", None, "No column"),
    ],
)
def test_what_is_no_list_is_refused(text, column, part):
    with pytest.raises(UserFileError, match=part):
        read_formula_list(text.encode(), column)


def test_columns_are_kept_and_surplus_fields_are_named():
    read = read_formula_list(b"x;compound;x\nfoo;PbTe;1\nbar;SnTe;2;3\n")
    assert list(read.columns) == ["x", "compound", "x_2"]
    assert read.reasons == {1: "the row has 4 fields where the header has 3"}


def test_element_columns_and_weights_become_formulas_of_atoms():
    read = read_formula_list(
        b"Ti (wt%),Al (wt%),V (wt%)\nbal.,6,4\n90,6,4\n50,6,4\n", element_columns="weight"
    )
    assert read.formulas[0] == read.formulas[1] == "Ti86.20444Al10.195485V3.6000754"
    assert list(read.reasons) == [2]
