"""Files and folders that are written whole or not at all, digests of them, and the cores of this machine."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crossprop.errors import CrosspropError, ModelFormatError, StoreError

DIGESTS_FILE = "SHA256SUMS"  # ``sha256sum --check`` reads it, too
_DIGEST_LINE = re.compile(r"^([0-9a-f]{64})  (\S.*)$", re.MULTILINE)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give an empty draft folder that takes the folder's place once the block has filled it.

    Where the block fails nothing of the draft is left, and what was there before stays; a full disk is a StoreError.
    """
    draft = _draft(folder)
    try:
        with _store_errors(folder):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            yield draft
            former = draft.with_suffix(".former.tmp")
            shutil.rmtree(former, ignore_errors=True)  # of a process with this number that was killed
            try:
                if folder.exists():
                    folder.rename(former)
                draft.rename(folder)
            except BaseException:
                if former.exists() and not folder.exists():
                    former.rename(folder)
                raise
            shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Like :func:`atomic_folder` for one file: the block writes a draft, which is on the disk before it is renamed."""
    draft = _draft(path)
    try:
        with _store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            with draft.open("rb+") as stream:
                os.fsync(stream.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON; NaN and infinity are refused with a ``ValueError``."""
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The values of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_digests(folder: Path) -> None:
    """Write the digests of all files below a folder into it; drafts are left out."""
    own = folder / DIGESTS_FILE
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != own and p.suffix != ".tmp")
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    with atomic_file(own) as draft:
        draft.write_text("".join(lines), encoding="utf-8")


def digested(folder: Path) -> list[str]:
    """The names that a folder's list of digests has; none where there is no list."""
    path = folder / DIGESTS_FILE
    return [line[2] for line in _DIGEST_LINE.finditer(path.read_text("utf-8"))] if path.is_file() else []


def check_digests(
    folder: Path,
    names: Iterable[str] | None = None,
    *,
    error: type[CrosspropError] = ModelFormatError,
    remedy: str = "Register or pull the model again.",
) -> None:
    """Compare files of a folder, by default all that are listed, with the digests that were written with them.

    One that has changed, is missing or is not listed is an ``error`` with the ``remedy``.
    """
    path = folder / DIGESTS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as reason:
        raise error(f"{folder} lacks {DIGESTS_FILE}, or it cannot be read: {reason}. {remedy}") from reason
    listed = {line[2]: line[1] for line in _DIGEST_LINE.finditer(text)}
    if not listed or text != "".join(f"{digest}  {name}\n" for name, digest in listed.items()):
        raise error(f"{path} is no list of digests. {remedy}")
    for name in listed if names is None else names:
        if name not in listed:
            raise error(f"{path} has no digest of {name}. {remedy}")
        try:
            digest = file_digest(folder / name)
        except OSError as reason:
            message = f"{folder / name} cannot be read, though {DIGESTS_FILE} lists it: {reason}. {remedy}"
            raise error(message) from reason
        if digest != listed[name]:
            raise error(
                f"{folder / name} has changed since it was written: its SHA-256 is {digest[:12]}, {DIGESTS_FILE} "
                f"states {listed[name][:12]}. {remedy}"
            )


@contextmanager
def exclusive(lock: Path, what: str, error: type[CrosspropError] = StoreError) -> Iterator[None]:
    """Hold a lock file while the block runs; an ``error`` where another process holds it or it cannot be made."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = FileLock(lock, timeout=0).acquire()
    except Timeout:
        raise error(f"Another process {what} already ({lock} is held). Wait for it, or stop it.") from None
    except OSError as reason:
        raise error(f"{lock} cannot be written: {reason}. Correct the permissions, or name another folder.") from reason
    with taken:
        yield


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}{where}. Free some space or correct the "
            "permissions, then run again: what is finished is kept."
        ) from error
