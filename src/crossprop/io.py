"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossprop.errors import StoreError


@contextmanager
def replaced_whole(folder: Path) -> Iterator[Path]:
    """Give an empty draft that takes a folder's place once the block has filled it.

    Where the block fails nothing of the draft is left, and what was there before stays.

    Args:
        folder: Replaced, or made with its parents.

    Raises:
        StoreError: The disk is full, or something stands in the way.
    """
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}{where}. Free some space or mend the permissions, "
            "then run again: what is finished is kept."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
