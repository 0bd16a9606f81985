"""A folder that a person named: there whole or not at all, and never overwritten unasked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from crossprop.errors import StoreError
from crossprop.models.saved import INFO_FILE


def refuse_taken(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that holds something, unless that is a saved model and to be replaced.

    Raises:
        StoreError: As said, or the place is taken by a file.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file. Name a folder that is not there yet.")
    if not replace and folder.is_dir() and any(folder.iterdir()):
        raise StoreError(
            f"{folder} is not empty. Name another folder, or replace it with --replace (replace=True)."
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INFO_FILE).is_file():
        raise StoreError(
            f"{folder} holds something, but no saved model (there is no {INFO_FILE}): it is not replaced. Name "
            "another folder, or empty this one yourself."
        )


def commit_folder(folder: Path, write: Callable[[Path], None], *, replace: bool = False) -> Path:
    """Write a folder beside its place, then rename it into place.

    Args:
        folder: New, empty, or to be replaced.
        write: Fills the folder that it is handed.
        replace: Replace what is there; it stays until the new one is complete.

    Returns:
        The folder.

    Raises:
        StoreError: It is not empty, or cannot be written.
    """
    refuse_taken(folder, replace=replace)
    place = folder.resolve()  # "." has no name to put anything beside
    draft = place.with_name(f".{place.name}.{os.getpid()}.draft")
    former = place.with_name(f".{place.name}.{os.getpid()}.former")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        write(draft)
        if place.is_dir():
            place.rename(former)
        try:
            draft.rename(place)
        except OSError:
            if former.is_dir():
                former.rename(place)
            raise
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error}. Free some space or mend the permissions, then run again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if place.is_dir():
            shutil.rmtree(former, ignore_errors=True)
    return folder
