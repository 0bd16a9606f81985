"""The tasks that workers do: screen one cell, or fit one fold of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import pandas as pd

from crossprop.experiments.grid import Cell, fold_name
from crossprop.experiments.inputs import TargetFiles, TargetInputs, scaling_of, source_network, target_inputs
from crossprop.experiments.tuning import Hyperparameters, algorithm_arguments, tune
from crossprop.methods import EXTRACTION_LAYERS, Family, Method, Representation, Side
from crossprop.models.fitted import FittedModel
from crossprop.models.networks import initial_weights
from crossprop.models.regressors import PLAIN_TREES
from crossprop.models.target_transform import Kind
from crossprop.models.transfer import transferred_weights
from crossprop.training.device import peak_memory
from crossprop.training.metrics import mean_absolute_error
from crossprop.training.trainer import NetworkTrainer, fit_base, fit_regressor, suited

FIRST_RUNG = 1 / 3  # share of the rows that a regressor is first judged on: pruned trials cost little
LEAST_ROWS_OF_RUNG = 50  # below which a third of the rows says too little

HISTORY = ["epoch", "loss", "val_mae"]

# A regressor that took longer is saved at once, not fitted again should it be chosen.
SAVED_FROM_SECONDS = 3.0


@dataclass(frozen=True)
class Task:
    """One task of a cell."""

    cell: Cell
    files: TargetFiles

    @property
    def needs_keras(self) -> bool:
        """Whether it fits a network or reads one."""
        return self.cell.needs_keras


@dataclass(frozen=True)
class ScreenTask(Task):
    """Tune one cell on the screening split; trials are kept in the journal, if any."""

    journal: Path | None = None

    @property
    def name(self) -> str:
        """Name of the task within its cell."""
        return "screening"


@dataclass(frozen=True)
class FoldTask(Task):
    """Fit one fold of a cell's best configuration.

    ``folder`` takes the model, a regressor's only where fitting it again would take long or ``always_save`` is set;
    ``strict`` leaves out the training rows whose composition is in the hold-out, ``share`` takes that part of the rows.
    """

    hyperparameters: Hyperparameters
    fold: int
    folder: Path | None = None
    always_save: bool = False
    strict: bool = False
    share: float | None = None

    @property
    def name(self) -> str:
        """Name of the task within its cell, such as ``fold_00`` or ``fold_00.share_0.5``."""
        share = "" if self.share is None else f".share_{self.share:g}"
        return f"{fold_name(self.fold)}{'.strict' if self.strict else ''}{share}"


@dataclass(frozen=True)
class ScreenReport:
    """What screening found: the best point, its validation MAE in the property's unit, and the trials."""

    hyperparameters: Hyperparameters
    val_mae: float
    trials: pd.DataFrame
    history: pd.DataFrame
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class FoldReport:
    """One fitted fold: predictions in the property's unit for its validation rows and for the hold-out."""

    val_mae: float
    val_rows: np.ndarray
    val_pred: np.ndarray
    test_pred: np.ndarray
    history: pd.DataFrame
    seconds: float
    peak_memory: int
    n_train: int = 0
    baseline: FoldReport | None = None  # of the plain median: the plain baseline, the mean of the same trees


def run_task(task: ScreenTask | FoldTask) -> ScreenReport | FoldReport:
    """Do one task in this process."""
    return screen(task) if isinstance(task, ScreenTask) else fit_fold(task)


def screen(task: ScreenTask) -> ScreenReport:
    """Tune a cell on the one 81:9 split; the base has nothing to tune."""
    started = perf_counter()
    cell = task.cell
    inputs = target_inputs(task.files, cell.protocol)
    train, validation = inputs.screening(cell.seed)
    if cell.space is None:
        model, history = _fit(cell, inputs, {}, train, validation, cell.seed_for("screening"))
        val_mae = _mae(model, inputs, cell, None, validation)
        return ScreenReport({}, val_mae, pd.DataFrame(), history, perf_counter() - started, peak_memory())

    if cell.screening_rows is not None and len(train) > cell.screening_rows:
        train = _drawn(train, cell.screening_rows, cell.seed_for_target("screening rows"))
    histories: dict[tuple[tuple[str, Any], ...], pd.DataFrame] = {}

    def objective(hyperparameters: Hyperparameters, report: Callable[[int, float], None]) -> float:
        seed = cell.seed_for("screening")
        layer = layer_of(cell, hyperparameters)
        if cell.method.family is Family.REGRESSOR and len(train) >= LEAST_ROWS_OF_RUNG:
            part = _drawn(train, round(FIRST_RUNG * len(train)), cell.seed_for("rung"))
            first, _ = _fit(cell, inputs, hyperparameters, part, validation, seed)
            report(1, _mae(first, inputs, cell, layer, validation))
        steps = cell.screening_steps
        model, history = _fit(cell, inputs, hyperparameters, train, validation, seed, report, steps)
        histories[tuple(sorted(hyperparameters.items()))] = history
        return _mae(model, inputs, cell, layer, validation)

    outcome = tune(
        f"{cell.label} {cell.id}",
        cell.space,
        objective,
        n_trials=cell.n_trials,
        seconds=cell.seconds,
        seed=cell.seed_for("sampler"),
        journal=task.journal,
    )
    history = histories.get(tuple(sorted(outcome.best.items())), pd.DataFrame(columns=HISTORY))
    spent = float(outcome.trials["seconds"].sum())  # of an interrupted search, too
    return ScreenReport(outcome.best, outcome.value, outcome.trials, history, spent, peak_memory())


def fit_fold(task: FoldTask) -> FoldReport:
    """Fit one fold of the best configuration and predict its validation rows and the hold-out."""
    started = perf_counter()
    cell = task.cell
    if task.folder is not None:
        shutil.rmtree(task.folder, ignore_errors=True)  # half a model that an earlier try left
    inputs = target_inputs(task.files, cell.protocol)
    train, validation = fold_rows(task, inputs)
    # the two plain models share their trees
    plain = cell.method.side is Side.PLAIN
    seed = cell.seed_for_target("plain", task.fold) if plain else cell.seed_for("fold", task.fold)
    model, history = _fit(cell, inputs, task.hyperparameters, train, validation, seed)
    features = inputs.features(cell, layer_of(cell, task.hyperparameters))
    slow = cell.method.family is Family.NETWORK or perf_counter() - started > SAVED_FROM_SECONDS
    if task.folder is not None and (slow or task.always_save or cell.method is Method.PLAIN_MEDIAN):
        model.save(task.folder)

    def measured(model: FittedModel, since: float, baseline: FoldReport | None = None) -> FoldReport:
        val_pred = model.predict(np.asarray(features[validation]))
        test_pred = model.predict(np.asarray(features[inputs.test]))
        error = mean_absolute_error(inputs.values[validation], val_pred)
        spent = perf_counter() - since
        return FoldReport(error, validation, val_pred, test_pred, history, spent, peak_memory(), len(train), baseline)

    if cell.method is not Method.PLAIN_MEDIAN:
        return measured(model, started)
    # the time of their trees counts once, as that of the plain median
    baseline = measured(replace(model, body=model.body.forest), perf_counter())
    return measured(model, started, baseline)


def fold_rows(task: FoldTask, inputs: TargetInputs) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to validate on."""
    cell = task.cell
    train, validation = inputs.folds(cell.folds, cell.seed)[task.fold]
    if task.strict:
        train = train[~inputs.repeated[train]]
    if task.share is not None:
        train = _drawn(train, max(2, round(task.share * len(train))), cell.seed_for_target("share"))
    return train, validation


def _drawn(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """So many of the rows, in their order; a smaller draw is part of a larger one."""
    return np.asarray(np.sort(rows[np.random.default_rng(seed).permutation(len(rows))[:n]]))


def layer_of(cell: Cell, hyperparameters: Hyperparameters) -> str | None:
    """Extraction layer of a configuration: tuned, or the last hidden one for freezing, or none."""
    if cell.representation is not Representation.ACTIVATIONS:
        return None
    return EXTRACTION_LAYERS[-1] if cell.method is Method.FREEZING else str(hyperparameters["layer"])


def _fit(
    cell: Cell,
    inputs: TargetInputs,
    hyperparameters: Hyperparameters,
    train: np.ndarray,
    validation: np.ndarray,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
    most_steps: int | None = None,
) -> tuple[FittedModel, pd.DataFrame]:
    """Fit a cell's model with one point of its space; returns it with its history."""
    nothing = pd.DataFrame(columns=HISTORY)
    if cell.method.family is Family.BASE:
        return fit_base(inputs.values[train]), nothing
    matrix = inputs.features(cell, layer_of(cell, hyperparameters))
    features, values = np.asarray(matrix[train]), inputs.values[train]
    if cell.method.side is Side.PLAIN:
        aggregation = "median" if cell.method is Method.PLAIN_MEDIAN else "mean"
        plain = {"n_estimators": PLAIN_TREES, "aggregation": aggregation}
        return fit_regressor("extra_trees", plain, features, values, seed, "identity"), nothing
    if cell.method.family is Family.REGRESSOR:
        algorithm = str(hyperparameters["algorithm"])
        scale = cast(Kind, hyperparameters.get("target_transform", "arcsinh"))
        arguments = algorithm_arguments(hyperparameters)
        return fit_regressor(algorithm, arguments, features, values, seed, scale), nothing
    assert cell.recipe is not None and cell.method.architecture is not None
    tuned = {key: value for key, value in hyperparameters.items() if key != "layer"}
    scaling = None
    if cell.method is Method.RESNET_FINETUNE:
        scaling = scaling_of(dict(inputs.files.networks)[str(cell.source)])
    return trainer(cell.precision).fit(
        features,
        values,
        (np.asarray(matrix[validation]), inputs.values[validation]),
        suited(cell.recipe.model_copy(update=tuned), len(train), most_steps),
        lambda network: _initial_weights(cell, inputs, network, seed),
        seed,
        standardise=cell.representation is not Representation.ELEMENTAL_FRACTIONS,
        scaling=scaling,
        architecture=cell.method.architecture,
        on_epoch=on_epoch,
    )


def _initial_weights(cell: Cell, inputs: TargetInputs, network: Any, seed: int) -> list[np.ndarray]:
    if not cell.method.starts_from_source:
        return initial_weights(network, seed)
    source = source_network(dict(inputs.files.networks)[str(cell.source)])
    return transferred_weights(source, network, seed, reset_head=cell.method is not Method.FINETUNE)


def _mae(model: FittedModel, inputs: TargetInputs, cell: Cell, layer: str | None, rows: np.ndarray) -> float:
    features = inputs.features(cell, layer)
    return mean_absolute_error(inputs.values[rows], model.predict(np.asarray(features[rows])))


@cache
def trainer(precision: str) -> NetworkTrainer:
    """This process's network trainer of a precision, which keeps what it has traced."""
    return NetworkTrainer(precision=precision)
