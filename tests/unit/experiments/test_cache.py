"""Finished pieces on disk: found again as they were, never half there, and named when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.errors import StoreError
from crossprop.experiments.cache import CellStore
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.tasks import FoldReport, ScreenReport
from crossprop.paths import StudyPaths

HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25], "val_mae": [3.0, 2.0]})


@pytest.fixture
def cell(tiny_params):
    return enumerate_cells(tiny_params(), "slme", "%", "d", {"formation_energy": "f"})[1]


@pytest.fixture
def store(tmp_path):
    return CellStore(StudyPaths("tiny", tmp_path))


def screening(**changes):
    trials = pd.DataFrame(
        {
            "number": [0, 1, 2],
            "state": ["COMPLETE", "PRUNED", "FAIL"],
            "value": [2.0, 4.0, np.nan],
            "seconds": [0.5, 0.1, 0.2],
            "params_algorithm": ["ridge", "k_neighbors", "k_neighbors"],
            "params_ridge.alpha": [1.0, np.nan, np.nan],
            "params_k_neighbors.weights": [np.nan, "distance", "uniform"],
        }
    )
    fields = {
        "hyperparameters": {"algorithm": "ridge", "ridge.alpha": 0.1 + 0.2},
        "val_mae": 1 / 3,
        "trials": trials,
        "history": HISTORY,
        "seconds": 1.25,
        "peak_memory": 2**33,
    }
    return ScreenReport(**(fields | changes))


def fold(**changes):
    fields = {
        "val_mae": 1 / 7,
        "val_rows": np.array([3, 5, 8]),
        "val_pred": np.array([0.1, 0.2, 0.30000000000000004]),
        "test_pred": np.array([1e-300, 1e300]),
        "history": HISTORY,
        "seconds": 0.5,
        "peak_memory": 123,
        "n_train": 40,
    }
    return FoldReport(**(fields | changes))


def draft_model(store, cell, piece, text="weights"):
    folder = store.model_draft(cell, piece)
    folder.mkdir(parents=True)
    (folder / "member.json").write_text(text)


def test_screening_comes_back_to_the_last_digit(store, cell):
    given = screening()
    store.keep_screening(cell, given)
    found = store.screening(cell)
    assert found.hyperparameters == given.hyperparameters
    assert (found.val_mae, found.seconds, found.peak_memory) == (1 / 3, 1.25, 2**33)
    pd.testing.assert_frame_equal(found.history, given.history)
    nothing = given.trials["params_k_neighbors.weights"].isna()
    words = given.trials["params_k_neighbors.weights"].mask(nothing, None)
    pd.testing.assert_frame_equal(found.trials, given.trials.assign(**{"params_k_neighbors.weights": words}))


def test_trials_that_mix_numbers_and_words_are_kept_as_words(store, cell):
    trials = screening().trials.assign(params_depth=[3, "none", None])
    store.keep_screening(cell, screening(trials=trials))
    assert store.screening(cell).trials["params_depth"].tolist() == ["3", "none", None]


def test_fold_comes_back_to_the_last_digit(store, cell):
    given = fold()
    store.keep_fit(cell, "fold_01", given)
    found = store.fit(cell, "fold_01")
    for name in ("val_rows", "val_pred", "test_pred"):
        assert np.array_equal(getattr(found, name), getattr(given, name))
    assert (found.val_mae, found.seconds, found.peak_memory, found.n_train) == (1 / 7, 0.5, 123, 40)
    pd.testing.assert_frame_equal(found.history, given.history)
    assert store.fit(cell, "fold_00") is None


def test_model_moves_in_with_its_fold(store, cell):
    draft_model(store, cell, "fold_00")
    assert store.model(cell, "fold_00") is None
    store.keep_fit(cell, "fold_00", fold())
    assert (store.model(cell, "fold_00") / "member.json").read_text() == "weights"
    assert not store.model_draft(cell, "fold_00").exists()


def test_fold_kept_again_takes_the_new_model(store, cell):
    draft_model(store, cell, "fold_00", "old")
    store.keep_fit(cell, "fold_00", fold())
    draft_model(store, cell, "fold_00", "new")
    store.keep_fit(cell, "fold_00", fold(val_mae=9.0))
    assert (store.model(cell, "fold_00") / "member.json").read_text() == "new"
    assert store.fit(cell, "fold_00").val_mae == 9.0


def test_dropping_models_keeps_the_figures(store, cell):
    for piece in ("fold_00", "fold_01"):
        draft_model(store, cell, piece)
        store.keep_fit(cell, piece, fold())
    store.drop_models(cell)
    assert [store.model(cell, piece) for piece in ("fold_00", "fold_01")] == [None, None]
    assert store.fit(cell, "fold_01").val_mae == 1 / 7


def test_pieces_of_one_cell_are_not_anothers(store, cell, tiny_params):
    other = enumerate_cells(tiny_params(seed=9), "slme", "%", "d", {"formation_energy": "f"})[1]
    store.keep_screening(cell, screening())
    assert store.screening(other) is None


@pytest.mark.parametrize(
    "name",
    [f"screening/{name}" for name in ("report.json", "trials.parquet", "history.parquet")]
    + [f"fold_00/{name}" for name in ("report.json", "predictions.npz", "history.parquet")],
)
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "overwritten", "{}", "[]", "3"])
def test_damaged_task_is_named_with_what_to_do(store, cell, tmp_path, name, damage):
    store.keep_screening(cell, screening())
    store.keep_fit(cell, "fold_00", fold())
    path = StudyPaths("tiny", tmp_path).cell(cell.id) / name
    hurt(path, damage)
    with pytest.raises(StoreError, match=r" is damaged \(.*Delete that folder and run again") as caught:
        (store.screening(cell), store.fit(cell, "fold_00"))
    assert str(path.parent) in str(caught.value)


def hurt(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.unlink()
    cut = {"truncated": content[: len(content) // 2], "emptied": b"", "overwritten": b"\0" * len(content)}
    if damage != "removed":
        path.write_bytes(cut.get(damage, damage.encode()))


def leftovers(store, cell) -> list[str]:
    folder = store._paths.cell(cell.id)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("writer", ["to_parquet", "savez", "write_text"])
def test_full_disk_is_named_and_leaves_nothing_half_written(store, cell, monkeypatch, writer):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {"to_parquet": pd.DataFrame, "savez": np, "write_text": Path}[writer]
    monkeypatch.setattr(target, writer, full)
    with pytest.raises(
        StoreError, match=r"fold_00 cannot be written: No space left on device\. Free some space"
    ):
        store.keep_fit(cell, "fold_00", fold())
    monkeypatch.undo()
    assert leftovers(store, cell) == []
    assert store.fit(cell, "fold_00") is None
    store.keep_fit(cell, "fold_00", fold())
    assert store.fit(cell, "fold_00").val_mae == 1 / 7


def test_draft_of_a_killed_process_is_no_piece(store, cell):
    folder = store._paths.cell(cell.id)
    (folder / "screening.999.tmp").mkdir(parents=True)
    (folder / "screening.999.tmp" / "report.json").write_text("{")
    draft_model(store, cell, "fold_00")
    assert store.screening(cell) is None
    assert store.fit(cell, "fold_00") is None
    store.keep_screening(cell, screening())
    assert store.screening(cell).val_mae == 1 / 3
