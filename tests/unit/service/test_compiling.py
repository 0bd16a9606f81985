from __future__ import annotations

import pytest

from crossprop.errors import ModelFormatError
from crossprop.service.compiling import ModelLoader


def test_a_folder_that_cannot_be_compiled_is_named_with_the_reason(tmp_path):
    (tmp_path / "model.json").write_text("no json")
    with pytest.raises(ModelFormatError, match=r"cannot be compiled: .*model\.json"):
        ModelLoader(tmp_path / "cache")(tmp_path)


def test_a_process_that_crashes_is_told_apart_from_a_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr("crossprop.service.compiling.sys.executable", "/bin/false")
    with pytest.raises(ModelFormatError, match="ended with status 1"):
        ModelLoader(tmp_path / "cache")(tmp_path)


def test_a_loader_that_is_closed_begins_nothing(tmp_path):
    loader = ModelLoader(tmp_path / "cache")
    loader.close()
    with pytest.raises(ModelFormatError, match="being stopped"):
        loader(tmp_path)
