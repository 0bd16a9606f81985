"""Where compiled models lie on disk: under a digest of what they were made from, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from crossprop.errors import StoreError
from crossprop.features.element_tables import tables_origin
from crossprop.paths import WORK

FORMAT = 2
"""To be raised when what is compiled, or how, changes."""

VARIABLE = "CROSSPROP_CACHE"
CHECKSUMS = "checksums.json"
_SUFFIXES = frozenset({".json", ".keras", ".skops", ".npy"})
_CHUNK = 1 << 20
_READERS = 4
_KEPT_UNUSED = 30 * 24 * 3600
"""Seconds that an entry is kept after it was last loaded."""


def cache_folder(given: Path | None = None) -> Path:
    """Folder of the compiled models: the given one, that of ``CROSSPROP_CACHE``, or ``.crossprop/compiled``."""
    if given is not None:
        return Path(given)
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else WORK / "compiled"


def content_key(folder: Path) -> str:
    """Digest of a saved model's files and of what else its compiled form depends on."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    with ThreadPoolExecutor(_READERS) as readers:
        digests = list(readers.map(_sha256, files))
    hasher = hashlib.sha256(f"compiled {FORMAT} {tables_origin()}\0".encode())
    for path, digest in zip(files, digests, strict=True):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{digest}\0".encode())
    return hasher.hexdigest()[:32]


def entry(
    folder: Path,
    build: Callable[[Path, Path], None],
    cache: Path | None = None,
    compile_apart: Callable[[], None] | None = None,
) -> Path:
    """The compiled form of a saved model; made if there is none, made again if it is damaged.

    Processes that want the same model at the same time wait for the one that makes it.

    Args:
        folder: A saved model.
        build: Compiles the model in its first argument into the empty folder in its second.
        cache: Folder of the compiled models; see :func:`cache_folder`.
        compile_apart: Has another process put the model into the cache, where it is not there yet.

    Returns:
        Folder of the compiled files; nobody changes them.

    Raises:
        StoreError: The cache cannot be written.
    """
    from filelock import FileLock

    root = cache_folder(cache)
    place = root / content_key(folder)
    if is_whole(place):
        with suppress(OSError):  # a cache that is only read is fine
            os.utime(place / CHECKSUMS)
        return place
    if compile_apart is not None:
        compile_apart()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{place.name}.lock"):
            if not is_whole(place):
                _drop_unused(root)
                _make(folder, build, place)
    except OSError as error:
        raise StoreError(
            f"The compiled form of {folder} cannot be kept in {root}: {error}. Make room there, or name a folder that "
            f"can be written with the environment variable {VARIABLE}."
        ) from error
    return place


def is_whole(place: Path) -> bool:
    """Whether a folder holds all the files that were written, as they were written."""
    try:
        stated = json.loads((place / CHECKSUMS).read_text(encoding="utf-8"))
        files = [place / name for name in stated]
        if not files or any(path.stat().st_size != stated[path.name][0] for path in files):
            return False
        with ThreadPoolExecutor(_READERS) as readers:
            sums = list(readers.map(_crc32, files))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return sums == [stated[path.name][1] for path in files]


def _make(folder: Path, build: Callable[[Path, Path], None], place: Path) -> None:
    draft = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    draft.mkdir()
    try:
        build(folder, draft)
        files = sorted(path for path in draft.iterdir() if path.is_file())
        sums = {path.name: [path.stat().st_size, _crc32(path)] for path in files}
        (draft / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            damaged = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
            place.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _drop_unused(root: Path) -> None:
    """Remove what has not been loaded for a month, and what a killed process left half-made a day ago."""
    now = time.time()
    for folder in root.iterdir():
        mark = folder / CHECKSUMS
        with suppress(OSError):
            kept = 24 * 3600 if folder.suffix == ".tmp" else _KEPT_UNUSED
            used = mark.stat().st_mtime if mark.is_file() else folder.stat().st_mtime
            if folder.is_dir() and now - used > kept:
                shutil.rmtree(folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
