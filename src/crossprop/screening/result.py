"""The folder that a screening leaves, and how to read it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crossprop.errors import ScreeningError
from crossprop.screening.journal import disk_errors, read_progress, read_survivors

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
