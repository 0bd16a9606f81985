"""Search spaces as data, and where the work runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from crossprop.configuration.section import Count, Section
from crossprop.configuration.training import Recipe
from crossprop.vocabulary import EXTRACTION_LAYERS, OWN_REGRESSORS, REGRESSORS


class Range(Section):
    """One hyperparameter: an interval or a list of choices, with the default that is always tried first.

    Attributes:
        low: Least value of an interval.
        high: Greatest value of an interval.
        log: Whether the interval is sampled on a logarithmic scale.
        integer: Whether only whole numbers are sampled.
        choices: What may be chosen, in place of an interval.
        default: What the first trial takes.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[str | int | float | bool | None, ...] | None = None
    default: str | int | float | bool | None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("give either choices or low/high, not both")
            if self.default not in self.choices:
                raise ValueError(f"default {self.default!r} is none of the choices {list(self.choices)}")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("low and high are needed, low below high (or choices)")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range needs low above 0")
        if isinstance(self.default, (str, bool)) or self.default is None:
            raise ValueError(f"default {self.default!r} is no number")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"default {self.default} lies outside {self.low} to {self.high}")
        if self.integer and any(value % 1 for value in (self.low, self.high, self.default)):
            raise ValueError("an integer range needs whole low, high and default")
        return self


Space = dict[str, Range]


class RegressorSpace(Section):
    """The zoo: shared hyperparameters and those of each algorithm, tried in this order with their defaults.

    Attributes:
        shared: Hyperparameters that every algorithm has, by name.
        algorithms: Algorithms that may be chosen, each with its own hyperparameters by name.
        defaults_first: How many algorithms, in the order of the list, are tried with their defaults before others.
    """

    shared: Space = Field(default_factory=dict)
    algorithms: Annotated[dict[str, Space], Field(min_length=1)]
    defaults_first: Count = 1


class SearchConfig(Section):
    """What tuning may try.

    Attributes:
        ml: The paper's regressors (``ml`` and ``ml_featextr``).
        own: The regressors of our methods (``boost`` and ``boost_sources``).
        dl: Networks that start at random weights; by key of a recipe.
        finetune: Networks that start at a source's weights; by key of a recipe.
        layers: Extraction layers that may be chosen.
        default_layer: Extraction layer of the first trial.
    """

    ml: RegressorSpace
    own: RegressorSpace = RegressorSpace(algorithms={name: {} for name in OWN_REGRESSORS}, defaults_first=3)
    dl: Space
    finetune: Space
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = EXTRACTION_LAYERS
    default_layer: str = EXTRACTION_LAYERS[1]

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for section, space, known in (("ml", self.ml, REGRESSORS), ("own", self.own, OWN_REGRESSORS)):
            if strange := sorted(set(space.algorithms) - set(known)):
                raise ValueError(
                    f"{section}.algorithms names {', '.join(strange)}; known are {', '.join(known)}"
                )
        for name, networks in (("dl", self.dl), ("finetune", self.finetune)):
            for key, given in networks.items():
                for value in given.choices or (given.low, given.high, given.default):
                    _accept(
                        f"{name}.{key}", key, int(value) if given.integer and value is not None else value
                    )
        if unknown := sorted(set(self.layers) - set(EXTRACTION_LAYERS)):
            raise ValueError(f"layers names {', '.join(unknown)}; known are {', '.join(EXTRACTION_LAYERS)}")
        if self.default_layer not in self.layers:
            raise ValueError(f"default_layer {self.default_layer!r} is not among layers")
        return self


def _accept(path: str, key: str, value: object) -> None:
    """Refuse a hyperparameter of a network that no recipe would take."""
    try:
        Recipe.model_validate({"epochs": 1, "batch_size": 1, "learning_rate": 1.0, key: value})
    except ValidationError as error:
        raise ValueError(f"{path}: {value!r} is refused: {error.errors()[0]['msg']}") from None


class ComputeConfig(Section):
    """Where the work runs.

    Attributes:
        workers: Processes that fit cells, one thread each; 0 takes one for every core.
        backend: Keras backend of the workers.
        retries: How often a failed piece of work is tried again before its cell counts as failed.
        together: Whether the folds of a network are trained as one batched network: ``auto`` does so on a GPU.
    """

    workers: Annotated[int, Field(ge=0, strict=True)] = 0
    backend: Literal["tensorflow", "jax"] = "tensorflow"
    retries: Annotated[int, Field(ge=0, strict=True)] = 1
    together: Literal["auto", "always", "never"] = "auto"
