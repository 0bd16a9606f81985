"""Every bad row of a file of the user is named with its line and the reason; numbers are read as people write them."""

import math
import re

import numpy as np
import pytest

from crossprop.data.splits import draw_holdout
from crossprop.data.user_rows import read_user_table
from crossprop.data.user_summary import summarise
from crossprop.data.user_values import NumberCell, contradicting, is_number, read_numbers, unit_in
from crossprop.errors import UserFileError


@pytest.fixture
def read(tmp_path):
    def read(text, target="strength", **options):
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8")
        return read_user_table(path, target=target, **options)

    return read


def test_a_bad_row_is_named_with_its_line_and_reason(read):
    for formula, value, kind, reason in (
        ("", "1", "formula", "the formula is missing"),
        ("3-Mar", "1", "formula", "a spreadsheet destroyed the formula"),
        ("HeO", "1", "element", "'He'"),
        ("NaCl", "n.a.", "missing", "the value is missing"),
        ("NaCl", "1e999", "value", "not finite"),
        ("NaCl", "2021-01-10", "value", "is a date"),
        ("NaCl", "brittle", "value", "no number"),
        ("NaCl", ">12", "value", "is a bound"),
        ("NaCl", "12-15", "value", "is a range"),
        ("NaCl", "0xFF", "value", "'0xFF' is no number"),
        ("NaCl", "12%", "value", "'12%' is a percentage: write 0.12 or 12"),
        ("NaCl", '"1,5"', "value", "decimal comma where the others have a point"),
        ("NaCl", "1,extra,cells", "fields", "5 fields where the header has 3"),
    ):
        text = f"nr,formula,strength\n1,KCl,1.25\n2,MgO,2.5\n3,{formula},{value}\n4,CaO,3\n"
        table = read(text)
        assert table.rows["formula"].tolist() == ["KCl", "MgO", "CaO"]
        assert [(p.line, p.kind) for p in table.problems] == [(4, kind)]
        assert re.search(reason, table.problems[0].reason)
        assert table.n_read == 4


def test_typeset_formulas_and_spreadsheet_dates_are_repaired_and_said(read):
    table = read("formula,strength\nFe₂O₃,1\n2-Feb,2\nNaCl\u200b,3\nCuSO4·5H2O,4 ± 1\nFe203,5\nKCl,1 200\n")
    assert table.rows["formula"].tolist() == ["Fe2O3", "FeB2", "NaCl", "CuSO4·5H2O", "Fe203", "KCl"]
    assert any("1 value(s) hold blanks, the first on line 7: '1 200' is read as 1200" in note for note in table.notes)
    assert any("1 doubtful formulas, kept, the first on line 6" in note for note in table.notes)
    assert not table.problems
    assert any("1 value(s) carry an uncertainty, the first on line 5" in note for note in table.notes)
    assert any("2 typeset formulas" in note and "line 2" in note for note in table.notes)
    assert any("1 spreadsheet dates" in note and "line 3" in note for note in table.notes)


def test_the_formula_column_is_found_and_its_rows_are_kept(read):
    for text, column, kept in (
        ("element,Formula,strength\nFe,Fe3C,1\nCu,CuZn,2\n", "Formula", 2),  # a telling name decides
        ("sample,stuff,strength\nCo1,Fe3C,1\nCo2,CuZn,2\nCo3,NaCl,3\n", "stuff", 3),  # numbered samples
        ("formula,strength,strength\nFe3C,1,1\nCuZn,2,2\n", "formula", 2),  # the same cells twice
        ("formula,strength\nNaCl,1\nNa2Cl2,1\nNaCl,5\nMgO\n", "formula", 3),  # repeated; without a value
    ):
        table = read(text)
        assert (table.formula_column, table.value_column, len(table.rows)) == (column, "strength", kept)


def test_a_split_column_says_which_rows_are_held_out(read):
    text = "formula,strength,set\nFe3C,1,train\nCuZn,2,TEST\nNaCl,3,maybe\nKCl,4,hold-out\n"
    table = read(text, split_column="set")
    assert table.rows["split"].tolist() == ["train", "test", "test"]
    assert [(p.line, p.kind) for p in table.problems] == [(4, "split")]


def test_one_column_is_not_formula_and_value_and_a_file_of_words_is_refused(read):
    with pytest.raises(UserFileError, match="cannot hold both"):
        read("formula,a\nFe3C,1\n", value_column="formula", formula_column="formula")
    for options in ({"target": ""}, {"value_column": " "}):
        with pytest.raises(UserFileError, match="name of a column is empty"):
            read(",formula,strength\n0,Fe3C,5\n1,CuZn,6\n", **options)
    two = "first,second,strength\nFe,Fe3C,1\nCu,CuZn,2\n"
    with pytest.raises(UserFileError, match=r"'first' \(e.g. 'Fe'\), 'second' \(e.g. 'Fe3C'\)"):
        read(two)
    assert read(two, formula_column="second").rows["formula"].tolist() == ["Fe3C", "CuZn"]
    with pytest.raises(UserFileError, match=r"None of the 2 rows.*line 2: the value 'a' is no number"):
        read("formula,words\nFe3C,a\nCuZn,b\n", target="words")


def papers(rows):
    return "formula,K,paper\n" + "".join(f"{formula},{value},{paper}\n" for formula, value, paper in rows)


def test_a_column_of_groups_is_read_and_the_hold_out_drawn_by_it(read):
    table = read(papers((f"Fe{i + 1}O", i, f"p{i // 4}") for i in range(80)), "K", group_column="paper")
    held = draw_holdout(table.together)
    named = table.rows["named_group"].to_numpy()
    assert 16 <= held.sum() <= 24
    assert not set(named[held]) & set(named[~held])
    assert "groups        20 named; the largest has 4 rows (5 %)" in summarise(table, "1", held)
    assert "drawn by group" in summarise(table, "1", held)


def test_a_row_without_a_group_is_bad_and_a_column_serves_one_purpose(read):
    text = papers([("FeO", 1, "p"), ("Fe2O3", 2, ""), ("NaCl", 3, "q"), ("KCl", 4, "n/a")])
    table = read(text, "K", group_column="paper")
    assert [(p.line, p.kind) for p in table.problems] == [(3, "group"), (5, "group")]
    for options in ({"group_column": "K"}, {"group_column": "formula", "formula_column": "formula"}):
        with pytest.raises(UserFileError, match=r"different|cannot hold both"):
            read(text, "K", **options)


def test_a_block_of_a_third_of_the_rows_is_pointed_at_with_what_holds_it_together(read):
    rows = [(f"Fe{i + 1}O", i, f"p{i}") for i in range(40)]
    rows += [(f"Fe{i + 1}O", 1, "review") for i in range(0, 40, 2)]
    notes = " ".join(read(papers(rows), "K", group_column="paper").notes)
    assert "40 of 60 rows have to stay together (21 groups that share compositions" in notes


def test_the_summary_says_what_was_read(read):
    lines = [f"Fe{i}O3,{100 + i}" for i in range(1, 31)] + ["Fe1O3,101", "Fe2O6,777", "KCl,99999", "NaCl,bad"]
    table = read("formula,strength\n" + "\n".join(lines) + "\n")
    held = np.zeros(len(table.rows), dtype=bool)
    held[:5] = True
    text = summarise(table, "MPa", held)
    assert "34 read, 33 kept, 1 dropped" in text
    assert "line 35: the value 'bad' is no number (NaCl | bad)" in text
    assert "31, 1 of them repeated (3 rows, up to 3 each" in text
    assert "101 to 99999 MPa, median 116 MPa" in text
    assert "elements      4: Fe (32), O (32), Cl (1), K (1)" in text
    assert "2 value(s) far from the others, kept: line 34 (99999), line 33 (777)" in text
    assert "1 row(s) repeat composition and value of another, kept: line 32" in text
    assert "28 rows to learn from and 5 to measure on are few" in text


def test_values_that_differ_by_rounding_alone_are_summarised(read):
    table = read("formula,strength\nFe3C,0.3\nCuZn,0.30000000000000004\nNaCl,0.3\n")
    assert "0.3 to 0.3 MPa" in summarise(table, "MPa", np.array([True, False, False]))


def test_a_column_of_units_beside_the_values_is_compared(read):
    def unit_beside(*units, unit="GPa"):
        rows = [f"Fe{i + 1}O{i + 2},{i}.5,{units[i % len(units)]}" for i in range(20)]
        return read("\n".join(["formula,hardness,unit", *rows]), "hardness", unit=unit).unit

    assert unit_beside("MPa", unit="MPa") == "MPa"
    with pytest.raises(UserFileError, match=r"--unit says 'GPa', but .* 'MPa'"):
        unit_beside("MPa")
    with pytest.raises(UserFileError, match="several units: 'GPa', 'MPa'"):
        unit_beside("MPa", "GPa")
    for units in (
        *(("GPa", other) for other in ("Mpa", "N/mm²", "see text")),
        *(("eV", "meV per atom"), ("mOhm cm", "µΩ cm"), ("gpa", "mpa"), ("W m⁻¹ K⁻¹", "mW m⁻¹ K⁻¹"), ("HB", "HRC")),
    ):
        with pytest.raises(UserFileError, match="several units"):
            unit_beside(*units)
    assert unit_beside("N/mm²", "MPa", "", unit="MPa") == "MPa"
    assert unit_beside("10^3 S/m", unit="10³ S/m") == "10^3 S/m"
    assert unit_beside("line 1", "line 2") is None
    for name in ("Einheit", "unité", "Unit of hardness"):
        with pytest.raises(UserFileError, match="several units: 'GPa', 'MPa'"):
            read(f"formula,hardness,{name}\nPbTe,1.5,GPa\nSnTe,1500,MPa\n", "hardness")
    with pytest.raises(UserFileError, match=r"--unit says 'none', but .* 'GPa'"):
        read("formula,hardness\nNaCl,5 GPa\nKCl,6 GPa\n", "hardness", unit="none")


@pytest.mark.parametrize("header", ["hardness x 10^3", "10³ hardness (GPa)", "hardness (GPa) x 1000"])
def test_a_power_of_ten_outside_the_unit_is_refused(read, header):
    rows = "".join(f"Fe{i + 1}O{i + 2},{i}.5\n" for i in range(20))
    with pytest.raises(UserFileError, match="power of ten"):
        read(f"formula,{header}\n{rows}", "hardness", value_column=header, unit="GPa")
    table = read(f"formula,hardness (10^3 GPa)\n{rows}", "hardness", unit="10^3 GPa")
    assert len(table.rows) == 20


def test_a_column_is_read_as_a_whole():
    for cells, values in (
        (["40.3 ± 2.0", "−5(1)", "2.07x10-2"], [40.3, -5.0, 0.0207]),
        (["1.234,5", "2,000"], [1234.5, 2.0]),  # one proven sign decides the column
        (["1.037", "2.5"], [1.037, 2.5]),
        (["1.5", "2.5", "2,5"], [1.5, 2.5, math.nan]),
        (["7 /atom", "3 /atom"], [7.0, 3.0]),
        (["1.2(3)×10^3", "1.2(3)e3", "1.2(3)"], [1200.0, 1200.0, 1.2]),
        (["–150", "‑20", "－3.5", "– 6"], [-150.0, -20.0, -3.5, -6.0]),
        (["1,5", NumberCell("2.25"), "2,5", NumberCell("3.75")], [1.5, 2.25, 2.5, 3.75]),
    ):
        assert read_numbers(cells).values == pytest.approx(values, nan_ok=True)
        assert all(map(is_number, cells))


@pytest.mark.parametrize("cell", [
    "1 2", "1'23", "4 x 3", "x 10^3", "± 3", "2.07 x 103", "5½", "7/2", "2k", "0x10", "-0x10", "0X10", "1.2(3)5",
    "1.2 ± 0.3×10^3", "1.2±0.3e3", "01. Mrz", "3 Dez", "5–7",
])  # fmt: skip
def test_what_only_looks_like_such_a_number_is_none(cell):
    assert all(map(math.isnan, read_numbers([cell, cell]).values))


def test_a_comma_that_the_column_does_not_prove_to_separate_thousands_is_not_read_as_such():
    read = read_numbers(["81.5", "101,522", "3.25"])
    assert math.isnan(read.values[1])
    assert "'101,522' may stand before decimals or between thousands" in read.reasons[1]
    assert read_numbers(["81.5", "101,522"], decimal=".").values == [81.5, 101522.0]
    assert read_numbers(["81.5", "101,522", "1,234.5"]).values == [81.5, 101522.0, 1234.5]
    assert list(read_numbers(["2,5", "1.234"]).reasons) == [1]
    for proof, decimal in (("1.234.567", None), ("1.234,5", None), ("3", ",")):
        assert read_numbers(["2,5", "1.234", proof], decimal).values[:2] == [2.5, 1234.0]


def test_a_point_is_asked_about_where_the_rest_of_the_table_does_not_prove_it():
    for cells in (["1.037", "1.074"], ["1,234", "2,345"]):
        with pytest.raises(UserFileError, match="--decimal"):
            read_numbers(cells, elsewhere=lambda: ",")
    assert read_numbers(["1,234"], decimal=",").values == [1.234]
    assert read_numbers(["1.037", "1.074"], elsewhere=lambda: ".").values == [1.037, 1.074]


@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        ("GPa", "MPa", True), ("eV", "meV/atom", True), ("HV", "GPa", True), ("W/mK", "W m-1 K-1", False),
        ("[GPa]", "GPa", False), ("µV/K", "μV/K", False), ("PBE", "eV", False), ("H", "GPa", False), ("1", "eV", False),
        ("%", "GPa", True), ("10^3 GPa", "GPa", True), ("x1000", "GPa", True), ("10³ GPa", "10^3 GPa", False),
        ("1e-6/K", "10-6/K", False), ("1e-6/K", "1/K", True), ("1/K", "1/K", False),
        ("°C", "K", True), ("1/°C", "1/K", False), ("mT", "T", True), ("K", "GPa", False), ("muV/K", "µV/K", False),
        ("eV", "eV/atom", True), ("W cm-1 K-1", "W/(m K)", True), ("W/m·K", "W/mK", False), ("N/mm2", "MPa", False),
        ("S/cm", "S/m", True), ("1/(ohm cm)", "S/cm", False), ("kJ/mol", "kJ/g", True), ("g/cm3", "g cm^-3", False),
        ("wt%", "%", False), ("TS", "MPa", False), ("S m⁻¹", "S cm⁻¹", True), ("cm²/s", "m²/s", True),
        ("Gpa", "MPa", True), ("mOhm cm", "Ohm m", True), ("mpa", "MPa", False),
        ("C/m2", "µC/cm2", True), ("pC/N", "pm/V", False), ("C", "K", False), ("℃", "K", True), ("ºC", "K", True),
        ("degC", "°C", False), ("°F", "°C", True), ("°F", "K", True), ("Angstrom", "nm", True),
        ("angstrom", "Å", False), ("ppm", "%", True), ("ppm/K", "1/K", True), ("ppm/K", "10^-6/K", False),
        ("ppm/K", "ppm/K", False), ("degree Celsius", "K", True), ("Kelvin", "K", False), ("Hartree", "eV", True),
        ("‰", "%", True), ("HB", "HRC", True), ("emu/g", "µB/f.u.", True), ("emu/g", "A m2/kg", False),
    ],
)  # fmt: skip
def test_units_contradict_each_other_only_where_both_are_known(first, second, contradict):
    assert contradicting(first, second) == contradict


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("hardness (MPa)", "MPa"), ("hardness / MPa", "MPa"), ("hardness, MPa", "MPa"), ("hardness_MPa", "MPa"),
        ("band gap eV", "eV"), ("hardness, max", None), ("a / b", None), ("E_g", None), ("T_ms", None), ("MPa", None),
        ("Bandlücke [eV]", "eV"), ("ΔH / kJ", "kJ"), ("K(IC)-value", None), ("log10(κ)", "dex"), ("ln(k)", None),
        ("Hardness/GPa", "GPa"), ("Hardness (GPa) at 300 K", "GPa"), ("strain %", "%"), ("cp (J/(mol K))", "J/(mol K)"),
        ("energy/eV/atom", "eV/atom"), ("Seebeck uV/K", None), ("DOS states/eV", None), ("strength at 5 %", None),
    ],
)  # fmt: skip
def test_a_header_states_its_unit_with_or_without_brackets(name, unit):
    assert unit_in(name) == unit


def test_a_month_is_part_of_a_date_and_no_unit():
    read = read_numbers(["01. Mrz", "02. Feb", "3.5"])
    assert read.unit is None
    assert read.reasons[0] == "the value '01. Mrz' is a date"


def test_a_short_row_between_blanks_is_refused(read):
    table = read("formula T strength year\nPbTe 300 1.5 2011\nBi2Te3 300 2013\n")
    assert [(p.line, p.kind) for p in table.problems] == [(3, "fields")]
    assert table.problems[0].reason.startswith("the row has 3 fields where the header has 4")
    with pytest.raises(UserFileError, match="the row has 4 fields where the header has 5"):
        read("formula T K strength year\nPbTe 300 1.5 2011\nBi2Te3 300 2.5 2013\n")
    table = read("formula  T (K)  strength [GPa]\nPbTe  300  1.5\nBi2Te3  300  2.5\n")
    assert (table.value_column, table.rows["value"].tolist()) == ("strength [GPa]", [1.5, 2.5])
    table = read("formula strength T\nGPa K\nPbTe 1.5 300\n")
    assert (table.unit, [p.line for p in table.problems]) == (None, [2])


def test_a_decimal_comma_that_cuts_a_value_in_two_is_not_read_as_its_integer(read):
    table = read("formula,strength,note\nPbTe,1,5,\nSnTe,2,\nGeTe,3,7,x\n")
    assert (table.rows["value"].tolist(), [p.line for p in table.problems]) == ([2.0], [2, 4])
    for text in (
        "formula,strength,T\nPbTe,1,300,\nSnTe,2.5,300,\n",  # a point elsewhere
        "formula,strength,T,,\nPbTe,1,300,,\nSnTe,2,300,,\n",
        "formula,strength\nPbTe,1,\nSnTe,2,\n",
    ):
        assert not read(text).problems


def test_the_unit_dex_is_refused_for_logarithms_that_are_not_decadic(read):
    for header in ("ln(strength)", "LN strength", "log2 strength", "log_e(strength)"):
        text = f"formula,{header}\nPbTe,1\nSnTe,2\n"
        with pytest.raises(UserFileError, match="not decadic"):
            read(text, header, unit="dex")
        assert read(text, header, unit="none").value_column == header
    assert len(read("formula,log10(strength)\nPbTe,1\n", "log10(strength)", unit="dex").rows) == 1
    with pytest.raises(UserFileError, match=r"'wavelength_nm' .* states 'nm'"):
        read("formula,wavelength_nm\nPbTe,400\n", "wavelength_nm", unit="µm")


def test_dopants_that_the_formulas_lack_are_refused(read):
    doped = "PbTe,Na,1\nSnTe,none,2\nGeTe,Bi,3\n"
    for name in ("dopant", "doping element"):
        with pytest.raises(UserFileError, match=r"\('Na' beside 'PbTe'\).*--formula-column 'compound'"):
            read(f"compound,{name},strength\n{doped}")
    assert len(read(f"compound,note,strength\n{doped}").rows) == 3
    assert len(read("compound,dopant,strength\nPb0.9Na0.1Te,Na,1\nSnTe,none,2\n").rows) == 2
    assert len(read(f"compound,dopant,strength\n{doped}", formula_column="compound").rows) == 3


def test_a_column_named_formula_is_not_left_for_one_of_dopants_or_hosts(read):
    for text, column in (
        ("formula,dopant,strength\nBi2Te3:Sb,Sb,1\nPbTe:Na,Na,2\nPbTe,Na,2\n", "1 formulas in 3 cells: 'Bi2Te3:Sb'"),
        ("Composition,matrix,strength\nBi2-xSbxTe3,Bi2Te3,1\nPbTe1-xSex,PbTe,2\n", "variable 'x'"),
        ("Formel,host,strength\nPbTe + Na,PbTe,1\nSnTe + Na,SnTe,2\n", "'host' would be read"),
    ):
        with pytest.raises(UserFileError, match=column):
            read(text)
    assert read("composition,host,strength\n0.1,Bi2Te3,1\n0.2,PbTe,2\n").formula_column == "host"
    assert read("material,stuff,strength\nsteel,Fe3C,1\nbrass,CuZn,2\n").formula_column == "stuff"


def test_a_second_table_below_the_first_is_refused_and_a_repeated_header_is_not(read):
    first = "formula,strength\nPbTe,1.5\nSnTe,2.5\n\n"
    for header in ("formula,modulus", "compound,modulus"):
        with pytest.raises(UserFileError, match="line 5 begins another table"):
            read(f"{first}{header}\nPbTe,100\n")
    assert read(f"{first}Formula,Strength\nGeTe,3\n").rows["value"].tolist() == [1.5, 2.5, 3.0]


def test_a_name_above_several_columns_of_numbers_is_refused(read):
    for row in (",300 K,400 K,500 K,", ",mean,std,n,"):
        with pytest.raises(UserFileError, match="'Seebeck' stands above 3 columns"):
            read(f"formula,Seebeck,,,ref\n{row}\nPbTe,1,2,3,a\nSnTe,2,3,4,b\n", "Seebeck")


@pytest.mark.parametrize(
    ("row", "unit"),
    [(";10^3 S/m;K", "10^3 S/m"), ("-;10⁻⁶ K⁻¹;K", "10⁻⁶ K⁻¹"), (";GPa;300", "GPa"), ("the formula;GPa;text", "GPa")],
)
def test_a_row_of_units_below_the_header_is_found(read, row, unit):
    table = read(f"formula;strength;T\n{row}\nPbTe;1;300\nSnTe;2;300\n")
    assert (table.unit, len(table.rows), table.problems) == (unit, 2, ())


def test_the_lines_of_a_markdown_table_are_no_units(read):
    for line in ("|:---|---:|", "----------+----------"):
        table = read(f"| formula | strength |\n{line}\n| PbTe | 1 |\n| SnTe | 2 |\n")
        assert (table.unit, table.rows["value"].tolist(), table.problems) == (None, [1.0, 2.0], ())
