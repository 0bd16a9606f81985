import socket

import pytest

from crossprop.errors import TrackingError
from crossprop.tracking import ui


def test_taken_port_is_named_before_the_store_is_touched(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(TrackingError, match=f"Port {port} on 127.0.0.1 is taken.*PORT={port + 1}"):
            ui.start_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", port=port)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 0, "Port 0 does not exist"),
        ("127.0.0.1", 70000, "Port 70000 does not exist"),
        ("nowhere.invalid", 5000, r"'nowhere\.invalid' is unknown"),
    ],
)
def test_impossible_port_and_unknown_host_are_refused(host, port, message):
    with pytest.raises(TrackingError, match=message):
        ui.check_port(host, port)


def test_store_behind_a_server_needs_no_second_interface():
    with pytest.raises(TrackingError, match="has a web interface already"):
        ui.start_ui("https://mlflow.example.org")


def test_server_is_started_on_the_prepared_store(uri, tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(ui.os, "execv", lambda path, command: started.append(command))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ui.start_ui(uri, port=port)
    command = started[0]
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--backend-store-uri") + 1] == uri
    assert command[command.index("--default-artifact-root") + 1] == str(tmp_path / "mlruns")
    assert f"http://127.0.0.1:{port}/#/experiments" in capsys.readouterr().out
