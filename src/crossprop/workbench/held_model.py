"""The fitted model that an estimator carries: a folder of its own, which goes with it wherever it is copied to."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from numbers import Real
from pathlib import Path
from typing import Any, Self

from crossprop.errors import EstimatorInputError, ModelFormatError
from crossprop.experiments.inline_pool import use_keras
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
            EstimatorInputError: The coverage is no share, or the model has no evidence to find another one from.
        """
        if coverage is not None and not (isinstance(coverage, Real) and 0 < coverage < 1):
            raise EstimatorInputError(f"coverage={coverage!r}: give a share between 0 and 1, such as 0.9.")
        with self._lock:
            if self._served is None:
                if any(self.folder.rglob("*.keras")):
                    use_keras("tensorflow")
                self._served = ServedModel.load(self.folder, compiled=False)
        model = self._served
        stated = float(model.info["interval"]["coverage"])
        if coverage is None or coverage == stated:
            return model
        _warn_of_few(model, coverage)
        try:
            return model.with_coverage(coverage)
        except ModelFormatError as error:
            raise EstimatorInputError(str(error)) from error

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


def _warn_of_few(model: ServedModel, coverage: float) -> None:
    """Of n errors the largest tells the interval of n / (n + 1) of new values, and none tells a wider one."""
    known = 0 if model.evidence is None else int((model.evidence["split"] == "train").sum())
    if known and math.ceil((known + 1) * coverage) > known:
        warnings.warn(
            f"{known} errors are known from cross-validation, too few for a coverage of {coverage:g}: the intervals "
            f"are those of {known / (known + 1):.4f} and may hold less.",
            UserWarning,
            stacklevel=4,
        )


def _remove(folder: Path, owner: int) -> None:
    """A process that was forked from the owner's must not take its files away."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
