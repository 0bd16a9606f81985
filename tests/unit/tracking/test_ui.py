import socket

import pytest

from crossprop.errors import TrackingError
from crossprop.tracking import ui


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_taken_port_is_named_before_the_store_is_touched(taken_port, tmp_path):
    with pytest.raises(
        TrackingError, match=f"Port {taken_port} on 127.0.0.1 is taken.*PORT={taken_port + 1}"
    ):
        ui.start_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", port=taken_port)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_impossible_port_is_refused(port):
    with pytest.raises(TrackingError, match=f"Port {port} does not exist"):
        ui.check_port("127.0.0.1", port)


def test_unknown_host_is_refused():
    with pytest.raises(TrackingError, match=r"'nowhere\.invalid' is unknown"):
        ui.check_port("nowhere.invalid", 5000)


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
