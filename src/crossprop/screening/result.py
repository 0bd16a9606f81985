"""The folder that a screening leaves, and how to read it."""

from __future__ import annotations

import csv
import errno
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crossprop.errors import ScreeningError
from crossprop.screening.properties import PropertyModel
from crossprop.screening.request import ScreenRequest

STREAM = "survivors.arrows"
JOURNAL = "progress.jsonl"


@dataclass(frozen=True)
class Progress:
    """How far a screening is.

    Attributes:
        stop: Positions before this one are done.
        considered: Compositions that were predicted.
        kept: Compositions that met the conditions.
        seconds: Time spent, over all sessions.
        size: Bytes of the survivors' file that belong to these.
    """

    stop: int = 0
    considered: int = 0
    kept: int = 0
    seconds: float = 0.0
    size: int = 0


class Journal:
    """The survivors' file, an Arrow stream that grows, and a line for every batch that is safely in it.

    A batch counts once its line is on the disk; what lies behind the last line is cut off when a screening goes on.

    Args:
        folder: Folder of the results; exists.
        schema: Columns of the survivors' table.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        with disk_errors(folder, Progress()):
            self.progress = read_progress(folder)
            self._stream = (folder / STREAM).open("ab")
            self._lines = (folder / JOURNAL).open("ab")
            self._stream.truncate(self.progress.size)
            self._lines.truncate(_whole_lines(folder / JOURNAL, self.progress))
            if self.progress.size == 0:
                self.progress = Progress(size=self._stream.write(schema.serialize()))
                self._stream.flush()

    def append(self, batch: pa.RecordBatch, stop: int, considered: int, seconds: float) -> None:
        """Keep the survivors of the next positions.

        Args:
            batch: The survivors.
            stop: Position behind them.
            considered: Compositions that were predicted for this batch.
            seconds: Time since the screening was begun, over all sessions.

        Raises:
            ScreeningError: They cannot be written; what was written before is safe.
        """
        now = self.progress
        with disk_errors(self._folder, now):
            size = now.size
            if batch.num_rows:
                size += self._stream.write(batch.serialize())
                self._stream.flush()
                os.fsync(self._stream.fileno())
            after = Progress(stop, now.considered + considered, now.kept + batch.num_rows, seconds, size)
            self._lines.write((json.dumps(asdict(after)) + "\n").encode())
            self._lines.flush()
            os.fsync(self._lines.fileno())
        self.progress = after

    def close(self) -> None:
        """Close the files."""
        with disk_errors(self._folder, self.progress):
            self._stream.close()
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_progress(folder: Path) -> Progress:
    """How far the screening in a folder is: its last line whose survivors are all there."""
    stream, journal = folder / STREAM, folder / JOURNAL
    if not (stream.is_file() and journal.is_file()):
        return Progress()
    there, best = stream.stat().st_size, Progress()
    with journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if (found := _parsed(line)) is None or found.size > there:
                break
            best = found
    return best


def read_survivors(folder: Path) -> Iterator[pa.RecordBatch]:
    """The batches of the survivors' file as far as they count."""
    progress = read_progress(folder)
    if not progress.size:
        return
    with pa.OSFile(str(folder / STREAM)) as file:
        reader = pa.ipc.open_stream(file)
        while file.tell() < progress.size:
            yield reader.read_next_batch()


@contextmanager
def disk_errors(folder: Path, progress: Progress) -> Iterator[None]:
    """Say what a full or forbidden disk means for the screening.

    Raises:
        ScreeningError: Something could not be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"{error.strerror or error}"
        mend = "Free some space" if full else "Mend the permissions, or name another folder with --out"
        raise ScreeningError(
            f"{folder} cannot be written: {what}. {mend}, then run the same command again: "
            f"what is done ({progress.stop:,} positions, {progress.kept:,} rows kept) is not lost."
        ) from error


def _parsed(line: str) -> Progress | None:
    if not line.endswith("\n"):
        return None
    try:
        values: Any = json.loads(line)
        return Progress(**values) if len(values) == len(fields(Progress)) else None
    except (ValueError, TypeError):
        return None


def _whole_lines(path: Path, last: Progress) -> int:
    """Bytes of the journal up to and with the line of some progress."""
    size = 0
    if last.size == 0:
        return 0
    with path.open("rb") as lines:
        for line in lines:
            size += len(line)
            if _parsed(line.decode(errors="replace")) == last:
                return size
    return 0


RESULTS, TOP, NOTE = "results.parquet", "top.csv", "screen.json"
_GROUP = 1 << 17
"""Rows of one row group."""


@dataclass(frozen=True)
class ScreenResult:
    """A finished screening; iterating over it gives the survivors as dictionaries, in the order of the space.

    Attributes:
        folder: Where it lies.
        note: What ``screen.json`` holds: request, models, counts, seconds, rate, memory.
        top: The ranked table.
    """

    folder: Path
    note: dict[str, Any]
    top: pd.DataFrame

    def __len__(self) -> int:
        return int(self.note["counts"]["kept"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch.to_pylist()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The survivors in batches, read as they are asked for."""
        with pq.ParquetFile(self.folder / RESULTS) as file:
            yield from file.iter_batches()

    def frame(self) -> pd.DataFrame:
        """All survivors at once."""
        return pd.read_parquet(self.folder / RESULTS)


def survivors(folder: Path) -> Iterator[pa.RecordBatch]:
    """The survivors of a finished or running screening."""
    if (folder / RESULTS).is_file():
        with pq.ParquetFile(folder / RESULTS) as file:
            yield from file.iter_batches()
    else:
        yield from read_survivors(folder)


def write_results(folder: Path, schema: pa.Schema) -> None:
    """Turn the survivors' stream into ``results.parquet``, whole or not at all, in bounded memory."""
    draft = folder / f"{RESULTS}.draft"
    with disk_errors(folder, read_progress(folder)):
        with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in read_survivors(folder):
                waiting.append(batch)
                if sum(b.num_rows for b in waiting) >= _GROUP:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema))
        draft.replace(folder / RESULTS)


def write_top(folder: Path, top: pd.DataFrame) -> None:
    """Write ``top.csv``, whole or not at all."""
    draft = folder / f"{TOP}.draft"
    with disk_errors(folder, read_progress(folder)):
        top.to_csv(draft, index=False, float_format="%.6g", quoting=csv.QUOTE_MINIMAL)
        draft.replace(folder / TOP)


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """Write ``screen.json``, whole or not at all."""
    draft = folder / f"{NOTE}.draft"
    with disk_errors(folder, read_progress(folder)):
        draft.write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(folder / NOTE)


def read_note(folder: Path) -> dict[str, Any] | None:
    """What ``screen.json`` holds, ``None`` where there is none.

    Raises:
        ScreeningError: The file is damaged.
    """
    path = folder / NOTE
    if not path.exists():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        note["identity"], note["status"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScreeningError(
            f"{path} is damaged ({error!r}), so nobody can tell what was screened there. Delete the folder or name "
            "another with --out."
        ) from error
    return dict(note)


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
