"""Members whose trees lie in the same files: together about few rows, alone about many, with the same answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from made_ensembles import FRACTIONS, fitted, write_ensemble

from crossprop.inference import compiled
from crossprop.inference.compiled import load_compiled, together
from crossprop.models.trees import BLOCK


@dataclass
class Some:
    forest: str
    n_trees: int


def test_members_of_a_forest_are_asked_together_as_far_as_a_walk_can_hold_them():
    members = [Some("a", 100), Some("", 0), Some("a", 50), Some("b", 10), Some("a", 100), Some("b", 10)]
    assert together(members, 1) == [[0, 2, 4], [1], [3, 5]]
    assert together(members, BLOCK // 200) == [[0, 2], [1], [3, 5], [4]]
    assert together(members, BLOCK) == [[place] for place in range(6)]


def test_few_rows_have_the_answers_that_many_have(tmp_path, monkeypatch):
    members = [
        fitted("extra_trees", "physical_attributes", 1, n_estimators=30),
        fitted("random_forest", "physical_attributes", 2, n_estimators=20),
        fitted("adaboost", "physical_attributes", 3, n_estimators=9),
    ]
    folder = write_ensemble(tmp_path / "model", members, "physical_attributes")
    model = load_compiled(folder, cache=tmp_path / "cache", threads=1)
    walks: list[int] = []
    walk = compiled.predict_members
    monkeypatch.setattr(
        compiled, "predict_members", lambda some, given: (walks.append(len(some)), walk(some, given))[1]
    )
    few = model.predict_members(FRACTIONS[:4])
    assert walks == [3]
    monkeypatch.setattr(compiled, "together", lambda members, rows: [[i] for i in range(len(members))])
    np.testing.assert_allclose(few, model.predict_members(FRACTIONS[:4]), rtol=1e-13)
    assert walks == [3]
