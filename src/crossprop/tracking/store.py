"""The tracking store: where it is, that it is sound, and one start-up that many processes may race for.

The default is one SQLite file beside the project, in write-ahead mode, so that the UI reads while a run
writes. MLflow creates its tables step by step and not atomically; here they are made in a file of their own
which is then renamed, under a lock, so that a kill or a race leaves either no store or a whole one.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from crossprop.errors import TrackingError
from crossprop.experiments.results import StoreOutOfReachError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCKED = ("database is locked", "database table is locked", "database is busy")
_SILENT = (
    "max retries exceeded", "connection refused", "connection error", "timed out", "timeout exception",
    "could not connect", "connection aborted", "connection reset", "remote end closed", "server closed the connection",
    "terminating connection", "the database system is", "error code 502", "error code 503", "error code 504",
    "incompleteread", "connection broken",
)  # fmt: skip
"""What a server, or a database behind it, is told by while it is down, starting or ending."""

_FAILING = ("too many 500 error", "error code 500")
"""What a server is told by that answers, but only with errors."""

_ADVICE = (
    (
        _FAILING,
        "the server answers, but with an error of its own (500). Look at its log: its database may be gone or its disk "
        "full. Then run again.",
    ),
    (
        ("not in a valid json format",),
        "what answers there is no MLflow server. Correct MLFLOW_TRACKING_URI; behind a login page, sign in as your "
        "server asks for (MLFLOW_TRACKING_TOKEN).",
    ),
    (
        _LOCKED,
        "another process holds it. Close what has it open (`lsof` on the file names it: a database browser, "
        "a second run, a stopped UI) and run again; nothing was lost.",
    ),
    (
        ("readonly database", "read-only", "permission denied"),
        "it cannot be written. Give yourself write permission on the file and its folder, or name another "
        "store in MLFLOW_TRACKING_URI, e.g. sqlite:////home/me/mlflow.db.",
    ),
    (
        ("disk is full", "no space left", "disk quota exceeded"),
        "the disk is full. Free some space (`mlflow gc` removes deleted runs) and run again; finished cells "
        "are kept.",
    ),
    (
        ("not a database", "malformed", "file is encrypted"),
        "the file is damaged or is no SQLite database. Move it away (and its -wal and -shm files) or restore "
        "a copy, then run again: the runs are recorded anew from the stored results.",
    ),
    (
        ("unable to open database file", "no such file or directory", "not a directory"),
        "its folder does not exist or cannot be entered. Correct the path or create the folder.",
    ),
    (
        ("out-of-date database schema", "can't locate revision"),
        "it was written by another version of MLflow. Copy it, then run `mlflow db upgrade <uri>` with the "
        "newer of the two versions.",
    ),
    (
        _SILENT,
        "nothing answers there. Start the server, or unset MLFLOW_TRACKING_URI to use the embedded store.",
    ),
)


def tracking_error(error: BaseException | str, store: str, doing: str) -> TrackingError:
    """The named error for a failure of a store.

    Args:
        error: What the store, the driver or the operating system said.
        store: Path or URI of the store.
        doing: What was attempted, e.g. ``"opening"`` or ``"recording cell 1f0c"``.

    Returns:
        An error whose message holds the store, the attempt, the reason and the next step; a
        ``StoreOutOfReachError`` where waiting may be enough.
    """
    said, store = _without_password(str(error).strip()), _without_password(store)
    lowered = said.lower()
    reason = next((advice for words, advice in _ADVICE if any(w in lowered for w in words)), None)
    if reason is None:
        return TrackingError(f"The tracking store {store} failed while {doing}: {_first_lines(said)}")
    kind = (
        StoreOutOfReachError
        if any(word in lowered for word in _LOCKED + _SILENT + _FAILING)
        else TrackingError
    )
    return kind(f"The tracking store {store} failed while {doing}: {reason} [{_first_lines(said, 1)}]")


@contextmanager
def named_faults(store: str, doing: str) -> Iterator[None]:
    """Turn what MLflow, SQLite, the network or the disk raise inside the block into a ``TrackingError``."""
    import filelock
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except TrackingError:
        raise
    except filelock.Timeout as error:
        raise tracking_error(f"database is locked: {error.lock_file} stayed taken", store, doing) from error
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"The tracking store {_without_password(store)} needs the package {error.name!r}, which is not installed. "
            "Install it, e.g. with requirements-team.lock."
        ) from error
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException, OSError) as error:
        raise tracking_error(error, store, doing) from error


def _without_password(text: str) -> str:
    return re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", text)


def _first_lines(text: str, n_lines: int = 3, n_characters: int = 400) -> str:
    return " ".join(text.splitlines()[:n_lines])[:n_characters]


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


DEFAULT_STORE = "mlflow.db"
_WAIT_SECONDS = 20.0
_LEAST_FREE_BYTES = 20 * 2**20
_ROWS_ANALYZED = 400
_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
"""Set by ``mlflow run`` for its child: a worker that inherits them writes into its parent's run."""


def store_uri(root: Path = Path()) -> str:
    """URI of the store: ``MLFLOW_TRACKING_URI`` or the SQLite file in ``root``, with absolute paths."""
    return _absolute(
        os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DEFAULT_STORE).absolute()}"
    )


def prepare_store(uri: str, wait_seconds: float = _WAIT_SECONDS) -> str:
    """Make sure that the store exists and works; safe to call from many processes at once.

    Also removes the variables by which ``mlflow run`` would redirect what this process and its workers log.

    Args:
        uri: ``sqlite:///…``, a database URL or the ``http(s)://`` address of an MLflow server.
        wait_seconds: How long to wait for a lock that somebody else holds.

    Returns:
        The URI with absolute paths: give this one to workers and to MLflow.

    Raises:
        TrackingError: The store is locked, damaged, not writable, not reachable, not MLflow's, or was moved.
    """
    for name in _INHERITED:
        os.environ.pop(name, None)
    refuse_folder(uri)
    uri = _absolute(uri)
    path = sqlite_path(uri)
    if path is not None:
        _prepare_sqlite(path, wait_seconds)
        refuse_strayed(path)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri)
    else:
        _check_database(uri)
    return uri


def refuse_folder(uri: str) -> None:
    """Refuse a store that is no database and no server.

    Raises:
        TrackingError: The message says what is possible.
    """
    if ("://" not in uri and not uri.startswith("sqlite:")) or uri.startswith("file:"):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {uri!r}, a folder of files, which MLflow no longer supports. "
            "Use sqlite:///mlflow.db, a database URL or the address of a server."
        )


def open_client(uri: str) -> MlflowClient:
    """A client of a prepared store.

    Raises:
        TrackingError: The store's tables are those of another MLflow version, or it does not answer.
    """
    from mlflow import MlflowClient

    with named_faults(uri, "opening it"):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def store_lock(uri: str, wait_seconds: float = 120.0) -> AbstractContextManager[object]:
    """Lock under which one process writes to a SQLite store; servers serialise by themselves."""
    import filelock

    path = sqlite_path(uri)
    if path is None:
        return nullcontext()
    return filelock.FileLock(f"{path}.lock", timeout=wait_seconds)


def analyze_store(uri: str) -> None:
    """Refresh SQLite's statistics, in milliseconds: without them a sorted search of 20,000 runs takes 7 s, not 0.2.

    Raises:
        TrackingError: The store is locked or damaged.
    """
    path = sqlite_path(uri)
    if path is not None:
        try:
            with closing(_connect(path, _WAIT_SECONDS)) as connection:
                _refresh_statistics(connection)
        except sqlite3.Error as error:
            raise tracking_error(error, str(path), "refreshing its statistics") from error


def sqlite_path(uri: str) -> Path | None:
    """The file behind a ``sqlite:`` URI; ``None`` for every other kind of store."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    if not database or database == ":memory:":
        raise TrackingError(f"{uri!r} keeps runs in memory, where no other process finds them. Name a file.")
    return Path(database)


def _absolute(uri: str) -> str:
    path = sqlite_path(uri)
    if path is None or path.is_absolute():
        return uri
    return uri.replace(f"sqlite:///{path}", f"sqlite:///{path.absolute()}", 1)


def _prepare_sqlite(path: Path, wait_seconds: float) -> None:
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < _LEAST_FREE_BYTES:
            raise OSError(f"No space left on device: {free / 2**20:.0f} MiB free in {path.parent}")
        # Creating the store takes seconds on a busy machine: the losers of the race wait for that, too.
        with filelock.FileLock(f"{path}.lock", timeout=max(wait_seconds, 120.0)):
            if not path.exists() or path.stat().st_size == 0:
                _create(path)
            else:
                _examine(path, wait_seconds)
    except filelock.Timeout as error:
        raise tracking_error(
            f"database is locked: {error.lock_file} stayed taken", str(path), "opening it"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise tracking_error(error, str(path), "opening it") from error


def _create(path: Path) -> None:
    """A whole store under a temporary name, then renamed; the caller holds the lock."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    loggers = [logging.getLogger(name) for name in ("mlflow.store.db.utils", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with named_faults(str(path), "creating it"):
            SqlAlchemyStore(f"sqlite:///{draft}", str(path.parent / ARTIFACTS)).engine.dispose()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    with closing(_connect(draft, _WAIT_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    draft.replace(path)


def _examine(path: Path, wait_seconds: float) -> None:
    """Refuse a damaged, foreign, locked or read-only file; switch the write-ahead mode on."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with closing(_connect(path, max(deadline - time.monotonic(), 0.1))) as connection:
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
                tables = {
                    name
                    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
                }
                if tables and not {"experiments", "runs"} <= tables:
                    found = ", ".join(sorted(tables)[:5])
                    raise TrackingError(
                        f"{path} is a SQLite database, but not MLflow's: it holds {found}. Name another file "
                        "in MLFLOW_TRACKING_URI."
                    )
                if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                _refresh_statistics(connection)
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def _refresh_statistics(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA analysis_limit={_ROWS_ANALYZED}")
    connection.execute("ANALYZE")


def _connect(path: Path, wait_seconds: float) -> sqlite3.Connection:
    """A connection that waits for locks and begins transactions only when told to."""
    return sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)


def _check_server(uri: str) -> None:
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=10)
    except requests.RequestException as error:
        raise TrackingError(
            f"No MLflow server answers at {uri} ({type(error).__name__}). Start it, correct "
            "MLFLOW_TRACKING_URI, or unset it to use the embedded store."
        ) from error
    if answer.status_code != 200:
        raise TrackingError(
            f"{uri} answers {answer.status_code} instead of an MLflow server's health report. Correct "
            "MLFLOW_TRACKING_URI; for 403, start the server with --allowed-hosts naming this host."
        )


def _check_database(uri: str) -> None:
    """Reach a PostgreSQL or MySQL store once; MLflow alone would retry for minutes before it speaks."""
    import sqlalchemy
    from sqlalchemy.engine import make_url

    shown = "a database URL that cannot be read"
    try:
        shown = make_url(uri).render_as_string(hide_password=True)
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect():
            pass
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"The store {shown} needs the package {error.name!r}, which is not installed. Install it."
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise tracking_error(error, shown, "connecting") from error
