"""The words of the project: methods, representations, protocols, sides, layer names and units."""

from enum import StrEnum
from typing import Self

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

    ``combined`` is the fractions beside the attributes, ``combined_sources`` also what the joint network predicts.
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

    ``strict`` drops those of the published split whose composition also stands in the hold-out.
    """

    PUBLISHED = "published"
    STRICT = "strict"


class Method(StrEnum):
    """The rows of the paper's Table 1, and the extension methods, of which the two plain ones are not tuned.

    Each has its side and family, the paper's notation (Gupta et al. 2021, Table 1; continued for the extension
    methods), the network that it fits, if any, and whether it goes beyond the paper's eight.
    """

    side: Side
    family: Family
    notation: str
    architecture: Architecture | None
    extension: bool

    BASE = "base", Side.BASE, Family.BASE, "Base"
    ML = "ml", Side.SCRATCH, Family.REGRESSOR, "SC:ML"
    DL = "dl", Side.SCRATCH, Family.NETWORK, "SC:DL", Architecture.ELEMNET
    ML_FEATEXTR = "ml_featextr", Side.TRANSFER, Family.REGRESSOR, "TL:ML(FeatExtr)"
    DL_FEATEXTR = "dl_featextr", Side.TRANSFER, Family.NETWORK, "TL:DL(FeatExtr)", Architecture.ELEMNET
    FINETUNE = "finetune", Side.TRANSFER, Family.NETWORK, "TL:FineTune", Architecture.ELEMNET
    MODFINETUNE = "modfinetune", Side.TRANSFER, Family.NETWORK, "TL:ModFineTune", Architecture.ELEMNET
    FREEZING = "freezing", Side.TRANSFER, Family.NETWORK, "TL:freezing", Architecture.ELEMNET
    PLAIN_BASELINE = "plain_baseline", Side.PLAIN, Family.REGRESSOR, "plain baseline", None, True
    PLAIN_MEDIAN = "plain_median", Side.PLAIN, Family.REGRESSOR, "plain median", None, True
    BOOST = "boost", Side.SCRATCH, Family.REGRESSOR, "SC:Boost", None, True
    BOOST_SOURCES = "boost_sources", Side.TRANSFER, Family.REGRESSOR, "TL:Boost(Sources)", None, True
    RESNET = "resnet", Side.SCRATCH, Family.NETWORK, "SC:ResNet", Architecture.RESNET, True
    RESNET_FINETUNE = (
        "resnet_finetune",
        Side.TRANSFER,
        Family.NETWORK,
        "TL:ResNet(FineTune)",
        Architecture.RESNET,
        True,
    )
    BLEND = "blend", Side.BLEND, Family.BLEND, "Blend", None, True

    def __new__(
        cls,
        name: str,
        side: Side = Side.BASE,  # the defaults let type checkers accept Method("ml"), which looks a member up
        family: Family = Family.BASE,
        notation: str = "",
        architecture: Architecture | None = None,
        extension: bool = False,
    ) -> Self:
        """A method with its facts."""
        method = str.__new__(cls, name)
        method._value_ = name
        method.side, method.family, method.notation = side, family, notation
        method.architecture, method.extension = architecture, extension
        return method

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


PAPER_METHODS = tuple(method for method in Method if not method.extension)

HIDDEN_UNITS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32,)
"""Widths of ElemNet's 16 hidden layers (Jha et al. 2018; Gupta et al. 2021)."""

EXTRACTION_LAYERS = tuple(f"hidden_{i:02d}" for i in range(1, len(HIDDEN_UNITS) + 1))
"""Names of the layers whose activations can be extracted, first to last."""
HEAD = "head"

REGRESSORS = (
    "extra_trees", "random_forest", "bagging", "adaboost", "decision_tree", "svr", "k_neighbors", "ridge",
    "elastic_net", "lasso", "sgd", "linear",
)  # fmt: skip
"""The paper's twelve scikit-learn regressors."""

EXTENSION_REGRESSORS = ("extra_trees", "hist_gradient_boosting", "svr")
"""What the extension methods ``boost`` and ``boost_sources`` choose among, in the order of their first trials."""


def unit_behind(unit: str, form: str = " {}") -> str:
    """The unit as it is written behind a number or a name; empty for a pure number, whose unit is ``1``."""
    return "" if unit in ("", "1") else form.format(unit)
