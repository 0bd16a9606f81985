"""One column per element instead of a formula, and lists of formulas."""

import pytest

from crossprop.data.compositions import Amounts, composition_keys, fraction_matrix
from crossprop.data.formula_list import read_formula_list
from crossprop.data.user_columns import formulas_of
from crossprop.data.user_rows import read_user_table
from crossprop.errors import UserFileError


def test_amounts_fractions_and_percents_are_the_same_composition():
    for rows in ([[3.0, 1.0], [75.0, 25.0], [75.0, None]], [[0.75, None], [0.75, 0.25]]):
        made, _ = formulas_of(["Al", "Ni"], rows, Amounts.ATOMIC)
        assert len({tuple(row) for row in fraction_matrix(made).round(12)}) == 1
    made, _ = formulas_of(["La", "Sr", "Cu", "O"], [[1.85, 0.15, 1, 4], [1.9, 0.1, 1, 4]], Amounts.ATOMIC)
    expected = composition_keys(fraction_matrix(["La1.85Sr0.15CuO4", "La1.9Sr0.1CuO4"]))
    assert composition_keys(fraction_matrix(made)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("row", "reason"),
    [([0.0, 0.0], "all amounts are zero"), ([None, None], "one can be"), ([120.0, None], "nothing is left")],
)
def test_a_row_that_gives_no_composition_says_why(row, reason):
    formulas, reasons = formulas_of(["Al", "Ni"], [row, [50.0, 50.0]], Amounts.ATOMIC)
    assert formulas[0] == ""
    assert reason in reasons[0]


def test_a_file_is_read_with_an_empty_cell_as_none_of_the_element(tmp_path):
    path = tmp_path / "alloys.csv"
    path.write_text("id;Al;Ni;Fe;H\nCo1;25,5;;bal.;1,5\nCo2;10;20;70;2,5\nCo3;x;1;1;3\n")
    table = read_user_table(path, target="H", element_columns="atomic")
    assert table.rows["formula"].tolist() == ["Al25.5Fe74.5", "Al10Ni20Fe70"]
    assert [(p.line, p.kind, p.reason) for p in table.problems] == [
        (4, "formula", "the amount of Al is no number")
    ]
    with pytest.raises(UserFileError, match="atomic or weight"):
        read_user_table(path, target="H", element_columns="molar")
    with pytest.raises(UserFileError, match="not both"):
        read_user_table(path, target="H", element_columns="atomic", formula_column="id")
    path.write_text("Al,Ni,Fe,hardness\n25,5,70,1\n10,20,70,2\n")
    with pytest.raises(UserFileError, match=r"Al, Ni, Fe are named by elements.*--element-columns atomic"):
        read_user_table(path, target="hardness")


def test_a_column_of_an_element_in_a_unit_that_is_not_read_is_not_left_out_silently(tmp_path):
    path = tmp_path / "steel.csv"
    rows = [f"{99.5 - i / 100},{500 + 100 * i},0.45,{300 + i}" for i in range(20)]
    path.write_text("\n".join(["Fe,C (ppm),Si,strength", *rows]))
    with pytest.raises(UserFileError, match=r"'C \(ppm\)' .* unit that is not read"):
        read_user_table(path, target="strength", element_columns="weight")
    path.write_text(path.read_text().replace("C (ppm)", "K (W/m)"))
    assert len(read_user_table(path, target="strength", element_columns="weight").rows) == 20


def test_what_is_no_list_is_refused():
    for text, column, part in (
        ("", None, "is empty"),
        ("formula\n", None, "no formula below"),
        ("NaCl\n", "c", "'c'"),
    ):
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
