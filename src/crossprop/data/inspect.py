"""What a person asks of the data: which properties there are, what one is, whether the files are whole."""

import re
from pathlib import Path

import pandas as pd
from rich import box
from rich.table import Table

from crossprop.data.catalog import Catalog, PropertyEntry
from crossprop.data.download import blob_id
from crossprop.data.embedded import embedded_archive
from crossprop.errors import DataError

_FIGURES = {
    "base_mae": "Base",
    "sc_ef_mae_table2": "best SC on fractions (Table 2)",
    "tl_mae_table2": "best TL from formation energy (Table 2)",
    "tl_mae_table3_or_5": "best TL (Table 3 or 5)",
    "sc_mae_table4_or_5": "best SC on fractions or attributes (Table 4 or 5)",
    "lowest_mae": "lowest",
}


def list_properties(
    catalog: Catalog, raw_root: Path, role: str | None = None, *, own_only: bool = False, brief: bool = False
) -> Table:
    """Table behind ``crossprop data list``; ``brief`` leaves out label and description."""
    entries = [entry for entry in catalog.entries(role) if entry.is_own or not own_only]
    n_own = sum(entry.is_own for entry in entries)
    title = f"{len(entries)} properties" + (f", {n_own} of your own" if n_own else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names = ("property", "rows", "unit", "at hand", "role", "label", "description")[: 5 if brief else 7]
    for name in names:
        table.add_column(name, justify="right" if name == "rows" else "left", no_wrap=name != "description")
    for entry in entries:
        short = re.split(r"[,;(]", entry.description)[0].strip()
        roles = ", ".join(entry.roles)
        cells = (entry.key, _rows(entry), entry.unit, _where(entry, raw_root), roles, entry.label, short)
        table.add_row(*cells[: len(names)])
    return table


def show_property(catalog: Catalog, key: str, raw_root: Path, prepared_root: Path) -> str:
    """Text behind ``crossprop data show``: all that is known of a property (key or label) and its prepared tables."""
    entry = catalog.property(key)
    lines = [
        f"{entry.key} ({entry.label}), {' and '.join(entry.roles)}",
        f"  {entry.description}",
        f"  unit      {entry.unit}",
        f"  rows      {_rows(entry)}",
        f"  at hand   {_where(entry, raw_root)}",
        f"  cite      {entry.citation}",
        f"  licence   {entry.licence}",
    ]
    figures = entry.paper.model_dump(exclude_none=True)
    known = [f"            {figures[name]:<8g} {text}" for name, text in _FIGURES.items() if name in figures]
    if known:
        lines += [f"  paper     test MAE in {entry.unit}, Gupta et al. 2021:", *known]
    lines += [f"  note      {note}" for note in entry.notes]
    if entry.embedded is not None:
        package = catalog.packages[entry.embedded.package]
        lines.append(f"  file      {package.package}/{package.path}, column {entry.embedded.column}")
    for name in [] if entry.embedded is not None else _editions(entry):
        lines.append(f"  files     of edition {name}:" if name else "  files")
        for file in entry.pinned_files(name):
            size = f"{file.size / 1e6:.2f} MB" if file.size else "size unknown"
            state = "fetched" if (raw_root / file.relative_path).is_file() else "to fetch"
            text = f"{file.repository}/{file.path} ({file.split}, {size}, {state})"
            if file.folder is not None:
                text = f"{Path(file.folder, file.path)} ({file.split}, your own)"
            lines.append(f"            {text}")
    return "\n".join(lines + _prepared(entry, prepared_root))


def verify_data(catalog: Catalog, raw_root: Path) -> tuple[list[Path], str]:
    """Hash every fetched file and every embedded archive again: those that are damaged, and a text on all."""
    pinned = catalog.pinned_files()
    present = [file for file in pinned if (raw_root / file.relative_path).is_file()]
    damaged = [path for file in present if blob_id(path := raw_root / file.relative_path) != file.blob]
    for package in catalog.packages.values():
        try:
            embedded_archive(package)
        except DataError:
            damaged.append(Path(package.package, package.path))
    lines = [f"{path} is damaged: delete it and fetch again." for path in damaged]
    whole, missing = len(present) + len(catalog.packages) - len(damaged), len(pinned) - len(present)
    lines.append(f"{whole} files whole, {len(damaged)} damaged, {missing} not fetched")
    return damaged, "\n".join(lines)


def _editions(entry: PropertyEntry) -> list[str | None]:
    return list(entry.editions) or [None]


def _rows(entry: PropertyEntry) -> str:
    return "?" if entry.rows is None else f"{'≥ ' if entry.editions else ''}{entry.rows:,}"


def _where(entry: PropertyEntry, raw_root: Path) -> str:
    """Where the property's rows are: installed, fetched (which edition), or still to be fetched."""
    if entry.embedded is not None:
        return "installed"
    if entry.is_own:
        return "own" if all(Path(f.folder or "", f.path).is_file() for f in entry.files) else "own, missing"
    present = [
        name or ""
        for name in _editions(entry)
        if all((raw_root / file.relative_path).is_file() for file in entry.pinned_files(name))
    ]
    named = f" ({', '.join(present)})" if any(present) else ""
    return f"fetched{named}" if present else "to fetch"


def _prepared(entry: PropertyEntry, prepared_root: Path) -> list[str]:
    """A line for each study that prepared the property: rows, compositions and range."""
    lines = []
    for path in sorted(prepared_root.glob(f"*/{entry.key}.parquet")):
        frame = pd.read_parquet(path, columns=["composition", "value", "split"])
        counts = ", ".join(f"{n:,} {split}" for split, n in frame["split"].value_counts(sort=False).items())
        low, middle, high = frame["value"].quantile([0.0, 0.5, 1.0])
        lines.append(
            f"  prepared  for study {path.parent.name}: {counts}, {frame['composition'].nunique():,} compositions; "
            f"{low:g} to {high:g}, median {middle:g} {entry.unit}"
        )
    return lines
