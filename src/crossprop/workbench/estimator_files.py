"""What an estimator writes beside its model, so that a folder becomes an estimator again: plain JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final

from crossprop.errors import ModelFormatError

NOTE_FILE: Final = "estimator.json"
FITTED: Final = ("winner_", "cv_mae_", "cv_results_", "n_iter_", "notes_")


def note_of(estimator: Any) -> dict[str, Any]:
    """Parameters and fitted figures of an estimator as plain values; objects such as a random state are left out."""
    parameters = {name: _plain(value) for name, value in estimator.get_params(deep=False).items()}
    if parameters["random_state"] is None and estimator.random_state is not None:
        del parameters["random_state"]
    return {"parameters": parameters, "fitted": {name: getattr(estimator, name) for name in FITTED}}


def write_note(note: Mapping[str, Any], folder: Path) -> None:
    """Write the note into a folder."""
    (folder / NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def read_note(folder: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """The note beside a model; of a model that ``crossprop fit`` or a study made, what its ``model.json`` says.

    Raises:
        ModelFormatError: The note is damaged.
    """
    fitted: dict[str, Any] = {
        "winner_": str(info["method"]), "cv_mae_": None, "cv_results_": {}, "n_iter_": 1, "notes_": [],
    }  # fmt: skip
    path = folder / NOTE_FILE
    if not path.is_file():
        return {"parameters": {"target": info["target"], "unit": info["unit"]}, "fitted": fitted}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        known = {name: value for name, value in note["fitted"].items() if name in FITTED}
        return {"parameters": dict(note["parameters"]), "fitted": fitted | known}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. Save the estimator again.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value) if isinstance(value, Path) else None
