"""The registered models at a glance: as plain values, as a table for a terminal, and the history of one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crossprop.tracking.promotion import changed_by_hand, read_history
from crossprop.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelInfo, VersionInfo

if TYPE_CHECKING:
    from rich.table import Table


def overview_rows(models: list[ModelInfo]) -> list[dict[str, Any]]:
    """Plain values of every model, for JSON: versions by alias, errors, times, whether the challenger is better."""
    rows = []
    for model in models:
        change = _change(model.holder(CHAMPION), model.holder(CHALLENGER))
        row = {key: getattr(model, key) for key in ("name", "study", "target", "unit")}
        row |= {alias: _details(model.holder(alias)) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
        row["challenger_has_lower_mae"] = None if change is None else change < 0
        row["champion_moved_by_hand"] = changed_by_hand(model) is not None
        rows.append(row | {"versions": [v.version for v in model.versions]})
    return rows


def overview_table(models: list[ModelInfo]) -> Table:
    """A table for a terminal; the age is that of the champion, or else of the challenger."""
    from rich.markup import escape
    from rich.table import Table

    several = len({model.study for model in models}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("target", overflow="fold")
    for title in ("champion", "MAE", "challenger", "MAE", "unit", "challenger is", "previous", "age"):
        table.add_column(title, justify="right" if title in ("MAE", "age") else "left")
    for model in models:
        champion, challenger, previous = (model.holder(a) for a in (CHAMPION, CHALLENGER, PREVIOUS))
        shown = champion or challenger
        table.add_row(
            escape(model.name if several else model.target),
            *_short(champion),
            *(("=", "") if champion and champion == challenger else _short(challenger)),
            "" if model.unit == "1" else escape(model.unit),
            _standing(champion, challenger),
            f"v{previous.version}" if previous else "–",
            _age(shown) if shown else "–",
        )
    return table


def history_lines(model: ModelInfo) -> list[str]:
    """Who changed the champion when and why, newest first; a change by hand leaves no record and is named as such."""
    lines = [
        f"{e.get('at')}  {e.get('action')}: version {e.get('from') or 'none'} → {e.get('to')}, "
        f"by {e.get('by')}: {e.get('why')}"
        for e in reversed(read_history(model))
    ]
    champion = model.aliases.get(CHAMPION)
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


def _change(champion: VersionInfo | None, challenger: VersionInfo | None) -> float | None:
    """Relative difference of the challenger's error from the champion's; ``None`` where one is not known."""
    before, now = (version.holdout_mae if version else None for version in (champion, challenger))
    if before is None or now is None:
        return None
    return now / before - 1 if before else 0.0


def _standing(champion: VersionInfo | None, challenger: VersionInfo | None) -> str:
    if challenger is None:
        return ""
    if champion is None or champion == challenger:
        return "champion" if champion else "the first"
    change = _change(champion, challenger)
    if change is None:
        return "not comparable"
    return f"{'lower' if change < 0 else 'higher' if change > 0 else 'equal'} ({change:+.1%})"
