"""What goes wrong with a tracking store, put into words that say what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from crossprop.errors import TrackingError
from crossprop.experiments.recording import StoreOutOfReachError

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
