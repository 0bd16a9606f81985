"""The words of the project: methods, representations, protocols, sides and layer names."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

DEFAULT_SEED = 1234567
"""Seed of the paper's experiments (Gupta et al. 2021, Methods)."""


class Side(StrEnum):
    """Which side of the comparison a method stands on."""

    BASE = "base"
    PLAIN = "plain"
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

    ``combined`` is the fractions beside the attributes, ``combined_sources`` both beside what the joint network
    predicts for its sources; they are inputs of methods beyond the paper.
    """

    ELEMENTAL_FRACTIONS = "elemental_fractions"
    PHYSICAL_ATTRIBUTES = "physical_attributes"
    ACTIVATIONS = "activations"
    COMBINED = "combined"
    PREDICTED_SOURCES = "combined_sources"

    @property
    def short(self) -> str:
        """The paper's abbreviation: EF, PA, or the word itself."""
        return {
            "elemental_fractions": "EF",
            "physical_attributes": "PA",
            "combined": "EF+PA",
            "combined_sources": "EF+PA+sources",
        }.get(self.value, self.value)


class Protocol(StrEnum):
    """Which training rows a target keeps.

    ``published`` is the split as it was published; ``strict`` drops the training rows whose
    composition also stands in the hold-out under another spelling or multiple.
    """

    PUBLISHED = "published"
    STRICT = "strict"


class Method(StrEnum):
    """The rows of the paper's Table 1, and the extension methods, of which the two plain ones are not tuned."""

    BASE = "base"
    ML = "ml"
    DL = "dl"
    ML_FEATEXTR = "ml_featextr"
    DL_FEATEXTR = "dl_featextr"
    FINETUNE = "finetune"
    MODFINETUNE = "modfinetune"
    FREEZING = "freezing"
    PLAIN_BASELINE = "plain_baseline"
    PLAIN_MEDIAN = "plain_median"
    BOOST = "boost"
    BOOST_SOURCES = "boost_sources"
    RESNET = "resnet"
    RESNET_FINETUNE = "resnet_finetune"
    BLEND = "blend"

    @property
    def side(self) -> Side:
        """Base, plain, scratch (SC), transfer (TL), or a blend of them."""
        return _FACTS[self].side

    @property
    def family(self) -> Family:
        """Which kind of learner the method fits to the target."""
        return _FACTS[self].family

    @property
    def notation(self) -> str:
        """The paper's notation (Gupta et al. 2021, Table 1), continued for the extension methods."""
        return _FACTS[self].notation

    @property
    def architecture(self) -> Architecture | None:
        """The network that the method fits, or ``None`` where it fits none."""
        return _FACTS[self].architecture

    @property
    def extension(self) -> bool:
        """Whether the method goes beyond the paper's eight."""
        return _FACTS[self].extension

    @property
    def tuned(self) -> bool:
        """Whether its hyperparameters are tuned: all but the base, the plain models and the blend."""
        return self.side in (Side.SCRATCH, Side.TRANSFER)

    @property
    def uses_joint(self) -> bool:
        """Whether what it transfers is the joint network of several sources."""
        return self in (Method.BOOST_SOURCES, Method.RESNET_FINETUNE)

    @property
    def starts_from_source(self) -> bool:
        """Whether its network starts from the weights of a source network."""
        return self in (Method.FINETUNE, Method.MODFINETUNE, Method.RESNET_FINETUNE)


class _Facts(NamedTuple):
    side: Side
    family: Family
    notation: str
    architecture: Architecture | None = None
    extension: bool = False


_SC, _TL, _ML, _DL = Side.SCRATCH, Side.TRANSFER, Family.REGRESSOR, Family.NETWORK
_FACTS = {
    Method.BASE: _Facts(Side.BASE, Family.BASE, "Base"),
    Method.PLAIN_BASELINE: _Facts(Side.PLAIN, _ML, "plain baseline", extension=True),
    Method.PLAIN_MEDIAN: _Facts(Side.PLAIN, _ML, "plain median", extension=True),
    Method.ML: _Facts(_SC, _ML, "SC:ML"),
    Method.DL: _Facts(_SC, _DL, "SC:DL", Architecture.ELEMNET),
    Method.ML_FEATEXTR: _Facts(_TL, _ML, "TL:ML(FeatExtr)"),
    Method.DL_FEATEXTR: _Facts(_TL, _DL, "TL:DL(FeatExtr)", Architecture.ELEMNET),
    Method.FINETUNE: _Facts(_TL, _DL, "TL:FineTune", Architecture.ELEMNET),
    Method.MODFINETUNE: _Facts(_TL, _DL, "TL:ModFineTune", Architecture.ELEMNET),
    Method.FREEZING: _Facts(_TL, _DL, "TL:freezing", Architecture.ELEMNET),
    Method.BOOST: _Facts(_SC, _ML, "SC:Boost", extension=True),
    Method.BOOST_SOURCES: _Facts(_TL, _ML, "TL:Boost(Sources)", extension=True),
    Method.RESNET: _Facts(_SC, _DL, "SC:ResNet", Architecture.RESNET, extension=True),
    Method.RESNET_FINETUNE: _Facts(_TL, _DL, "TL:ResNet(FineTune)", Architecture.RESNET, extension=True),
    Method.BLEND: _Facts(Side.BLEND, Family.BLEND, "Blend", extension=True),
}
PAPER_METHODS = tuple(method for method in Method if not method.extension)
"""The paper's eight, in its order."""

HIDDEN_UNITS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32,)
"""Widths of ElemNet's 16 hidden layers (Jha et al. 2018; Gupta et al. 2021)."""

EXTRACTION_LAYERS = tuple(f"hidden_{i:02d}" for i in range(1, len(HIDDEN_UNITS) + 1))
"""Names of the layers whose activations can be extracted, first to last."""

HEAD = "head"
"""Name of the output layer."""

REGRESSORS = (
    "extra_trees", "random_forest", "bagging", "adaboost", "decision_tree", "svr", "k_neighbors", "ridge",
    "elastic_net", "lasso", "sgd", "linear",
)  # fmt: skip
"""The paper's twelve scikit-learn regressors."""

EXTENSION_REGRESSORS = ("hist_gradient_boosting", "extra_trees", "svr")
"""What the extension methods ``boost`` and ``boost_sources`` choose among."""
