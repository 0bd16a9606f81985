"""An embedded store that was moved or copied: MLflow keeps absolute paths, so that its files are looked for in vain.

Or, worse, found in the folder that it was copied from, and new ones are written there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from crossprop.errors import TrackingError
from crossprop.tracking.faults import tracking_error

_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
ARTIFACTS = "mlruns"
_SHOWN = 5


@dataclass(frozen=True)
class Stray:
    """A folder of files that the store names and that is not the one beside it.

    Attributes:
        old: The folder.
        experiments: Folders of its experiments, relative to it.
    """

    old: Path
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class Relocation:
    """What was, or would be, written.

    Attributes:
        old: Folder that was named.
        new: Folder that is named now.
        changed: Number of entries by table.
        missing: Versions whose files are neither there nor here.
    """

    old: Path
    new: Path
    changed: dict[str, int]
    missing: tuple[str, ...]


def stray_folders(path: Path) -> list[Stray]:
    """Folders that a SQLite store names for its experiments, other than ``mlruns`` beside it.

    Args:
        path: The store's file.

    Raises:
        TrackingError: It cannot be read.
    """
    found: dict[Path, list[str]] = {}
    with _reading(path) as connection:
        rows = connection.execute(
            "SELECT experiment_id, name, artifact_location FROM experiments WHERE lifecycle_stage = 'active'"
        ).fetchall()
    for number, name, location in rows:
        folder = _folder(str(location or ""))
        ending = next((e for e in (str(name), str(number)) if str(folder).endswith(f"/{e}")), None)
        if folder is not None and ending is not None:
            found.setdefault(Path(str(folder)[: -len(ending) - 1]), []).append(ending)
    here = path.parent / ARTIFACTS
    return [Stray(old, tuple(names)) for old, names in found.items() if not _same(old, here)]


def refuse_strayed(path: Path) -> None:
    """Refuse to write with a store that was moved or copied together with its files.

    Raises:
        TrackingError: The message says which command puts it right.
    """
    here = path.parent / ARTIFACTS
    for stray in stray_folders(path):
        if message := _complaint(path, stray, here):
            raise TrackingError(message)


def moved_advice(path: Path, folder: Path) -> str:
    """What to do about a folder that is not there, if the store that names it was moved; else an empty text."""
    for stray in stray_folders(path):
        if folder.is_relative_to(stray.old) and not stray.old.exists():
            return _complaint(path, stray, path.parent / ARTIFACTS)
    return ""


def relocate(
    path: Path, old: Path | None = None, new: Path | None = None, dry_run: bool = False
) -> list[Relocation]:
    """Make a moved or copied store name the files beside it; all of it, or nothing.

    Args:
        path: The store's file; nobody else may be writing to it.
        old: Folder that it names; every one that is not the new one if not given.
        new: Folder where the files lie; ``mlruns`` beside the store if not given.
        dry_run: Say what would be written, and write nothing.

    Raises:
        TrackingError: The files of registered versions are not in the new folder, or the store cannot be written.
    """
    new = (new or path.parent / ARTIFACTS).absolute()
    olds = [old.absolute()] if old else [s.old for s in stray_folders(path) if not _same(s.old, new)]
    done = []
    try:
        with closing(sqlite3.connect(path, timeout=20.0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for folder in olds:
                missing = _checked(connection, folder, new)
                changed = {table: 0 for table, _ in _PATHS}
                for table, column in _PATHS:
                    rows = 0
                    for before, after in ((str(folder), str(new)), (folder.as_uri(), new.as_uri())):
                        rows += connection.execute(
                            f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                            f"WHERE {column} = ?2 OR substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                            (after, before),
                        ).rowcount
                    changed[table] = max(changed[table], rows)
                done.append(Relocation(folder, new, changed, missing))
            connection.execute("ROLLBACK" if dry_run else "COMMIT")
    except sqlite3.Error as error:
        raise tracking_error(error, str(path), "writing where its files lie") from error
    return done


def _checked(connection: sqlite3.Connection, old: Path, new: Path) -> tuple[str, ...]:
    """Versions that lose nothing, since their files are nowhere; refuses where some would lose theirs."""
    rows = connection.execute(
        "SELECT name, version, coalesce(storage_location, source) FROM model_versions "
        "WHERE current_stage != 'Deleted_Internal'"
    ).fetchall()
    lost: list[str] = []
    missing: list[str] = []
    there = 0
    for name, version, location in rows:
        folder = _folder(str(location or ""))
        if folder is None or not folder.is_relative_to(old):
            continue
        if (new / folder.relative_to(old)).exists():
            there += 1
        else:
            (lost if folder.exists() else missing).append(f"{name} version {version}")
    if lost or (missing and not there):
        names = lost or missing
        shown = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        where = f"they lie in {old}" if lost else f"and {old} is gone"
        raise TrackingError(
            f"{new} does not hold the files of {shown}; {where}. Nothing was changed. Bring the folder {ARTIFACTS} "
            f"to {new} first, or name the folder that has them: crossprop relocate --to <folder>."
        )
    return tuple(missing)


def _complaint(path: Path, stray: Stray, here: Path) -> str:
    command = (
        "'crossprop relocate'" if path.name == "mlflow.db" else f"'crossprop relocate --uri sqlite:///{path}'"
    )
    if not stray.old.exists():
        if here.is_dir():
            return (
                f"The store {path} was moved: it names files in {stray.old}, which is gone, while {here} is here. "
                f"{command} makes it name those; nothing is copied or lost."
            )
        if not stray.old.parent.exists():
            return (
                f"The store {path} names files in {stray.old}, which is gone, and there is no {here}. Mount or put "
                f"back that folder; or bring a copy of it to {here} and run {command}, if it was moved."
            )
        return ""
    if any((here / name).is_dir() for name in stray.experiments):
        return (
            f"The store {path} is a copy: it still names files in {stray.old}, of the checkout that it was copied "
            f"from, and would write there. {command} makes it name those in {here}."
        )
    return ""


def _folder(location: str) -> Path | None:
    parsed = urlparse(location)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(location) if location.startswith("/") else None


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, timeout=20.0, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise tracking_error(error, str(path), "looking where its files lie") from error
