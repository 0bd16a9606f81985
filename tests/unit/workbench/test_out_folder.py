"""A folder that a person named: never emptied of what is not crossprop's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossprop.errors import StoreError
from crossprop.estimator.fit import commit_folder


def write(draft: Path) -> None:
    (draft / "model.json").write_text("{}", encoding="utf-8")


def test_what_is_no_model_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(StoreError, match="no saved model"):
        commit_folder(tmp_path, write, replace=True)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_former_model_is_replaced_when_asked_to(tmp_path):
    folder = tmp_path / "model"
    commit_folder(folder, write)
    (folder / "old").touch()
    commit_folder(folder, write, replace=True)
    assert [path.name for path in folder.iterdir()] == ["model.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_working_folder_can_be_written(tmp_path, monkeypatch):
    empty = tmp_path / "here"
    empty.mkdir()
    monkeypatch.chdir(empty)
    commit_folder(Path(), write)
    assert (empty / "model.json").is_file()
