"""``crossprop predict``: formulas from arguments, a file or a pipe; values from a folder or the registry."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from crossprop.data.compositions import parse_formulas
from crossprop.data.user_columns import (
    ElementColumns,
    elements_in,
    formulas_of,
    named_column,
    plain_formula,
    read_amount,
)
from crossprop.data.user_columns import formula_column as guess_formula_column
from crossprop.data.user_table import decode, is_workbook, read_bytes, read_text_table
from crossprop.data.user_values import read_numbers
from crossprop.errors import ConfigError, OwnFileError, StoreError, UnknownModelError
from crossprop.inference.predictor import ServedModel
from crossprop.models.saved import INFO_FILE

SEPARATORS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Asked:
    """What is to be predicted.

    Attributes:
        formulas: Texts, n of them.
        lines: Line of each in its file, or its place among the arguments, from 1.
        columns: All columns of the input, as texts; empty where it had none.
        word: What the numbers count.
        reasons: Why a row gives no formula, by position, where more is known than its text says.
    """

    formulas: list[str]
    lines: list[int]
    columns: pd.DataFrame
    word: str = "line"
    reasons: Mapping[int, str] = field(default_factory=dict)


def asked_formulas(formulas: Sequence[str]) -> Asked:
    """Formulas that were given as arguments."""
    columns = pd.DataFrame(index=range(len(formulas)))
    return Asked(
        [plain_formula(formula) for formula in formulas],
        list(range(1, len(formulas) + 1)),
        columns,
        "formula",
    )


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
            [plain_formula(line.strip().strip('"')) for _, line in lines],
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
    columns = pd.DataFrame(rows, columns=_different(header), dtype=object)
    at = header.index(wanted)
    return Asked([plain_formula(str(row[at])) for row in rows], [n for n, _ in lines[1:]], columns)


def read_file(
    path: Path, formula_column: str | None, *, sheet: str | None = None, element_columns: str | None = None
) -> Asked:
    """Formulas from a CSV or Excel file, whatever its dialect; its other columns are kept.

    A text without any separator is a list: one formula a line, with or without a header.

    Args:
        path: The file.
        formula_column: Column of the formulas; the one that parses as such if ``None``.
        sheet: Sheet of a workbook.
        element_columns: ``atomic`` or ``weight``, where every element has a column of amounts instead.

    Raises:
        OwnFileError: The file cannot be read, or the column not be found.
    """
    content = read_bytes(path)
    if not is_workbook(content) and element_columns is None:
        text, _ = decode(path, content)
        if not any(sign in line.strip() for line in text.splitlines() for sign in (*SEPARATORS, " ")):
            return read_text(text, formula_column)
    table = read_text_table(path, [formula_column] if formula_column else [], sheet=sheet)
    width = len(table.header)
    rows = [[*record.fields, *[""] * width][:width] for record in table.records]
    columns = pd.DataFrame(rows, columns=_different(table.header), dtype=object)
    lines = [record.line for record in table.records]
    if element_columns is not None:
        if formula_column is not None or element_columns not in tuple(ElementColumns):
            raise OwnFileError(
                f"Give --element-columns {' or '.join(ElementColumns)}, and no --formula-column beside it."
            )
        elements = elements_in(path, table)
        formulas, reasons = composed(rows, elements, ElementColumns(element_columns))
        columns = columns.assign(**{_free("formula", columns): formulas})
        return Asked(formulas, lines, columns, reasons=reasons)
    if formula_column is not None:
        at = named_column(path, table, formula_column, "--formula-column")
    else:
        at = guess_formula_column(path, table, [])
    return Asked([plain_formula(row[at]) for row in rows], lines, columns)


def composed(
    rows: Sequence[Sequence[str]], elements: Mapping[int, str], kind: ElementColumns
) -> tuple[list[str], dict[int, str]]:
    """Formulas from columns of amounts; where a row gives none, why."""
    amounts = []
    for position in elements:
        texts = [row[position] for row in rows]
        numbers = read_numbers(texts).values
        amounts.append([read_amount(text, value) for text, value in zip(texts, numbers, strict=True)])
    return formulas_of(list(elements.values()), list(zip(*amounts, strict=True)), kind)


def _different(names: Sequence[str]) -> list[str]:
    """Names of columns without repetitions: the second 'K' is 'K_2'."""
    made: list[str] = []
    for name in names:
        count = 1
        while (different := name if count == 1 else f"{name}_{count}") in made:
            count += 1
        made.append(different)
    return made


def _free(name: str, columns: pd.DataFrame) -> str:
    return _different([*map(str, columns.columns), name])[-1]


CHUNK: Final = 20_000
OUTPUTS: Final = ("value", "lower", "upper", "in_domain", "note", "error")


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
    from crossprop.tracking import registry

    model = registry.find_model(uri, name)
    if version is None and alias is None:
        champion, challenger = model.holder("champion"), model.holder("challenger")
        if champion is None and challenger is not None:
            raise UnknownModelError(
                f"{model.name} has no champion yet, but a challenger (version {challenger.version}). Predict with it "
                f"by --alias challenger, or make it the champion: crossprop promote {model.name}."
            )
    return registry.predictor_folder(
        uri, registry.find_version(uri, model.name, alias=alias or "champion", version=version)
    )


def load(folder: Path) -> ServedModel:
    """The model in a folder, ready to predict."""
    return ServedModel.load(folder)


def predict(model: ServedModel, asked: Asked) -> pd.DataFrame:
    """Predict what can be predicted.

    Returns:
        The input's columns (or ``formula``), then ``value, lower, upper, in_domain, note, error``; a row that holds no
        formula has an ``error`` that names its line, and no value. An input column of such a name is kept with
        ``_input`` behind its name.
    """
    reasons = asked.reasons
    formulas = ["" if i in reasons else formula for i, formula in enumerate(asked.formulas)]
    parts = [
        _chunk(model, formulas[i : i + CHUNK], asked.lines[i : i + CHUNK], asked.word)
        for i in range(0, len(formulas), CHUNK)
    ]
    predicted = pd.concat(parts, ignore_index=True)
    for row, reason in reasons.items():
        predicted.loc[row, "error"] = f"{asked.word} {asked.lines[row]}: {reason}"
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
