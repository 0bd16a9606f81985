"""What the server asks of the system: files, signals, the log."""

from __future__ import annotations

import json
import logging
import resource
import signal

import pytest
from fastapi import FastAPI

from crossprop.service.logs import log_as_json
from crossprop.service.server import allow_many_files, build_server, end_on_signals
from crossprop.service.settings import Limits


@pytest.fixture
def system():
    """Limits of open files and handlers of signals, put back afterwards."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_more_files_may_be_open_than_a_shell_begins_with(system):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    allow_many_files()
    raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raised[0] > 256
    assert raised[1] == hard
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == raised


@pytest.mark.parametrize(("asked", "kept"), [(signal.SIG_IGN, True), (signal.SIG_DFL, False)])
def test_a_hangup_ends_the_service_unless_it_is_to_be_ignored(system, asked, kept):
    signal.signal(signal.SIGHUP, asked)
    server = build_server(FastAPI(), Limits())
    end_on_signals(server)
    signal.raise_signal(signal.SIGHUP)
    assert server.should_exit != kept


def test_the_log_is_one_line_of_json_an_event_whatever_it_holds(capsys):
    loggers = [logging.getLogger(name) for name in ("crossprop.service", "uvicorn")]
    before = [(one, one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_as_json()
        fields = {"path": "/a\nb", "key": 'quo"te', "client": "\ud800"}
        logging.getLogger("crossprop.service").info("request", extra={"fields": fields})
        (line,) = capsys.readouterr().err.splitlines()
    finally:
        for one, handlers, propagate, level in before:
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    assert json.loads(line)["path"] == "/a\nb"
