"""Whose screening lies in a folder, and what to do where it is another one."""

from __future__ import annotations

import pytest

from crossprop.errors import ScreeningError
from crossprop.screening.result import begun_before, write_note

IDENTITY = {"where": "bulk > 1", "models": {"bulk": "aaaa", "gap": "bbbb"}}


@pytest.fixture
def begun(tmp_path):
    """A folder where a screening was begun with two models, whose folders are still there."""
    models = {}
    for name in ("bulk", "gap"):
        folder = tmp_path / f"model of {name}"
        folder.mkdir()
        (folder / "model.json").write_text("{}", encoding="utf-8")
        models[name] = {"folder": str(folder)}
    (tmp_path / "o").mkdir()
    write_note(tmp_path / "o", {"status": "running", "identity": IDENTITY, "models": models})
    return tmp_path


def refusal(folder, identity):
    with pytest.raises(ScreeningError) as error:
        begun_before(folder / "o", identity)
    return str(error.value)


def test_same_request_goes_on(begun):
    assert begun_before(begun / "o", IDENTITY)["status"] == "running"


def test_where_a_champion_has_moved_the_former_models_are_named(begun):
    text = refusal(begun, {**IDENTITY, "models": {"bulk": "aaaa", "gap": "cccc"}})
    assert "gap bbbb there" in text
    assert f"--model gap='{begun}/model of gap'" in text
    assert "--model bulk" not in text


def test_models_that_are_gone_are_not_named(begun):
    (begun / "model of gap/model.json").unlink()
    assert "--model" not in refusal(begun, {**IDENTITY, "models": {"bulk": "aaaa", "gap": "cccc"}})


def test_another_condition_is_another_screening(begun):
    text = refusal(begun, {**IDENTITY, "where": "bulk > 2"})
    assert "where: bulk > 1 there, bulk > 2 now" in text
    assert "--model" not in text
