"""A file of the user is read whatever its encoding, separator, decimal sign, comments, titles and quotes are."""

import gzip
from datetime import datetime

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossprop.data.compositions import Amounts, composition_keys, fraction_matrix
from crossprop.data.formula_list import read_formula_list
from crossprop.data.user_formulas import formulas_of
from crossprop.data.user_rows import read_user_table
from crossprop.errors import UserFileError

PLAIN = "formula,strength\nFe2O3,1.5\nNaCl,-2\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="mine.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def values(path, **options):
    rows = read_user_table(path, target="strength", **options).rows
    return dict(zip(rows["formula"], rows["value"], strict=True))


def test_the_same_rows_come_out_of_every_dialect(write):
    for content in (
        PLAIN.replace(",", "   "),
        *(PLAIN.encode(encoding) for encoding in ("utf-16-be", "utf-16-le", "utf-32")),
        *(
            f'formula{sep}strength (µm)\nFe2O3{sep}"1{sign}5"\nNaCl{sep}"-2{sign}0"\n'.encode(encoding)
            for sep in ",;\t|"
            for sign in ".,"
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252")
        ),
        "formula,strength\n#N/A,3\nFe2O3,1.5\nNaCl,-2\n",
        "sep=;\nformula;strength\nFe2O3;1,5\nNaCl;-2\n",
        "# formula,strength\nFe2O3,1.5\nNaCl,-2\n",
        "formula,strength,,\nFe2O3,1.5,,\nNaCl,-2,,\n",
        "Strength\n\nformula;strength\nFe2O3;1,5\nNaCl;-2\n",
        '"formula" "strength"\n"1" "Fe2O3" 1.5\n"2" "NaCl" -2\n',
        "formula\tstrength\tT (K)\tnote\nFe2O3\t1.5\t300\t\nNaCl\t-2\tas cast\t\n",
    ):
        assert values(write(content)) == {"Fe2O3": 1.5, "NaCl": -2.0}


def test_lines_are_those_of_the_file_below_comments_titles_and_cells_of_several_lines(write):
    text = 'Title\nnote,formula,strength\n# c\n"a\nb\nc",Fe2O3,1\n\nx,NaCl,2\ny,KCl,bad\nz,MgO,3\n'
    table = read_user_table(write(text), target="strength")
    assert table.rows["line"].tolist() == [4, 8, 10]
    assert (str(table.dialect), table.dialect.header_line) == ("UTF-8, separated by commas", 2)
    assert any("1 comment line(s) skipped" in note for note in table.notes)
    assert [problem.line for problem in table.problems] == [9]


def test_what_is_no_table_gives_one_clear_error(write):
    for content, part in (
        (b" \n\t\n", "is empty"),
        (bytes(range(1, 256)) * 4, "binary"),
        (b"%PDF-1.7 rest", "PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "binary.*an .xls"),
        (gzip.compress(b"formula,strength\nNaCl,2\n" * 50), "binary.*an archive"),
        ('[{"formula": "NaCl"}]', "JSON"),
        ("formula,strength\n", "no rows below it"),
        ("formula\nFe2O3\nNaCl\n", "one column only"),
        ("# nothing\n# else\n", "one column only|nothing but comments"),
        ("Fe2O3,1.5\nNaCl,2\n", "no header"),
        ("formula,strength,strength\nFe2O3,1,2\n", "2 columns named 'strength'"),
        ("formula,formula,strength\nFe2O3,NaCl,2\n", "Several columns"),
        ('formula,strength\n"Fe2O3,1\n' + "NaCl,2\n" * 200, "line 2: a quote is opened"),
        ("formula,load\nFe2O3,1\n", "no column 'strength'.*'load'"),
        ("formula,strength\nsteel,1\nbrass,2\n", "No column.*holds chemical formulas"),
    ):
        with pytest.raises(UserFileError, match=part):
            read_user_table(write(content), target="strength")


def test_what_the_user_names_is_not_guessed_and_a_wrong_name_is_refused(tmp_path, write):
    path = write("formula^strength\nFe2O3^1.5\nNaCl^-2\n")
    assert values(path, delimiter="^") == {"Fe2O3": 1.5, "NaCl": -2.0}
    latin = write("formula,strength\nFe2O3,ü\n".encode("latin-1"), "latin.csv")
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as stream:
        stream.truncate(10 * 2**30)  # a sparse file: ten GiB that take no place
    for wrong, options, part in (
        (path, {"encoding": "klingon"}, "not in klingon"),
        (latin, {"encoding": "utf-8"}, "not in utf-8"),
        (write(PLAIN, "plain.csv"), {"decimal": ";"}, "sign of decimals"),
        (path, {"sheet": "first"}, "no workbook"),
        (path, {"delimiter": "::"}, "'::' is no separator"),
        (tmp_path / "absent.csv", {}, "There is no file"),
        (tmp_path, {}, "is no file"),
        (huge, {}, r"10.0 GiB"),
    ):
        with pytest.raises(UserFileError, match=part):
            values(wrong, **options)


def test_a_workbook_is_read_by_its_only_or_its_named_sheet(tmp_path):
    book = openpyxl.Workbook()
    for row in (["formula", "strength"], ["Fe2O3", 1.5], ["NaCl", -2]):
        book.active.append(row)
    book.create_sheet("empty")
    path = tmp_path / "mine.xlsx"
    for row, at in enumerate(("at", datetime(2024, 5, 1, 13, 45), datetime(2024, 5, 1)), 1):
        book.active.cell(row, 3, at)
    book.save(path)
    assert values(path) == {"Fe2O3": 1.5, "NaCl": -2.0}
    assert read_formula_list(path).columns["at"].tolist() == ["2024-05-01 13:45:00", "2024-05-01"]
    book["empty"].append(["other", "things"])
    book.save(path)
    assert values(path) == {"Fe2O3": 1.5, "NaCl": -2.0}  # the other sheet has no such column
    book["empty"].append(["formula", "strength"])
    book.save(path)
    with pytest.raises(UserFileError, match=r"several sheets.*'Sheet', 'empty'"):
        values(path)
    assert values(path, sheet="sheet") == {"Fe2O3": 1.5, "NaCl": -2.0}
    book["Sheet"].insert_rows(1)
    book["Sheet"]["A1"] = "Measured in May"
    book.save(path)
    below = read_formula_list(path, sheet="Sheet")
    assert (below.formulas, below.lines) == (["Fe2O3", "NaCl"], [3, 4])
    assert below.notes == ("line 1 taken for a title: 'Measured in May'",)
    book["Sheet"].delete_rows(1)
    for number_format, unit, scale in (("0.0_%", None, 1), ('0.0"%"', "%", 1), (r"0.0\%", "%", 1), ("0.0%", "%", 100)):
        for cell in book["Sheet"]["B"][1:]:
            cell.number_format = number_format  # the last shows 150.0% and -200.0%
        book.save(path)
        table = read_user_table(path, target="strength", sheet="Sheet")
        assert (table.unit, table.rows["value"].tolist()) == (unit, [1.5 * scale, -2.0 * scale])
    with pytest.raises(UserFileError, match="--unit says 'none'"):
        read_user_table(path, target="strength", sheet="Sheet", unit="none")


def test_a_cell_merged_over_rows_stands_in_each_and_a_formula_without_a_result_is_named(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    rows = [["p", "NaCl", 1], [None, None, 2], ["q", "KCl", 3], [None, "MgO", 4]]
    for row in (["Our data", None, None], ["paper", "Formula", "H"], *rows):
        sheet.append(row)
    for area in ("A1:C1", "A3:A4", "B3:B4", "A5:A6"):  # a title over columns is no header
        sheet.merge_cells(area)
    book.save(tmp_path / "mine.xlsx")
    table = read_user_table(tmp_path / "mine.xlsx", target="H", group_column="paper")
    assert table.rows["formula"].tolist() == ["NaCl", "NaCl", "KCl", "MgO"]
    assert table.rows["named_group"].tolist() == ["p", "p", "q", "q"]
    assert table.rows["line"].tolist() == [3, 4, 5, 6]
    assert any(note.startswith("3 cell(s) merged over several rows, the first A3:A4") for note in table.notes)
    for row in range(3, 7):
        sheet[f"C{row}"] = f"=D{row}*2"
    book.save(tmp_path / "mine.xlsx")
    with pytest.raises(UserFileError, match=r"C3 holds the formula '=D3\*2' without a stored result"):
        read_user_table(tmp_path / "mine.xlsx", target="H")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    start=st.sampled_from(["", "formula,strength\nNaCl,1\n", "formula;strength\n" + ";" * 200_000]),
    tail=st.binary(max_size=300),
    wide=st.booleans(),
)
def test_any_bytes_are_sound_rows_with_each_line_accounted_for_once_or_refused(tmp_path, start, tail, wide):
    (tmp_path / "x.csv").write_bytes(start.encode("utf-16" if wide else "utf-8") + tail)
    try:
        table = read_user_table(tmp_path / "x.csv", target="strength")
    except UserFileError:
        return
    assert np.isfinite(table.rows["value"]).all()
    lines = [*table.rows["line"], *(problem.line for problem in table.problems)]
    assert len(set(lines)) == len(lines)
    assert all(problem.reason for problem in table.problems)


def test_amounts_fractions_and_percents_are_the_same_composition():
    for rows in ([[3.0, 1.0], [75.0, 25.0], [75.0, None]], [[0.75, None], [0.75, 0.25]]):
        made, _ = formulas_of(["Al", "Ni"], rows, Amounts.ATOMIC)
        assert len({tuple(row) for row in fraction_matrix(made).round(12)}) == 1
    made, _ = formulas_of(["La", "Sr", "Cu", "O"], [[1.85, 0.15, 1, 4], [1.9, 0.1, 1, 4]], Amounts.ATOMIC)
    expected = composition_keys(fraction_matrix(["La1.85Sr0.15CuO4", "La1.9Sr0.1CuO4"]))
    assert composition_keys(fraction_matrix(made)).tolist() == expected.tolist()


def test_a_sum_that_is_no_hundred_is_no_percentage():
    rows = [[5.0, 3.0], [5.5, 3.5], [4.0, 96.0]]
    made, reasons = formulas_of(["Cr", "Ni"], rows, Amounts.ATOMIC, percent=True)
    assert made == ["", "", "Cr4Ni96"]
    assert "is the main element missing?" in reasons[0]
    oxides = [[1.8, 0.2, 1, 4], [1.9, 0.1, 1, 4], [1.8, 0.2, 1, None]]
    made, reasons = formulas_of(["La", "Sr", "Cu", "O"], oxides, Amounts.ATOMIC)
    assert (made[2], list(reasons)) == ("", [2])
    made, reasons = formulas_of(["Fe", "Ni", "K"], [[50.0, 50.0, 300.0], [60.0, 40.0, 300.0]], Amounts.ATOMIC)
    assert made == ["", ""]
    assert "the amounts sum to 400, neither 1 nor 100" in reasons[0]


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
    (problem,) = table.problems
    assert (problem.line, problem.kind, problem.reason) == (4, "formula", "the amount of Al is no number")
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
    for name in ("% C", "wt.% C", "Cppm", "Carbon", "Carbon (wt%)"):
        path.write_text("\n".join([f"Fe,{name},Si,strength", *rows]))
        with pytest.raises(UserFileError, match="under a name or in a unit that is not read"):
            read_user_table(path, target="strength", element_columns="weight")
    path.write_text("\n".join(["Fe,K (W/m),Si,strength", *rows]))
    assert len(read_user_table(path, target="strength", element_columns="weight").rows) == 20


@pytest.mark.parametrize(
    ("rows", "kind", "problem"),
    [
        ("97,3 ppm,1\n98,2 ppm,2\n", "weight", "'C' .* are in 'ppm'"),
        ("97 wt%,3 wt%,1\n98 wt%,2 wt%,2\n", "atomic", "'Fe' .* are in 'wt%'"),
        ("wt%,ppm,GPa\n97,3,1\n98,2,2\n", "weight", "'C' .* are in 'ppm'"),
        ("97%,0.03,1\n98%,0.02,2\n", "atomic", "hold percents, and 'C' not"),
        ("[wt%],Wt.-%,GPa\n97,3,1\n98,2,2\n", "weight", ""),
        ("97 %,-,1\n98 %,0,2\n", "weight", ""),
    ],
)
def test_units_of_the_amounts_in_cells_or_below_the_header_are_not_left_out(write, rows, kind, problem):
    path = write(f"Fe,C,strength\n{rows}")
    if not problem:
        assert len(read_user_table(path, target="strength", element_columns=kind).rows) == 2
        return
    with pytest.raises(UserFileError, match=problem):
        read_user_table(path, target="strength", element_columns=kind)


def test_no_row_of_a_list_is_lost():
    for text, formulas in (
        ("PbTe\nPbSe\n", ["PbTe", "PbSe"]),
        ("PbTe,1\nPbSe,2\n", ["PbTe", "PbSe"]),
        ("formula\nBi2 Te3\nPb Te\n", ["Bi2 Te3", "Pb Te"]),
        ("Li1,5Al\nFe2O3\nNaCl\n", ["Li1,5Al", "Fe2O3", "NaCl"]),
        ("id;formula\n#4;PbTe\n#5;PbSe\n", ["PbTe", "PbSe"]),
        ("PbTe Bi2Te3 SnSe\n", ["PbTe Bi2Te3 SnSe"]),
    ):
        assert read_formula_list(text.encode()).formulas == formulas


def test_what_is_no_list_is_refused_columns_are_kept_and_surplus_fields_named():
    for text, column, part in ((b"", None, "empty"), (b"formula\n", None, "no formula"), (b"Fe", "c", "'c'")):
        with pytest.raises(UserFileError, match=part):
            read_formula_list(text, column)
    read = read_formula_list(b"x;compound;x\nfoo;PbTe;1\nbar;SnTe;2;3\n")
    assert list(read.columns) == ["x", "compound", "x_2"]
    assert read.reasons == {1: "the row has 4 fields where the header has 3"}


def test_element_columns_and_weights_become_formulas_of_atoms():
    text = b"Ti (wt%),Al (wt%),V (wt%)\nbal.,6,4\n90,6,4\n50,6,4\n"
    read = read_formula_list(text, element_columns="weight")
    assert read.formulas[0] == read.formulas[1] == "Ti86.20444Al10.195485V3.6000754"
    assert list(read.reasons) == [2]


def test_amounts_that_are_read_as_atoms_of_a_formula_are_pointed_at(tmp_path):
    path = tmp_path / "steel.csv"
    path.write_text("Cr,Ni,strength\n18,10,1\n20,12,2\n17,10,3\n")
    table = read_user_table(path, target="strength", element_columns="atomic")
    note = "the amounts in 'Cr', 'Ni' sum to 27 to 32 and are read as atoms of a formula: is the main element missing?"
    assert note in table.notes
    assert note in read_formula_list(path, element_columns="atomic").notes
    path.write_text("Cr,Ni,strength\n18,82,1\n20,80,2\n")
    assert not read_user_table(path, target="strength", element_columns="atomic").notes


def test_units_in_number_formats_are_read_and_hidden_rows_noted(tmp_path):
    book = openpyxl.Workbook()
    rows = [["PbTe", 1.037], ["SnTe", 2], ["NaCl", 1500], ["KCl", 3.5]]
    for row in (["formula", "strength"], *rows):
        book.active.append(row)
    formats = ('0.0" GPa"', r'0.0\ "GPa";[Red]-0.0\ "GPa"', '0" MPa"', 'General" GPa"')
    for line, number_format in enumerate(formats, 2):
        book.active[f"B{line}"].number_format = number_format
    book.active.row_dimensions[3].hidden = True
    book.save(tmp_path / "mine.xlsx")
    table = read_user_table(tmp_path / "mine.xlsx", target="strength")
    assert (table.unit, table.rows["value"].tolist()) == ("GPa", [1.037, 2.0, 3.5])
    assert [(p.line, p.reason[:32]) for p in table.problems] == [(4, "the value '1500 MPa' has no 'GPa")]
    assert "1 row(s) that the sheet hides are read, too, the first is row 3" in table.notes
    book.active["B2"].number_format = book.active["B3"].number_format = '0.0," kN"'  # it shows another number
    book.save(tmp_path / "mine.xlsx")
    assert read_user_table(tmp_path / "mine.xlsx", target="strength").unit is None


def test_how_a_list_is_read_can_be_said(tmp_path):
    read = read_formula_list(b"a^formula\n1^PbTe\n", delimiter="^")
    assert (read.formulas, list(read.columns)) == (["PbTe"], ["a", "formula"])
    text = "Fe;Ni\n50,125;49,875\n".encode("utf-16-le")
    read = read_formula_list(text, element_columns="atomic", encoding="utf-16-le", decimal=",")
    assert read.formulas == ["Fe50.125Ni49.875"]
    text = b"Fe;Ni\n50,125;49,875\n"
    with pytest.raises(UserFileError, match="--decimal"):
        read_formula_list(text, element_columns="atomic")
