"""The command line: thin, with heavy imports inside the commands."""

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from crossprop import __version__
from crossprop.cli import data, fit, registry, screen, serve, study
from crossprop.cli.streams import use_ascii_where_needed
from crossprop.errors import ConfigError, run_command

# A person waits: a server that hangs is named within half a minute, not eight, unless the environment says otherwise.
_SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

app = typer.Typer(
    help="Cross-property transfer learning for small materials data sets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
for commands in (fit, registry, screen, serve):
    app.add_typer(commands.app)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, Option("--version", help="Print the version and stop.")] = False) -> None:
    """Cross-property transfer learning for small materials data sets."""
    if version:
        typer.echo(f"crossprop {__version__}")
        raise typer.Exit
    for name, value in _SHORT_TIMEOUTS.items():
        os.environ.setdefault(name, value)


@app.command()
def check(params: Annotated[Path, Option(help="Configuration to check.")] = Path("params.yaml")) -> None:
    """Validate a configuration and say what it would compute."""
    from crossprop.config import load_params
    from crossprop.data.catalog import load_catalog

    study = load_params(params).study
    load_catalog().keys((*study.targets, *study.sources, *study.excluded))
    if not study.shards:
        raise ConfigError(
            f"{params}: study.shards is empty, 'dvc repro' would compute no target. Share the targets out, e.g. "
            f"shards: {{all: [{', '.join(study.targets)}]}}."
        )
    cells = sum(len(study.points(method)) for method in study.methods)
    folds = sorted({study.folds_of(target) for target in study.targets})
    stages = [
        *("fetch", "prepare", "featurize"),
        *(f"pretrain@{source}" for source in study.elemnet_sources),
        *(f"pretrain_joint@{name}" for name in study.joint),
        *(f"transfer@{shard}" for shard in study.shards),
        *("summarize", "register"),
    ]
    typer.echo(
        f"{params}: study {study.name}{f', tier {study.tier}' if study.tier else ''}, protocol {study.protocol}: "
        f"{len(study.targets)} targets x {cells} cells, {len(study.sources)} sources, "
        f"{' to '.join(map(str, folds[:: max(1, len(folds) - 1)]))} folds, "
        f"{'weak cells are pruned early' if study.fidelity else 'every method in full'}"
    )
    typer.echo(f"{len(stages)} stages: {', '.join(stages)}\nNext: dvc repro")


@app.command()
def ui(
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow UI on the tracked runs and registered models."""
    from crossprop.tracking.store import store_uri
    from crossprop.tracking.ui import start_ui

    start_ui(store_uri(), host, port)


def main() -> None:
    """Entry point of the command ``crossprop``."""
    use_ascii_where_needed()
    run_command(lambda: app())
