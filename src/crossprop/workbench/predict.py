"""``crossprop predict``: formulas from arguments, a file or a pipe; values from a folder or the registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pandas as pd

from crossprop.data.compositions import parse_formulas
from crossprop.errors import UnknownModelError
from crossprop.models.saved import INFO_FILE
from crossprop.serving.served import ServedModel
from crossprop.workbench.predict_input import Asked, asked_formulas, read_file, read_pipe, read_text
from crossprop.workbench.pretraining import CACHE_VARIABLE, cache_folder

__all__ = [
    "Asked", "as_records", "asked_formulas", "bad_rows", "load", "model_folder", "predict", "read_file", "read_pipe",
    "read_text",
]  # fmt: skip

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
