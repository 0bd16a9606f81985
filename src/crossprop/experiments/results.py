"""The outcome of a cell, and how it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from queue import Queue
from threading import Event, Thread
from time import monotonic
from typing import Any, ClassVar

import pandas as pd
from pydantic import ConfigDict, TypeAdapter

from crossprop.errors import StoreOutOfReachError
from crossprop.experiments.progress import Print, show
from crossprop.methods import Method, Representation, Side

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The deterministic facts about one cell: two runs of a study give the same ones.

    Errors and intervals are in the target's ``unit``, and from ``cv_mae`` on ``None`` for a cell that was screened but
    is not the best of its method. ``stopped`` says why the best cell of a method got no whole cross-validation,
    ``rung_mae`` holds the folds that it had by then. ``strict_test_mae`` is the error of the chosen fold model refitted
    on its ``strict_n_train`` rows whose composition is not in the hold-out.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    cell: str
    study: str
    protocol: str
    target: str
    unit: str
    source: str | None
    method: Method
    representation: Representation | None
    layer: str | None = None
    hyperparameters: dict[str, Scalar] = field(default_factory=dict)
    n_train: int
    n_test: int
    n_trials: int = 0
    val_mae: float | None = None
    cv_mae: tuple[float, ...] | None = None
    best_fold: int | None = None
    test_mae: float | None = None
    test_mae_low: float | None = None
    test_mae_high: float | None = None
    test_q95: float | None = None
    test_r2: float | None = None
    test_mae_ensemble: float | None = None
    test_mae_median: float | None = None
    strict_test_mae: float | None = None
    strict_n_train: int | None = None
    rung_mae: tuple[float, ...] | None = None
    stopped: str | None = None
    failure: str | None = None

    @property
    def cv_mae_mean(self) -> float | None:
        """Mean of the folds' validation MAE: what SC and TL are chosen by."""
        return None if self.cv_mae is None else sum(self.cv_mae) / len(self.cv_mae)

    @property
    def cv_mae_std(self) -> float | None:
        """Sample standard deviation of the folds' validation MAE (0 for one fold)."""
        if self.cv_mae is None:
            return None
        mean = sum(self.cv_mae) / len(self.cv_mae)
        return (sum((v - mean) ** 2 for v in self.cv_mae) / max(len(self.cv_mae) - 1, 1)) ** 0.5

    @property
    def label(self) -> str:
        """Short name of the cell within its target, e.g. ``ml(PA)`` or ``finetune(formation_energy)``."""
        if self.method.side is Side.PLAIN:
            return self.method.notation
        if self.source is not None:
            where = f"{self.source}, {self.layer}" if self.layer else self.source
            return f"{self.method}({where})"
        return f"{self.method}({self.representation.short})" if self.representation else str(self.method)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CellResult:
        """Inverse of :meth:`as_dict`; ``ValueError`` where an entry is missing, unknown or of another type."""
        return _RESULT.validate_python(values)


_RESULT = TypeAdapter(CellResult)


@dataclass(frozen=True, kw_only=True)
class CellCost:
    """What a cell spent: differs from run to run, so it is kept apart from the facts."""

    tune_seconds: float = 0.0
    fit_seconds: float = 0.0
    peak_memory: int = 0
    """Peak resident memory of the process that worked on the cell, in bytes."""


@dataclass(frozen=True, kw_only=True)
class CellOutcome:
    """One cell with its tables.

    trials: columns ``number, state, value, seconds`` and one ``params_<name>`` per hyperparameter.
    history: columns ``stage`` ("screening" or "fold"), ``fold``, ``epoch``, ``loss``, ``val_mae``.
    predictions: columns ``split`` ("validation": out of fold, "test"), ``fold``, ``formula``, ``y_true``, ``y_pred``,
        ``y_pred_ensemble`` (NaN on validation rows), in the target's unit; empty for a cell without cross-validation.
    """

    result: CellResult
    cost: CellCost
    trials: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame


Recorder = Callable[[CellOutcome], str]
"""Keeps a finished cell and returns the id of its record; the same cell twice makes one record."""

PATIENCE_SECONDS = 900.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_LAST_WRITE_SECONDS = 20.0


class BackgroundRecorder(AbstractContextManager["BackgroundRecorder"]):
    """Records finished cells on a thread of its own, so that the scheduler never waits for the store.

    While the store is out of reach, the thread tries again with growing pauses for ``patience`` seconds and the study
    goes on; what is computed is in the cell store in any case. Any other error ends the study with the next
    ``submit`` or ``check``. ``inner`` is used by the thread alone.
    """

    def __init__(self, inner: Recorder, *, patience: float = PATIENCE_SECONDS, write: Print = show) -> None:
        self._inner, self._patience, self._print = inner, patience, write
        self._queue: Queue[CellOutcome | None] = Queue()
        self._abandoned = Event()
        self._error: BaseException | None = None
        self._ids: dict[str, str] = {}
        self._thread: Thread | None = None

    def check(self) -> None:
        """Raise the error of the thread, if it has one."""
        if self._error is not None:
            raise self._error

    def submit(self, outcome: CellOutcome) -> None:
        """Queue a cell and return at once; raises the error of an earlier one."""
        self.check()
        self._queue.put(outcome)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="recorder", daemon=True)
            self._thread.start()

    def finish(self) -> dict[str, str]:
        """Wait until everything is recorded; returns the id of every cell's record by cell, or raises as ``check``."""
        self._queue.join()
        self.check()
        return dict(self._ids)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish; after an error, end what is being written and leave the rest to the next run."""
        try:
            if kind is None:
                self.finish()
        finally:
            self._abandoned.set()
            self._queue.put(None)
            if self._thread is not None:
                self._thread.join(_LAST_WRITE_SECONDS)

    def _work(self) -> None:
        while (outcome := self._queue.get()) is not None:
            try:
                if self._error is None and not self._abandoned.is_set():
                    self._ids[outcome.result.cell] = self._record(outcome)
            except BaseException as error:  # the scheduler raises it
                self._error = error
            finally:
                self._queue.task_done()

    def _record(self, outcome: CellOutcome) -> str:
        pause, began = FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                run_id = self._inner(outcome)
            except StoreOutOfReachError as error:
                if not began:
                    began = monotonic()
                    self._print(
                        f"{error} The study goes on meanwhile; recording is tried again for "
                        f"{self._patience / 60:.3g} minutes."
                    )
                left = began + self._patience - monotonic()
                if left <= 0 or self._abandoned.wait(min(pause, left)):
                    raise
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if began:
                    self._print(f"The tracking store answers again, after {monotonic() - began:.0f} s.")
                return run_id
