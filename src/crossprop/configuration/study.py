"""A study: data, cells, protocol, budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from crossprop.configuration.section import Name, Section
from crossprop.configuration.training import Budget, Fidelity, LearningCurve, Recipe
from crossprop.vocabulary import DEFAULT_SEED, PAPER_METHODS, Family, Method, Protocol, Representation, Side

_WITHOUT_REPEATS = ("targets", "sources", "elemnet_sources", "methods", "representations")


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
        shards: Targets by name of the stage that computes them; empty leaves them unsharded.
        sources: Properties to transfer from.
        elemnet_sources: Sources with an ElemNet of their own; ``[]`` for none.
        joint: The joint network, by name, with the sources that it learns at once; at most one.
        methods: Methods to compare.
        representations: What scratch methods read.
        folds: Folds of the cross-validation.
        folds_by_target: The same for single targets.
        budget: What tuning may spend.
        fidelity: How early hopeless cells end; ``null`` computes every method in full.
        learning_curve: Refits on shares of the training rows; ``null`` for none.
        pretrain: Recipe of a source's ElemNet.
        joint_pretrain: Recipe of the joint network.
        scratch: Recipe of networks that start at random weights.
        transfer: Recipe of networks that start at a source's weights.
    """

    name: Name
    title: str
    tier: str = ""
    protocol: Protocol = Protocol.PUBLISHED
    seed: Annotated[int, Field(ge=0, strict=True)] = DEFAULT_SEED
    edition: Literal["open", "full"] = "open"
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    shards: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(default_factory=dict)
    sources: tuple[Name, ...]
    elemnet_sources: tuple[Name, ...] = ()
    joint: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        default_factory=dict, max_length=1
    )
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
        lists = {name: getattr(self, name) for name in _WITHOUT_REPEATS}
        for field, values in (lists | {f"joint.{k}": v for k, v in self.joint.items()}).items():
            if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
                raise ValueError(f"{field} names {', '.join(repeated)} more than once")
        if both := sorted(set(self.targets) & set(self.sources)):
            raise ValueError(f"{', '.join(both)} cannot be both target and source of one study")
        transferred = (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES)
        if strange := [str(r) for r in self.representations if r in transferred]:
            raise ValueError(
                f"representations lists inputs of scratch methods; {strange[0]!r} is chosen by the method"
            )
        if not self.sources and any(m.side is Side.TRANSFER for m in self.methods):
            raise ValueError("sources is empty, but methods holds transfer methods")
        if Method.BLEND in self.methods and not set(self.methods) - {Method.BASE, Method.BLEND}:
            raise ValueError("methods holds blend, but nothing to be blended: name the methods, too")
        self._check_sources()
        self._check_shards()
        if unknown := sorted(set(self.folds_by_target) - set(self.targets)):
            raise ValueError(f"folds_by_target names {', '.join(unknown)}, no target of this study")
        for side in (Side.SCRATCH, Side.TRANSFER):
            for family, trials in (
                (Family.REGRESSOR, self.budget.ml_trials),
                (Family.NETWORK, self.budget.dl_trials),
            ):
                cells = self.count_cells(side, family)
                if cells > trials:
                    raise ValueError(
                        f"budget.{family}_trials is {trials}, but the {side} side has {cells} such cells a target: "
                        "every cell needs at least one trial"
                    )
        return self

    def _check_sources(self) -> None:
        used = {"elemnet_sources": self.elemnet_sources, **{f"joint.{k}": v for k, v in self.joint.items()}}
        for field, names in used.items():
            if unknown := [name for name in names if name not in self.sources]:
                raise ValueError(f"{field} names {', '.join(unknown)}, no source of this study")
        if taken := set(self.joint) & {*self.sources, *self.targets}:
            raise ValueError(f"joint.{taken.pop()} has the name of a property: choose another")
        if wanting := [str(m) for m in self.methods if m.uses_joint and not self.joint]:
            raise ValueError(
                f"methods holds {', '.join(wanting)}, which need a joint network: name one in joint"
            )
        if self.joint and self.joint_pretrain is None:
            raise ValueError("joint names a network, but joint_pretrain gives it no recipe")

    def _check_shards(self) -> None:
        sharded = [target for targets in self.shards.values() for target in targets]
        if self.shards and sorted(sharded) != sorted(self.targets):
            odd = sorted({t for t in sharded if sharded.count(t) > 1} | set(sharded) ^ set(self.targets))
            raise ValueError(f"shards must hold every target exactly once; look at {', '.join(odd)}")
        curve = self.learning_curve.targets if self.learning_curve else ()
        if unknown := sorted(set(curve) - set(self.targets)):
            raise ValueError(f"learning_curve.targets names {', '.join(unknown)}, no target of this study")

    def points(self, method: Method) -> list[tuple[str | None, Representation | None]]:
        """Source and representation of every cell of a method for one target."""
        if method.side in (Side.BASE, Side.BLEND):
            return [(None, None)]
        if method.uses_joint:
            taken = Representation.COMBINED
            if method.family is Family.REGRESSOR:
                taken = Representation.PREDICTED_SOURCES
            return [(name, taken) for name in self.joint]
        if method.ours:
            regressor = method.family is Family.REGRESSOR
            return [(None, Representation.PHYSICAL_ATTRIBUTES if regressor else Representation.COMBINED)]
        if method.side is Side.SCRATCH:
            return [(None, representation) for representation in self.representations]
        tuned = method in (Method.FINETUNE, Method.MODFINETUNE)
        taken = Representation.ELEMENTAL_FRACTIONS if tuned else Representation.ACTIVATIONS
        return [(source, taken) for source in self.elemnet_sources]

    def count_cells(self, side: Side, family: Family) -> int:
        """Number of cells of one side and family for one target."""
        return sum(len(self.points(m)) for m in self.methods if m.side is side and m.family is family)

    def shard_of(self, target: str) -> str | None:
        """Name of the shard that a target belongs to, or ``None`` in a study without shards."""
        return next((name for name, targets in self.shards.items() if target in targets), None)

    def folds_of(self, target: str) -> int:
        """Number of cross-validation folds of one target."""
        return self.folds_by_target.get(target, self.folds)
