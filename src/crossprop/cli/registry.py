"""``crossprop models``, ``promote``, ``rollback`` and ``relocate``: the model registry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Argument, Option

from crossprop.errors import PromotionError
from crossprop.methods import unit_behind

if TYPE_CHECKING:
    from crossprop.tracking.promotion import Promotion
    from crossprop.tracking.registry import ModelInfo, VersionInfo

app = typer.Typer()
_ALIASES = ("champion", "challenger", "previous")

_Target = Annotated[str | None, Argument(help="Target, or <study>.<target> where several studies have it.")]
_Study = Annotated[str | None, Option(help="Only this study.")]
_Uri = Annotated[str | None, Option(help="Store with the registry; MLFLOW_TRACKING_URI or ./mlflow.db by default.")]
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
    from crossprop.tracking.promotion import rolled_back
    from crossprop.tracking.registry import all_models, find_model

    found = [find_model(uri, _name(target, study))] if target else all_models(uri, study)
    if json_:
        typer.echo(json.dumps(overview_rows(found), indent=1))
        return
    if not found:
        of_study = f" of study {study}" if study else ""
        typer.echo(f"The registry holds no models{of_study}. 'dvc repro' registers them.")
        return
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(overview_table(found))
    if target:
        typer.echo("\n".join(history_lines(found[0])))
        return
    open_ = [m for m in found if m.holder("challenger") not in (None, m.holder("champion"))]
    if waiting := [m.name for m in open_ if not rolled_back(m)]:
        typer.echo(f"Next: crossprop promote {waiting[0]} --dry-run judges its challenger")


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


def _name(target: str, study: str | None) -> str:
    return target if study is None or target.startswith(f"{study}.") else f"{study}.{target}"


def _print_outcome(result: Promotion, dry_run: bool) -> None:
    what = f"{result.name} version {result.version}"
    if result.update:
        former = f"; version {result.former} is previous" if result.former else ""
        forced = " in spite of failed gates" if result.failed else ""
        typer.echo(f"{what} is champion{forced}{former} ({result.update})")
        typer.echo(f"Next: crossprop predict {result.name} NaCl, or crossprop serve")
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
        typer.echo("Every challenger is champion already or was rolled back, or there is none; nothing to do.")
        return
    failed = [result.name for result in done if not result.ok]
    passing = "would be promoted" if dry_run else "promoted"
    typer.echo(f"{len(done)} challengers: {len(done) - len(failed)} {passing}, {len(failed)} not.")
    if failed:
        raise PromotionError(
            f"{len(failed)} of {len(done)} challengers were not promoted: {', '.join(failed)}. Their champions "
            "stay as they were; look at one with 'crossprop promote <target> --dry-run'."
        )


def overview_rows(models: list[ModelInfo]) -> list[dict[str, Any]]:
    """Plain values of every model, for JSON: versions by alias, errors, times, whether the challenger is better."""
    from crossprop.tracking.promotion import changed_by_hand

    rows = []
    for model in models:
        errors = _errors(model.holder("champion"), model.holder("challenger"))
        row = {key: getattr(model, key) for key in ("name", "study", "target", "unit")}
        row |= {alias: _details(model.holder(alias)) for alias in _ALIASES}
        row["challenger_has_lower_mae"] = None if errors is None else errors[1] < errors[0]
        row["champion_moved_by_hand"] = changed_by_hand(model) is not None
        rows.append(row | {"versions": [v.version for v in model.versions]})
    return rows


def overview_table(models: list[ModelInfo]) -> Table:
    """A table for a terminal; the age is that of the champion, or else of the challenger."""
    several = len({model.study for model in models}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("target", overflow="fold")
    for title in ("champion", "MAE", "challenger", "MAE", "unit", "challenger is", "previous", "age"):
        table.add_column(title, justify="right" if title in ("MAE", "age") else "left")
    for model in models:
        champion, challenger, previous = (model.holder(a) for a in _ALIASES)
        shown = champion or challenger
        table.add_row(
            escape(model.name if several else model.target),
            *_short(champion),
            *(("=", "") if champion and champion == challenger else _short(challenger)),
            escape(unit_behind(shown.unit, "{}")) if shown else "",
            _standing(champion, challenger),
            f"v{previous.version}" if previous else "–",
            _age(shown) if shown else "–",
        )
    return table


def history_lines(model: ModelInfo) -> list[str]:
    """Who changed the champion when and why, newest first; a change by hand leaves no record and is named as such."""
    from crossprop.tracking.promotion import changed_by_hand, read_history

    lines = [
        f"{e.get('at')}  {e.get('action')}: version {e.get('from') or 'none'} → {e.get('to')}, "
        f"by {e.get('by')}: {e.get('why')}"
        for e in reversed(read_history(model))
    ]
    champion = model.aliases.get("champion")
    if champion and (not lines or changed_by_hand(model)):
        moved = f"The alias 'champion' was moved to version {champion} by hand; who and when is not known."
        lines.insert(0, moved)
    return lines


def _age(version: VersionInfo) -> str:
    """For how long it is champion as far as is known (promoted, brought back, or else registered), e.g. ``"3 d"``."""
    known = [version.tags.get(f"crossprop.{action}.at") for action in ("promotion", "rollback")]
    since = max([version.created, *(datetime.fromisoformat(at) for at in known if at)])
    seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
    sizes = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    return next((f"{int(seconds // size)} {name}" for size, name in sizes if seconds >= size), "0 s")


def _details(version: VersionInfo | None) -> dict[str, Any] | None:
    if version is None:
        return None
    tags = {key: version.tags.get(f"crossprop.promotion.{key}") for key in ("by", "at", "why", "forced")}
    rows = version.number("n_test")
    return {
        "version": version.version,
        "method": version.method,
        "holdout_mae": version.holdout_mae,
        "unit": version.unit,
        "base_mae": version.number("base_mae"),
        "holdout_rows": None if rows is None else int(rows),
        "created": version.created.isoformat(timespec="seconds"),
        "git_commit": version.tags.get("crossprop.git_commit"),
        "data_hash": version.tags.get("crossprop.data_hash"),
        "promotion": {key: value for key, value in tags.items() if value is not None} or None,
    }


def _short(version: VersionInfo | None) -> tuple[str, str]:
    """Number and method, and the error on the hold-out."""
    if version is None:
        return "–", ""
    mae = version.holdout_mae
    return f"v{version.version} {version.method}".strip(), "" if mae is None else f"{mae:.4g}"


def _errors(champion: VersionInfo | None, challenger: VersionInfo | None) -> tuple[float, float] | None:
    """Hold-out errors of champion and challenger; ``None`` where one is not known, or their units differ."""
    if champion and challenger and champion.unit != challenger.unit:
        return None
    before, now = (version.holdout_mae if version else None for version in (champion, challenger))
    return None if before is None or now is None else (before, now)


def _standing(champion: VersionInfo | None, challenger: VersionInfo | None) -> str:
    if challenger is None:
        return ""
    if champion is None or champion == challenger:
        return "champion" if champion else "the first"
    errors = _errors(champion, challenger)
    if errors is None:
        return "not comparable"
    before, now = errors
    word = "lower" if now < before else "higher" if now > before else "equal"
    return f"{word} ({now / before - 1:+.1%})" if before else word
