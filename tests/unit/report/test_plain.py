"""The winners beside the plain baseline and the plain median."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossprop.methods import Method
from crossprop.report.comparison import plain_section

PLAIN = {Method.BOOST: (Method.PLAIN_BASELINE, 4.0), Method.RESNET: (Method.PLAIN_MEDIAN, 2.0)}


def with_plain_models(target):
    """The target's results with two cells turned into the plain models, and a winner with an error of 1.5."""
    cells = []
    for cell in target.cells:
        method, error = PLAIN.get(cell.method, (cell.method, cell.test_mae_ensemble))
        cells.append(replace(cell, method=method, test_mae_ensemble=error))
    return replace(target, cells=tuple(cells), winner=replace(target.winner, test_mae_ensemble=1.5))


def test_the_winner_is_compared_with_the_better_of_the_plain_models(extended):
    _, results = extended
    section = plain_section([with_plain_models(target) for target in results])
    rows = section.tables["tables/plain.csv"]
    assert rows[["plain baseline", "plain median", "winner_mae"]].to_numpy().tolist() == [[4.0, 2.0, 1.5]] * 2
    assert rows["ratio"].tolist() == pytest.approx([0.75, 0.75])
    assert (section.context["lower"], section.context["n"]) == (2, 2)


def test_a_study_without_plain_models_has_no_such_section(extended):
    assert plain_section(extended[1]) is None
