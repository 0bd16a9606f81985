"""The tracking store: where it is, that it is sound, and one start-up that many processes may race for.

The default is one SQLite file beside the project, in write-ahead mode, so that the UI reads while a run
writes. MLflow creates its tables step by step and not atomically; here they are made in a file of their own
which is then renamed, under a lock, so that a kill or a race leaves either no store or a whole one.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.errors import TrackingError
from crossprop.tracking.faults import named_faults, tracking_error
from crossprop.tracking.relocation import ARTIFACTS, refuse_strayed

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
