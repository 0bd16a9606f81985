"""The words of the project: methods, representations, protocols, sides and layer names."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_SEED = 1234567
"""Seed of the paper's experiments (Gupta et al. 2021, Methods)."""


class Side(StrEnum):
    """Which side of the comparison a method stands on."""

    BASE = "base"
    SCRATCH = "scratch"
    TRANSFER = "transfer"


class Family(StrEnum):
    """What learns: nothing, a scikit-learn regressor, or a network."""

    BASE = "base"
    REGRESSOR = "ml"
    NETWORK = "dl"


class Representation(StrEnum):
    """How a composition becomes numbers."""

    ELEMENTAL_FRACTIONS = "elemental_fractions"
    PHYSICAL_ATTRIBUTES = "physical_attributes"
    ACTIVATIONS = "activations"

    @property
    def short(self) -> str:
        """The paper's abbreviation: EF, PA, or the word itself."""
        return {"elemental_fractions": "EF", "physical_attributes": "PA"}.get(self.value, self.value)


class Protocol(StrEnum):
    """Which training rows a target keeps.

    ``published`` is the split as it was published; ``strict`` drops the training rows whose
    composition also stands in the hold-out under another spelling or multiple.
    """

    PUBLISHED = "published"
    STRICT = "strict"


class Method(StrEnum):
    """The rows of the paper's Table 1."""

    BASE = "base"
    ML = "ml"
    DL = "dl"
    ML_FEATEXTR = "ml_featextr"
    DL_FEATEXTR = "dl_featextr"
    FINETUNE = "finetune"
    MODFINETUNE = "modfinetune"
    FREEZING = "freezing"

    @property
    def side(self) -> Side:
        """Base, scratch (SC) or transfer (TL)."""
        if self is Method.BASE:
            return Side.BASE
        return Side.SCRATCH if self in (Method.ML, Method.DL) else Side.TRANSFER

    @property
    def family(self) -> Family:
        """Which kind of learner the method fits to the target."""
        if self is Method.BASE:
            return Family.BASE
        return Family.REGRESSOR if self in (Method.ML, Method.ML_FEATEXTR) else Family.NETWORK

    @property
    def notation(self) -> str:
        """The paper's notation (Gupta et al. 2021, Table 1)."""
        return {
            "base": "Base",
            "ml": "SC:ML",
            "dl": "SC:DL",
            "ml_featextr": "TL:ML(FeatExtr)",
            "dl_featextr": "TL:DL(FeatExtr)",
            "finetune": "TL:FineTune",
            "modfinetune": "TL:ModFineTune",
            "freezing": "TL:freezing",
        }[self.value]


HIDDEN_UNITS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32,)
"""Widths of ElemNet's 16 hidden layers (Jha et al. 2018; Gupta et al. 2021)."""

EXTRACTION_LAYERS = tuple(f"hidden_{i:02d}" for i in range(1, len(HIDDEN_UNITS) + 1))
"""Names of the layers whose activations can be extracted, first to last."""

HEAD = "head"
"""Name of the output layer."""

REGRESSORS = (
    "extra_trees",
    "random_forest",
    "bagging",
    "adaboost",
    "decision_tree",
    "svr",
    "k_neighbors",
    "ridge",
    "elastic_net",
    "lasso",
    "sgd",
    "linear",
)
"""The zoo: the paper's twelve scikit-learn regressors."""
