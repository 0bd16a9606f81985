"""A table rendered in any dialect is read as it was, or refused; never a third outcome.

``CROSSPROP_RANDOM_TABLES=20000`` sets the number of tables; the default takes a few seconds.
"""

import csv
import io
import os
from decimal import Decimal

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from crossprop.data.formula_list import read_formula_list
from crossprop.data.user_rows import read_user_table
from crossprop.errors import UserFileError

EXAMPLES = int(os.environ.get("CROSSPROP_RANDOM_TABLES", "100"))
TABLES = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
FORMULAS = [
    "PbTe", "Bi2Te3", "Fe2O3", "Fe0.5Ni0.5", "La1.85Sr0.15CuO4", "Ca(Al2[SiO4]2)", "NaCl", "KCl", "MgO", "SnSe",
    "CuSO4·5H2O", "Ni3Al", "TiO2", "Li0.5CoO2", "GaAs", "InSb", "C", "O2", "Zr65Cu17.5Ni10Al7.5", "H2O", "BN", "KI",
]  # fmt: skip
MISSING = ["", "-", "n/a", "NaN", "#N/A", "?"]


def written(number, style):
    """A number as text, and the value that the text has."""
    whole, _, decimals = f"{number:f}".partition(".")
    decimals = decimals and style["decimal"] + decimals
    if power := style["power"]:
        return f"{whole}{decimals}{power}", float(f"{number:f}e{style['exponent']}")
    thousands = f"{Decimal(whole):,}".replace(",", style["thousands"])
    return f"{thousands}{decimals}", float(number)


@st.composite
def tables(draw):
    """A file, formula and value (``None`` where it is missing) of every row, and the options it is read with."""
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = draw(st.sampled_from([".", ","]))
    # In a file with commas between its fields a lone point is one of decimals.
    marks = {".": ",", ",": "." if separator != "," else ""}
    exponent = draw(st.sampled_from(["2", "-3", "10"]))
    power = draw(st.sampled_from(["", "", "", "e{}", "E{}", "D{}", "·10^{}", " x 10^{}", "×10{sup}"]))
    superscript = exponent.translate(str.maketrans("0123-", "⁰¹²³⁻"))
    style = {
        "decimal": decimal,
        "thousands": draw(st.sampled_from(["", "", "'", " ", marks[decimal]])),
        "power": power.format(exponent, sup=superscript),
        "exponent": exponent,
    }
    if "D" in power or "e" in power.lower():
        style["power"] = power.format(f"{int(exponent):+03d}")
    places = draw(st.integers(0, 4))
    many = draw(st.sampled_from([99, 9_999, 9_999_999]))
    small = st.decimals(0, 9, places=draw(st.integers(0, 4)))
    values = st.one_of(st.none(), st.decimals(-many, many, places=places), small)
    formulas = draw(st.lists(st.sampled_from(FORMULAS), min_size=4, max_size=12, unique=True))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    unit = draw(st.sampled_from(["", " (GPa)", " [µV/K]", " / eV", "row", "cells"]))
    extra = draw(st.lists(st.sampled_from(["id", "note", "T (K)"]), unique=True, max_size=3))
    columns = draw(st.permutations(["formula", "value", *extra]))
    names = {name: name for name in extra}
    names["formula"] = draw(st.sampled_from(["formula", "Composition", "stuff"]))
    names["value"] = "hardness" + (unit if unit not in ("row", "cells") else "")
    records, rows = [], []
    for number, formula in enumerate(formulas):
        value = draw(values)
        text, expected = (draw(st.sampled_from(MISSING)), None) if value is None else written(value, style)
        if unit == "cells" and value is not None:
            text += " GPa"
        note = draw(st.sampled_from(["", "as cast", "old, new", 'say "x"', "Größe", "1; 2"]))
        cells = {"formula": formula, "value": text, "id": f"#{number}", "note": note}
        cells["T (K)"] = str(300 + number)
        records.append([cells[name] for name in columns])
        rows.append((formula, expected))
    if unit == "row":
        records.insert(0, [{"value": "GPa", "T (K)": "K"}.get(name, "") for name in columns])
    quote_all = draw(st.booleans())

    def line(fields):
        stream = io.StringIO()
        quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
        csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator="").writerow(fields)
        return stream.getvalue()

    above = draw(st.lists(st.sampled_from(["# made by hand", "Our data", "", "% 2024"]), max_size=2))
    lines = [*above, line([names[name] for name in columns]), *map(line, records)]
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines) + draw(st.sampled_from(["", "\n"]))
    told = {"decimal": decimal} if draw(st.booleans()) else {}
    return text.encode(encoding, errors="replace"), rows, told


@TABLES
@given(tables())
def test_a_table_in_any_dialect_is_read_as_it_was_or_refused(tmp_path, rendered):
    path = tmp_path / "table.csv"
    content, rows, told = rendered
    path.write_bytes(content)
    try:
        table = read_user_table(path, target="hardness", **told)
    except UserFileError:
        event("refused")
        return
    known = {formula: value for formula, value in rows if value is not None}
    found = dict(zip(table.rows["formula"], table.rows["value"], strict=True))
    assert found == {formula: known[formula] for formula in found}
    assert len(found) + len(table.problems) == len(rows)
    event("read" if found == known else "some rows refused")


@TABLES
@given(tables(), st.booleans())
def test_a_list_to_predict_loses_no_row(rendered, header):
    content, rows, _ = rendered
    text = "".join(f"{formula}\n" for formula, _ in rows)
    read = read_formula_list((("formula\n" if header else "") + text).encode())
    assert read.formulas == [formula for formula, _ in rows]
    try:
        read = read_formula_list(content)
    except UserFileError:
        return
    assert [f for f in read.formulas if f] == [formula for formula, _ in rows]
