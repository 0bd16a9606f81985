"""What a report must know about a study that its results do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol as Interface

from crossprop.vocabulary import Protocol


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """One target property and the cells that the configuration enumerates for it.

    Attributes:
        key: Name of the property in the catalogue and of its folder in the results.
        label: Short name that tables and figures show.
        unit: Unit of its values; empty or ``1`` for a pure number.
        description: A few words for somebody who does not know the short name.
        cells: Ids of all cells that must be there, no more and no less.
        folds: Folds of its cross-validation.
    """

    key: str
    label: str
    unit: str
    description: str
    cells: tuple[str, ...]
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyInfo:
    """Title, protocol and data of a study.

    Attributes:
        name: Name of the study and of its folders.
        title: Headline of its report.
        protocol: Which training rows the targets keep.
        edition: Edition of the source data sets; empty where there is only one.
        seed: Seed of splits, tuning and training.
        targets: Target properties in the order of the report.
        sources: Keys of the source properties, in order.
        tier: Which tier of the study was run; empty where it has none.
        elemnets: Sources with an ElemNet of their own.
        joint: Sources of each network that learns several at once, by its name.
        units: Unit of every source property.
        budget: What the configuration grants each side, one line each, as the report shows it.
        notes: Further lines of its own for the report's limits.
    """

    name: str
    title: str
    protocol: Protocol
    edition: str
    seed: int
    targets: tuple[TargetInfo, ...]
    sources: tuple[str, ...]
    tier: str = ""
    elemnets: tuple[str, ...] = ()
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    budget: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class PaperFigures(Interface):
    """Mean absolute errors of one target in Gupta et al. 2021, Tables 2 to 5; None where there is none."""

    @property
    def base_mae(self) -> float | None:
        """Error of the mean of the training values."""

    @property
    def sc_ef_mae_table2(self) -> float | None:
        """Best scratch model on elemental fractions; None for the experimental sets of Table 5."""

    @property
    def tl_mae_table2(self) -> float | None:
        """Best transfer model, source formation energy."""

    @property
    def tl_mae_table3_or_5(self) -> float | None:
        """Best transfer model, best of six sources (Table 3), or of the experimental sets (Table 5)."""

    @property
    def sc_mae_table4_or_5(self) -> float | None:
        """Best scratch model on elemental fractions or physical attributes."""

    @property
    def lowest_mae(self) -> float | None:
        """Lowest error of the target anywhere in the paper."""


PaperTable = Mapping[str, PaperFigures | None]
"""The paper's errors by target key."""
