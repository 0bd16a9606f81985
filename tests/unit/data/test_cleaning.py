import numpy as np
import pytest

from crossprop.data.cleaning import REPORT_COLUMNS, read_table, refuse_unlearnable
from crossprop.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "alloys.csv"
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return write


def many_good(bad, n=40):
    """A file of n good rows and the given bad ones below them."""
    return "formula,value\n" + "".join(f"Li{i}Na,{i}\n" for i in range(1, n + 1)) + bad


def test_rows_are_read_with_their_lines_keys_and_values(table):
    text = "\ufeffid,formula,value\r\n0, NaCl ,1.5\r\n1,Fe2O3,-2e-1\r\n2,NaN,3\r\n"
    clean = read_table(table(text), "formula", "value")
    assert clean.rows.to_dict("list") == {
        "line": [2, 3, 4],
        "formula": ["NaCl", "Fe2O3", "NaN"],  # the last is a sodium nitride
        "composition": ["Cl:0.5000 Na:0.5000", "Fe:0.4000 O:0.6000", "N:0.5000 Na:0.5000"],
        "value": [1.5, -0.2, 3.0],
    }
    assert clean.report.empty
    assert tuple(clean.report.columns) == REPORT_COLUMNS


def test_spreadsheet_dates_are_repaired_and_reported(table):
    clean = read_table(table(many_good("2-Feb,13.5\n3-Feb,13.4\n")), "formula", "value")
    assert clean.rows["formula"].tolist()[-2:] == ["FeB2", "FeB3"]
    assert clean.report[["line", "file", "formula", "value", "action"]].values.tolist() == [
        [42, "alloys.csv", "2-Feb", "13.5", "repaired"],
        [43, "alloys.csv", "3-Feb", "13.4", "repaired"],
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1-Mar,1", "date"),
        ("XeF2Zz,1", "no element"),
        (",1", "empty"),
        ("NaCl", "the value is missing"),
        ("NaCl,nan", "'nan' is no finite number"),
        ("NaCl,1e999", "no finite number"),
        ("NaCl,1_000", "no finite number"),
    ],
)
def test_single_bad_rows_are_dropped_with_line_and_reason(table, row, reason):
    clean = read_table(table(many_good(row + "\n")), "formula", "value")
    assert len(clean.rows) == 40
    assert clean.report[["line", "action"]].values.tolist() == [[42, "dropped"]]
    assert reason in clean.report["reason"][0]


def test_more_than_a_tenth_of_bad_rows_is_refused_with_examples(table):
    assert len(read_table(table(many_good("x,1\n" * 4, n=36)), "formula", "value").rows) == 36
    with pytest.raises(DataError, match=r"5 of 41 rows.*line 38.*correct the file"):
        read_table(table(many_good("x,1\n" * 5, n=36)), "formula", "value")


def test_repeated_formulas_stay_and_are_counted(table):
    clean = read_table(table("formula,value\nNaCl,1\nNaCl,2\nNaCl,1\nKCl,3\n"), "formula", "value")
    assert len(clean.rows) == 4
    assert clean.report["action"].tolist() == ["noted"]
    assert "2 rows repeat a formula of this file, 1 of them with the same value" in clean.report["reason"][0]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("formula,value\n", "no rows below its header"),
        ("formula;value\nNaCl;1\n", "no column 'formula' and 'value'"),
        (b"formula,value\nNa\xff\xfeCl,1\n", "UTF-8"),
        ('formula,value\n"NaCl,1\n', "no CSV"),
    ],
)
def test_what_is_no_such_table_is_refused(table, text, part):
    with pytest.raises(DataError, match=part):
        read_table(table(text), "formula", "value")


@pytest.mark.parametrize(
    ("values", "part"),
    [([], "at least two"), ([1.0], "at least two"), ([2.0] * 3, "All 3 values of it are 2")],
)
def test_what_cannot_be_learnt_is_refused(values, part):
    with pytest.raises(DataError, match=part):
        refuse_unlearnable(np.array(values), "it")
