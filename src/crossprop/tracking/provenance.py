"""Where a run came from: git state, packages, machine and process."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = (
    "crossprop", "mlflow", "dvc", "optuna", "numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "keras",
    "tensorflow", "jax", "matminer", "pymatgen", "skops",
)  # fmt: skip
"""Packages whose versions can change a result."""

PROCESS_TAG = "crossprop.process"
_NOT_CODE = ("dvc.lock", "reports")
"""Tracked, but written by the pipeline itself: a change there does not make the code dirty."""


@dataclass(frozen=True)
class GitState:
    """The version of the code: all ``None`` or ``False`` outside a git repository.

    Attributes:
        commit: Full id of the commit checked out.
        branch: Name of the branch, ``None`` when detached.
        dirty: Whether tracked files differ from the commit (the pipeline's own outputs apart).
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False


def git_state(root: Path) -> GitState:
    """Git state of the folder ``root``; an empty one where git or a repository is missing."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return GitState()
    changes = _git(
        root, "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{p}" for p in _NOT_CODE)
    )
    return GitState(
        commit=commit, branch=_git(root, "symbolic-ref", "--short", "-q", "HEAD"), dirty=bool(changes)
    )


@functools.cache
def environment() -> dict[str, Any]:
    """Interpreter, package versions and machine of this process, for ``environment.json``."""
    import psutil

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "keras_backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": installed_versions(PACKAGES),
    }


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of the named distributions that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def process_tags() -> dict[str, str]:
    """A tag that tells, later, whether the process that wrote a run still lives: host, process id, start."""
    import psutil

    me = psutil.Process()
    return {PROCESS_TAG: f"{socket.gethostname()} {me.pid} {int(me.create_time())}"}


def process_is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process behind ``process_tags`` ran on this machine and has ended.

    A process of another machine counts as alive: nobody can know from here. A recycled process id does not
    deceive, since the start time is compared too.
    """
    import psutil

    match tags.get(PROCESS_TAG, "").split():
        case [host, pid, start] if host == socket.gethostname() and pid.isdigit() and start.isdigit():
            try:
                process = psutil.Process(int(pid))
                recycled = abs(int(process.create_time()) - int(start)) > 2
                return bool(recycled or process.status() == psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return True
            except psutil.AccessDenied:
                return False
    return False


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
