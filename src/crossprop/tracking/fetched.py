"""Copies of models of a remote store, kept on this machine: fetched once and whole, let go when nobody names them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.tracking.faults import named_faults
from crossprop.tracking.open_registry import open_registry

if TYPE_CHECKING:
    from crossprop.tracking.versions import VersionInfo

KEPT_UNUSED_SECONDS = 3_600.0
"""A copy that no alias names is kept for so long after it was last asked for: somebody may just be loading it."""
_MARK = ".used.json"
"""Beside every copy: what it is of; its time is that of the last use."""


def fetched_once(
    uri: str, info: VersionInfo, location: str, cache: Path, fetch: Callable[[Path], Path]
) -> Path:
    """Folder of a version's saved ensemble in the cache; fetched if it is not there.

    Args:
        uri: Store.
        info: The version.
        location: Where its files lie.
        cache: Folder of all copies; absolute.
        fetch: Brings the files into an empty folder and returns the ensemble's, complete.

    Raises:
        TrackingError: The cache cannot be written, or what ``fetch`` raises.
    """
    import filelock

    key = hashlib.sha256(location.encode()).hexdigest()[:12]
    folder = cache / f"{_stem(info.name)}-v{info.version}-{key}"
    mark = cache / f"{folder.name}{_MARK}"
    if folder.is_dir():
        _write_mark(mark, uri, info.name)
        return folder
    with named_faults(str(cache), f"fetching {info.name} version {info.version}"):
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock", timeout=600):
            if not folder.is_dir():
                for left in cache.iterdir():  # of a fetch that was killed: the lock is ours
                    if left.name.startswith(f"{folder.name}.tmp-"):
                        shutil.rmtree(left, ignore_errors=True)
                draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=cache))
                try:
                    fetch(draft).replace(folder)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        _write_mark(mark, uri, info.name)
    with suppress(Exception):  # room is made another time, then; the model is here
        _prune(uri, info, cache)
    return folder


def _prune(uri: str, info: VersionInfo, cache: Path) -> None:
    """Remove copies of the same model whose versions no alias names and nobody has asked for lately."""
    import filelock

    with open_registry(uri, f"looking for the aliases of {info.name}") as client:
        kept = {str(version) for version in client.get_registered_model(info.name).aliases.values()}
    pattern = re.compile(rf"{re.escape(_stem(info.name))}-v(\d+)-[0-9a-f]{{12}}")
    for folder in cache.iterdir():
        found = pattern.fullmatch(folder.name)
        if not found or found[1] in {*kept, info.version} or not folder.is_dir():
            continue
        mark = cache / f"{folder.name}{_MARK}"
        with suppress(OSError, ValueError, filelock.Timeout):
            if mark.is_file():
                if json.loads(mark.read_text(encoding="utf-8")) != _whose(uri, info.name):
                    continue
                used = mark.stat().st_mtime
            else:  # of an older crossprop
                used = folder.stat().st_mtime
            if time.time() - used < KEPT_UNUSED_SECONDS:
                continue
            with filelock.FileLock(f"{folder}.lock", timeout=0):
                doomed = folder.rename(cache / f"{folder.name}.tmp-unused")
                shutil.rmtree(doomed, ignore_errors=True)
                mark.unlink(missing_ok=True)


def _write_mark(mark: Path, uri: str, name: str) -> None:
    with suppress(OSError):  # a cache that is only read is fine
        mark.write_text(json.dumps(_whose(uri, name)), encoding="utf-8")


def _whose(uri: str, name: str) -> dict[str, str]:
    """Store and model, the store as a digest: its address may hold a password."""
    return {"store": hashlib.sha256(uri.encode()).hexdigest()[:16], "model": name}


def _stem(name: str) -> str:
    """The model's name as the beginning of a folder's."""
    return re.sub(r"[^\w.+-]", "_", name)[:60]
