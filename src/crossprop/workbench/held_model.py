"""The fitted model that an estimator carries: a folder of its own, which goes with it wherever it is copied to."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from crossprop.errors import EstimatorInputError, ModelFormatError
from crossprop.experiments.inline_pool import use_keras
from crossprop.models.saved import INFO_FILE
from crossprop.serving.intervals import NEIGHBOURS, conformal_half_width
from crossprop.serving.served import ServedModel


class HeldModel:
    """A saved model in a temporary folder that lasts as long as this object; loaded when it is first asked.

    A copy is the same object, since nothing about it changes. When it is sent to another process, the files go along.

    Args:
        folder: Saved model; copied.
    """

    _served: ServedModel | None

    def __init__(self, folder: Path) -> None:
        self._settle()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where the files lie; gone with the object."""
        return self._folder

    def served(self, coverage: float | None = None) -> ServedModel:
        """The loaded model, with intervals of this coverage instead of the stored one.

        Raises:
            EstimatorInputError: The model has no evidence to find another coverage from.
        """
        with self._lock:
            if self._served is None:
                if any(self.folder.rglob("*.keras")):
                    use_keras("tensorflow")
                self._served = ServedModel.load(self.folder, compiled=False)
        model = self._served
        stated = float(model.info["interval"]["coverage"])
        return model if coverage is None or coverage == stated else with_coverage(model, coverage)

    def __getstate__(self) -> dict[str, bytes]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self._settle()
        for name, content in state.items():
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise ModelFormatError(f"{name!r} would lie outside of the model's folder. Do not load it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"HeldModel({str(self.folder)!r})"

    def _settle(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="crossprop-model-"))
        self._lock = threading.Lock()
        self._served = None
        weakref.finalize(self, _remove, self._folder, os.getpid())


def with_coverage(model: ServedModel, coverage: float) -> ServedModel:
    """The model with intervals of another coverage, from the same out-of-fold residuals.

    Raises:
        EstimatorInputError: The coverage is no share, or the model has no evidence.
    """
    if not 0 < coverage < 1:
        raise EstimatorInputError(f"coverage={coverage!r}: give a share between 0 and 1, such as 0.9.")
    calibration, evidence = model.calibration, model.evidence
    if calibration is None or evidence is None:
        raise EstimatorInputError(
            f"{model.folder} was saved without evidence: only its own coverage, "
            f"{model.info['interval']['coverage']}, is known. Fit it again."
        )
    rows = evidence[evidence["split"] == "train"]
    y_pred = rows["y_pred"].to_numpy(float)
    residuals = np.abs(rows["y_true"].to_numpy(float) - y_pred)
    if calibration.difficulty is not None:
        around = calibration.around
        _, others = around.nearest_others(NEIGHBOURS)
        own = others[around.compositions.index.get_indexer(pd.Index(rows["composition"]))]
        residuals = residuals / calibration.difficulty.estimate_left_out(y_pred, own)
    scale = conformal_half_width(residuals, coverage)
    return replace(model, calibration=replace(calibration, scale=scale))


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a saved model."""
    return (folder / INFO_FILE).is_file()


def _remove(folder: Path, owner: int) -> None:
    """A process that was forked from the owner's must not take its files away."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
