"""One Optuna study: seeded, pruned, resumable, with the defaults as its first trials."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossprop.config import Range, Recipe, SearchConfig, Space, with_default
from crossprop.errors import CellError, DivergedError, StoreError
from crossprop.methods import Family, Method

if TYPE_CHECKING:
    import optuna

Hyperparameters = dict[str, str | int | float | bool | None]
SEPARATOR = "."  # joins the algorithm and its hyperparameter in a trial's parameter names


@dataclass(frozen=True)
class MethodSpace:
    """The joint search space of one method: what is always chosen, and for regressors the algorithms with their own."""

    shared: Space
    algorithms: dict[str, Space]
    defaults_first: int = 1

    @classmethod
    def of(cls, method: Method, search: SearchConfig, recipe: Recipe | None = None) -> MethodSpace:
        """The space of a method; the defaults of a network are the values of its recipe."""
        layer: Space = {}
        if method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR):
            layer = {"layer": Range(choices=search.layers, default=search.default_layer)}
        if method.family is Family.REGRESSOR:
            ml = search.extension if method.extension else search.ml
            return cls(ml.shared | layer, ml.algorithms, ml.defaults_first)
        intervals = search.finetune if method.starts_from_source else search.dl
        assert recipe is not None
        return cls({key: with_default(one, recipe, key) for key, one in intervals.items()} | layer, {})

    def defaults(self) -> list[Hyperparameters]:
        """Parameters of the first trials, in order: the defaults, for one algorithm after the other."""
        common: Hyperparameters = {name: r.default for name, r in self.shared.items()}
        if not self.algorithms:
            return [common]
        return [
            {**common, "algorithm": name} | {f"{name}{SEPARATOR}{key}": r.default for key, r in space.items()}
            for name, space in list(self.algorithms.items())[: self.defaults_first]
        ]

    def suggest(self, trial: optuna.Trial) -> Hyperparameters:
        """Draw one point of the space."""
        drawn: Hyperparameters = {name: _suggest(trial, name, r) for name, r in self.shared.items()}
        if self.algorithms:
            algorithm = trial.suggest_categorical("algorithm", list(self.algorithms))
            drawn["algorithm"] = algorithm
            for key, r in self.algorithms[algorithm].items():
                name = f"{algorithm}{SEPARATOR}{key}"
                drawn[name] = _suggest(trial, name, r)
        return drawn


def algorithm_arguments(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """The hyperparameters of the chosen algorithm, without the algorithm's name before them."""
    prefix = f"{hyperparameters.get('algorithm')}{SEPARATOR}"
    return {key.removeprefix(prefix): value for key, value in hyperparameters.items() if key.startswith(prefix)}


def _suggest(trial: optuna.Trial, name: str, r: Range) -> str | int | float | bool | None:
    if r.choices is not None:
        return trial.suggest_categorical(name, list(r.choices))
    low, high = float(r.low or 0), float(r.high or 0)
    if r.integer:
        return trial.suggest_int(name, int(low), int(high), log=r.log)
    return trial.suggest_float(name, low, high, log=r.log)


Report = Callable[[int, float], None]
Objective = Callable[[Hyperparameters, Report], float]
"""Takes hyperparameters and a function to report (step, validation MAE) to; returns the validation MAE."""

REASON = "reason"  # user attribute of a failed trial
STARTUP_TRIALS = 2  # finished trials before pruning begins


@dataclass(frozen=True)
class TuningOutcome:
    """The best point of a study, its value, and its trials (``number, state, value, seconds, params_<name>``)."""

    best: Hyperparameters
    value: float
    trials: pd.DataFrame


def tune(
    name: str,
    space: MethodSpace,
    objective: Objective,
    *,
    n_trials: int,
    seconds: float,
    seed: int,
    journal: Path | None = None,
) -> TuningOutcome:
    """Search a space, the defaults first, then by a tree-structured Parzen estimator.

    Every trial draws from a sampler seeded by the study's seed and the trial's number, so a study that was interrupted
    goes on as if it had not been. The ceiling in seconds is checked between trials; trials in the journal count. Where
    not one succeeds, a CellError gives the last reason; a damaged journal is a StoreError.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = optuna.trial.TrialState
    started, storage = monotonic(), None
    try:
        if journal is not None:
            journal.parent.mkdir(parents=True, exist_ok=True)
            lock = JournalFileOpenLock(str(journal))
            storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0),
        )
        for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            study.tell(trial.number, state=states.FAIL)

        defaults = space.defaults()
        failed = [str(trial.user_attrs[REASON]) for trial in _finished(study) if REASON in trial.user_attrs]
        reason = failed[-1] if failed else "no trial was run"
        before = sum(t.duration.total_seconds() for t in _finished(study) if t.duration)
        while True:
            done = len(_finished(study))
            if done >= n_trials or (done and before + monotonic() - started > seconds):
                break
            if done < len(defaults) and not study.get_trials(deepcopy=False, states=(states.WAITING,)):
                study.enqueue_trial(defaults[done])
            study.sampler = optuna.samplers.TPESampler(seed=(seed + done) % 2**32, n_startup_trials=5)
            trial = study.ask()

            def report(step: int, value: float, trial: optuna.Trial = trial) -> None:
                trial.report(value, step)
                if trial.should_prune():
                    raise optuna.TrialPruned

            try:
                value = objective(space.suggest(trial), report)
                if not math.isfinite(value):
                    raise DivergedError(f"the validation MAE is {value}.")
                study.tell(trial, value)
            except optuna.TrialPruned:
                study.tell(trial, state=states.PRUNED)
            except (CellError, ValueError, ArithmeticError) as error:
                reason = f"{type(error).__name__}: {error}"
                trial.set_user_attr(REASON, reason)
                study.tell(trial, state=states.FAIL)

        complete = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
        if not complete:
            raise CellError(f"none of the {len(study.trials)} trials of {name} succeeded; the last reason: {reason}")
        best = min(complete, key=lambda t: (t.value, t.number))
        assert best.value is not None
        rows = [
            {"number": number, "state": trial.state.name, "value": trial.value}
            | {"seconds": trial.duration.total_seconds() if trial.duration else math.nan}
            | {f"params_{key}": value for key, value in trial.params.items()}
            for number, trial in enumerate(_finished(study))
        ]
        return TuningOutcome(dict(best.params), float(best.value), pd.DataFrame(rows))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # a line torn by a kill or a full disk
        raise StoreError(
            f"{journal} is damaged ({error}). Delete it and run again: finished cells do not need it."
        ) from error


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that count: those that an earlier process left unfinished failed without a reason, and do not."""
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state.is_finished() and (t.state.name != "FAIL" or REASON in t.user_attrs)]
