import socket

import pytest

from crossprop.errors import TrackingError
from crossprop.tracking import ui
from crossprop.tracking.runs import MlflowRecorder
from crossprop.tracking.store import open_client, relocate


def test_taken_port_is_named_before_the_store_is_touched(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(TrackingError, match=f"Port {port} on 127.0.0.1 is taken.*PORT={port + 1}"):
            ui.start_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", port=port)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uri": "https://mlflow.example.org"}, "has a web interface already"),
        ({"port": 70000}, "Port 70000 does not exist"),
        ({"host": "nowhere.invalid"}, r"'nowhere\.invalid' is unknown"),
    ],
)
def test_what_cannot_be_opened_is_refused(options, message):
    with pytest.raises(TrackingError, match=message):
        ui.start_ui(**{"uri": "sqlite:////nowhere/mlflow.db"} | options)


def test_server_is_started_with_links(context, uri, tmp_path, monkeypatch, capsys, make_outcome):
    relocate(uri)  # the store is a copy
    MlflowRecorder(context).record(make_outcome())
    started = []
    monkeypatch.setattr(ui.os, "execv", lambda path, command: started.append(command))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ui.start_ui(uri, port=port)
    assert started[0][1:] == [
        "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--default-artifact-root", str(tmp_path / "mlruns"),
    ]  # fmt: skip
    number = open_client(uri).get_experiment_by_name("demo/bulk_modulus").experiment_id
    link = f"/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=crossprop"
    assert f"demo/bulk_modulus {' ' * 22} http://127.0.0.1:{port}{link}\n" in capsys.readouterr().out
