"""Adding a user's file to the project, and removing it: a folder with the data, and an entry of the catalogue."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock

from crossprop.data.download import blob_id
from crossprop.data.splits import draw_holdout
from crossprop.data.user_catalog import check_new_key, own_entries, remove_entry, write_entry
from crossprop.data.user_rows import MIN_ROWS, OwnTable
from crossprop.errors import OwnFileError
from crossprop.methods import DEFAULT_SEED
from crossprop.paths import OWN_CATALOG, WORK

MIN_COMPOSITIONS: Final = 15
"""Different compositions below which a file is refused: rows of one composition stand on one side of every split."""

QUIET_SHARE: Final = 0.05
"""Share of the rows that may be dropped without asking."""


@dataclass(frozen=True)
class NewProperty:
    """What a user says about a property; its unit is ``1`` where the values are pure numbers."""

    key: str
    unit: str
    description: str
    citation: str = "own data"
    licence: str = "not stated"


def refuse_too_few(path: Path, table: OwnTable) -> None:
    """Refuse a file that is too small to learn from and measure on, or whose values are all the same.

    Raises:
        OwnFileError: As said.
    """
    rows, together = len(table.rows), len(set(table.together))
    if rows < MIN_ROWS or together < MIN_COMPOSITIONS:
        grouped = "group" in table.rows
        what = "group(s) without a common composition" if grouped else "composition(s)"
        raise OwnFileError(
            f"{path} has {rows} usable row(s) of {together} {what}; at least {MIN_ROWS} rows of "
            f"{MIN_COMPOSITIONS} different ones are needed: some are held out, some choose among the methods, and "
            f"the model learns from the rest. Add rows{', or choose another --group-column' if grouped else ''}, or "
            f"look at those that were dropped: {'; '.join(map(str, table.problems[:3])) or 'there are none'}"
        )
    if np.ptp(table.rows["value"].to_numpy()) == 0.0:
        raise OwnFileError(
            f"All {rows} values of {path} are {table.rows['value'].iloc[0]:g}: there is nothing to learn from a "
            "constant. Check the column of the values."
        )


def held_out_rows(path: Path, table: OwnTable, seed: int = DEFAULT_SEED) -> np.ndarray:
    """Which rows are held out: as the split column says, or drawn by composition or group.

    Raises:
        OwnFileError: The split column leaves nothing to learn from, or nothing to measure on.
    """
    if "split" not in table.rows:
        return draw_holdout(table.together, seed)
    held = (table.rows["split"] == "test").to_numpy()
    if held.all() or not held.any():
        kind = "hold-out" if held.all() else "training"
        raise OwnFileError(
            f"The split column of {path} makes every usable row a {kind} row. Mark some rows 'train' and some "
            "'test', or leave --split-column out."
        )
    return held


def add_data(
    path: Path,
    table: OwnTable,
    held_out: np.ndarray,
    new: NewProperty,
    *,
    catalog: Path = OWN_CATALOG,
    replace: bool = False,
    root: Path = Path(),
) -> list[Path]:
    """Put a file's rows into the project and its property into the user's catalogue.

    Beside the catalogue, the folder of the property's name holds ``train.csv`` and ``test.csv``, ``dropped.csv`` and
    the file as it was given; where the project uses DVC, DVC keeps the folder. Either all of it is there in the end
    or nothing has changed.

    Returns:
        What git should keep, relative to ``root`` where possible.

    Raises:
        OwnFileError: The name is taken, or DVC refuses.
    """
    folder = catalog.parent / new.key
    with _lock(root):
        check_new_key(new.key, catalog, replace)
        draft = folder.with_name(f".{folder.name}.draft")
        try:
            blobs = _write_files(draft, path, table, held_out)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        entry = _entry(path, table, held_out, new, blobs)
        with _put_in_place(draft, folder):
            pointer = [track(folder, root)] if is_tracked_place(folder, root) else []
            write_entry(new.key, {"folder": new.key, "licence": new.licence}, entry, catalog)
    ignored = folder.parent / ".gitignore"
    return [catalog, *pointer, *([ignored] if ignored.is_file() else [])]


def remove_data(key: str, *, catalog: Path = OWN_CATALOG, root: Path = Path()) -> None:
    """Remove a user's property: its entry, its folder, and what DVC keeps of it.

    Raises:
        DataError: There is no such property, or DVC refuses.
    """
    folder = catalog.parent / key
    with _lock(root):
        pointer = folder.with_name(f"{folder.name}.dvc")
        if key in own_entries(catalog) and pointer.is_file():
            _dvc(root, "remove", pointer)
        remove_entry(key, catalog)
        shutil.rmtree(folder, ignore_errors=True)


def is_tracked_place(folder: Path, root: Path = Path()) -> bool:
    """Whether the folder lies in a project that uses DVC."""
    return (root / ".dvc").is_dir() and folder.resolve().is_relative_to(root.resolve())


def track(folder: Path, root: Path = Path()) -> Path:
    """Have DVC keep a folder: its content goes to the cache, its hash to ``<folder>.dvc``, which is returned."""
    _dvc(root, "add", folder)
    return folder.with_name(f"{folder.name}.dvc")


def _dvc(root: Path, command: str, path: Path) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "1"}
    arguments = [command, "--quiet", path.resolve().relative_to(root.resolve()).as_posix()]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise OwnFileError(
            f"'dvc {' '.join(arguments)}' failed: {(done.stderr or done.stdout).strip()[-400:]} "
            "Wait until no other DVC command is running in this folder, then try again."
        )


def _lock(root: Path) -> FileLock:
    place = root / WORK / "locks"
    place.mkdir(parents=True, exist_ok=True)
    return FileLock(place / "own.lock")


@contextmanager
def _put_in_place(draft: Path, folder: Path) -> Iterator[None]:
    """Give a draft the folder's name; if what follows fails, the former folder and what DVC wrote are restored."""
    former = folder.with_name(f".{folder.name}.former")
    notes = [folder.with_name(f"{folder.name}.dvc"), folder.with_name(".gitignore")]
    noted = {note: note.read_bytes() if note.is_file() else None for note in notes}
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.rename(former)
    draft.rename(folder)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if former.exists():
            former.rename(folder)
        for note, content in noted.items():
            if content is None:
                note.unlink(missing_ok=True)
            else:
                note.write_bytes(content)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _write_files(folder: Path, path: Path, table: OwnTable, held_out: np.ndarray) -> dict[str, str]:
    """Write the property's files; returns the blob id of each by its name without the ending."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    columns = {"formula": "formula", "value": "value", "line": "line", "named_group": "group"}
    rows = table.rows[[name for name in columns if name in table.rows]].rename(columns=columns)
    for name, part in (("train", rows[~held_out]), ("test", rows[held_out])):
        part.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    dropped = pd.DataFrame(
        [(p.line, p.kind, p.reason, p.text) for p in table.problems],
        columns=["line", "kind", "reason", "text"],
    )
    dropped.to_csv(folder / "dropped.csv", index=False, lineterminator="\n")
    original = folder / f"original{path.suffix.lower()}"
    shutil.copyfile(path, original)
    original.chmod(0o644)
    return {file.stem: blob_id(file) for file in folder.iterdir()}


def _entry(
    path: Path, table: OwnTable, held_out: np.ndarray, new: NewProperty, blobs: dict[str, str]
) -> dict[str, Any]:
    """The entry of the catalogue; the same file gives the same one."""
    grouped = "group" in table.rows
    how = "drawn by group" if grouped else "drawn by composition"
    how = "as its split column says" if "split" in table.rows else how
    return {
        "label": new.key,
        "unit": new.unit,
        "roles": ["target", "source"],
        "description": new.description,
        "citation": new.citation,
        "origin": new.key,
        "columns": {"formula": "formula", "value": "value"} | ({"group": "group"} if grouped else {}),
        "files": [
            {"split": split, "path": f"{split}.csv", "blob": blobs[split]} for split in ("train", "test")
        ],
        "rows": len(table.rows),
        "notes": [
            f"from {path.name} (blob {blobs['original']}): columns {table.formula_column!r} and "
            f"{table.value_column!r}, {table.dialect}",
            f"{table.n_read} rows read, {len(table.problems)} dropped (dropped.csv says why)",
            f"{int(held_out.sum())} rows held out, {how}",
        ],
    }
