"""The tracking store: where it is, whether it works, a first start by many processes at once, and its relocation.

The default is one SQLite file beside the project, in write-ahead mode, so that the UI reads while a run writes.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import filelock

from crossprop.errors import StoreOutOfReachError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = "mlflow.db"
ARTIFACTS = "mlruns"
PROJECT_RUNS = "mlflow run"  # the experiment of runs that name none
WAIT_SECONDS = 20.0  # for a lock that another process holds on a SQLite file
_LOCK_SECONDS = 120.0
_ANSWER_SECONDS = 30.0  # a server that has just been started may take half as long
_LEAST_FREE_BYTES = 20 * 2**20
# Set by ``mlflow run`` for its child: a worker that inherits them writes into its parent's run.
_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)  # where MLflow keeps absolute paths; it has no call that changes them

# Pattern of a message and whether waiting may be enough: what to do; the first that is found counts.
_ADVICE = {
    (r"5\d\d (server )?error|error code 5\d\d|read timed out|internal_error[\s\S]*operationalerror", True): (
        "the server answers, but its database or object store does not, or its disk is full. Look at its log. Then "
        "run again."
    ),
    ("403 client error|error code 403", False): (
        "the server refuses this client. Start it with --allowed-hosts naming this host, or set MLFLOW_TRACKING_TOKEN."
    ),
    ("404 client error|not in a valid json format", False): (
        "what answers there is no MLflow server. Correct MLFLOW_TRACKING_URI, or sign in with MLFLOW_TRACKING_TOKEN."
    ),
    ("database is locked|database table is locked|database is busy", True): (
        "another process holds it. Close what has it open (`lsof` names it) and run again; nothing was lost."
    ),
    ("readonly database|read-only|permission denied", False): (
        "it cannot be written. Get write permission on the file and its folder, or name another store in "
        "MLFLOW_TRACKING_URI, e.g. sqlite:////home/me/mlflow.db."
    ),
    ("disk is full|no space left|disk quota exceeded|disk i/o error", False): (
        "the disk is full, or it fails. Free some space (`mlflow gc` removes deleted runs) and run again; finished "
        "cells are kept."
    ),
    ("not a database|malformed|file is encrypted", False): (
        "the file is damaged or is no SQLite database. Move it away (and its -wal and -shm files) or restore a "
        "copy, then run again: the runs are recorded again from the stored results."
    ),
    ("unable to open database file|no such file or directory|not a directory", False): (
        "its folder does not exist or cannot be entered. Correct the path or create the folder."
    ),
    ("out-of-date database schema|can't locate revision", False): (
        "it was written by another version of MLflow. Copy it, then run `mlflow db upgrade <uri>` with the newer one."
    ),
    (
        "max retries exceeded|connection (refused|error|aborted|reset|broken)|timed out|timeout exception|could not "
        "connect|remote end closed|server closed the connection|terminating connection|the database system is|"
        "incompleteread",
        True,
    ): "nothing answers there. Start the server, correct MLFLOW_TRACKING_URI, or unset it for the embedded store.",
}


_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S+(?=@)|(?<=[?&]password=)[^&\s]+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """A text without the passwords in its addresses, before the host or in the query."""
    return _PASSWORD.sub(r"\1***", text)


def tracking_error(error: BaseException | str, store: str, doing: str) -> TrackingError:
    """The error for a failure of a store, without passwords; ``StoreOutOfReachError`` where waiting may be enough."""
    text, store = without_passwords(str(error).strip()), without_passwords(store)
    failed = f"The tracking store {store} failed while {doing}"
    for (pattern, passing), advice in _ADVICE.items():
        if re.search(pattern, text, re.IGNORECASE):
            kind = StoreOutOfReachError if passing else TrackingError
            return kind(f"{failed}: {advice} [{text.partition(chr(10))[0][:400]}]")
    return TrackingError(f"{failed}: {' '.join(text.splitlines()[:3])[:400]}")


@contextmanager
def named_faults(store: str, doing: str) -> Iterator[None]:
    """Turn what MLflow, SQLite, the network or the disk raise inside the block into a ``TrackingError``."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except filelock.Timeout as error:
        raise tracking_error(f"database is locked: {error.lock_file} stayed taken", store, doing) from error
    except ModuleNotFoundError as error:
        advice = "Install it, e.g. with requirements-team.lock."
        if store.startswith("postgresql:"):  # SQLAlchemy's choice of a driver
            advice = "Write postgresql+psycopg2://…, whose driver is in requirements-team.lock."
        missing = f"it needs the package {error.name!r}. {advice}"
        raise tracking_error(missing, store, doing) from error
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:  # requests raise OSErrors
        raise tracking_error(error, store, doing) from error


@contextmanager
def tolerated(*codes: str) -> Iterator[None]:
    """Leave the block where MLflow refuses with one of these error codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def store_uri(uri: str | None = None, root: Path = Path()) -> str:
    """The named store, else that of ``MLFLOW_TRACKING_URI``, else the SQLite file in ``root``; with absolute paths."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    if not uri:
        return f"sqlite:///{usable(root.absolute() / DEFAULT_STORE)}"
    if uri.startswith("file:") or ("://" not in uri and not uri.startswith("sqlite:")):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {uri!r}, a folder of files, which MLflow no longer supports. "
            "Use sqlite:///mlflow.db, a database URL or the address of a server."
        )
    path = sqlite_path(uri)
    if path is None:
        return uri
    without_options = re.sub(r"\?[\w=&]+$", "", uri)
    usable(Path(without_options.removeprefix("sqlite:///")))
    return uri if path.is_absolute() else f"sqlite:///{usable(path.absolute())}{uri.removeprefix(without_options)}"


def usable(path: Path) -> Path:
    """The path, unless it holds what MLflow reads as a part of a URL: it would use another folder."""
    if found := [character for character in "%?#" if character in str(path)]:
        raise TrackingError(
            f"The path {path} holds {' and '.join(map(repr, found))}, which MLflow reads as a part of a URL. Rename "
            "the folder, or name another store in MLFLOW_TRACKING_URI, e.g. sqlite:////home/me/mlflow.db."
        )
    return path


def sqlite_path(uri: str) -> Path | None:
    """The file behind a ``sqlite:`` URI; ``None`` for every other kind of store."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    if not database or database == ":memory:":
        raise TrackingError(f"{uri!r} keeps runs in memory, where no other process finds them. Name a file.")
    return Path(database)


def prepare_store(uri: str) -> str:
    """Make sure that the store exists and works, from many processes at once; returns its URI with absolute paths."""
    for name in _INHERITED:
        os.environ.pop(name, None)
    uri = store_uri(uri)
    path = sqlite_path(uri)
    if path is not None:
        _prepare_sqlite(path)
        refuse_moved(path)
        return uri
    import sqlalchemy
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    # once: MLflow alone would retry for minutes before it reports anything
    with named_faults(uri, "connecting"):
        if uri.startswith(("http://", "https://")):
            once: Any = {"max_retries": 0, "timeout": _ANSWER_SECONDS, "raise_on_status": False}
            server = get_default_host_creds(uri)  # token, user, certificates of MLFLOW_TRACKING_*
            http_request(server, "/health", "GET", **once).raise_for_status()
            search = "/api/2.0/mlflow/experiments/search"  # of the database; /health is not
            answer = http_request(server, search, "POST", json={"max_results": 1}, **once)
            if answer.status_code >= 500:
                answer.raise_for_status()
        else:
            sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool).connect().close()
    return uri


def client_of(uri: str) -> MlflowClient:
    """A client of the store, for runs and registry; nothing is asked of the store yet."""
    from mlflow import MlflowClient

    _silence_mlflow()
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def open_client(uri: str) -> MlflowClient:
    """A client of a prepared store; refuses one whose tables are those of another MLflow version."""
    with named_faults(uri, "opening it"):
        client = client_of(uri)
        client.search_experiments(max_results=1)
    return client


def store_lock(uri: str) -> AbstractContextManager[object]:
    """Lock under which one process writes to a SQLite store; servers serialise by themselves."""
    path = sqlite_path(uri)
    return nullcontext() if path is None else filelock.FileLock(f"{path}.lock", timeout=_LOCK_SECONDS)


def local_path(location: str) -> Path | None:
    """The folder behind a path or a ``file:`` URL; ``None`` for every other kind of address."""
    if location.startswith("file:"):
        return Path(unquote(urlparse(location).path))
    return None if not location or urlparse(location).scheme else Path(location)


def foreign_folders(path: Path) -> dict[Path, list[str]]:
    """Folders that a SQLite file names for its experiments, other than ``mlruns`` beside it, with what lies in them."""
    with named_faults(str(path), "reading where its files lie"), closing(_connect(path)) as connection:
        active = "SELECT experiment_id, name, artifact_location FROM experiments WHERE lifecycle_stage = ?"
        rows = connection.execute(active, ("active",)).fetchall()
    here = (path.parent / ARTIFACTS).resolve()
    found: dict[Path, list[str]] = {}
    for number, name, location in rows:
        folder = str(local_path(str(location or "")))
        for place in (str(name), str(number)):
            old = Path(folder.removesuffix(f"/{place}"))
            if folder.startswith("/") and folder.endswith(f"/{place}") and old.resolve() != here:
                found.setdefault(old, []).append(place)
    return found


def refuse_moved(path: Path, folder: Path | None = None) -> None:
    """Refuse a SQLite file that was moved or copied with its files; of a missing ``folder``, only its place counts."""
    here = path.parent / ARTIFACTS
    option = "" if path.name == DEFAULT_STORE else f" --uri {shlex.quote(f'sqlite:///{path}')}"
    for old, experiments in foreign_folders(path).items():
        if folder is not None and (old.exists() or not folder.is_relative_to(old)):
            continue
        if old.exists() and any((here / name).is_dir() for name in experiments):
            reason = f"is a copy: it still names files in {old}, of the checkout it was copied from"
        elif not old.exists() and here.is_dir():
            reason = f"was moved: it names files in {old}, which is gone"
        elif not old.parent.exists():
            reason = f"names files in {old}, which is gone. Mount that folder, or bring a copy of it to {here} first"
        else:
            continue
        advice = f"'crossprop relocate{option}' makes it name those in {here}; nothing is copied or lost."
        raise TrackingError(f"The store {path} {reason}. {advice}")


def relocate(
    uri: str | None = None, old: Path | None = None, new: Path | None = None, dry_run: bool = False
) -> list[str]:
    """Replace a folder, by default every foreign one, in all paths that an embedded store holds."""
    uri = store_uri(uri)
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        what = f"{uri} is a server or another database" if path is None else f"There is no store at {path}"
        raise TrackingError(f"{what}. Name an embedded store, e.g. --uri sqlite:///mlflow.db.")
    new = usable((new or path.parent / ARTIFACTS).absolute())
    olds = [old.absolute()] if old else [f for f in foreign_folders(path) if f.resolve() != new.resolve()]
    lines, doing = list[str](), "writing where its files lie"
    with named_faults(str(path), doing), store_lock(uri), closing(_connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for folder in olds:
            missing = _missing_versions(connection, folder, new)
            changed: dict[str, int] = {}
            for table, column in _PATHS:
                for before, after in ((str(folder), str(new)), (folder.as_uri(), new.as_uri())):
                    rows = connection.execute(
                        f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                        f"WHERE {column} = ?2 OR substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                        (after, before),
                    ).rowcount
                    changed[table] = max(changed.get(table, 0), rows)
            counts = ", ".join(f"{n} {table.replace('_', ' ')}" for table, n in changed.items())
            lines.append(f"{folder} → {new}: {counts}{' would be changed (--dry-run)' if dry_run else ''}")
            lines += [f"{v}: its files are in neither folder; register its winner again." for v in missing]
        connection.execute("ROLLBACK" if dry_run else "COMMIT")
    return lines or [f"{path} names the files beside it already; nothing to do."]


def _missing_versions(connection: sqlite3.Connection, old: Path, new: Path) -> list[str]:
    """Versions whose files are in neither folder; refuses if versions would lose theirs."""
    rows = connection.execute(
        "SELECT name || ' version ' || version, coalesce(storage_location, source) FROM model_versions "
        "WHERE current_stage != 'Deleted_Internal'"
    )
    folders = {label: local_path(str(location or "")) for label, location in rows}
    places = {k: f.relative_to(old) for k, f in folders.items() if f and f.is_relative_to(old)}
    absent = [label for label, place in places.items() if not (new / place).exists()]
    lost = [label for label in absent if (old / places[label]).exists()]
    if lost or (absent and len(absent) == len(places)):
        where = f"they lie in {old}" if lost else f"and {old} is gone"
        raise TrackingError(
            f"{new} does not hold the files of {', '.join(lost or absent)}; {where}. Nothing was changed. Bring "
            f"{ARTIFACTS} to {new} first, or name the folder that has them: crossprop relocate --to <folder>."
        )
    return absent


def _silence_mlflow() -> None:
    """No list of migrations, and no traceback for a statement that fails: the error is reported in one sentence."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for locks and begins transactions only when told to."""
    return sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)


def _prepare_sqlite(path: Path) -> None:
    """Create the file, or refuse one that is damaged, foreign, locked or read-only; under a lock."""
    with named_faults(str(path), "opening it"):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < _LEAST_FREE_BYTES:
            raise OSError(f"No space left on device: {free / 2**20:.0f} MiB free in {path.parent}")
        with filelock.FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            if not path.exists() or path.stat().st_size == 0:
                _create(path)
                return
            with closing(_connect(path)) as connection:
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
                master = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
                tables = {name for (name,) in master}
                if tables and not {"experiments", "runs"} <= tables:
                    raise TrackingError(
                        f"{path} is a SQLite database, but not MLflow's: it holds {', '.join(sorted(tables)[:5])}. "
                        "Name another file in MLFLOW_TRACKING_URI."
                    )
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")  # fails if it cannot be written
                connection.execute("ROLLBACK")
                # Without statistics a sorted search of 20,000 runs takes 7 s, not 0.2.
                connection.execute("PRAGMA analysis_limit=400")
                connection.execute("ANALYZE")


def _create(path: Path) -> None:
    """A complete store under a temporary name, then renamed: MLflow makes its tables step by step."""
    from mlflow.entities import ExperimentTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    _silence_mlflow()
    store = SqlAlchemyStore(f"sqlite:///{unfinished}", str(path.parent / ARTIFACTS))
    store.rename_experiment("0", PROJECT_RUNS)
    store.set_experiment_tag("0", ExperimentTag("mlflow.experimentKind", "custom_model_development"))
    store.engine.dispose()
    with closing(_connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    unfinished.replace(path)
