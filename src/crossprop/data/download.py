"""Fetching pinned files: from their public address or a mirror, resumable, and never half-used."""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from crossprop.data.catalog import PinnedFile
from crossprop.errors import FetchError

BASE_URL = "https://raw.githubusercontent.com"  # public address of <owner>/<repo>/<commit>/<path>
BLOBS = Path(".crossprop/blobs")  # folder of finished (<blob id>) and interrupted (<blob id>.part) downloads
MIRROR_VARIABLE = "CROSSPROP_MIRROR"

_CHUNK = 1 << 14
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two chunks
_OWN_ADVICE = (
    "Bring back what was added ('git checkout own', then 'dvc checkout' or 'dvc pull'), or add the changed data with "
    "'crossprop data add … --replace'."
)


class TransferError(Exception):
    """A transfer failed; ``final`` where trying again cannot help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class FetchProgress:
    """File ``number`` of ``total``: ``present``, ``copying``, ``downloading``, ``retrying`` or ``done``."""

    file: PinnedFile
    number: int
    total: int
    received: int
    state: str


Report = Callable[[FetchProgress], None]
Tell = Callable[[int, str], None]


def fetch_files(
    files: Iterable[PinnedFile],
    raw_root: Path,
    *,
    blobs: Path = BLOBS,
    base_url: str = BASE_URL,
    report: Report | None = None,
    attempts: int = 5,
    pause: float = 1.0,
) -> list[Path]:
    """Put every file, whole and verified, where the catalogue says; return the paths in order, or a FetchError.

    Downloads stay in ``blobs``, so that an interrupted one resumes. ``attempts`` may fail in a row, with ``pause``
    seconds between the first two, doubled each time. Nothing is downloaded where the variable ``CROSSPROP_MIRROR``
    names a folder that holds the same tree as ``base_url``.
    """
    wanted, paths = list(files), []
    mirror = os.environ.get(MIRROR_VARIABLE)
    for number, file in enumerate(wanted, start=1):
        target = raw_root / file.relative_path

        def tell(received: int, state: str, number: int = number, file: PinnedFile = file) -> None:
            if report is not None:
                report(FetchProgress(file, number, len(wanted), received, state))

        try:
            if target.is_file() and blob_id(target) == file.blob:
                tell(target.stat().st_size, "present")
            elif file.folder is not None:
                _place(Path(file.folder) / file.path, target, file, _OWN_ADVICE)
            elif mirror:
                tell(0, "copying")
                advice = f"Correct the mirror, or unset {MIRROR_VARIABLE} to download the file."
                _place(Path(mirror, file.relative_path), target, file, advice)
            else:
                url = f"{base_url.rstrip('/')}/{file.relative_path}"
                _place(_downloaded(file, url, blobs, tell, attempts, pause), target, file, "Fetch again.")
            tell(target.stat().st_size, "done")
        except OSError as error:
            what = f"{file.relative_path} could not be brought to {raw_root}: {error}."
            raise FetchError(f"{what} Free some space or correct the permissions, then fetch again.") from error
        paths.append(target)
    return paths


def blob_id(path: Path) -> str:
    """Git blob id of a file: sha1 of ``blob <size>``, a zero byte and its content."""
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


_last_line: dict[str, float] = {}


def print_progress(progress: FetchProgress) -> None:
    """Report to standard error: one line a file, and one every few seconds while a large one is under way."""
    now, file, state = time.monotonic(), progress.file, progress.state
    under_way = state in ("downloading", "copying")
    if under_way and now - _last_line.get(file.blob, 0.0) < 2.0:
        return
    _last_line[file.blob] = now
    amount = f"{progress.received / 1e6:.1f} MB"
    if under_way and file.size:
        amount += f" of {file.size / 1e6:.1f} MB"
    print(f"[{progress.number}/{progress.total}] {file.path}: {state}, {amount}", file=sys.stderr)


def _downloaded(file: PinnedFile, url: str, blobs: Path, tell: Tell, attempts: int, pause: float) -> Path:
    """The verified download, resumed or taken from an earlier fetch."""
    blob, part, problem = blobs / file.blob, blobs / f"{file.blob}.part", ""
    blobs.mkdir(parents=True, exist_ok=True)
    with FileLock(blobs / f"{file.blob}.lock"):
        if blob.is_file():
            if blob_id(blob) == file.blob:
                return blob
            blob.unlink()
        failed, most = 0, _size(part)
        while failed < attempts:
            if failed:
                time.sleep(pause * 2 ** (failed - 1))
            failed += 1
            try:
                _transfer(url, part, file.size, tell)
            except TransferError as error:
                problem = str(error)
                if error.final:
                    break
                if _size(part) > most:  # farther than ever: it goes on, slowly
                    failed, most = 1, _size(part)
                continue
            most = max(most, _size(part))
            found = blob_id(part)
            if found == file.blob:
                part.replace(blob)
                return blob
            problem = f"{part.stat().st_size:,} bytes came with blob id {found}, not {file.blob}: damaged or replaced"
            part.unlink()
        raise FetchError(
            f"{file.relative_path} could not be fetched from {url}: {problem}. Check the connection and fetch again "
            f"(a started download resumes), or set {MIRROR_VARIABLE} to a folder that holds the files."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _transfer(url: str, part: Path, size: int | None, tell: Tell) -> None:
    """Fetch what ``part`` does not hold yet, or all of it where the server cannot resume."""
    import requests  # imported late: the catalogue is read without it

    have = _size(part)
    if size is not None and have > size:
        part.unlink()
        have = 0
    if have == size:
        return  # whole already; the caller verifies it
    headers = {"Accept-Encoding": "identity", "User-Agent": "crossprop"}
    if have:
        headers["Range"] = f"bytes={have}-"
    tell(have, "retrying" if have else "downloading")
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            status = response.status_code
            if status == 416:  # nothing beyond what we have: whole, or of another file
                return
            if status not in (200, 206):
                final = 400 <= status < 500 and status not in (408, 429)
                what = "has no such file (404)" if status == 404 else f"answered {status}"
                raise TransferError(f"the server {what}", final=final)
            received = have if status == 206 else 0
            length = response.headers.get("Content-Length")
            expected = received + int(length) if length is not None else 0
            with part.open("ab" if status == 206 else "wb") as stream:
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    received += len(chunk)
                    tell(received, "downloading")
    except requests.RequestException as error:
        raise TransferError(f"the connection failed ({type(error).__name__}: {error})") from None
    if received < expected:
        raise TransferError(f"the connection closed after {received:,} of {expected:,} bytes")


def _place(origin: Path, target: Path, file: PinnedFile, advice: str) -> None:
    """Copy a file beside its place, verify the copy, and only then give it its name."""
    if not origin.is_file():
        raise FetchError(f"{file.relative_path} is missing: there is no {origin}. {advice}")
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(origin, copy)
        if (found := blob_id(copy)) != file.blob:
            raise FetchError(
                f"{origin} is damaged: its {copy.stat().st_size:,} bytes have the blob id {found}, not {file.blob}. "
                f"{advice}"
            )
        copy.replace(target)
    finally:
        copy.unlink(missing_ok=True)
