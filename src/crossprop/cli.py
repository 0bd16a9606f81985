"""The command line: thin, with heavy imports inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossprop import __version__
from crossprop.console import run_command
from crossprop.errors import ConfigError, DataError

app = typer.Typer(
    help="Cross-property transfer learning for small materials data sets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The data sets that crossprop knows.", no_args_is_help=True)
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Cross-property transfer learning for small materials data sets."""
    if version:
        typer.echo(f"crossprop {__version__}")
        raise typer.Exit


@app.command()
def check(
    params: Annotated[Path, typer.Option(help="Configuration to check.")] = Path("params.yaml"),
) -> None:
    """Validate a configuration and say what it would compute."""
    from crossprop.config import load_params
    from crossprop.data.catalog import load_catalog

    study = load_params(params).study
    catalog = load_catalog()
    for name in (*study.targets, *study.sources):
        catalog.property(name)
    if not study.shards:
        raise ConfigError(
            f"{params}: study.shards is empty, so that 'dvc repro' would compute no target. "
            "Share the targets out among one or more shards, e.g. shards: {all: ["
            + ", ".join(study.targets)
            + "]}."
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
        f"{'hopeless cells end early' if study.fidelity else 'every method in full'}"
    )
    typer.echo(f"{len(stages)} stages: {', '.join(stages)}")


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow UI on the tracked runs and registered models."""
    from crossprop.tracking.store import store_uri
    from crossprop.tracking.ui import start_ui

    start_ui(store_uri(), host, port)


@data.command("list")
def list_data(role: Annotated[str | None, typer.Option(help="Only targets or only sources.")] = None) -> None:
    """List the properties: rows, unit, role, whether the files are at hand."""
    from rich.console import Console

    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import list_properties
    from crossprop.paths import RAW

    Console().print(list_properties(load_catalog(), RAW, role))


@data.command("show")
def show_data(name: Annotated[str, typer.Argument(help="Key or short name of a property.")]) -> None:
    """Show all that is known about one property: source, citation, licence, files, the paper's figures."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import show_property
    from crossprop.paths import RAW

    typer.echo(show_property(load_catalog(), name, RAW, Path("data/prepared")))


@data.command("fetch")
def fetch_data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Properties; all of the catalogue if none.")
    ] = None,
    edition: Annotated[str | None, typer.Option(help="Edition of sources that have several.")] = None,
) -> None:
    """Fetch and verify the files of some properties."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.fetch import fetch_files, print_progress
    from crossprop.paths import RAW

    fetch_files(load_catalog().pinned_files(names or None, edition), RAW, report=print_progress)


@data.command("verify")
def verify() -> None:
    """Hash every fetched file again; ends with status 1 where one is damaged."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import verify_data
    from crossprop.paths import RAW

    verification = verify_data(load_catalog(), RAW)
    typer.echo(str(verification))
    if not verification.ok:
        raise DataError(
            f"{len(verification.damaged)} damaged file(s). Delete them and run 'crossprop data fetch'."
        )


def main() -> None:
    """Entry point of the command ``crossprop``."""
    run_command(lambda: app())


if __name__ == "__main__":
    main()
