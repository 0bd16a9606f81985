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
    BLEND = "blend"


class Family(StrEnum):
    """What learns: nothing, a scikit-learn regressor, a network, or the weights of a mean of other models."""

    BASE = "base"
    REGRESSOR = "ml"
    NETWORK = "dl"
    BLEND = "blend"


class Architecture(StrEnum):
    """Which network."""

    ELEMNET = "elemnet"
    RESNET = "resnet"


class Representation(StrEnum):
    """How a composition becomes numbers.

    ``combined`` is the fractions beside the attributes, ``predicted_sources`` the attributes beside what the joint
    network predicts for its sources; both are inputs of methods beyond the paper.
    """

    ELEMENTAL_FRACTIONS = "elemental_fractions"
    PHYSICAL_ATTRIBUTES = "physical_attributes"
    ACTIVATIONS = "activations"
    COMBINED = "combined"
    PREDICTED_SOURCES = "predicted_sources"

    @property
    def short(self) -> str:
        """The paper's abbreviation: EF, PA, or the word itself."""
        return {
            "elemental_fractions": "EF",
            "physical_attributes": "PA",
            "combined": "EF+PA",
            "predicted_sources": "PA+sources",
        }.get(self.value, self.value)


class Protocol(StrEnum):
    """Which training rows a target keeps.

    ``published`` is the split as it was published; ``strict`` drops the training rows whose
    composition also stands in the hold-out under another spelling or multiple.
    """

    PUBLISHED = "published"
    STRICT = "strict"


class Method(StrEnum):
    """The rows of the paper's Table 1, and after them the methods of ours."""

    BASE = "base"
    ML = "ml"
    DL = "dl"
    ML_FEATEXTR = "ml_featextr"
    DL_FEATEXTR = "dl_featextr"
    FINETUNE = "finetune"
    MODFINETUNE = "modfinetune"
    FREEZING = "freezing"
    BOOST = "boost"
    BOOST_SOURCES = "boost_sources"
    RESNET = "resnet"
    RESNET_FINETUNE = "resnet_finetune"
    BLEND = "blend"

    @property
    def ours(self) -> bool:
        """Whether the method goes beyond the paper's eight."""
        return self in _OURS

    @property
    def side(self) -> Side:
        """Base, scratch (SC), transfer (TL), or a blend of both."""
        if self in (Method.BASE, Method.BLEND):
            return Side(self.value)
        scratch = self in (Method.ML, Method.DL, Method.BOOST, Method.RESNET)
        return Side.SCRATCH if scratch else Side.TRANSFER

    @property
    def family(self) -> Family:
        """Which kind of learner the method fits to the target."""
        if self in (Method.BASE, Method.BLEND):
            return Family(self.value)
        regressor = self in (Method.ML, Method.ML_FEATEXTR, Method.BOOST, Method.BOOST_SOURCES)
        return Family.REGRESSOR if regressor else Family.NETWORK

    @property
    def architecture(self) -> Architecture | None:
        """The network that the method fits, or ``None`` where it fits none."""
        if self.family is not Family.NETWORK:
            return None
        return (
            Architecture.RESNET if self in (Method.RESNET, Method.RESNET_FINETUNE) else Architecture.ELEMNET
        )

    @property
    def uses_joint(self) -> bool:
        """Whether what it transfers is the joint network of several sources."""
        return self in (Method.BOOST_SOURCES, Method.RESNET_FINETUNE)

    @property
    def notation(self) -> str:
        """The paper's notation (Gupta et al. 2021, Table 1), continued for our methods."""
        return {
            "base": "Base",
            "ml": "SC:ML",
            "dl": "SC:DL",
            "ml_featextr": "TL:ML(FeatExtr)",
            "dl_featextr": "TL:DL(FeatExtr)",
            "finetune": "TL:FineTune",
            "modfinetune": "TL:ModFineTune",
            "freezing": "TL:freezing",
            "boost": "SC:Boost",
            "boost_sources": "TL:Boost(Sources)",
            "resnet": "SC:ResNet",
            "resnet_finetune": "TL:ResNet(FineTune)",
            "blend": "Blend",
        }[self.value]


_OURS = (Method.BOOST, Method.BOOST_SOURCES, Method.RESNET, Method.RESNET_FINETUNE, Method.BLEND)
PAPER_METHODS = tuple(method for method in Method if method not in _OURS)
"""The paper's eight, in its order."""

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

OWN_REGRESSORS = ("hist_gradient_boosting", "extra_trees", "svr")
"""What our regressor methods choose among."""
