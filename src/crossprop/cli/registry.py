"""``crossprop models``, ``promote``, ``rollback`` and ``relocate``: the model registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from crossprop.errors import PromotionError

if TYPE_CHECKING:
    from crossprop.tracking.promotion import Promotion

app = typer.Typer()
# A person waits: a server that hangs is named within half a minute, not eight.
_SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

_Target = Annotated[str | None, Argument(help="Target, or <study>.<target> where several studies have it.")]
_Study = Annotated[str | None, Option(help="Only this study.")]
_Uri = Annotated[
    str | None, Option(help="Store with the registry; MLFLOW_TRACKING_URI or ./mlflow.db by default.")
]
_Reason = Annotated[str | None, Option("--reason", "-m", help="Why; kept with the version.")]
_By = Annotated[str | None, Option(help="Who decides; user and machine by default.")]


@app.command()
def models(
    target: _Target = None,
    study: _Study = None,
    json_: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False,
    uri: _Uri = None,
) -> None:
    """List the registered models: champion, challenger, errors on the hold-out, age; with a target, its history."""
    import json

    _shorten_timeouts()
    from crossprop.tracking.overview import history_lines, overview_rows, overview_table
    from crossprop.tracking.registry import all_models, find_model

    found = [find_model(uri, _name(target, study))] if target else all_models(uri, study)
    if json_:
        typer.echo(json.dumps(overview_rows(found), indent=1))
        return
    if not found:
        of_study = f" of study {study}" if study else ""
        typer.echo(f"The registry holds no models{of_study}. 'dvc repro' registers them.")
        return
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(overview_table(found))
    if target:
        typer.echo("\n".join(history_lines(found[0])))


@app.command()
def promote(
    target: _Target = None,
    version: Annotated[str | None, Option(help="Version; the challenger by default.")] = None,
    every: Annotated[bool, Option("--all", help="Every target whose challenger passes.")] = False,
    study: _Study = None,
    force: Annotated[
        str | None, Option(metavar="REASON", help="Promote in spite of failed gates; the reason is kept.")
    ] = None,
    reason: _Reason = None,
    by: _By = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Judge only; change nothing.")] = False,
    jobs: Annotated[int, Option(min=1, max=16, help="Models loaded at the same time, with --all.")] = 2,
    timeout: Annotated[float, Option(min=1, help="Seconds that one model may take.")] = 300.0,
    uri: _Uri = None,
) -> None:
    """Make the challenger the champion if it passes every gate; ends with status 1 where one does not."""
    _shorten_timeouts()
    from crossprop.tracking.promotion import promote as promote_one
    from crossprop.tracking.promotion import promote_all

    if every == (target is not None):
        raise PromotionError("Name one target, or --all: e.g. 'crossprop promote bulk_modulus'.")
    if every and (version or force is not None):
        raise PromotionError("--all takes the challengers that pass: no --version and no --force with it.")
    common: dict[str, Any] = {"reason": reason, "who": by, "dry_run": dry_run, "timeout": timeout}
    if every:
        _print_summary(promote_all(uri, study=study, at_once=jobs, report=_print_line, **common), dry_run)
        return
    name = _name(str(target), study)
    result = promote_one(uri, name, version=version, force_reason=force, say=typer.echo, **common)
    _print_outcome(result, dry_run)


@app.command()
def rollback(
    target: Annotated[str, Argument(help="Target, or <study>.<target>.")],
    study: _Study = None,
    reason: _Reason = None,
    by: _By = None,
    uri: _Uri = None,
) -> None:
    """Make the previous version the champion again; a second rollback undoes the first."""
    _shorten_timeouts()
    from crossprop.tracking.promotion import rollback as roll_back

    done = roll_back(uri, _name(target, study), reason=reason, who=by, say=typer.echo)
    typer.echo(
        f"{done.name}: version {done.version} is champion again, version {done.former or 'none'} is previous "
        f"({done.update})"
    )


@app.command()
def relocate(
    old: Annotated[Path | None, Option("--from", help="Folder that the store names.")] = None,
    new: Annotated[Path | None, Option("--to", help="Where the files are; mlruns beside the store.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be written.")] = False,
    uri: _Uri = None,
) -> None:
    """Correct the file paths in an embedded store that was moved or copied."""
    from crossprop.tracking.store import relocate as relocate_store

    typer.echo("\n".join(relocate_store(uri, old, new, dry_run)))


def _shorten_timeouts() -> None:
    for name, value in _SHORT_TIMEOUTS.items():
        os.environ.setdefault(name, value)


def _name(target: str, study: str | None) -> str:
    return target if study is None or target.startswith(f"{study}.") else f"{study}.{target}"


def _print_outcome(result: Promotion, dry_run: bool) -> None:
    what = f"{result.name} version {result.version}"
    if result.update:
        former = f"; version {result.former} is previous" if result.former else ""
        forced = " in spite of failed gates" if result.failed else ""
        typer.echo(f"{what} is champion{forced}{former} ({result.update})")
    elif not result.gates:
        typer.echo(f"{what} is champion already; nothing to do.")
    elif not result.failed:
        typer.echo(f"{what} passes all {len(result.gates)} gates; nothing was changed (--dry-run).")
    else:
        failed = ", ".join(gate.key for gate in result.failed)
        advice = "" if dry_run else ' To promote it nevertheless, give a reason that is kept: --force "…".'
        raise PromotionError(
            f"{what} fails {len(result.failed)} of {len(result.gates)} gates: {failed}. Nothing was changed.{advice}"
        )


def _print_line(result: Promotion) -> None:
    if result.error:
        typer.echo(f"ERROR  {result.name}: {result.error}")
    elif result.failed:
        reasons = "; ".join(f"{gate.key}: {gate.figure}" for gate in result.failed)
        typer.echo(f"FAIL   {result.name} v{result.version}: {reasons}")
    else:
        base = next((gate.figure for gate in result.gates if gate.key == "base"), "")
        former = f" (was v{result.former})" if result.former else ""
        typer.echo(f"pass   {result.name} v{result.version}{former}: {base}")


def _print_summary(done: list[Promotion], dry_run: bool) -> None:
    if not done:
        typer.echo("Every challenger is champion already, or there is none; nothing to do.")
        return
    failed = [result.name for result in done if not result.ok]
    passing = "would be promoted" if dry_run else "promoted"
    typer.echo(f"{len(done)} challengers: {len(done) - len(failed)} {passing}, {len(failed)} not.")
    if failed:
        raise PromotionError(
            f"{len(failed)} of {len(done)} challengers were not promoted: {', '.join(failed)}. Their champions "
            "stay as they were; look at one with 'crossprop promote <target> --dry-run'."
        )
