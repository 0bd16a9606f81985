"""From search spaces as data to Optuna's suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossprop.config import Range, SearchConfig, Space
from crossprop.vocabulary import Family, Method

if TYPE_CHECKING:
    import optuna

Hyperparameters = dict[str, str | int | float | bool | None]
_TUNED = (Method.FINETUNE, Method.MODFINETUNE, Method.RESNET_FINETUNE)
SEPARATOR = "."
"""Joins the algorithm and its hyperparameter in a trial's parameter names."""


@dataclass(frozen=True)
class MethodSpace:
    """The joint search space of one method: extraction layer, algorithm and hyperparameters.

    Attributes:
        shared: Hyperparameters that every trial has.
        algorithms: Conditional hyperparameters by algorithm; empty for networks.
        layers: Extraction layers to choose from; empty where the method has none to choose.
        default_layer: Layer of the first trial.
        defaults_first: Number of algorithms tried with their defaults before sampling begins.
    """

    shared: Space
    algorithms: dict[str, Space]
    layers: Sequence[str]
    default_layer: str | None
    defaults_first: int = 1

    @classmethod
    def of(cls, method: Method, search: SearchConfig) -> MethodSpace:
        """The space of a method under the configured search."""
        choose = method in (Method.ML_FEATEXTR, Method.DL_FEATEXTR)
        layers = search.layers if choose else ()
        default = search.default_layer if choose else None
        if method.family is Family.REGRESSOR:
            ml = search.own if method.ours else search.ml
            return cls(ml.shared, ml.algorithms, layers, default, ml.defaults_first)
        tuned = search.finetune if method in _TUNED else search.dl
        return cls(tuned, {}, layers, default)

    def defaults(self) -> list[Hyperparameters]:
        """Parameters of the first trials, in order: the defaults, for one algorithm after the other."""
        common: Hyperparameters = {name: r.default for name, r in self.shared.items()}
        if self.default_layer is not None:
            common["layer"] = self.default_layer
        if not self.algorithms:
            return [common]
        chosen = list(self.algorithms.items())[: self.defaults_first]
        return [
            {
                **common,
                "algorithm": name,
                **{f"{name}{SEPARATOR}{key}": r.default for key, r in space.items()},
            }
            for name, space in chosen
        ]

    def suggest(self, trial: optuna.Trial) -> Hyperparameters:
        """Draw one point of the space."""
        drawn: Hyperparameters = {name: _suggest(trial, name, r) for name, r in self.shared.items()}
        if self.default_layer is not None:
            drawn["layer"] = trial.suggest_categorical("layer", list(self.layers))
        if self.algorithms:
            algorithm = trial.suggest_categorical("algorithm", list(self.algorithms))
            drawn["algorithm"] = algorithm
            for key, r in self.algorithms[algorithm].items():
                name = f"{algorithm}{SEPARATOR}{key}"
                drawn[name] = _suggest(trial, name, r)
        return drawn


def own_arguments(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """The chosen algorithm's own hyperparameters, without the algorithm's name before them."""
    prefix = f"{hyperparameters.get('algorithm')}{SEPARATOR}"
    return {
        key.removeprefix(prefix): value for key, value in hyperparameters.items() if key.startswith(prefix)
    }


def _suggest(trial: optuna.Trial, name: str, r: Range) -> str | int | float | bool | None:
    if r.choices is not None:
        return trial.suggest_categorical(name, list(r.choices))
    low, high = float(r.low or 0), float(r.high or 0)
    if r.integer:
        return trial.suggest_int(name, int(low), int(high), log=r.log)
    return trial.suggest_float(name, low, high, log=r.log)
