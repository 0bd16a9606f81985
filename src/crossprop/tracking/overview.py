"""The registry at a glance: every target with its champion, challenger and previous version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crossprop.tracking.lookup import CHALLENGER, CHAMPION, PREVIOUS, ModelInfo, VersionInfo
from crossprop.tracking.moves import moved_by_hand, read_history

if TYPE_CHECKING:
    from rich.table import Table


def overview_rows(models: list[ModelInfo]) -> list[dict[str, Any]]:
    """Plain values of every model, for JSON: versions by alias, errors, times, whether the challenger is better."""
    return [_row(model) for model in models]


def overview_table(models: list[ModelInfo], at: datetime | None = None) -> Table:
    """A table for a terminal.

    Args:
        models: As ``lookup.all_models`` returns them. The age is the champion's, or else the challenger's.
        at: The time from which ages are counted; now if not given.
    """
    from rich.markup import escape
    from rich.table import Table

    at = at or datetime.now(UTC)
    several = len({model.study for model in models}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("target", overflow="fold")
    for title in ("champion", "challenger"):
        table.add_column(title)
        table.add_column("MAE", justify="right")
    table.add_column("unit")
    table.add_column("challenger is")
    table.add_column("previous")
    table.add_column("age", justify="right")
    for model in models:
        champion, challenger, previous = (model.holder(a) for a in (CHAMPION, CHALLENGER, PREVIOUS))
        table.add_row(
            escape(model.name if several else model.target),
            _short(champion),
            _error(champion),
            *(("=", "") if champion and champion == challenger else (_short(challenger), _error(challenger))),
            "" if model.unit == "1" else escape(model.unit),
            _standing(champion, challenger),
            f"v{previous.version}" if previous else "–",
            age(_since(holder), at) if (holder := champion or challenger) else "–",
        )
    return table


def age(since: datetime, at: datetime) -> str:
    """How long ago, in its largest whole unit, e.g. ``"3 d"``."""
    seconds = max(0.0, (at - since).total_seconds())
    for size, name in ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def _row(model: ModelInfo) -> dict[str, Any]:
    champion, challenger, previous = (model.holder(a) for a in (CHAMPION, CHALLENGER, PREVIOUS))
    better = None
    if champion and challenger and champion.holdout_mae is not None and challenger.holdout_mae is not None:
        better = challenger.holdout_mae < champion.holdout_mae
    return {
        "name": model.name,
        "study": model.study,
        "target": model.target,
        "unit": model.unit,
        "champion": _details(champion),
        "challenger": _details(challenger),
        "previous": _details(previous),
        "challenger_has_lower_mae": better,
        "champion_moved_by_hand": moved_by_hand(model.tags, model.aliases.get(CHAMPION)) is not None,
        "versions": [v.version for v in model.versions],
    }


def _details(version: VersionInfo | None) -> dict[str, Any] | None:
    if version is None:
        return None
    promoted = {
        key: version.tags[f"crossprop.{action}.{key}"]
        for action in ("promotion",)
        for key in ("by", "at", "why", "forced")
        if f"crossprop.{action}.{key}" in version.tags
    }
    return {
        "version": version.version,
        "method": version.method,
        "holdout_mae": version.holdout_mae,
        "base_mae": version.number("base_mae"),
        "holdout_rows": _whole(version.number("n_test")),
        "created": version.created.isoformat(timespec="seconds"),
        "git_commit": version.tags.get("crossprop.git_commit"),
        "data_hash": version.tags.get("crossprop.data_hash"),
        "promotion": promoted or None,
    }


def _since(version: VersionInfo) -> datetime:
    """When the version became champion as far as is known: promoted, brought back, or else registered."""
    known = [version.created]
    for action in ("promotion", "rollback"):
        try:
            known.append(datetime.fromisoformat(version.tags[f"crossprop.{action}.at"]))
        except (KeyError, ValueError):
            continue
    return max(known)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _short(version: VersionInfo | None) -> str:
    return "–" if version is None else f"v{version.version} {version.method}".strip()


def _error(version: VersionInfo | None) -> str:
    return "" if version is None or version.holdout_mae is None else f"{version.holdout_mae:.4g}"


def _standing(champion: VersionInfo | None, challenger: VersionInfo | None) -> str:
    if challenger is None:
        return ""
    if champion is None:
        return "the first"
    if champion == challenger:
        return "champion"
    if champion.holdout_mae is None or challenger.holdout_mae is None:
        return "not comparable"
    change = challenger.holdout_mae / champion.holdout_mae - 1 if champion.holdout_mae else 0.0
    return f"{'lower' if change < 0 else 'higher' if change > 0 else 'equal'} ({change:+.1%})"


def history_lines(model: ModelInfo) -> list[str]:
    """Who moved the champion when and why, newest first; moves by hand leave no trace and are named as such."""
    history = read_history(model.tags)
    lines = [
        f"{e.get('at')}  {e.get('action')}: version {e.get('from') or 'none'} → {e.get('to')}, "
        f"by {e.get('by')}: {e.get('why')}"
        for e in reversed(history)
    ]
    champion = model.aliases.get(CHAMPION)
    if champion and (not history or moved_by_hand(model.tags, champion)):
        lines.insert(
            0, f"The alias 'champion' was moved to version {champion} by hand; who and when is not known."
        )
    return lines
