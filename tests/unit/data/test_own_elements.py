"""One column per element instead of a formula."""

from __future__ import annotations

import pytest

from crossprop.data.compositions import COLUMN, fraction_matrix
from crossprop.data.user_columns import ElementColumns, element_of, formulas_of
from crossprop.data.user_rows import read_own_file
from crossprop.errors import OwnFileError


@pytest.mark.parametrize(
    ("header", "element"),
    [
        ("Al", "Al"), (" Ni ", "Ni"), ("Fe (at%)", "Fe"), ("Cr at.%", "Cr"), ("Mo_wt", "Mo"), ("C [wt.-%]", "C"),
        ("Ti %", "Ti"), ("Hardness", None), ("Xx", None), ("He", None), ("T (K)", None), ("", None), ("Co1", None),
    ],
)  # fmt: skip
def test_a_header_says_its_element(header, element):
    assert element_of(header) == element


def test_weights_become_atoms():
    formulas, _ = formulas_of(["Fe", "O"], [[69.943, 30.057]], ElementColumns.WEIGHT)
    assert fraction_matrix(formulas)[0, COLUMN["O"]] == pytest.approx(0.6, abs=1e-4)  # Fe2O3


def test_amounts_fractions_and_percents_are_the_same_composition():
    made, _ = formulas_of(["Al", "Ni"], [[3.0, 1.0], [75.0, 25.0], [75.0, None]], ElementColumns.ATOMIC)
    assert len({tuple(row) for row in fraction_matrix(made).round(12)}) == 1
    made, _ = formulas_of(["Al", "Ni"], [[0.75, None], [0.75, 0.25]], ElementColumns.ATOMIC)
    assert len({tuple(row) for row in fraction_matrix(made).round(12)}) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([float("nan"), 1.0], "amount of Al is no number"),
        ([-1.0, 2.0], "negative"),
        ([0.0, 0.0], "all amounts are zero"),
        ([None, None], "one can be"),
        ([120.0, None], "nothing is left"),
    ],
)
def test_a_row_that_gives_no_composition_says_why(row, reason):
    formulas, reasons = formulas_of(["Al", "Ni"], [row, [50.0, 50.0]], ElementColumns.ATOMIC)
    assert formulas[0] == ""
    assert reason in reasons[0]


def test_a_file_is_read_with_an_empty_cell_as_none_of_the_element(tmp_path):
    path = tmp_path / "alloys.csv"
    path.write_text("id;Al;Ni;Fe;H\nCo1;25,5;;bal.;1,5\nCo2;10;20;70;2,5\nCo3;x;1;1;3\n")
    table = read_own_file(path, target="H", element_columns="atomic")
    assert table.rows["formula"].tolist() == ["Al25.5Fe74.5", "Al10Ni20Fe70"]
    assert [(p.line, p.kind, p.reason) for p in table.problems] == [
        (4, "formula", "the amount of Al is no number")
    ]
    with pytest.raises(OwnFileError, match="atomic or weight"):
        read_own_file(path, target="H", element_columns="molar")
    with pytest.raises(OwnFileError, match="not both"):
        read_own_file(path, target="H", element_columns="atomic", formula_column="id")


def test_columns_of_elements_without_formulas_are_pointed_at(tmp_path):
    path = tmp_path / "alloys.csv"
    path.write_text("Al,Ni,Fe,hardness\n25,5,70,1\n10,20,70,2\n")
    with pytest.raises(OwnFileError, match=r"Al, Ni, Fe are named by elements.*--element-columns atomic"):
        read_own_file(path, target="hardness")
