"""What the server takes from the system: keys, files, signals; and its log."""

import json
import logging
import resource
import signal

import pytest
from fastapi import FastAPI

from crossprop.errors import ConfigError
from crossprop.service.auth import ENVIRONMENT, Scope, new_key, read_keys
from crossprop.service.logs import event, log_as_json
from crossprop.service.server import allow_many_files, build_server, end_on_signals
from crossprop.service.settings import Limits

ZEROS = f"sha256:{'0' * 64}"


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


def test_the_log_is_one_line_of_json_an_event_whatever_it_holds(capsys, monkeypatch):
    for logger in map(logging.getLogger, ("crossprop.service", "uvicorn")):
        for name in ("handlers", "propagate", "level"):  # put back afterwards
            monkeypatch.setattr(logger, name, getattr(logger, name))
    log_as_json()
    try:
        raise ValueError("two\nlines")
    except ValueError:
        event("a request failed", logging.ERROR, exc_info=True, path="/a\nb", key='quo"te', client="\ud800")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["path"]) == ("error", "a request failed", "/a\nb")
    assert told["traceback"].endswith("ValueError: two\nlines")


def test_keys_are_read_from_a_file_or_else_from_the_environment(tmp_path, monkeypatch):
    keys = tuple(new_key(name, Scope.ADMIN)[1] for name in ("a", "b@lab", "c"))
    (tmp_path / "keys").write_text("# keys\n\n" + "\n  ".join(key.line for key in keys))
    assert read_keys(tmp_path / "keys") == keys
    monkeypatch.setenv(ENVIRONMENT, f"{keys[0].line},{keys[1].line}\n{keys[2].line}")
    assert read_keys(None) == keys
    monkeypatch.setenv(ENVIRONMENT, " \n")
    assert not read_keys(None)
    monkeypatch.delenv(ENVIRONMENT)
    assert not read_keys(None)


def test_what_holds_no_valid_keys_is_refused_so_that_no_service_starts_open(tmp_path, monkeypatch):
    for text, reason in (
        ("", "holds no API key"),
        ("alice read hunter2", "line 1, is not"),
        (f"\nalice write {ZEROS}", "line 2, is not"),
        (f"alice read {ZEROS}\nbob read {ZEROS}", "twice"),
    ):
        (tmp_path / "keys").write_text(text)
        with pytest.raises(ConfigError, match=reason) as caught:
            read_keys(tmp_path / "keys")
        assert "hunter2" not in str(caught.value)
    for text in ("# only a comment", ","):  # as of "$FIRST,$SECOND" where neither is set
        monkeypatch.setenv(ENVIRONMENT, text)
        with pytest.raises(ConfigError, match="CROSSPROP_API_KEYS holds no API key"):
            read_keys(None)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none")
    with pytest.raises(ConfigError, match="no name"):
        new_key("alice smith", Scope.READ)
