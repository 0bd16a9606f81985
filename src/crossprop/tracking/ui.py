"""Starts MLflow's web interface on a store."""

import os
import socket
import sys
from typing import NoReturn

from crossprop.errors import TrackingError
from crossprop.tracking.runs import VIEW_TAG, runs_page
from crossprop.tracking.store import ARTIFACTS, named_faults, open_client, prepare_store, sqlite_path


def start_ui(uri: str, host: str = "127.0.0.1", port: int = 5000) -> NoReturn:
    """Replace this process by MLflow's server on a store, SQLite or another database."""
    if uri.startswith(("http://", "https://")):
        raise TrackingError(f"The store {uri} has a web interface already: open it in a browser.")
    check_port(host, port)
    uri = prepare_store(uri)
    command = ui_command(uri, host, port)
    # One worker and no job queue: a person looks at results, nothing is served to a team.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    page = f"http://{host}:{port}"
    print(f"MLflow on {uri}\nOpen {page}/#/experiments?workflowType=machine_learning (Ctrl+C ends it)")
    for name, link in links(uri, page).items():
        print(f"  {name:<40} {link}")
    sys.stdout.flush()
    os.execv(command[0], command)


def links(uri: str, page: str) -> dict[str, str]:
    """By experiment: the page with its runs and their errors, the winner first, in MLflow's interface at ``page``."""
    with named_faults(uri, "listing the experiments"):
        viewed = f"tags.`{VIEW_TAG}` LIKE '%'"
        found = open_client(uri).search_experiments(filter_string=viewed, order_by=["name"])
    return {e.name: f"{page}/{runs_page(str(e.experiment_id))}" for e in found}


def ui_command(uri: str, host: str, port: int) -> list[str]:
    """The command that serves a prepared store."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    path = sqlite_path(uri)
    return command if path is None else [*command, "--default-artifact-root", str(path.parent / ARTIFACTS)]


def check_port(host: str, port: int) -> None:
    """Refuse a port on which something listens already or which this user may not open."""
    if not 1 <= port <= 65535:
        raise TrackingError(f"Port {port} does not exist. Choose one from 1024 to 65535.")
    other = port + 1 if port < 65535 else 5000
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        advice = (
            f"perhaps this interface already runs, open http://{host}:{port}. Otherwise choose another port, e.g. "
            f"PORT={other}, or end what listens there (`lsof -i :{port}` names it)."
        )
        why = f"Port {port} on {host} is taken ({error.strerror}): {advice}"
        if isinstance(error, PermissionError):
            why = f"Port {port} may not be opened by this user. Choose one from 1024 up, e.g. 5000."
        elif isinstance(error, socket.gaierror):
            why = f"The address {host!r} is unknown here. Use 127.0.0.1 or a name of this machine."
        raise TrackingError(why) from error
