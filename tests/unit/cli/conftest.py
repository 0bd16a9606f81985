"""The commands as a user types them, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from crossprop import cli

ROOT = Path(__file__).resolve().parents[3]


class Finished(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def ended(monkeypatch, capsys) -> Callable[..., Finished]:
    """Runs a function as a program with arguments."""

    def run(main: Callable[[], None], *arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", "160")
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Finished(status, out, err)

    return run


@pytest.fixture
def crossprop(ended, monkeypatch) -> Callable[..., Finished]:
    """Runs the command ``crossprop`` in the project's root, or where the test went."""

    def run(*arguments: object) -> Finished:
        return ended(cli.main, "crossprop", *arguments)

    return run


@pytest.fixture
def in_root(monkeypatch) -> None:
    """Works in the project's root."""
    monkeypatch.chdir(ROOT)
