"""Predictions on the screen and in files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crossprop.errors import ConfigError, StoreError
from crossprop.workbench.predict import as_records

KINDS = (".csv", ".parquet", ".json")


def print_predictions(predicted: pd.DataFrame, info: Mapping[str, Any], form: str) -> None:
    """Print a table for people, or CSV or JSON for programs."""
    if form == "csv":
        predicted.to_csv(sys.stdout, index=False, lineterminator="\n")
    elif form == "json":
        print(json.dumps(as_records(predicted), indent=1, ensure_ascii=False))
    else:
        from rich.console import Console

        Console().print(_table(predicted, info))


def check_ending(path: Path) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        ConfigError: The ending is none of the known ones.
    """
    if path.suffix not in KINDS:
        raise ConfigError(f"{path} has the ending {path.suffix!r}. Choose {', '.join(KINDS)}.")


def write_predictions(predicted: pd.DataFrame, path: Path) -> None:
    """Write a file, whole or not at all; its ending says how.

    Raises:
        ConfigError: The ending is none of the known ones.
        StoreError: The file cannot be written.
    """
    check_ending(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            predicted.to_csv(draft, index=False, lineterminator="\n")
        elif path.suffix == ".parquet":
            predicted.to_parquet(draft, index=False)
        else:
            draft.write_text(json.dumps(as_records(predicted), indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}. Free some space and run again.") from error
    finally:
        draft.unlink(missing_ok=True)


def _table(predicted: pd.DataFrame, info: Mapping[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    unit = f" ({info['unit']})" if info.get("unit") not in (None, "", "1") else ""
    share = f"{100 * float(info['interval']['coverage']):.0f} % interval"
    table = Table(title=f"{info['target']}{unit}", title_justify="left")
    given = [
        name
        for name in predicted.columns
        if name not in ("value", "lower", "upper", "in_domain", "note", "error")
    ]
    for name in given:
        table.add_column(name)
    table.add_column("value", justify="right")
    table.add_column(share, justify="right")
    table.add_column("note")
    for row in predicted.to_dict("records"):
        known = not pd.isna(row["value"])
        interval = f"{row['lower']:.4g} to {row['upper']:.4g}" if known else ""
        # What a person typed is text, never markup.
        cells = [Text(str(row[name])) for name in given]
        note = Text(str(row["error"] or row["note"]))
        table.add_row(*cells, f"{row['value']:.4g}" if known else "–", interval, note)
    return table
