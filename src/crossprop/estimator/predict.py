"""``crossprop predict``: formulas from arguments, a file or a pipe; values from a folder or the registry."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from crossprop.data.compositions import Amounts, parse_formulas
from crossprop.data.formula_list import FormulaList, free_name, read_formula_list
from crossprop.data.user_columns import element_columns
from crossprop.data.user_formulas import formulas_in
from crossprop.data.user_table import fold
from crossprop.errors import UnknownModelError, UserFileError
from crossprop.estimator import REPORT_FILE
from crossprop.inference.predictor import OUTPUT_COLUMNS, ServedModel, table_of
from crossprop.io import atomic_file, read_json
from crossprop.methods import unit_behind

CHUNK: Final = 20_000
OUTPUTS: Final = (*OUTPUT_COLUMNS, "error")


def read_input(
    formulas: Sequence[str], file: Path | None, column: str | None, amounts: str | None, **options: Any
) -> FormulaList:
    """Formulas from arguments, from a file, or from standard input where one of them is ``-``."""
    source: Path | bytes | None = file
    if "-" in (str(file), *formulas[:1]):
        if sys.stdin is None:
            raise UserFileError("The input is closed. Give formulas, or --input with a file.")
        source = sys.stdin.buffer.read()
    if source is not None:
        return read_formula_list(source, column, amounts=amounts or Amounts.ATOMIC, **options)
    lines = list(range(1, len(formulas) + 1))
    texts, reasons, _ = formulas_in(formulas, lines, amounts)
    columns = pd.DataFrame({"formula": list(formulas)})
    return FormulaList(texts, lines, columns, formulas, reasons, word="formula")


def refuse_values(asked: FormulaList, target: str) -> None:
    """Refuse a column of an element that is named like the property of the model: it may hold values, no amounts."""
    names = list(map(str, asked.columns))
    if same := [names[at] for at in element_columns(names) if fold(names[at]) == target]:
        raise UserFileError(
            f"The column {same[0]!r} is named like the property of the model. Remove it, or name it "
            f"{f'{same[0]} (%)'!r} if it holds amounts of the element."
        )


def doubts_of_amounts(folder: Path) -> list[str]:
    """A note for input that does not say what amounts count, if the model was fitted on amounts by weight."""
    try:
        learnt = read_json(folder / REPORT_FILE)["columns"].get("amounts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not a model of 'crossprop fit'
        return []
    note = "the model was fitted on amounts by weight, and these are read as atomic: if they are not, --amounts weight"
    return [note] if learnt == Amounts.WEIGHT else []


def model_folder(name: str, *, version: str | None = None, alias: str | None = None) -> Path:
    """Folder of a saved model: the named one, or that of a registered model's version, by default the champion."""
    from crossprop.tracking.registry import CHAMPION, saved_model

    folder, found = saved_model(None, name, alias=alias or CHAMPION, version=version)
    if found is None and (version is not None or alias is not None):
        raise UnknownModelError(f"{folder} has no versions. Leave out --version and --alias.")
    return folder


def predict(model: ServedModel, asked: FormulaList) -> pd.DataFrame:
    """The input's columns (``_input`` behind the name where it is one of ``OUTPUTS``), and the ``OUTPUTS``."""
    formulas = ["" if i in asked.reasons else formula for i, formula in enumerate(asked.formulas)]
    parts, errors = [], dict[int, object]()
    for start in range(0, len(formulas), CHUNK):
        fractions, good, refused = parse_formulas(formulas[start : start + CHUNK])
        errors |= {start + row: error for row, error in refused.items()}
        if len(good):
            made = table_of(model.predict(fractions), [formulas[start + row] for row in good])
            parts.append(made.set_axis(start + good))
    errors |= asked.reasons
    predicted = pd.concat(parts) if parts else pd.DataFrame(columns=list(OUTPUT_COLUMNS), dtype=float)
    predicted = predicted.reindex(range(len(formulas)))
    predicted["in_domain"] = predicted["in_domain"].astype("boolean")
    predicted["note"] = predicted["note"].fillna("").astype(str)
    predicted["error"] = [
        f"{asked.word} {line}: {errors[row]}" if row in errors else "" for row, line in enumerate(asked.lines)
    ]
    names = list(map(str, asked.columns))
    given = asked.columns.rename(columns={n: free_name(f"{n}_input", names) for n in names if n in OUTPUTS})
    return pd.concat([given, predicted], axis=1)


def print_predictions(predicted: pd.DataFrame, info: Mapping[str, Any], form: str) -> None:
    """Print a ``table`` for people, or ``csv`` or ``json`` for programs."""
    if form == "csv":
        predicted.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        print(_as_json(predicted) if form == "json" else _as_table(predicted, info))


def write_predictions(predicted: pd.DataFrame, path: Path) -> None:
    """Write a file in the format of its ending."""
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

    unit = unit_behind(info["unit"], " ({})")
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
