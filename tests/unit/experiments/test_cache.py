"""Finished tasks on disk: found again as they were, never half there, and refused by name when damaged."""

import shutil

import numpy as np
import pandas as pd
import pytest
from made import HISTORY, flips, make_cell

from crossprop.errors import StoreError
from crossprop.experiments.cache import CellStore
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.paths import StudyPaths

CELL = make_cell("ml")
STATES = ["COMPLETE", "PRUNED", "FAIL"]
TRIALS = pd.DataFrame({"number": [0, 1, 2], "state": STATES, "value": [2.0, 4.0, np.nan]})
TRIALS = TRIALS.assign(**{"params_ridge.alpha": [1.0, np.nan, np.nan], "params_depth": [3, "none", None]})
POINT = {"algorithm": "ridge", "ridge.alpha": 0.1 + 0.2}
SCREENED = ScreenReport(POINT, 1 / 3, TRIALS, HISTORY, seconds=1.25, peak_memory=2**33)
FOLD = FoldReport(
    1 / 7, np.array([3, 5, 8]), np.array([0.1, 0.2, 0.30000000000000004]), np.array([1e-300, 1e300]), HISTORY,
    seconds=0.5, peak_memory=123, n_train=40,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return StudyPaths("tiny", tmp_path).cell(CELL.id)


@pytest.fixture
def store(tmp_path):
    return CellStore(StudyPaths("tiny", tmp_path))


def keep(store, name="fold_00", model: str | None = "weights"):
    """A fit whose worker has left a model, unless told otherwise."""
    if model is not None:
        draft = store.model_draft(CELL, name)
        draft.mkdir(parents=True)
        (draft / "member.json").write_text(model)
    store.keep(CELL, name, FOLD)


def assert_same(found, given):
    for name, value in vars(given).items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(getattr(found, name), value)
        else:
            assert np.array_equal(getattr(found, name), value), name


def test_tasks_come_back_to_the_last_digit_and_drafts_of_a_killed_process_are_none(store, folder):
    (folder / "screening.999.tmp").mkdir(parents=True)
    (folder / "screening.999.tmp" / "report.json").write_text("{")
    store.model_draft(CELL, "fold_00").mkdir()
    assert store.find(CELL, "screening", ScreenReport) is None
    store.keep(CELL, "screening", SCREENED)
    keep(store, "fold_01")
    # columns of numbers and words become words
    words = TRIALS.assign(params_depth=["3", "none", None])
    assert_same(store.find(CELL, "screening", ScreenReport), ScreenReport(**(vars(SCREENED) | {"trials": words})))
    assert_same(store.find(CELL, "fold_01", FoldReport), FOLD)
    assert store.find(CELL, "fold_00", FoldReport) is None
    assert store.find(make_cell("ml", "other"), "screening", ScreenReport) is None


def test_model_moves_in_with_its_fold_and_the_figures_stay_when_it_is_dropped(store):
    for text in ("old", "new"):
        keep(store, model=text)
        assert (store.model(CELL, "fold_00") / "member.json").read_text() == text
    assert not store.model_draft(CELL, "fold_00").exists()
    store.drop_models(CELL)
    assert store.model(CELL, "fold_00") is None
    assert_same(store.find(CELL, "fold_00", FoldReport), FOLD)


def test_flipped_bit_in_any_file_of_a_task_is_refused_by_name(store, folder):
    store.keep(CELL, "screening", SCREENED)
    keep(store)

    def read():
        return (
            store.find(CELL, "screening", ScreenReport),
            store.find(CELL, "fold_00", FoldReport),
            store.model(CELL, "fold_00"),
        )

    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 4 + 5
    for path in files:
        for _ in flips(path):
            with pytest.raises(StoreError, match=rf"({path.name}|SHA256SUMS).* Delete .* and run again"):
                read()
    read()
    (folder / "fold_00" / "predictions.npz").unlink()
    with pytest.raises(StoreError, match=r"Delete .*fold_00 and run again"):
        store.find(CELL, "fold_00", FoldReport)
    shutil.rmtree(folder / "fold_00")
    assert store.find(CELL, "fold_00", FoldReport) is None
