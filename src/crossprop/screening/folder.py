"""Who may write into a folder of results, and what was begun there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossprop.errors import ScreeningError
from crossprop.screening.journal import JOURNAL, STREAM, Progress, disk_errors
from crossprop.screening.properties import PropertyModel
from crossprop.screening.request import ScreenRequest
from crossprop.screening.result import RESULTS, read_note

_LOCK = ".lock"
_FORMAT = 1


def identity_of(
    request: ScreenRequest, properties: tuple[PropertyModel, ...], positions: int
) -> dict[str, Any]:
    """What has to be the same for a screening to go on: the request as far as it decides, and the models."""
    models = {model.name: model.digest for model in properties}
    return {"format": _FORMAT, **request.identity(), "models": models, "positions": positions}


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; it is made if need be.

    Raises:
        ScreeningError: Another process is screening into it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    with disk_errors(folder, Progress()):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ScreeningError(
                f"Another process is screening into {folder}. Wait for it, or name another folder with --out."
            ) from None
    try:
        yield
    finally:
        lock.release()


def begun_before(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The note of the same screening if it was begun in the folder before, ``None`` if the folder is free.

    Raises:
        ScreeningError: Another screening, or something else, lies there; the message says what differs.
    """
    note = read_note(folder)
    if note is None:
        if strange := [name for name in (RESULTS, STREAM, JOURNAL) if (folder / name).exists()]:
            raise ScreeningError(
                f"{folder} holds {strange[0]} but no screen.json: it is no whole screening. Delete it or name another "
                "folder with --out."
            )
        return None
    before = dict(note["identity"])
    differences = [
        f"{key}: {_short(before.get(key))} there, {_short(identity.get(key))} now"
        for key in {**before, **identity}
        if before.get(key) != identity.get(key)
    ]
    if differences:
        mend = "Name another folder with --out, delete that one, or repeat its request."
        if len(differences) == 1 and (same := _with_its_models(note, identity)):
            mend = f"Name another folder with --out, or go on with the models that it was begun with: {same}."
        raise ScreeningError(
            f"{folder} holds another screening ({note['status']}). What differs: {'; '.join(differences[:6])}. {mend}"
        )
    return note


def _with_its_models(note: dict[str, Any], identity: dict[str, Any]) -> str:
    """Options that name the models of a note which are others by now, as far as their folders are still there."""
    moved = [
        name for name, digest in note["identity"]["models"].items() if identity["models"].get(name) != digest
    ]
    folders = {name: str(note["models"][name]["folder"]) for name in moved}
    there = all(Path(folder, "model.json").is_file() for folder in folders.values())
    return " ".join(f"--model {name}={shlex.quote(path)}" for name, path in folders.items()) if there else ""


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {str(item)[:8]}" for key, item in value.items())
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
