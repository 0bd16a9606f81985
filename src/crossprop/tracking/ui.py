"""Starts MLflow's web interface on a store."""

import os
import sys
from typing import NoReturn

from crossprop.errors import TrackingError
from crossprop.ports import take_port
from crossprop.tracking.runs import VIEW_TAG, runs_page
from crossprop.tracking.store import ARTIFACTS, named_faults, open_client, prepare_store, sqlite_path


def start_ui(uri: str, host: str = "127.0.0.1", port: int = 5000) -> NoReturn:
    """Replace this process by MLflow's server on a store, SQLite or another database."""
    if uri.startswith(("http://", "https://")):
        raise TrackingError(f"The store {uri} has a web interface already: open it in a browser.")
    hint = f"If this interface already runs, open http://{host}:{port} (`lsof -i :{port}` names what listens there). "
    with take_port(host, port, TrackingError, "PORT=", hint) as probe:
        port = probe.getsockname()[1]
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
