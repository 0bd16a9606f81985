"""What the server asks of the system: files, signals."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from crossprop.service.server import allow_many_files, build_server, log_as_json
from crossprop.service.settings import Limits


@pytest.fixture
def bounds() -> Iterator[tuple[int, int]]:
    """Bounds of open files, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def hangup() -> Iterator[None]:
    """What a closed terminal does, put back afterwards."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_more_files_may_be_open_than_a_shell_begins_with(bounds):
    hard = bounds[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    allow_many_files()
    soft, unchanged = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert unchanged == hard
    assert soft > 256
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft


@pytest.mark.parametrize(("asked", "kept"), [(signal.SIG_IGN, True), (signal.SIG_DFL, False)])
def test_a_hangup_ends_the_service_unless_it_is_to_be_ignored(hangup, asked, kept):
    signal.signal(signal.SIGHUP, asked)
    server = build_server(FastAPI(), Limits())

    async def within():
        with server.capture_signals():
            return signal.getsignal(signal.SIGHUP)

    assert (asyncio.run(within()) is signal.SIG_IGN) == kept


def test_the_log_is_one_line_of_json_an_event_whatever_it_holds(capsys):
    loggers = [logging.getLogger(name) for name in ("crossprop.service", "uvicorn")]
    before = [(one, one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_as_json()
        fields = {"path": "/a\nb", "key": 'quo"te', "client": "\ud800"}
        logging.getLogger("crossprop.service").info("request", extra={"fields": fields})
        lines = capsys.readouterr().err.splitlines()
    finally:
        for one, handlers, propagate, level in before:
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    assert len(lines) == 1
    assert json.loads(lines[0])["path"] == "/a\nb"
