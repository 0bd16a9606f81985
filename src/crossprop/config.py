"""Configuration: ``params.yaml`` read in one place into frozen models that refuse what they do not know."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from crossprop.errors import ConfigError
from crossprop.methods import (
    DEFAULT_SEED,
    EXTENSION_REGRESSORS,
    EXTRACTION_LAYERS,
    PAPER_METHODS,
    REGRESSORS,
    Family,
    Method,
    Protocol,
    Representation,
    Side,
)


class Section(BaseModel):
    """Frozen and closed: an unknown key is an error, and text is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def reads_as_text(name: str) -> bool:
    """Whether YAML and Hydra read a name as a text, not as a number (``12``, ``1e5``), a truth value or nothing."""
    try:
        float(name)
    except ValueError:
        return isinstance(yaml.safe_load(name), str)
    return False


def _no_number(name: str) -> str:
    if not reads_as_text(name):
        raise ValueError("is a number, a truth value or nothing to the files that name it: choose a longer name")
    return name


Transform = Literal["arcsinh", "identity"]  # of a target's values, see models.target_transform
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]


class Recipe(Section):
    """How a network is trained: a fixed schedule, with early stopping as an option.

    Attributes:
        epochs: Passes over the training rows.
        batch_size: Training rows of one step (all of them where there are fewer).
        min_steps: Steps that a fit has at least: on few rows there are more epochs. 0 asks for none.
        min_batches: Batches that an epoch has at least: on few rows the batch is halved, down to 16 rows.
        learning_rate: Its greatest value over the schedule. Where the search space has a range for it (or for another
            key), the first trial takes the value given here.
        weight_decay: Decoupled decay (AdamW); 0 is plain Adam.
        schedule: ``cosine`` falls to zero after the warm-up, ``constant`` stays.
        warmup_fraction: Share of the steps over which the rate rises linearly.
        dropout: Rate of the dropout layers; 0 (the default) leaves them out.
        patience: Epochs without a better validation MAE before stopping; ``null`` never stops early.
        restore_best: Return the weights of the epoch with the least validation MAE, not the last ones.
        target_transform: Scale of the values in the loss: ``arcsinh`` compresses their tails, ``identity`` does not.
    """

    epochs: Count
    batch_size: Count
    min_steps: Annotated[int, Field(ge=0, strict=True)] = 0
    min_batches: Count = 1
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: Share = 0.1
    dropout: Share = 0.0
    patience: Count | None = None
    restore_best: Annotated[bool, Field(strict=True)] = False
    target_transform: Transform = "arcsinh"


class Budget(Section):
    """What each side, scratch and transfer alike, may spend on tuning one target.

    Attributes:
        ml_trials: Trials on regressors, shared evenly among the side's cells of that family.
        dl_trials: Trials on networks, shared in the same way.
        seconds: Most seconds that the side's tuning may take, summed over the workers.
    """

    ml_trials: Count
    dl_trials: Count
    seconds: Positive

    def trials(self, family: Family) -> int:
        """Trials on cells of one family."""
        return self.ml_trials if family is Family.REGRESSOR else self.dl_trials


class Fidelity(Section):
    """Successive halving: cells with large errors are pruned after few rows, few steps and few folds.

    Attributes:
        rows: Most training rows of a screening fit.
        steps: Steps of a screening fit of a network, rounded up to whole epochs.
        after_screening: Methods of each side and family that are cross-validated, the paper's and the extension
            methods apart.
        after_first_fold: Cells of each side that go on after the first fold, likewise apart.
        margin: Share by which a method may be behind the best of those on the first fold and still go on.
    """

    rows: Annotated[int, Field(ge=50, strict=True)]
    steps: Count
    after_screening: Count
    after_first_fold: Count
    margin: Positive


class LearningCurve(Section):
    """Refits of the best scratch and the best transfer cell on shares of the training rows.

    Attributes:
        targets: Targets that get a learning curve.
        shares: Shares of the training rows, below 1; the whole is known anyway.
    """

    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1, strict=True)], ...], Field(min_length=1)]


class Interval(Section):
    """What a hyperparameter may be: an interval or a list of choices.

    Attributes:
        low: Least value of an interval.
        high: Greatest value of an interval.
        log: Whether the interval is sampled on a logarithmic scale.
        integer: Whether only whole numbers are sampled.
        choices: What may be chosen, in place of an interval.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[str | int | float | bool | None, ...] | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("give either choices or low/high, not both")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("low and high are needed, low below high (or choices)")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range needs low above 0")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError("an integer range needs whole low, high and default")
        return self


class Range(Interval):
    """An interval or a list of choices, with the default that is always tried first.

    Attributes:
        default: What the first trial takes.
    """

    default: str | int | float | bool | None

    @model_validator(mode="after")
    def _contains_default(self) -> Self:
        if self.choices is not None:
            if self.default not in self.choices:
                raise ValueError(f"default {self.default!r} is none of the choices {list(self.choices)}")
        elif isinstance(self.default, (str, bool)) or self.default is None:
            raise ValueError(f"default {self.default!r} is no number")
        elif self.low is None or self.high is None or not self.low <= self.default <= self.high:
            raise ValueError(f"default {self.default} lies outside {self.low} to {self.high}")
        elif self.integer and self.default % 1:
            raise ValueError("an integer range needs whole low, high and default")
        return self


Space = dict[str, Range]
NetworkSpace = dict[str, Interval]


def _refuse_unknown(field: str, names: Iterable[str], known: Sequence[str], why: str = "") -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{field} names {', '.join(unknown)}, {why or 'known are ' + ', '.join(known)}")


class RegressorSpace(Section):
    """Hyperparameters shared by all algorithms, and those of each, tried in this order with their defaults.

    Attributes:
        shared: Hyperparameters that every algorithm has, by name.
        algorithms: Algorithms that may be chosen, each with its own hyperparameters by name.
        defaults_first: How many algorithms, in the order of the list, are tried with their defaults before others.
    """

    shared: Space = Field(default_factory=dict)
    algorithms: Annotated[dict[str, Space], Field(min_length=1)]
    defaults_first: Count = 1

    @model_validator(mode="after")
    def _shares_what_is_read(self) -> Self:
        _refuse_unknown("shared", self.shared, ("target_transform",))
        for r in self.shared.values():
            _refuse_unknown("shared.target_transform", map(str, r.choices or (r.default,)), get_args(Transform))
        for algorithm, space in self.algorithms.items():
            if found := space.get("aggregation"):
                taken = map(str, found.choices or (found.default,))
                _refuse_unknown(f"{algorithm}.aggregation", taken, ("mean", "median"))
        return self


class SearchConfig(Section):
    """What tuning may try.

    Attributes:
        ml: The paper's regressors (``ml`` and ``ml_featextr``).
        extension: The regressors of the extension methods (``boost`` and ``boost_sources``).
        dl: Networks that start at random weights, by key of ``study.scratch``, which has the defaults.
        finetune: Networks that start at a source's weights, by key of ``study.transfer``, which has the defaults.
        layers: Extraction layers that may be chosen.
        default_layer: Extraction layer of the first trial.
    """

    ml: RegressorSpace
    extension: RegressorSpace = RegressorSpace(algorithms={name: {} for name in EXTENSION_REGRESSORS}, defaults_first=3)
    dl: NetworkSpace
    finetune: NetworkSpace
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = EXTRACTION_LAYERS
    default_layer: str = EXTRACTION_LAYERS[1]

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for section, known in (("ml", REGRESSORS), ("extension", EXTENSION_REGRESSORS)):
            _refuse_unknown(f"{section}.algorithms", getattr(self, section).algorithms, known)
        for section in ("dl", "finetune"):
            for key, interval in getattr(self, section).items():
                for value in interval.choices or (interval.low, interval.high):
                    given = {key: int(value) if interval.integer else value}
                    try:
                        Recipe.model_validate({"epochs": 1, "batch_size": 1, "learning_rate": 1.0} | given)
                    except ValidationError as error:
                        why = error.errors()[0]["msg"]
                        raise ValueError(f"{section}.{key}: {given[key]!r} is refused: {why}") from None
        _refuse_unknown("layers", self.layers, EXTRACTION_LAYERS)
        if self.default_layer not in self.layers:
            raise ValueError(f"default_layer {self.default_layer!r} is not among layers")
        return self


class RayConfig(Section):
    """The Ray cluster that the executor ``ray`` uses, and what each of its workers reserves there.

    Attributes:
        address: Address of the cluster, ``auto`` for the one that this machine belongs to, or ``ray://host:10001`` for
            one that it does not. ``null`` takes the cluster of ``RAY_ADDRESS``, or starts one here.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker; 0.25 lets four workers share one.
    """

    address: str | None = None
    cpus: Positive = 1.0
    gpus: Annotated[float, Field(ge=0, strict=True)] = 0.0


class ComputeConfig(Section):
    """Where the work runs.

    Attributes:
        executor: ``local`` fits cells in processes of this machine, ``ray`` in those of a Ray cluster.
        ray: The cluster.
        workers: Processes that fit cells, one thread each; 0 takes one for every core (of the cluster: as many as it
            has room for, on nodes that join later too).
        backend: Keras backend of the workers.
        precision: Precision of the hidden layers while networks learn: ``float32``, ``mixed_bfloat16``, or ``auto``,
            which takes the second where the processor has instructions for it. They predict in float32.
        retries: How often a failed task is tried again before its cell counts as failed.
    """

    executor: Literal["local", "ray"] = "local"
    ray: RayConfig = RayConfig()
    workers: Annotated[int, Field(ge=0, strict=True)] = 0
    backend: Literal["tensorflow", "jax"] = "tensorflow"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    retries: Annotated[int, Field(ge=0, strict=True)] = 1


class StudyConfig(Section):
    """A study: which data, which cells, under which protocol and budgets.

    Attributes:
        name: Name of the study: of its folders, experiments and registered models.
        title: Heading of its report.
        tier: Which tier of the study this is; shown in its report.
        protocol: Which training rows are used: ``published`` or ``strict``.
        seed: Seed of every draw.
        edition: Which edition of the sources is read, where there are several: ``full`` has more rows.
        targets: Properties to be predicted.
        shards: Targets by name of the stage that computes them; what DVC runs has one at least.
        sources: Properties to transfer from.
        excluded: Properties whose compositions the sources lose. ``[]`` takes the targets. Other ones let a source know
            compositions of the hold-out: for a comparison with such a study only, nothing of it is registered.
        elemnet_sources: Sources with an ElemNet of their own; ``[]`` for none.
        joint: The joint network, by name, with the sources that it learns at once; at most one.
        methods: Methods to compare.
        representations: What scratch methods read.
        folds: Folds of the cross-validation.
        folds_by_target: The same for single targets.
        budget: What tuning may spend.
        fidelity: When cells with large errors are pruned; ``null`` computes every method in full.
        learning_curve: Refits on shares of the training rows; ``null`` for none.
        pretrain: Recipe of a source's ElemNet.
        joint_pretrain: Recipe of the joint network.
        scratch: Recipe of networks that start at random weights.
        transfer: Recipe of networks that start at a source's weights.
    """

    name: Annotated[Name, AfterValidator(_no_number)]
    title: str
    tier: str = ""
    protocol: Protocol = Protocol.PUBLISHED
    seed: Annotated[int, Field(ge=0, strict=True)] = DEFAULT_SEED
    edition: Literal["open", "full"] = "open"
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    shards: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(default_factory=dict)
    sources: tuple[Name, ...]
    excluded: tuple[Name, ...] = ()
    elemnet_sources: tuple[Name, ...] = ()
    joint: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(default_factory=dict, max_length=1)
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = PAPER_METHODS
    representations: Annotated[tuple[Representation, ...], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2, strict=True)] = 10
    folds_by_target: dict[str, Annotated[int, Field(ge=2, strict=True)]] = Field(default_factory=dict)
    budget: Budget
    fidelity: Fidelity | None = None
    learning_curve: LearningCurve | None = None
    pretrain: Recipe
    joint_pretrain: Recipe | None = None
    scratch: Recipe
    transfer: Recipe

    @model_validator(mode="before")
    @classmethod
    def _all_sources(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("elemnet_sources") is None:
            return {**values, "elemnet_sources": values.get("sources", ())}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fields = ("targets", "sources", "excluded", "elemnet_sources", "methods", "representations")
        lists = {name: getattr(self, name) for name in fields}
        for field, values in (lists | {f"joint.{k}": v for k, v in self.joint.items()}).items():
            if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
                raise ValueError(f"{field} names {', '.join(repeated)} more than once")
        if both := sorted(set(self.targets) & set(self.sources)):
            raise ValueError(f"{', '.join(both)} cannot be both target and source of one study")
        transferred = (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES)
        if refused := [str(r) for r in self.representations if r in transferred]:
            raise ValueError(f"representations lists inputs of scratch methods; {refused[0]!r} is chosen by the method")
        if not self.sources and any(m.side is Side.TRANSFER for m in self.methods):
            raise ValueError("sources is empty, but methods holds transfer methods")
        if Method.BLEND in self.methods and not set(self.methods) - {Method.BASE, Method.BLEND}:
            raise ValueError("methods holds blend, but nothing to be blended: name the methods, too")
        used = {"elemnet_sources": self.elemnet_sources, **{f"joint.{k}": v for k, v in self.joint.items()}}
        for field, names in used.items():
            _refuse_unknown(field, names, self.sources, "no source of this study")
        if taken := set(self.joint) & {*self.sources, *self.targets}:
            raise ValueError(f"joint.{taken.pop()} has the name of a property: choose another")
        if wanting := [str(m) for m in self.methods if m.uses_joint and not self.joint]:
            raise ValueError(f"methods holds {', '.join(wanting)}, which need a joint network: name one in joint")
        if self.joint and self.joint_pretrain is None:
            raise ValueError("joint names a network, but joint_pretrain gives it no recipe")
        if wanting := [str(m) for m in self.methods if not self.points(m)]:
            raise ValueError(
                f"methods holds {', '.join(wanting)}, which transfer from an ElemNet: name one in elemnet_sources"
            )
        sharded = [target for targets in self.shards.values() for target in targets]
        if self.shards and sorted(sharded) != sorted(self.targets):
            odd = sorted({t for t in sharded if sharded.count(t) > 1} | set(sharded) ^ set(self.targets))
            raise ValueError(f"shards must hold every target exactly once; look at {', '.join(odd)}")
        curve = self.learning_curve.targets if self.learning_curve else ()
        _refuse_unknown("learning_curve.targets", curve, self.targets, "no target of this study")
        _refuse_unknown("folds_by_target", self.folds_by_target, self.targets, "no target of this study")
        for side, family in product((Side.SCRATCH, Side.TRANSFER), (Family.REGRESSOR, Family.NETWORK)):
            cells, trials = self.count_cells(side, family), self.budget.trials(family)
            if cells > trials:
                raise ValueError(
                    f"budget.{family}_trials is {trials}, but the {side} side has {cells} such cells a target: "
                    "every cell needs at least one trial"
                )
        return self

    def points(self, method: Method) -> list[tuple[str | None, Representation | None]]:
        """Source and representation of every cell of a method for one target."""
        if method.side in (Side.BASE, Side.BLEND):
            return [(None, None)]
        if method.uses_joint:
            taken = Representation.COMBINED
            if method.family is Family.REGRESSOR:
                taken = Representation.PREDICTED_SOURCES
            return [(name, taken) for name in self.joint]
        if method.extension:
            return [(None, Representation.COMBINED)]
        if method.side is Side.SCRATCH:
            return [(None, representation) for representation in self.representations]
        tuned = method in (Method.FINETUNE, Method.MODFINETUNE)
        taken = Representation.ELEMENTAL_FRACTIONS if tuned else Representation.ACTIVATIONS
        return [(source, taken) for source in self.elemnet_sources]

    def count_cells(self, side: Side, family: Family) -> int:
        """Number of cells of one side and family for one target."""
        return sum(len(self.points(m)) for m in self.methods if m.side is side and m.family is family)

    @property
    def leaks(self) -> bool:
        """Whether the sources may hold compositions of a target, since ``excluded`` leaves it out."""
        return bool(self.excluded) and not set(self.targets) <= set(self.excluded)

    def folds_of(self, target: str) -> int:
        """Number of cross-validation folds of one target."""
        return self.folds_by_target.get(target, self.folds)


PARAMS_FILE = Path("params.yaml")


class Params(Section):
    """The whole of ``params.yaml``.

    Attributes:
        study: Which data, which cells, under which protocol and budgets.
        search: What tuning may try.
        compute: Where the work runs; changes no result but last digits.
    """

    study: StudyConfig
    search: SearchConfig
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _recipes_lie_in_their_spaces(self) -> Self:
        for section, recipe in (("dl", "scratch"), ("finetune", "transfer")):
            for key, interval in getattr(self.search, section).items():
                try:
                    with_default(interval, getattr(self.study, recipe), key)
                except ValidationError as error:
                    message = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(
                        f"study.{recipe}.{key} is the default of search.{section}.{key}: {message}"
                    ) from None
        return self


def with_default(interval: Interval, recipe: Recipe, key: str) -> Range:
    """The range of a network's hyperparameter: its default is the value of the recipe."""
    return Range(**interval.model_dump(), default=getattr(recipe, key))


def parse_params(values: Any, origin: str = "params") -> Params:
    """Validate plain values; a ConfigError gives the path of every offending key, what it holds, and why not."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [explain(problem) for problem in error.errors()]
        raise ConfigError(f"{origin} is refused:\n" + "\n".join(f"  {line}" for line in lines)) from None


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, but a key given twice is refused: PyYAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; a ConstructorError names a key that is given twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        values: dict[Any, Any] = super().construct_mapping(node, deep)
        return values


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate ``params.yaml``; ConfigError if it cannot be read, is no YAML, or holds what is refused."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing. Run from the project's root, where dvc.yaml stands.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Name a file such as params.yaml.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}. Correct it, or restore it with git.") from None
    return parse_params(values, origin=str(path))


def explain(problem: Any) -> str:
    """What pydantic found wrong, with its place: one of ``error.errors()`` in a sentence."""
    path = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key. Remove it or correct its spelling."
    if problem["type"] == "missing":
        return f"{path}: missing. Add it."
    message = problem["msg"].removeprefix("Value error, ")
    received = problem["input"]
    shown = "" if isinstance(received, dict) else f" (received {received!r})"
    return f"{path}: {message}{shown}"
