"""Folders under DVC's care: they are added and removed by its own command, which needs no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from crossprop.errors import OwnFileError


def is_tracked_place(folder: Path, root: Path = Path()) -> bool:
    """Whether the folder lies in a project that DVC looks after."""
    return (root / ".dvc").is_dir() and folder.resolve().is_relative_to(root.resolve())


def track(folder: Path, root: Path = Path()) -> Path:
    """Have DVC keep a folder: its content goes to the cache, its hash to ``<folder>.dvc``.

    Returns:
        The ``.dvc`` file, which git should keep.

    Raises:
        OwnFileError: DVC refuses, e.g. since a pipeline is running.
    """
    _dvc(root, "add", "--quiet", _within(folder, root))
    return folder.with_name(f"{folder.name}.dvc")


def untrack(folder: Path, root: Path = Path()) -> None:
    """Have DVC forget a folder; the folder itself stays.

    Raises:
        OwnFileError: DVC refuses.
    """
    pointer = folder.with_name(f"{folder.name}.dvc")
    if pointer.is_file():
        _dvc(root, "remove", "--quiet", _within(pointer, root))


def _within(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


def _dvc(root: Path, *arguments: str) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise OwnFileError(
            f"'dvc {' '.join(arguments)}' failed: {(done.stderr or done.stdout).strip()[-400:]} "
            "Wait until no other DVC command is running in this folder, then try again."
        )
