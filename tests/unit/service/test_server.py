"""What the server asks of the system: files, signals, the log."""

import resource
import signal

import pytest
from fastapi import FastAPI

from crossprop.service.server import allow_many_files, build_server, end_on_signals
from crossprop.service.settings import Limits


@pytest.fixture
def system():
    """Limits of open files and handlers of signals, put back afterwards."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_more_files_may_be_open_than_a_shell_begins_with(system):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    for _ in range(2):
        allow_many_files()
        soft, kept = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft > 256
        assert kept == hard


def test_a_hangup_that_is_to_be_ignored_does_not_end_the_service(system):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    server = build_server(FastAPI(), Limits())
    end_on_signals(server)
    signal.raise_signal(signal.SIGHUP)
    assert not server.should_exit
