"""``crossprop predict``: formulas from arguments, a file or a pipe; values from a folder or the registry."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from crossprop.data.compositions import parse_formulas
from crossprop.data.own_columns import formula_column as guess_formula_column
from crossprop.data.own_columns import named_column
from crossprop.data.own_sheet import is_workbook
from crossprop.data.own_table import read_text_table
from crossprop.data.own_text import decode, read_bytes
from crossprop.errors import OwnFileError, UnknownModelError
from crossprop.models.saved import INFO_FILE
from crossprop.serving.served import ServedModel
from crossprop.workbench.pretraining import CACHE_VARIABLE, cache_folder

CHUNK: Final = 20_000
SEPARATORS: Final = (",", ";", "\t", "|")
OUTPUTS: Final = ("value", "lower", "upper", "in_domain", "note", "error")


@dataclass(frozen=True)
class Asked:
    """What is to be predicted.

    Attributes:
        formulas: Texts, n of them.
        lines: Line of each in its file, or its place among the arguments, from 1.
        columns: All columns of the input, as texts; empty where it had none.
        word: What the numbers count.
    """

    formulas: list[str]
    lines: list[int]
    columns: pd.DataFrame
    word: str = "line"


def asked_formulas(formulas: Sequence[str]) -> Asked:
    """Formulas that were given as arguments."""
    columns = pd.DataFrame(index=range(len(formulas)))
    return Asked(list(formulas), list(range(1, len(formulas) + 1)), columns, "formula")


def read_pipe(stream: TextIO | None, formula_column: str | None) -> Asked:
    """Formulas from standard input, in whatever encoding.

    Raises:
        OwnFileError: It is closed, no text, empty, or has no such column.
    """
    if stream is None:
        raise OwnFileError("There is no input to read: it is closed. Give formulas, or --input with a file.")
    text, _ = decode(Path("the input"), stream.buffer.read())
    return read_text(text, formula_column)


def read_text(text: str, formula_column: str | None) -> Asked:
    """Formulas of a text: a table with a header, or one formula a line.

    Raises:
        OwnFileError: There is none, or no such column.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise OwnFileError("The input is empty. Give one formula a line, or a table with a header.")
    separator = next((sign for sign in SEPARATORS if sign in lines[0][1]), ",")
    try:
        reader = list(csv.reader(io.StringIO("\n".join(line for _, line in lines)), delimiter=separator))
    except csv.Error as error:
        raise OwnFileError(f"The input is no table: {error}. Is a quote left open there?") from error
    header = [name.strip() for name in reader[0]]
    wanted = formula_column or next((name for name in header if name.lower() == "formula"), None)
    if wanted is None and len(header) == 1:
        return Asked(
            [line.strip().strip('"') for _, line in lines],
            [n for n, _ in lines],
            pd.DataFrame(index=range(len(lines))),
        )
    if wanted not in header:
        raise OwnFileError(
            f"The input has the columns {', '.join(header)}. Name that of the formulas with --formula-column."
        )
    if len(reader) == 1:
        raise OwnFileError(f"The input holds a header ({', '.join(header)[:80]}) but no formula below it.")
    rows = [[*row, *[""] * len(header)][: len(header)] for row in reader[1:]]
    columns = pd.DataFrame(rows, columns=header, dtype=object)
    return Asked([str(f).strip() for f in columns[wanted]], [n for n, _ in lines[1:]], columns)


def read_file(path: Path, formula_column: str | None) -> Asked:
    """Formulas from a CSV or Excel file, whatever its dialect; its other columns are kept.

    A text without any separator is a list: one formula a line, with or without a header.

    Raises:
        OwnFileError: The file cannot be read, or the column not be found.
    """
    content = read_bytes(path)
    if not is_workbook(content):
        text, _ = decode(path, content)
        if not any(sign in line.strip() for line in text.splitlines() for sign in (*SEPARATORS, " ")):
            return read_text(text, formula_column)
    table = read_text_table(path, [formula_column] if formula_column else [])
    if formula_column is not None:
        at = named_column(path, table, formula_column, "--formula-column")
    else:
        at = guess_formula_column(path, table, [])
    width = len(table.header)
    rows = [[*record.fields, *[""] * width][:width] for record in table.records]
    columns = pd.DataFrame(rows, columns=list(table.header), dtype=object)
    return Asked([row[at].strip() for row in rows], [record.line for record in table.records], columns)


def model_folder(
    name: str, *, version: str | None = None, alias: str | None = None, uri: str | None = None
) -> Path:
    """Folder of a model: the named one, or that of a registered version.

    Args:
        name: A folder with a saved model, or a registered model (``<study>.<target>`` or an unambiguous target).
        version: Version of the registered model.
        alias: Alias of the registered model; ``champion`` unless given.
        uri: Tracking store; that of the environment or the working folder unless given.

    Raises:
        ModelFormatError: The folder holds no saved model.
        UnknownModelError: No such model or version; where only the champion is missing, the message names the
            challenger.
        TrackingError: The store cannot be reached.
    """
    folder = Path(name)
    if (folder / INFO_FILE).is_file():
        if version is not None or alias is not None:
            raise UnknownModelError(
                f"{folder} is a model's folder and has no versions. Leave out --version and --alias."
            )
        return folder
    if folder.is_dir() or name.endswith("/"):
        from crossprop.models.saved import read_info

        read_info(folder)  # says what is wrong with it
    from crossprop.tracking import lookup

    model = lookup.find_model(uri, name)
    if version is None and alias is None:
        champion, challenger = model.holder("champion"), model.holder("challenger")
        if champion is None and challenger is not None:
            raise UnknownModelError(
                f"{model.name} has no champion yet, but a challenger (version {challenger.version}). Predict with it "
                f"by --alias challenger, or make it the champion: crossprop promote {model.name}."
            )
    return lookup.predictor_folder(
        uri, lookup.find_version(uri, model.name, alias=alias or "champion", version=version)
    )


def load(folder: Path) -> ServedModel:
    """The compiled model; what is compiled is kept in the user's cache folder."""
    return ServedModel.load(
        folder, cache=None if os.environ.get(CACHE_VARIABLE) else cache_folder() / "compiled"
    )


def predict(model: ServedModel, asked: Asked) -> pd.DataFrame:
    """Predict what can be predicted.

    Returns:
        The input's columns (or ``formula``), then ``value, lower, upper, in_domain, note, error``; a row that holds no
        formula has an ``error`` that names its line, and no value. An input column of such a name is kept with
        ``_input`` behind its name.
    """
    parts = [
        _chunk(model, asked.formulas[i : i + CHUNK], asked.lines[i : i + CHUNK], asked.word)
        for i in range(0, len(asked.formulas), CHUNK)
    ]
    predicted = pd.concat(parts, ignore_index=True)
    columns = asked.columns
    if columns.shape[1] == 0:
        columns = pd.DataFrame({"formula": asked.formulas})
    columns = columns.rename(columns={name: f"{name}_input" for name in columns.columns if name in OUTPUTS})
    return pd.concat([columns.reset_index(drop=True), predicted], axis=1)


def bad_rows(predicted: pd.DataFrame) -> list[str]:
    """Why rows could not be predicted."""
    return [text for text in predicted["error"] if text]


def as_records(predicted: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, for JSON; ``None`` where there is no value."""
    rows = predicted.astype(object).where(predicted.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _chunk(model: ServedModel, formulas: list[str], lines: list[int], word: str) -> pd.DataFrame:
    fractions, good, refused = parse_formulas(formulas)
    frame = pd.DataFrame(
        {
            "value": pd.Series(float("nan"), index=range(len(formulas)), dtype=float),
            "lower": float("nan"),
            "upper": float("nan"),
            "in_domain": pd.Series(pd.NA, index=range(len(formulas)), dtype="boolean"),
            "note": "",
            "error": "",
        }
    )
    if len(good):
        made = model.predict(fractions)
        frame.loc[good, "value"], frame.loc[good, "lower"], frame.loc[good, "upper"] = (
            made.value,
            made.lower,
            made.upper,
        )
        frame.loc[good, "in_domain"], frame.loc[good, "note"] = made.in_domain, made.note
    for row, error in refused.items():
        frame.loc[row, "error"] = f"{word} {lines[row]}: {error}"
    return frame
