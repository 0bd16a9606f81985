"""Which rows, batches and steps a piece of work gets, by hand-checked numbers; nothing is fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made import files_of

from crossprop.config import Recipe
from crossprop.experiments import tasks
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.experiments.tasks import FoldTask, ScreenTask, fit_fold, fold_rows, screen, suited
from crossprop.training.trainer import fit_base


@pytest.mark.parametrize(
    ("changes", "n_rows", "most_steps", "batch", "epochs"),
    [
        ({}, 1000, None, 256, 3),
        ({}, 100, None, 100, 3),  # fewer rows than a batch are one batch
        ({"min_batches": 4, "min_steps": 5}, 1, None, 1, 5),
        ({"min_batches": 4}, 1000, None, 128, 3),  # 3 batches of 256, 7 of 128
        ({"min_batches": 4}, 1024, None, 256, 3),  # just 4 of 256
        ({"min_batches": 16}, 100, None, 25, 3),  # 1 of 100, 2 of 50, 4 of 25; 12 would be below 16
        ({"min_batches": 9, "batch_size": 8}, 40, None, 8, 3),  # a small batch stays as it is
        ({"min_steps": 9}, 1000, None, 256, 3),  # 3 steps an epoch: just 9 steps
        ({"min_steps": 10}, 1000, None, 256, 4),
        ({}, 1000, 7, 256, 3),  # begun epochs are finished
        ({}, 1000, 1, 256, 1),
        ({}, 1000, 9999, 256, 3),  # a limit is no wish
        ({"min_steps": 100}, 1000, 30, 256, 10),  # the limit goes before the least number
    ],
)
def test_recipe_suits_the_number_of_rows(changes, n_rows, most_steps, batch, epochs):
    recipe = Recipe(**({"epochs": 3, "batch_size": 256, "learning_rate": 0.001} | changes))
    fitting = suited(recipe, n_rows, most_steps)
    assert (fitting.batch_size, fitting.epochs, fitting.learning_rate) == (batch, epochs, 0.001)


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_target):
    """Eighty rows to learn from, six more that repeat the hold-out."""
    root = tmp_path_factory.mktemp("rows")
    write_target(root, n=100, repeated=6)
    return files_of(root)


@pytest.fixture
def cells(tiny_params):
    def build(**changes):
        study = {
            "methods": ["base", "ml", "dl", "boost", "resnet"],
            "representations": ["elemental_fractions", "physical_attributes"],
            "sources": [],
            "folds": 4,
            "budget": {"ml_trials": 3, "dl_trials": 3, "seconds": 60_000},
        }
        found = enumerate_cells(tiny_params(**(study | changes)), "slme", "%", "d", {})
        return {cell.label: cell for cell in found}

    return build


def test_all_cells_of_a_target_are_screened_on_the_same_few_rows_and_steps(cells, files, monkeypatch):
    seen = []

    def fake(cell, inputs, hyperparameters, train, validation, seed, on_epoch=None, most_steps=None):
        seen.append((list(train), most_steps))
        assert not set(train) & set(validation)
        return fit_base(inputs.values[train]), pd.DataFrame(columns=tasks.HISTORY)

    def screened(cell):
        """Rows and most steps of every fit of a screening."""
        seen.clear()
        screen(ScreenTask(cell, files, None))
        return list(zip(*seen, strict=True))

    monkeypatch.setattr(tasks, "_fit", fake)
    fidelity = {"rows": 50, "steps": 7, "after_screening": 1, "after_first_fold": 1, "margin": 0.1}
    limited = cells(fidelity=fidelity)
    few = {label: screened(cell) for label, cell in limited.items() if label != "base"}
    largest = [max(rows, key=len) for rows, _ in few.values()]
    assert len(few) == 6
    assert {tuple(rows) for rows in largest} == {tuple(largest[0])}
    whole, _ = TargetInputs(files, "published").screening(1234567)
    assert len(largest[0]) == 50
    assert set(largest[0]) < set(whole)
    assert largest[0] == sorted(largest[0])
    # regressors are judged on a third of those rows first
    first, second, *_ = few["ml(EF)"][0]
    assert (len(first), len(second)) == (17, 50)
    assert set(first) < set(second)
    # the steps of a screening are limited, those of a fold are not
    assert set(few["dl(EF)"][1]) == {7}
    fit_fold(FoldTask(limited["dl(EF)"], files, {"learning_rate": 0.001}, 0))
    rows, steps = seen[-1]
    assert (steps, len(rows) > 50) == (None, True)
    # without a limit below them all rows are seen, and for the base anyway
    generous = cells(fidelity=fidelity | {"rows": 5000})["dl(EF)"]
    for cell in (cells()["ml(PA)"], generous, limited["base"]):
        assert max(screened(cell)[0], key=len) == list(whole)


@pytest.fixture
def rows(cells, files):
    """Rows that a fold learns from and is validated on; keywords are those of the task."""
    inputs = TargetInputs(files, "published")

    def of(label="dl(EF)", fold=1, **options):
        return fold_rows(FoldTask(cells()[label], files, {}, fold, **options), inputs)

    return of


def test_strict_fold_leaves_out_the_rows_that_repeat_the_hold_out_and_no_others(rows, cells, files):
    frame = TargetInputs(files, "published").frame
    held_out = set(frame["composition"][frame["split"] == "test"])
    n_dropped = 0
    for fold in range(4):
        (plain, validation), (strict, same) = rows(fold=fold), rows(fold=fold, strict=True)
        assert np.array_equal(validation, same)
        dropped = set(plain) - set(strict)
        assert set(strict) <= set(plain)
        assert not set(frame["composition"].iloc[strict]) & held_out
        assert set(frame["composition"].iloc[sorted(dropped)]) <= held_out
        n_dropped += len(dropped)
    assert n_dropped == 3 * 6  # six rows, each in the training rows of three of the four folds


def test_share_is_that_part_of_the_folds_training_rows_and_the_same_for_all_cells(rows, cells, files):
    whole, validation = rows()
    smaller: set[int] = set()
    for share in (0.1, 0.25, 0.6):
        part, same = rows(share=share)
        assert len(part) == round(share * len(whole))
        assert smaller < set(part) < set(whole)
        assert np.array_equal(validation, same)
        assert list(part) == sorted(part)
        smaller = set(part)
    assert len({tuple(rows(label, share=0.3)[0]) for label in cells() if label != "base"}) == 1
    assert len(rows(share=1e-6)[0]) == 2
    report = fit_fold(FoldTask(cells()["base"], files, {}, 1, share=0.5))
    assert report.n_train == len(rows("base", share=0.5)[0])
