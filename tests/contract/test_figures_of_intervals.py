"""Figures that docs/intervals.md states, computed anew from the reports."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports"
PAGE = (ROOT / "docs" / "intervals.md").read_text(encoding="utf-8")
TOLD = " ".join(PAGE.split())
NOT_FEWER_THAN = 500
"""Rows from which on a hold-out is large enough to judge coverage, as in the report."""


@cache
def table(name: str) -> list[dict[str, str]]:
    with (REPORTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_coverage_is_told_as_it_was_measured():
    rows = table("jarvis/tables/coverage.csv")
    total = sum(int(row["n_test"]) for row in rows)
    held = sum(float(row["measured"]) * int(row["n_test"]) for row in rows) / total
    outside = sum(float(row["outside_domain"]) * int(row["n_test"]) for row in rows) / total
    large = [float(row["measured"]) for row in rows if int(row["n_test"]) >= NOT_FEWER_THAN]
    assert f"`jarvis`: {100 * held:.1f} % of {total:,} values for 90 % stated" in TOLD
    between = f"between {100 * min(large):.1f} and {100 * max(large):.1f} %"
    assert f"on the {len(large)} targets with {NOT_FEWER_THAN} rows or more {between}" in TOLD
    assert f"{100 * outside:.1f} % of the rows are flagged" in TOLD


def _held_out() -> dict[str, list[dict[str, str]]]:
    """Runs of the benchmark of held-out chemistries, by the row of the table that tells of them."""
    runs: dict[str, list[dict[str, str]]] = {
        "known elements": [],
        "elements never seen": [],
        "the greatest": [],
    }
    for row in table("held_out_chemistry/study_chemistries.csv"):
        unseen = float(row["of_unseen_elements"]) == 1
        greatest = row["chemistry"].startswith("greatest")
        kind = "the greatest" if greatest else "elements never seen" if unseen else "known elements"
        runs[kind].append(row)
    return runs


def _mean(runs: list[dict[str, str]], column: str) -> float:
    return sum(float(row[column]) for row in runs) / len(runs)


def _rounded(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.095 else f"{100 * share:.0f} %"


@pytest.mark.parametrize("kind", _held_out())
def test_held_out_chemistries_are_told_as_they_were_measured(kind):
    runs = _held_out()[kind]
    (line,) = [row for row in PAGE.splitlines() if row.startswith(f"| {kind}")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells == [
        str(len(runs)),
        f"{_mean(runs, 'mae_ratio'):.1f}",
        f"{100 * _mean(runs, 'coverage'):.1f} %",
        f"{100 * _mean(runs, 'coverage_before'):.1f} %",
        _rounded(_mean(runs, "flagged")),
        _rounded(_mean(runs, "flagged_before")),
    ]


def test_random_rows_beside_the_held_out_chemistries_are_told_as_they_were_measured():
    runs = [row for of in _held_out().values() for row in of]
    (line,) = [row for row in PAGE.splitlines() if row.startswith("| at random")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[0] == str(len(runs))
    assert cells[2] == f"{100 * _mean(runs, 'coverage_random'):.1f} %"
    assert cells[3] == f"{100 * _mean(runs, 'coverage_random_before'):.1f} %"
    assert cells[4] == f"{100 * _mean(runs, 'flagged_random'):.1f} %"


def test_what_the_flag_sees_is_told_as_it_was_measured():
    hard = [row for row in _held_out()["known elements"] if float(row["mae_ratio"]) > 1.5]
    now, before = (f"{100 * _mean(hard, column):.0f} %" for column in ("flagged", "flagged_before"))
    assert f"flags {now} of the rows on average ({before} with the radius of 99 %)" in TOLD
