"""``crossprop data``: the data sets that crossprop knows, and one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossprop.cli.own_data import add_command, remove_command
from crossprop.errors import DataError

app = typer.Typer(help="The data sets that crossprop knows, and your own.", no_args_is_help=True)
app.command("add")(add_command)
app.command("remove")(remove_command)


@app.command("list")
def list_data(
    role: Annotated[str | None, typer.Option(help="Only targets or only sources.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Only your own.")] = False,
) -> None:
    """List the properties: rows, unit, role, whether the files are at hand."""
    from rich.console import Console

    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import list_properties
    from crossprop.paths import RAW

    console = Console()
    narrow = console.width < 120
    console.print(list_properties(load_catalog(), RAW, role, own_only=own, brief=narrow))


@app.command("show")
def show_data(name: Annotated[str, typer.Argument(help="Key or short name of a property.")]) -> None:
    """Show all that is known about one property: source, citation, licence, files, the paper's figures."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import show_property
    from crossprop.paths import RAW

    typer.echo(show_property(load_catalog(), name, RAW, Path("data/prepared")))


@app.command("fetch")
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


@app.command("verify")
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
