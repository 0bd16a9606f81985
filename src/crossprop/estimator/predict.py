"""``crossprop predict``: formulas from arguments, a file or a pipe; values from a folder or the registry."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
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
from crossprop.data.user_table import TextTable, decode, is_workbook, read_bytes, read_text_table
from crossprop.data.user_values import read_numbers
from crossprop.errors import ConfigError, OwnFileError, UnknownModelError
from crossprop.estimator.pretrained import CACHE_VARIABLE, cache_folder
from crossprop.inference.predictor import ServedModel
from crossprop.io import atomic_file
from crossprop.models.saved import INFO_FILE, read_info

SEPARATORS: Final = (",", ";", "\t", "|")
CHUNK: Final = 20_000
OUTPUTS: Final = ("value", "lower", "upper", "in_domain", "note", "error")
KINDS: Final = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Asked:
    """What is to be predicted: formulas, the line of each, and all columns of the input, where it had any.

    ``word`` is what the lines count; ``reasons`` say, by position, why a row gives no formula where its text does not.
    """

    formulas: list[str]
    lines: Sequence[int]
    columns: pd.DataFrame | None = None
    word: str = "line"
    reasons: Mapping[int, str] = field(default_factory=dict)


def asked_formulas(formulas: Sequence[str]) -> Asked:
    """Formulas that were given as arguments."""
    return Asked(list(map(plain_formula, formulas)), range(1, len(formulas) + 1), word="formula")


def read_pipe(stream: TextIO | None, formula_column: str | None, **options: str | None) -> Asked:
    """Formulas from standard input, read as a file is: text in whatever encoding, or a workbook.

    Raises:
        OwnFileError: It is closed, or what :func:`read_file` refuses.
    """
    if stream is None:
        raise OwnFileError("There is no input to read: it is closed. Give formulas, or --input with a file.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(stream.buffer.read())
        return read_file(path, formula_column, **options)


def read_file(
    path: Path,
    formula_column: str | None = None,
    *,
    sheet: str | None = None,
    element_columns: str | None = None,
) -> Asked:
    """Formulas from a CSV or Excel file, whatever its dialect; its other columns are kept.

    A text without any separator is a list: one formula a line, with or without the header ``formula``.

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
        lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if not any(sign in text for sign in SEPARATORS) and not any(" " in line for _, line in lines[:1]):
            return _list(path, [(n, line.strip('"')) for n, line in lines], formula_column)
    table = read_text_table(path, [formula_column] if formula_column else [], sheet=sheet)
    columns = _columns(table.header, [record.fields for record in table.records])
    numbers = [record.line for record in table.records]
    if element_columns is not None:
        if formula_column is not None or element_columns not in tuple(ElementColumns):
            raise OwnFileError(
                f"Give --element-columns {' or '.join(ElementColumns)}, and no --formula-column beside it."
            )
        formulas, reasons = _composed(path, table, columns, ElementColumns(element_columns))
        name = _different([*columns, "formula"])[-1]
        return Asked(formulas, numbers, columns.assign(**{name: formulas}), reasons=reasons)
    if formula_column is not None:
        at = named_column(path, table, formula_column, "--formula-column")
    else:
        at = guess_formula_column(path, table, [])
    return Asked(list(map(plain_formula, columns.iloc[:, at])), numbers, columns)


def _list(path: Path, lines: list[tuple[int, str]], formula_column: str | None) -> Asked:
    """One formula a line; the first line may be the header."""
    if not lines:
        raise OwnFileError(f"{path.name} is empty. Give one formula a line, or a table with a header.")
    wanted, first = formula_column or "formula", lines[0][1]
    header = first if first.lower() == wanted.lower() else None
    if header is None and formula_column is not None:
        raise OwnFileError(f"{path.name} has the column {first[:80]}, not {formula_column}. Name that one.")
    if header is not None and len(lines) == 1:
        raise OwnFileError(f"{path.name} holds a header ({header}) but no formula below it.")
    rows = lines if header is None else lines[1:]
    texts = [text for _, text in rows]
    columns = None if header is None else pd.DataFrame({header: texts})
    return Asked(list(map(plain_formula, texts)), [number for number, _ in rows], columns)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> pd.DataFrame:
    """The input as texts, short rows filled up, with different names for all columns."""
    width = len(header)
    return pd.DataFrame(
        [[*row, *[""] * width][:width] for row in rows], columns=_different(header), dtype=object
    )


def _different(names: Sequence[str]) -> list[str]:
    """Names of columns without repetitions: the second 'K' is 'K_2'."""
    made: list[str] = []
    for name in names:
        count = 1
        while (different := name if count == 1 else f"{name}_{count}") in made:
            count += 1
        made.append(different)
    return made


def _composed(
    path: Path, table: TextTable, columns: pd.DataFrame, kind: ElementColumns
) -> tuple[list[str], dict[int, str]]:
    """Formulas from columns of amounts; where a row gives none, why."""
    elements, amounts = elements_in(path, table), []
    for position in elements:
        texts = columns.iloc[:, position].tolist()
        numbers = read_numbers(texts).values
        amounts.append([read_amount(text, value) for text, value in zip(texts, numbers, strict=True)])
    return formulas_of(list(elements.values()), list(zip(*amounts, strict=True)), kind)


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
    found = registry.find_version(uri, model.name, alias=alias or "champion", version=version)
    return registry.predictor_folder(uri, found)


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
    formulas = ["" if i in asked.reasons else formula for i, formula in enumerate(asked.formulas)]
    parts, errors = [], dict[int, object]()
    for start in range(0, len(formulas), CHUNK):
        fractions, good, refused = parse_formulas(formulas[start : start + CHUNK])
        errors |= {start + row: error for row, error in refused.items()}
        if len(good):
            made = model.predict(fractions)
            values = {name: getattr(made, name) for name in OUTPUTS[:-1]}
            parts.append(pd.DataFrame(values, index=start + good))
    errors |= asked.reasons
    predicted = pd.concat(parts) if parts else pd.DataFrame(columns=list(OUTPUTS[:-1]), dtype=float)
    predicted = predicted.reindex(range(len(formulas)))
    predicted["in_domain"] = predicted["in_domain"].astype("boolean")
    predicted["note"] = predicted["note"].fillna("").astype(str)
    predicted["error"] = [
        f"{asked.word} {line}: {errors[row]}" if row in errors else "" for row, line in enumerate(asked.lines)
    ]
    given = pd.DataFrame({"formula": asked.formulas}) if asked.columns is None else asked.columns
    given = given.rename(columns={name: f"{name}_input" for name in given if name in OUTPUTS})
    return pd.concat([given, predicted], axis=1)


def print_predictions(predicted: pd.DataFrame, info: Mapping[str, Any], form: str) -> None:
    """Print a table for people, or CSV or JSON for programs."""
    if form == "csv":
        predicted.to_csv(sys.stdout, index=False, lineterminator="\n")
    elif form == "json":
        print(_as_json(predicted))
    else:
        print(_as_table(predicted, info))


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
        StoreError: The file cannot be written.
    """
    with atomic_file(path) as draft:
        if path.suffix == ".csv":
            predicted.to_csv(draft, index=False, lineterminator="\n")
        elif path.suffix == ".parquet":
            predicted.to_parquet(draft, index=False)
        else:
            draft.write_text(_as_json(predicted) + "\n", encoding="utf-8")


def _as_json(predicted: pd.DataFrame) -> str:
    rows = predicted.astype(object).where(predicted.notna(), None).to_dict("records")
    return json.dumps(rows, indent=1, ensure_ascii=False)


def _as_table(predicted: pd.DataFrame, info: Mapping[str, Any]) -> str:
    from crossprop.estimator.report import text_table

    unit = f" ({info['unit']})" if info.get("unit") not in (None, "", "1") else ""
    given = [name for name in predicted.columns if name not in OUTPUTS]
    head = [*given, "value", f"{100 * float(info['interval']['coverage']):.0f} % interval", "note"]
    rows = []
    for row in predicted.to_dict("records"):
        known = not pd.isna(row["value"])
        value = f"{row['value']:.4g}" if known else "–"
        interval = f"{row['lower']:.4g} to {row['upper']:.4g}" if known else ""
        rows.append([*(str(row[name]) for name in given), value, interval, row["error"] or row["note"]])
    alignment = [*["left"] * len(given), "right", "right", "left"]
    return f"{info['target']}{unit}\n\n{text_table(rows, head, alignment)}"
