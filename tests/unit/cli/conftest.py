"""What the tests of commands share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def in_root(monkeypatch) -> None:
    """Works in the project's root."""
    monkeypatch.chdir(ROOT)
