"""Adding a user's file to the project, and removing it: a folder with the data and an entry of the catalogue."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock

from crossprop.data.cleaning import refuse_unlearnable
from crossprop.data.download import blob_id
from crossprop.data.splits import draw_holdout, together_in
from crossprop.data.user_catalog import check_new_key, own_entries, remove_entry, write_entry
from crossprop.data.user_rows import MIN_ROWS, UserTable
from crossprop.errors import UserFileError
from crossprop.methods import DEFAULT_SEED
from crossprop.paths import OWN_CATALOG, WORK

MIN_COMPOSITIONS: Final = 15  # all rows of a composition are on one side of a split


def refuse_too_few(path: Path, table: UserTable) -> None:
    """Refuse a file that is too small to learn from and measure on, or whose values are all the same."""
    rows, together = len(table.rows), len(set(table.together))
    if rows < MIN_ROWS or together < MIN_COMPOSITIONS:
        what = "group(s), choose another --group-column" if "group" in table.rows else "composition(s)"
        raise UserFileError(
            f"{path} has {rows} usable row(s) of {together} {what}; at least {MIN_ROWS} rows of {MIN_COMPOSITIONS} "
            f"different ones are needed. Add rows; dropped: {'; '.join(map(str, table.problems[:3])) or 'none'}."
        )
    refuse_unlearnable(table.rows["value"].to_numpy(), str(path))


def held_out_rows(path: Path, table: UserTable, seed: int = DEFAULT_SEED) -> np.ndarray:
    """Which rows are held out: as the split column says, or drawn by composition or group."""
    if "split" not in table.rows:
        return draw_holdout(table.together, seed)
    held = (table.rows["split"] == "test").to_numpy()
    if held.all() or not held.any():
        kind = "hold-out" if held.all() else "training"
        raise UserFileError(
            f"The split column of {path} makes every usable row a {kind} row. Mark some 'train' and some 'test'."
        )
    return held


def add_data(
    path: Path,
    table: UserTable,
    held_out: np.ndarray,
    key: str,
    texts: Mapping[str, str],
    *,
    catalog: Path = OWN_CATALOG,
    replace: bool = False,
) -> list[Path]:
    """Put a file's rows and property into the project, completely or not at all; returns what git tracks.

    ``texts`` are its unit (``1`` of pure numbers) and description, and perhaps citation and licence. In a DVC project,
    DVC tracks the folder of the key. What an add that was killed leaves is put right by the next one.
    """
    folder = catalog.parent / key
    draft, former = folder.with_name(f".{key}.draft"), _former(folder)
    pointer, ignored = _pointer(folder), folder.with_name(".gitignore")
    with _lock():
        _undo_killed(folder, catalog)
        check_new_key(key, catalog, replace)
        is_new = not folder.exists()
        written_by_dvc = {p: p.read_bytes() if p.is_file() else None for p in (pointer, ignored)}
        try:
            blobs = _write_files(draft, path, table, held_out)
            if not is_new:
                folder.rename(former)
            draft.rename(folder)
            tracked = Path(".dvc").is_dir() and folder.resolve().is_relative_to(Path.cwd())
            if tracked:
                _dvc("add", folder)
            entry = {"label": key, "citation": "own data", **texts, "origin": key}
            entry |= _entry(path, table, held_out, blobs)
            origin = {"folder": key, "licence": entry.pop("licence", "not stated")}
            write_entry(key, origin, entry, catalog)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            if is_new or former.exists():
                shutil.rmtree(folder, ignore_errors=True)
            if former.exists():
                former.rename(folder)
            for file, content in written_by_dvc.items():
                if content is None:
                    file.unlink(missing_ok=True)
                else:
                    file.write_bytes(content)
            raise
        shutil.rmtree(former, ignore_errors=True)
    return [catalog, *([pointer] if tracked else []), *([ignored] if ignored.is_file() else [])]


def remove_data(key: str, *, catalog: Path = OWN_CATALOG) -> None:
    """Remove a user's property: its entry, its folder, and its DVC file."""
    folder = catalog.parent / key
    with _lock():
        _undo_killed(folder, catalog)
        if key in own_entries(catalog) and _pointer(folder).is_file():
            _dvc("remove", _pointer(folder))
        remove_entry(key, catalog)
        shutil.rmtree(folder, ignore_errors=True)


def _undo_killed(folder: Path, catalog: Path) -> None:
    """Put back the folder that an add set aside before it was killed, unless the catalogue knows the new one."""
    former = _former(folder)
    if not former.is_dir():
        return
    files = own_entries(catalog).get(folder.name, {}).get("files", [])
    paths = [folder / file["path"] for file in files]
    if paths and all(p.is_file() and blob_id(p) == f["blob"] for p, f in zip(paths, files, strict=True)):
        shutil.rmtree(former)
        return
    shutil.rmtree(folder, ignore_errors=True)
    former.rename(folder)
    if _pointer(folder).is_file():
        _dvc("add", folder)


def _former(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.former")


def _pointer(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.dvc")


def _dvc(command: str, path: Path) -> None:
    arguments = [command, "--quiet", path.name]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "1"}
    line = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(line, env=environment, cwd=path.parent, capture_output=True, text=True)
    if done.returncode:
        failed = f"'dvc {' '.join(arguments)}' failed: {(done.stderr or done.stdout).strip()[-400:]}"
        raise UserFileError(f"{failed} Wait for other DVC commands, try again.")


def _lock() -> FileLock:
    folder = WORK / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "own.lock")


def _write_files(folder: Path, path: Path, table: UserTable, held_out: np.ndarray) -> dict[str, str]:
    """Write the property's files; returns the blob id of each by its name without the ending."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    columns = {"formula": "formula", "value": "value", "line": "line", "named_group": "group"}
    rows = table.rows[[name for name in columns if name in table.rows]].rename(columns=columns)
    dropped = [(p.line, p.kind, p.reason, p.text) for p in table.problems]
    tables = {
        "train": rows[~held_out],
        "test": rows[held_out],
        "dropped": pd.DataFrame(dropped, columns=["line", "kind", "reason", "text"]),
    }
    for name, part in tables.items():
        part.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    original = folder / f"original{path.suffix.lower()}"
    shutil.copyfile(path, original)
    original.chmod(0o644)
    return {file.stem: blob_id(file) for file in folder.iterdir()}


def _entry(path: Path, table: UserTable, held_out: np.ndarray, blobs: dict[str, str]) -> dict[str, Any]:
    """The entry of the catalogue; the same file gives the same one."""
    how = "as its split column says" if "split" in table.rows else f"drawn by {together_in(table.rows)}"
    grouped = "group" in table.rows
    files = [{"split": split, "path": f"{split}.csv", "blob": blobs[split]} for split in ("train", "test")]
    return {
        "roles": ["target", "source"],
        "columns": {"formula": "formula", "value": "value"} | ({"group": "group"} if grouped else {}),
        "files": files,
        "rows": len(table.rows),
        "notes": [
            f"from {path.name} (blob {blobs['original']}): columns {table.formula_column!r} and "
            f"{table.value_column!r}, {table.dialect}",
            f"{table.n_read} rows read, {len(table.problems)} dropped (dropped.csv says why)",
            f"{int(held_out.sum())} rows held out, {how}",
        ],
    }
