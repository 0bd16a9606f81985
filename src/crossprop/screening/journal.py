"""What a screening has written so far: it survives a kill at any moment, and is gone on with from there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from crossprop.errors import ScreeningError

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
