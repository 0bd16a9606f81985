"""Whatever a file holds, it is read or refused with one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossprop.data.user_rows import read_own_file
from crossprop.errors import OwnFileError

QUIET = settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CELL = st.sampled_from(
    [
        "Fe2O3",
        "NaCl",
        "1.5",
        "1,5",
        "1,234",
        "",
        "nan",
        "12 MPa",
        '"',
        "#",
        "\n",
        ";",
        ",",
        "\t",
        "ü",
        "2-Feb",
        "inf",
        "x",
    ]
)
ROW = st.lists(CELL, max_size=6)


def check(path):
    """A table whose rows are sound and whose lines are each accounted for once, or a refusal."""
    try:
        table = read_own_file(path, target="strength")
    except OwnFileError:
        return
    assert np.isfinite(table.rows["value"]).all()
    lines = [*table.rows["line"], *(problem.line for problem in table.problems)]
    assert len(set(lines)) == len(lines)
    assert all(problem.reason for problem in table.problems)


@QUIET
@given(content=st.binary(max_size=300))
def test_any_bytes(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    check(tmp_path / "x.csv")


@QUIET
@given(tail=st.binary(max_size=200), encoding=st.sampled_from(["utf-8", "utf-16", "cp1252", "utf-16-le"]))
def test_a_good_beginning_and_any_bytes(tmp_path, tail, encoding):
    (tmp_path / "x.csv").write_bytes("formula,strength\nNaCl,1\n".encode(encoding) + tail)
    check(tmp_path / "x.csv")


@QUIET
@given(rows=st.lists(ROW, max_size=12), sign=st.sampled_from([",", ";", "\t", "|", " "]))
def test_any_cells(tmp_path, rows, sign):
    text = "\n".join(sign.join(row) for row in [["formula", "strength"], *rows])
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    check(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "text", ["formula,strength\n" + "A" * 200_000 + ",1\n", "formula,strength\n" + "," * 200_000]
)
def test_very_long_lines(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    check(tmp_path / "x.csv")
