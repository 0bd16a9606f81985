"""``crossprop data``: the data sets that crossprop knows, and the user's own."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from typer import Argument, Option

from crossprop.cli import fit as reading
from crossprop.data.user_values import is_no_unit, unit_in
from crossprop.errors import DataError, UserFileError
from crossprop.paths import OWN_CATALOG, RAW

app = typer.Typer(help="The data sets that crossprop knows, and your own.", no_args_is_help=True)
_QUIET_SHARE = 0.05  # of the rows that may be dropped without asking


@app.command("add")
def add(
    context: typer.Context,
    file: Annotated[Path, Argument(help="CSV, TSV, semicolon-separated or Excel file.")],
    target: Annotated[str, Option(help="Name of the property; its column, unless --value-column says.")],
    unit: Annotated[str | None, Option(help="Unit of the values; 'none' for a pure number.")] = None,
    name: Annotated[str | None, Option(help="Key in commands and folders; made from --target.")] = None,
    formula_column: reading.FormulaColumn = None,
    value_column: reading.ValueColumn = None,
    split_column: reading.SplitColumn = None,
    group_column: reading.GroupColumn = None,
    element_columns: reading.ElementColumns = None,
    amounts: reading.Amounts = None,
    description: Annotated[str | None, Option(help="What the property is, in a sentence.")] = None,
    citation: Annotated[str | None, Option(help="What to cite.")] = None,
    licence: Annotated[str | None, Option(help="Terms of use of the data.")] = None,
    sheet: reading.Sheet = None,
    encoding: reading.Encoding = None,
    delimiter: reading.Delimiter = None,
    decimal: reading.Decimal = None,
    strict: Annotated[bool, Option("--strict", help="Refuse the file if any row is bad.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Drop bad rows without asking.")] = False,
    replace: Annotated[bool, Option("--replace", help="Replace your property of this name.")] = False,
    check: Annotated[bool, Option("--check", help="Read and report; add nothing.")] = False,
) -> None:
    """Check a file of formulas and values, and add it to your own catalogue.

    With --replace, what is not given (unit, description, citation, licence) stays as it was.
    """
    from crossprop.data.user_catalog import check_new_key, former_texts, key_of
    from crossprop.data.user_rows import read_user_table
    from crossprop.data.user_summary import summarise
    from crossprop.estimator.add import add_data, held_out_rows, refuse_too_few
    from crossprop.estimator.study_file import studies_naming

    key = name or key_of(target)
    former: dict[str, str] = {}
    try:
        catalog = _catalog()
        check_new_key(key, catalog, replace)
        former = former_texts(key, catalog)
    except UserFileError as error:
        if not check:
            raise
        typer.echo(f"note: {error}", err=True)
    stated = former.get("unit") if unit is None else unit
    table = read_user_table(file, target=target, unit=stated or None, **reading.reading_of(context))
    refuse_too_few(file, table)
    held_out = held_out_rows(file, table)
    unit = _unit(stated, table.unit or unit_in(table.value_column) or unit_in(target), ask=not check)
    typer.echo(f"{file} as {key}\n{summarise(table, unit, held_out)}")
    n_bad, share = len(table.problems), len(table.problems) / table.n_read
    if n_bad and strict:
        raise UserFileError(f"{file} has {n_bad} bad row(s), and --strict allows none. Correct them.")
    if share > _QUIET_SHARE and not (yes or check):
        question = f"{n_bad} of {table.n_read} rows ({100 * share:.0f} %) would be dropped"
        if not sys.stdin.isatty():
            raise UserFileError(f"{question}. Correct them, or agree with --yes.")
        if not typer.confirm(f"{question}. Continue?"):
            raise UserFileError("Nothing was added. Correct the rows that are listed above.")
    if check:
        typer.echo("Nothing was added (--check).")
        return
    given = {"description": description, "citation": citation, "licence": licence, "unit": unit}
    texts = {"description": f"{target.strip()}, own data"} | former
    texts |= {name: text for name, text in given.items() if text}
    try:
        kept = add_data(file, table, held_out, key, texts, catalog=catalog, replace=replace)
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was added", err=True)
        raise
    typer.echo(f"\nAdded {key} to {catalog}; its rows are in {catalog.parent / key}.")
    typer.echo(f"Keep it in git:  git add {' '.join(map(str, kept))}")
    runs = [f"dvc exp run -S study={study.stem}" for study in studies_naming(key)]
    for command in runs or [f"crossprop study new {key} --target {key}"]:
        typer.echo(f"Next:            {command}")


@app.command("remove")
def remove(
    name: Annotated[str, Argument(help="Key of a property of your own.")],
    force: Annotated[bool, Option("--force", help="Even where a study names it.")] = False,
) -> None:
    """Remove a property of your own from the catalogue, with its files."""
    from crossprop.estimator.add import remove_data
    from crossprop.estimator.study_file import studies_naming

    catalog = _catalog()
    if not force and (studies := studies_naming(name)):
        raise UserFileError(
            f"{name!r} is named in {', '.join(map(str, studies))}. Delete that study first, or use --force."
        )
    remove_data(name, catalog=catalog)
    typer.echo(f"Removed {name} from {catalog}. DVC's cache and git's history still hold its files.")


def _catalog() -> Path:
    """The catalogue to write to."""
    from crossprop.data.catalog import CATALOG_VARIABLE, own_catalog

    found = own_catalog() or (OWN_CATALOG if Path("dvc.yaml").is_file() else None)
    if found is None:
        raise UserFileError(
            f"{Path.cwd()} is no crossprop project: it has no dvc.yaml. Run this in the project's root, set "
            f"{CATALOG_VARIABLE} to a catalogue's path, or learn from the file alone with 'crossprop fit'."
        )
    return found


def _unit(given: str | None, guess: str | None, ask: bool) -> str:
    """The unit as the catalogue has it; asked for where it was not given."""
    if given is None and ask:
        if not sys.stdin.isatty():
            hint = f" (the column's name says {guess!r})" if guess else ""
            raise UserFileError(f"The unit is missing{hint}. Add --unit, e.g. --unit MPa, or --unit none.")
        given = typer.prompt("Unit of the values ('none' for a pure number)", default=guess)
    text = (given if given is not None else guess or "").strip()
    return "1" if is_no_unit(text) else text


@app.command("list")
def list_data(
    role: Annotated[Literal["target", "source"] | None, Option(help="Only these.")] = None,
    own: Annotated[bool, Option("--own", help="Only your own.")] = False,
) -> None:
    """List the properties: rows, unit, role, whether the files are here."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import list_properties

    console = Console()
    console.print(list_properties(load_catalog(), RAW, role, own_only=own, brief=console.width < 120))


@app.command("show")
def show_data(name: Annotated[str, Argument(help="Key or short name of a property.")]) -> None:
    """Show all that is known about one property: source, citation, licence, files, the paper's figures."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import show_property

    typer.echo(show_property(load_catalog(), name, RAW, Path("data/prepared")))


@app.command("fetch")
def fetch_data(
    names: Annotated[list[str] | None, Argument(help="Properties; all of the catalogue if none.")] = None,
    edition: Annotated[str | None, Option(help="Edition of sources that have several.", show_default="all")] = None,
) -> None:
    """Fetch and verify the files of some properties."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.download import fetch_files, print_progress

    fetch_files(load_catalog().pinned_files(names or None, edition), RAW, report=print_progress)


@app.command("verify")
def verify() -> None:
    """Hash every fetched file again; ends with status 1 where one is damaged."""
    from crossprop.data.catalog import load_catalog
    from crossprop.data.inspect import verify_data

    damaged, text = verify_data(load_catalog(), RAW)
    typer.echo(text)
    if damaged:
        raise DataError(f"{len(damaged)} damaged file(s). Delete them and run 'crossprop data fetch'.")
